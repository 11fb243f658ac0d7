//! What the API may ask of a conductor.
//!
//! One trait, [`ConductorApi`], with two forms: in the same process (the conductor itself) and over HTTP to the conductor that owns the
//! node. Verbs ([`ConductorApi::provision`], [`ConductorApi::set_power`]) only check and write (flow, state and event in one transaction)
//! and return before the work is done; calls that need the BMC or the agent now return its answer.
//!
//! [`call`] has the calls that another daemon may do as messages, [`signed`] how these are proved to come from a daemon that knows the shared
//! key. Nothing here opens a socket or knows a microversion.

pub mod call;
pub mod devices;
pub mod signed;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bessemer_model::{
    Json, JsonMap, fault::Fault, ids::NodeId, interface::InterfaceKind, node::Node, runbook::RunbookStep, secret::Secret,
    state::PowerChange,
};
use serde::{Deserialize, Serialize};

/// Who asks, for history and audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCx {
    /// `req-<uuid>`.
    pub request_id: String,
    /// User, when known.
    pub user: Option<String>,
    /// Project, when known.
    pub project: Option<String>,
}

/// A verb of `PUT states/provision` (`api.md` section 3.4). Aliases (`deploy`, `undeploy`) are resolved before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "named as on the wire")]
pub enum Verb {
    Active,
    Deleted,
    Rebuild,
    Manage,
    Provide,
    Inspect,
    Abort,
    Clean,
    Adopt,
    Rescue,
    Unrescue,
    Unhold,
    Service,
}

impl Verb {
    /// Every verb.
    pub const ALL: &'static [Self] = &[
        Self::Active,
        Self::Deleted,
        Self::Rebuild,
        Self::Manage,
        Self::Provide,
        Self::Inspect,
        Self::Abort,
        Self::Clean,
        Self::Adopt,
        Self::Rescue,
        Self::Unrescue,
        Self::Unhold,
        Self::Service,
    ];
    /// The event that the verb stands for.
    #[must_use]
    pub const fn event(self) -> bessemer_model::transition::Event {
        use bessemer_model::transition::Event as E;
        match self {
            Self::Active => E::Deploy,
            Self::Deleted => E::Delete,
            Self::Rebuild => E::Rebuild,
            Self::Manage => E::Manage,
            Self::Provide => E::Provide,
            Self::Inspect => E::Inspect,
            Self::Abort => E::Abort,
            Self::Clean => E::Clean,
            Self::Adopt => E::Adopt,
            Self::Rescue => E::Rescue,
            Self::Unrescue => E::Unrescue,
            Self::Unhold => E::Unhold,
            Self::Service => E::Service,
        }
    }
    /// The canonical `target` text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deleted => "deleted",
            Self::Rebuild => "rebuild",
            Self::Manage => "manage",
            Self::Provide => "provide",
            Self::Inspect => "inspect",
            Self::Abort => "abort",
            Self::Clean => "clean",
            Self::Adopt => "adopt",
            Self::Rescue => "rescue",
            Self::Unrescue => "unrescue",
            Self::Unhold => "unhold",
            Self::Service => "service",
        }
    }
    /// The verb of a `target`; aliases included.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        match s {
            "deploy" => Some(Self::Active),
            "undeploy" => Some(Self::Deleted),
            other => Self::ALL.iter().copied().find(|v| v.as_str() == other),
        }
    }
}

/// A step as a user names it; already checked for shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserStep {
    /// The interface.
    pub interface: InterfaceKind,
    /// The step.
    pub step: String,
    /// Arguments.
    #[serde(default)]
    pub args: JsonMap,
    /// Priority (deploy steps only); 0 disables.
    #[serde(default)]
    pub priority: Option<u32>,
    /// `order` as given; the steps run in the order of their list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
    /// `execute_on_child_nodes` with `limit_child_node_execution`: the children that run it instead of the node; all when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<Vec<NodeId>>,
}

impl UserStep {
    /// A step without arguments.
    pub fn new(interface: InterfaceKind, step: impl Into<String>) -> Self {
        Self { interface, step: step.into(), args: JsonMap::new(), priority: None, order: None, children: None }
    }

    /// `interface.step`, as options and messages name it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}.{}", self.interface.as_str(), self.step)
    }
}

impl From<RunbookStep> for UserStep {
    fn from(s: RunbookStep) -> Self {
        Self { order: Some(s.order), args: s.args, ..Self::new(s.interface, s.step) }
    }
}

/// The body of a verb, checked for shape and microversion by the API.
#[derive(Clone, Debug)]
pub struct ProvisionRequest {
    /// The verb.
    pub verb: Verb,
    /// `configdrive`: text (URL or base64) or object.
    pub configdrive: Option<Json>,
    /// `clean_steps`, `deploy_steps` or `service_steps`, whichever fits the verb.
    pub steps: Option<Vec<UserStep>>,
    /// `disable_ramdisk`.
    pub disable_ramdisk: bool,
    /// `rescue_password`.
    pub rescue_password: Option<Secret<String>>,
    /// Microversion at least 1.110: `abort` in `wait call-back` fails the deployment instead of tearing down.
    pub abort_deploy_fails: bool,
}

