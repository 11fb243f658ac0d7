//! Errors as the rest of the program names them, before anything maps them to a wire status.
//!
//! Each layer owns its error type; each converts into a [`Fault`]. Only `ironic-api` knows which status a kind has.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What went wrong, in the API's vocabulary (the exception names of the v1 API, `api.md` section 1.5).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FaultKind { $($(#[$doc])* $name,)* }
        impl FaultKind {
            /// Every kind, for exhaustive tests.
            pub const ALL: &'static [FaultKind] = &[$(FaultKind::$name,)*];
            /// The kind's name.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(FaultKind::$name => stringify!($name),)* } }
            /// The kind of that name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> { Self::ALL.iter().copied().find(|k| k.name() == name) }
        }
    };
}

kinds! {
    /// A parameter is malformed or not allowed.
    InvalidParameterValue,
    /// A required parameter is absent.
    MissingParameterValue,
    /// The request is malformed.
    Invalid,
    /// A JSON patch could not be applied.
    PatchError,
    /// The verb is not possible in the node's provision state.
    InvalidStateRequested,
    /// The change is not possible in the node's present state.
    InvalidState,
    /// The node is in maintenance.
    NodeInMaintenance,
    /// The node is retired.
    NodeIsRetired,
    /// The node is protected.
    NodeProtected,
    /// Another task holds the node.
    NodeLocked,
    /// The node has an instance.
    NodeAssociated,
    /// The instance is on another node.
    InstanceAssociated,
    /// The driver has no such feature.
    UnsupportedDriverExtension,
    /// A console that is not enabled was asked for.
    NodeConsoleNotEnabled,
    /// Not found.
    NotFound,
    /// No such node.
    NodeNotFound,
    /// No such port.
    PortNotFound,
    /// No such driver.
    DriverNotFound,
    /// No such driver, seen while creating or changing a node.
    DriverNotFoundInEntrypoint,
    /// No such conductor.
    ConductorNotFound,
    /// The interface named is not enabled or not supported.
    InterfaceNotFoundInEntrypoint,
    /// No default interface could be chosen.
    NoValidDefaultForInterface,
    /// No conductor serves this driver and group.
    NoValidHost,
    /// The name is taken.
    DuplicateName,
    /// The UUID is taken.
    AlreadyExists,
    /// The MAC address is taken.
    MacAlreadyExists,
    /// Two resources contradict each other.
    Conflict,
    /// What is to be removed still holds others.
    NotEmpty,
    /// The power action failed or is not possible.
    PowerStateFailure,
    /// The caller is not known.
    Unauthorized,
    /// The caller may not.
    Forbidden,
    /// The operation is not permitted.
    OperationNotPermitted,
    /// The requested microversion cannot be used for this.
    NotAcceptable,
    /// The method is not allowed here.
    MethodNotAllowed,
    /// The body is too large.
    TooLarge,
    /// Not now: a limit or a shortage; try again.
    TemporaryFailure,
    /// The limit of concurrent operations is reached.
    ConcurrentActionLimit,
    /// No worker is free.
    NoFreeConductorWorker,
    /// The image is refused.
    ImageUnacceptable,
    /// Part of the program that does not exist yet.
    NotBuilt,
    /// Talking to the BMC or the agent failed.
    DriverFailure,
    /// A fault of the program or of what it runs on.
    Internal,
}

/// An error on its way to a client: its kind and a text for a person. The text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind.
    pub kind: FaultKind,
    /// What failed and what to do, naming the field.
    pub detail: String,
}

impl Fault {
    /// A fault of `kind` that says `detail`.
    pub fn new(kind: FaultKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
    /// [`FaultKind::InvalidParameterValue`].
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(FaultKind::InvalidParameterValue, detail)
    }
    /// [`FaultKind::MissingParameterValue`].
    pub fn missing(detail: impl Into<String>) -> Self {
        Self::new(FaultKind::MissingParameterValue, detail)
    }
    /// [`FaultKind::Internal`].
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(FaultKind::Internal, detail)
    }
    /// [`FaultKind::NotBuilt`].
    pub fn not_built(what: impl fmt::Display) -> Self {
        Self::new(FaultKind::NotBuilt, format!("{what} is not built yet; see docs/status.md"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Fault {}
