//! What can go wrong between this client and a BMC, in terms an operator can act on.
//!
//! No variant holds a password or key.

use std::time::Duration;

use thiserror::Error;

use super::codec::PacketError;
use super::session::{Privilege, Refusal};

/// What was being done when a BMC stopped answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// First contact: asking what the BMC can do.
    Contact,
    /// Opening a session.
    OpenSession,
    /// Agreeing on keys after the password was proved.
    Keys,
    /// A command within a session.
    Command,
    /// Waiting for other commands to the same BMC.
    Queue,
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Contact => "first contact",
            Self::OpenSession => "opening a session",
            Self::Keys => "agreeing on session keys",
            Self::Command => "a command",
            Self::Queue => "waiting behind other commands to it",
        })
    }
}

/// Failure of an IPMI call.
#[derive(Debug, Error)]
pub enum IpmiError {
    /// The host name does not resolve.
    #[error("IPMI: cannot resolve {host}: {source}; correct ipmi_address")]
    Resolve {
        /// Name that was looked up.
        host: String,
        /// Answer of the resolver.
        source: std::io::Error,
    },
    /// The socket failed.
    #[error("IPMI: cannot send to {host}: {source}; check routing and address family")]
    Socket {
        /// BMC.
        host: String,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The BMC did not answer in time.
    #[error(
        "IPMI: {host} does not answer ({doing}, {waited:.1?}); check address, port, network and that IPMI over LAN is enabled in the BMC"
    )]
    Unreachable {
        /// BMC.
        host: String,
        /// What was being done.
        doing: Doing,
        /// Time waited.
        waited: Duration,
    },
    /// A command that must not be sent twice was sent and never answered: it may or may not have been carried out.
    #[error("IPMI: {host} did not answer command {netfn:#04x}/{cmd:#04x}, which is not sent twice; read the state before trying again")]
    OutcomeUnknown {
        /// BMC.
        host: String,
        /// Network function.
        netfn: u8,
        /// Command.
        cmd: u8,
    },
    /// This conductor's lease is over or about to be: another one may hold the node.
    #[error("IPMI: nothing was sent to {host}: this conductor's lease is not renewed; look at its database")]
    Fenced {
        /// BMC.
        host: String,
    },
    /// User name, password or BMC key are wrong.
    #[error("IPMI: {host} refuses the log-in: {why}; correct {remedy}")]
    Credentials {
        /// BMC.
        host: String,
        /// How it showed.
        why: CredentialFault,
        /// Which driver_info key to look at.
        remedy: &'static str,
    },
    /// The user may not do this.
    #[error(
        "IPMI: {host}: privilege level {level:?} is not enough or not allowed for this user; change ipmi_priv_level or the user's rights in the BMC"
    )]
    Privilege {
        /// BMC.
        host: String,
        /// Level of the session.
        level: Privilege,
    },
    /// No cipher suite in common.
    #[error("IPMI: {host} accepts none of the cipher suites {tried:?}; set ipmi_cipher_suite or enable one of them in the BMC")]
    NoCipherSuite {
        /// BMC.
        host: String,
        /// Suites tried, in order.
        tried: Vec<u8>,
    },
    /// The BMC speaks no IPMI 2.0.
    #[error("IPMI: {host} does not offer IPMI 2.0 (RMCP+) sessions; update its firmware or use another driver")]
    NoRmcpPlus {
        /// BMC.
        host: String,
    },
    /// All sessions of the BMC are in use, until the deadline.
    #[error("IPMI: {host} has no free session; end other sessions or reset the BMC")]
    NoSession {
        /// BMC.
        host: String,
    },
    /// The log-in ended in another way.
    #[error("IPMI: {host}: log-in failed: {refusal}")]
    LogIn {
        /// BMC.
        host: String,
        /// What the BMC said.
        refusal: Refusal,
    },
    /// The BMC answered with an error.
    #[error("IPMI: {host} answered command {netfn:#04x}/{cmd:#04x} with completion code {code:#04x} ({meaning})", meaning = completion_meaning(*code))]
    Completion {
        /// BMC.
        host: String,
        /// Network function.
        netfn: u8,
        /// Command.
        cmd: u8,
        /// Completion code.
        code: u8,
    },
    /// The answer is too short or makes no sense.
    #[error("IPMI: {host} gave a malformed answer to command {netfn:#04x}/{cmd:#04x} ({packet})")]
    BadAnswer {
        /// BMC.
        host: String,
        /// Network function.
        netfn: u8,
        /// Command.
        cmd: u8,
        /// What is wrong with it.
        packet: PacketError,
    },
    /// An argument cannot be sent.
    #[error("IPMI: {what}")]
    Argument {
        /// What is wrong and what would be right.
        what: String,
    },
}

/// How wrong credentials showed themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CredentialFault {
    /// The BMC said that it does not know the user.
    #[error("user name unknown")]
    User,
    /// The BMC answered everything but the user name: many say nothing to an unknown user.
    #[error("the user name is never answered, so it is probably unknown")]
    UserSilence,
    /// The codes made from the password differ.
    #[error("password wrong")]
    Password,
    /// The password fits, the keys made from Kg do not.
    #[error("BMC key (Kg) wrong or missing")]
    BmcKey,
}

impl IpmiError {
    /// Completion code of the BMC, if that is what failed.
    #[must_use]
    pub const fn completion(&self) -> Option<u8> {
        match self {
            Self::Completion { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether trying again later, without changing anything, can help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoSession { .. } | Self::Socket { .. } => true,
            Self::Completion { code, .. } => is_busy(*code) || *code == 0xc3,
            _ => false,
        }
    }

    /// Whether the BMC did not answer at all.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Resolve { .. } | Self::Socket { .. })
    }

    /// Whether the BMC refuses the credentials: asking again would only feed its lock-out counter.
    #[must_use]
    pub const fn is_credentials(&self) -> bool {
        matches!(self, Self::Credentials { .. })
    }
}

/// Completion codes that say "not now", with nothing done (table 5-2): busy, out of space, BMC still initialising.
#[must_use]
pub const fn is_busy(code: u8) -> bool {
    matches!(code, 0xc0 | 0xc4 | 0xd2)
}

/// Generic completion codes in words (table 5-2).
#[must_use]
pub const fn completion_meaning(code: u8) -> &'static str {
    match code {
        0x00 => "success",
        0x80..=0xbe => "command specific",
        0xc0 => "node busy",
        0xc1 => "invalid command",
        0xc2 => "command invalid for this unit",
        0xc3 => "timeout in the BMC",
        0xc4 => "out of space",
        0xc5 => "reservation cancelled",
        0xc6 => "request data truncated",
        0xc7 => "request data length invalid",
        0xc8 => "request data too long",
        0xc9 => "parameter out of range",
        0xca => "cannot return so many bytes",
        0xcb => "sensor, data or record not present",
        0xcc => "invalid data field",
        0xcd => "command illegal for this sensor or record",
        0xce => "response could not be provided",
        0xcf => "duplicated request",
        0xd0 => "SDR repository is being updated",
        0xd1 => "firmware is being updated",
        0xd2 => "BMC is initialising",
        0xd3 => "destination unavailable",
        0xd4 => "insufficient privilege",
        0xd5 => "not possible in the present state",
        0xd6 => "sub-function disabled",
        _ => "unspecified",
    }
}