/// The outcome of validating one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validation {
    /// Whether it is usable; `None` = the interface is not implemented for the node.
    pub result: Option<bool>,
    /// Why not.
    pub reason: Option<String>,
}

/// A boot device as the BMC tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootDevice {
    /// `pxe`, `disk`, `cdrom`, `bios`, `safe`, …; `None` when the BMC does not say.
    pub device: Option<String>,
    /// Whether it outlives the next boot; `None` when the BMC does not say.
    pub persistent: Option<bool>,
}

/// `GET /v1/lookup`.
#[derive(Clone, Debug, Default)]
pub struct LookupQuery {
    /// MAC addresses as given.
    pub addresses: Vec<String>,
    /// `node_uuid`.
    pub node: Option<NodeId>,
    /// Microversion at least 1.62: mint a token.
    pub mint_token: bool,
}

/// The answer to a lookup.
#[derive(Clone, Debug)]
pub struct LookupAnswer {
    /// The node.
    pub node: Node,
    /// The `config` object without the token.
    pub config: JsonMap,
    /// The token, only when this lookup minted it.
    pub token: Option<Secret<String>>,
}

/// `POST /v1/heartbeat/{node}`.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "named as on the wire")]
pub struct Heartbeat {
    pub callback_url: String,
    pub agent_token: Option<Secret<String>>,
    pub agent_version: Option<String>,
    pub agent_verify_ca: Option<String>,
    pub agent_status: Option<String>,
    pub agent_status_message: Option<String>,
}

/// See the module documentation.
#[async_trait]
pub trait ConductorApi: devices::DeviceApi {
    /// Starts a verb. Returns once it is persisted.
    ///
    /// # Errors
    /// `InvalidStateRequested`, `NodeLocked`, `NodeInMaintenance`, `NodeProtected`, `NodeIsRetired`, `ConcurrentActionLimit`, a failed validation.
    async fn provision(&self, cx: &RequestCx, node: NodeId, request: ProvisionRequest) -> Result<(), Fault>;

    /// Starts a power action. Returns once it is persisted. `timeout` is for soft actions.
    ///
    /// # Errors
    /// `InvalidParameterValue` (not supported), `NodeLocked`, `PowerStateFailure` (`disable_power_off`).
    async fn set_power(&self, cx: &RequestCx, node: NodeId, change: PowerChange, timeout: Option<Duration>) -> Result<(), Fault>;

    /// Checks every interface but vendor against the node's configuration. Asks no BMC.
    ///
    /// # Errors
    /// `NodeNotFound`.
    async fn validate(&self, node: NodeId) -> Result<BTreeMap<InterfaceKind, Validation>, Fault>;

    /// The boot device.
    ///
    /// # Errors
    /// What the BMC or the lack of it says.
    async fn boot_device(&self, node: NodeId) -> Result<BootDevice, Fault>;
    /// Sets the boot device.
    ///
    /// # Errors
    /// As above; an unsupported device.
    async fn set_boot_device(&self, node: NodeId, device: &str, persistent: bool) -> Result<(), Fault>;
    /// Devices that can be set.
    ///
    /// # Errors
    /// `UnsupportedDriverExtension`.
    async fn supported_boot_devices(&self, node: NodeId) -> Result<Vec<String>, Fault>;
    /// Starts a change of the boot mode (`bios` or `uefi`).
    ///
    /// # Errors
    /// As for [`Self::set_boot_device`].
    async fn set_boot_mode(&self, node: NodeId, mode: &str) -> Result<(), Fault>;
    /// Starts a change of secure boot.
    ///
    /// # Errors
    /// As for [`Self::set_boot_device`].
    async fn set_secure_boot(&self, node: NodeId, on: bool) -> Result<(), Fault>;
    /// Sends an NMI.
    ///
    /// # Errors
    /// As for [`Self::set_boot_device`].
    async fn inject_nmi(&self, node: NodeId) -> Result<(), Fault>;

    /// A ramdisk asks who it is. May mint the agent token.
    ///
    /// # Errors
    /// `NodeNotFound` when nothing matches or the state does not allow it.
    async fn lookup(&self, query: LookupQuery) -> Result<LookupAnswer, Fault>;
    /// A ramdisk says that it lives. One write and a hint.
    ///
    /// # Errors
    /// `InvalidParameterValue` for a wrong token or a changed callback URL.
    async fn heartbeat(&self, node: NodeId, heartbeat: Heartbeat) -> Result<(), Fault>;
    /// A ramdisk delivers inspection data.
    ///
    /// # Errors
    /// `NodeNotFound`, `InvalidParameterValue`.
    async fn continue_inspection(&self, node: Option<NodeId>, data: Json) -> Result<Node, Fault>;

    /// Keys of `driver_info` and `properties` that a hardware type understands, with a description each.
    ///
    /// # Errors
    /// `DriverNotFound`.
    async fn driver_properties(&self, driver: &str) -> Result<BTreeMap<String, String>, Fault>;

    /// A hint after an allocation was stored that waits for a node.
    fn allocations_wait(&self);

    /// A hint after a node was created, changed or deleted through the API.
    fn node_changed(&self, node: NodeId);
}
