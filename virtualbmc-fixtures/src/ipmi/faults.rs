//! Faults that a test switches on.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What goes wrong with one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request never arrives.
    DropRequest,
    /// The command is carried out, the answer is lost.
    DropReply,
    /// The answer comes this much later, later ones overtake it.
    Late(Duration),
    /// The answer comes at once, and once more after this time, byte for byte.
    Duplicate(Duration),
    /// The answer names a session that does not exist.
    WrongSession,
    /// The answer's integrity code is wrong.
    BadCode,
    /// Not carried out; answered with this completion code (C0h: busy).
    Completion(u8),
    /// Carried out, but answered with this completion code.
    DoneBut(u8),
    /// Answered with success, but nothing is done.
    Lie,
    /// The answer has no data after the completion code.
    CutReply,
}

#[derive(Default)]
struct State {
    once: VecDeque<(Option<(u8, u8)>, Fault)>,
    always: Option<Fault>,
    silent: bool,
    delay: Duration,
    no_sessions: u32,
    drop_login: Option<(u8, u32)>,
}

/// Fault switches of one BMC. All off at first.
#[derive(Default)]
pub struct Faults(Mutex<State>);

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next command within a session meets this fault. Faults queue up.
    pub fn once(&self, fault: Fault) {
        self.lock().once.push_back((None, fault));
    }

    /// The next command with this network function and number meets this fault.
    pub fn once_for(&self, netfn: u8, cmd: u8, fault: Fault) {
        self.lock().once.push_back((Some((netfn, cmd)), fault));
    }

    /// Every command within a session meets this fault (after those queued).
    pub fn always(&self, fault: Option<Fault>) {
        self.lock().always = fault;
    }

    /// Nothing is heard or said at all.
    pub fn set_silent(&self, silent: bool) {
        self.lock().silent = silent;
    }

    /// Every packet of the BMC comes this much later.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// The next `n` open session requests find no free session (status 01h).
    pub fn refuse_sessions(&self, n: u32) {
        self.lock().no_sessions = n;
    }

    /// The answers to the next `n` log-in packets with this payload type (10h, 12h, 14h) are lost.
    pub fn drop_login_replies(&self, payload_type: u8, n: u32) {
        self.lock().drop_login = Some((payload_type, n));
    }

    pub(super) fn silent(&self) -> bool {
        self.lock().silent
    }

    pub(super) fn delay(&self) -> Duration {
        self.lock().delay
    }

    pub(super) fn take_no_session(&self) -> bool {
        let mut s = self.lock();
        let refuse = s.no_sessions > 0;
        s.no_sessions = s.no_sessions.saturating_sub(1);
        refuse
    }

    pub(super) fn take_login_drop(&self, kind: u8) -> bool {
        let mut s = self.lock();
        match &mut s.drop_login {
            Some((k, n)) if *k == kind && *n > 0 => {
                *n -= 1;
                true
            }
            _ => false,
        }
    }

    pub(super) fn take(&self, netfn: u8, cmd: u8) -> Option<Fault> {
        let mut s = self.lock();
        let at = s.once.iter().position(|(only, _)| only.is_none_or(|o| o == (netfn, cmd)));
        match at {
            Some(i) => s.once.remove(i).map(|(_, f)| f),
            None => s.always,
        }
    }
}
