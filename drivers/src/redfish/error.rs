//! What can go wrong while talking Redfish, in words an operator can act on.
//!
//! Every text names the BMC (never a credential of it). Details that came from the BMC are cut to a bounded length.

use std::time::Duration;

/// Longest text of a BMC that is repeated in an error.
const MAX_QUOTE: usize = 600;

/// A failed Redfish operation.
///
/// Cheap to clone: equal reads that run at the same time share one answer, errors included.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RedfishError {
    /// `driver_info` does not describe a usable endpoint.
    #[error("{0}")]
    Endpoint(String),
    /// This conductor's lease is over or about to be: another one may hold the node.
    #[error("nothing was sent to BMC {bmc}: this conductor's lease is not renewed; look at its database")]
    Fenced {
        /// Scheme, host and port.
        bmc: String,
    },
    /// No connection, or it broke and could not be set up again.
    #[error("cannot reach the Redfish service of BMC {bmc}: {detail}")]
    Unreachable {
        /// Scheme, host and port.
        bmc: String,
        /// What the network said.
        detail: String,
    },
    /// The TLS handshake failed.
    #[error("TLS with BMC {bmc} failed: {detail}; {remedy}")]
    Tls {
        /// Scheme, host and port.
        bmc: String,
        /// What the TLS library said.
        detail: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The credentials are not accepted. Not asked again before [`super::PoolConfig::refused_hold`] is over.
    #[error("BMC {bmc} refuses the credentials (check redfish_username and redfish_password): {detail}")]
    Auth {
        /// Scheme, host and port.
        bmc: String,
        /// The BMC's own message or a description.
        detail: String,
    },
    /// The resource does not exist on this BMC.
    #[error("BMC {bmc} has no {path}")]
    NotFound {
        /// Scheme, host and port.
        bmc: String,
        /// Path of the resource.
        path: String,
    },
    /// The BMC answered, and refused.
    #[error("BMC {bmc} refused {what} with HTTP {status}: {message}")]
    Refused {
        /// Scheme, host and port.
        bmc: String,
        /// Method and path.
        what: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        message: BmcMessage,
    },
    /// Something did not happen in time.
    #[error("BMC {bmc}: timed out after {} s waiting for {waited_for}", after.as_secs())]
    Timeout {
        /// Scheme, host and port.
        bmc: String,
        /// What was waited for.
        waited_for: String,
        /// How long.
        after: Duration,
    },
    /// The answer makes no sense.
    #[error("BMC {bmc} answered {what} with something unusable: {detail}")]
    Malformed {
        /// Scheme, host and port.
        bmc: String,
        /// Method and path.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The BMC cannot do this.
    #[error("BMC {bmc} does not support {what}")]
    Unsupported {
        /// Scheme, host and port.
        bmc: String,
        /// What was asked, and what it offers instead.
        what: String,
    },
    /// A task of the BMC ended badly.
    #[error("task {task} of BMC {bmc} ended as {state}: {message}")]
    TaskFailed {
        /// Scheme, host and port.
        bmc: String,
        /// Path of the task.
        task: String,
        /// `TaskState`.
        state: String,
        /// Its messages.
        message: BmcMessage,
    },
}

impl RedfishError {
    /// HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::NotFound { .. } => Some(404),
            _ => None,
        }
    }

    /// Whether the BMC said that there is no such resource.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether this is a refusal with a message that names `what` (part of a message id, a text or an argument).
    #[must_use]
    pub fn mentions(&self, what: &str) -> bool {
        match self {
            Self::Refused { message, .. } | Self::TaskFailed { message, .. } => message.mentions(what),
            _ => false,
        }
    }

    /// What the BMC said, if it said something.
    #[must_use]
    pub fn message(&self) -> Option<&BmcMessage> {
        match self {
            Self::Refused { message, .. } | Self::TaskFailed { message, .. } => Some(message),
            _ => None,
        }
    }
}

/// The error object of a Redfish answer (DSP0266 clause 8.6), as far as it could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BmcMessage {
    /// Entries of `@Message.ExtendedInfo` (or the error itself where there are none).
    pub entries: Vec<BmcMessageEntry>,
}

/// One message of a BMC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BmcMessageEntry {
    /// `MessageId` or `code`, for example `Base.1.18.PropertyMissing`.
    pub id: String,
    /// Text.
    pub text: String,
    /// `MessageArgs`.
    pub args: Vec<String>,
    /// `RelatedProperties`.
    pub related: Vec<String>,
}

impl BmcMessage {
    /// A message with nothing but a text.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        let text = cut(text.trim());
        if text.is_empty() {
            return Self::default();
        }
        Self { entries: vec![BmcMessageEntry { text, ..BmcMessageEntry::default() }] }
    }

    /// Whether any id, text, argument or related property contains `what`, letter case aside.
    #[must_use]
    pub fn mentions(&self, what: &str) -> bool {
        let what = what.to_ascii_lowercase();
        let has = |s: &String| s.to_ascii_lowercase().contains(&what);
        self.entries.iter().any(|e| has(&e.id) || has(&e.text) || e.args.iter().any(has) || e.related.iter().any(has))
    }

    /// The same message without any occurrence of `secrets`.
    #[must_use]
    pub fn without(mut self, secrets: &[&str]) -> Self {
        let clean = |s: &mut String| {
            for secret in secrets.iter().filter(|s| s.len() > 2) {
                if s.contains(*secret) {
                    *s = s.replace(*secret, "******");
                }
            }
        };
        for e in &mut self.entries {
            clean(&mut e.id);
            clean(&mut e.text);
            e.args.iter_mut().for_each(clean);
            e.related.iter_mut().for_each(clean);
        }
        self
    }
}

impl std::fmt::Display for BmcMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.entries.is_empty() {
            return f.write_str("no reason given");
        }
        for (i, e) in self.entries.iter().take(5).enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            match (e.text.is_empty(), e.id.is_empty()) {
                (false, false) => write!(f, "{} ({})", e.text, e.id)?,
                (false, true) => f.write_str(&e.text)?,
                (true, _) => f.write_str(&e.id)?,
            }
        }
        Ok(())
    }
}

/// `text` cut to the length that is fit to repeat, control characters replaced.
#[must_use]
pub(crate) fn cut(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_QUOTE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_QUOTE).is_some() {
        out.push('…');
    }
    out
}
