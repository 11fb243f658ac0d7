//! What goes wrong on purpose.

use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status instead of carrying it out, with `Retry-After` seconds if given.
    Status(u16, Option<u64>),
    /// The connection is reset before the request is carried out.
    Reset,
    /// It is carried out, then the connection is reset without an answer.
    LostReply,
    /// It is carried out; the answer breaks off in the middle.
    TornReply,
    /// It is carried out after this time.
    Slow(Duration),
    /// All sessions end first.
    SessionsLost,
    /// The body of the answer is this instead.
    Body(String),
    /// Redirect with this status to this `Location`.
    Redirect(u16, String),
}

/// A fault with the requests that it happens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRule {
    /// What.
    pub fault: Fault,
    /// Method; empty for every one.
    pub method: String,
    /// Part of the path; empty for every one.
    pub path: String,
    /// How often; `u32::MAX` for ever.
    pub times: u32,
}

impl FaultRule {
    /// Once, to any request.
    #[must_use]
    pub fn once(fault: Fault) -> Self {
        Self { fault, method: String::new(), path: String::new(), times: 1 }
    }
    /// To requests of this method whose path contains this.
    #[must_use]
    pub fn on(mut self, method: &str, path: &str) -> Self {
        method.clone_into(&mut self.method);
        path.clone_into(&mut self.path);
        self
    }
    /// This often.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    pub(super) fn hits(&self, method: &str, path: &str) -> bool {
        self.times > 0 && (self.method.is_empty() || self.method == method) && path.contains(&self.path)
    }
}
