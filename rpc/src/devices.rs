//! What the API may ask of the things around a node: virtual interfaces, console, indicators, vendor methods, virtual media.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bessemer_model::{Json, JsonMap, fault::Fault, ids::NodeId};
use serde::{Deserialize, Serialize};

use crate::RequestCx;

/// A virtual interface to attach (`POST vifs`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VifRequest {
    /// UUID or name of the VIF, a port of the network service as a rule.
    pub id: String,
    /// Only this port will do.
    pub port_uuid: Option<String>,
    /// Only this port group will do; not looked at when a port is named.
    pub portgroup_uuid: Option<String>,
}

/// A lamp of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Indicator {
    /// Its name within the component.
    pub name: String,
    /// `system`, `chassis`, `disk`, …
    pub component: String,
    /// It cannot be set.
    pub readonly: bool,
    /// States that it can have: `off`, `on`, `blinking`, `unknown`.
    pub states: Vec<String>,
}

/// A vendor method, as the list of methods shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorMethod {
    /// HTTP methods that it takes.
    pub http_methods: Vec<String>,
    /// It is answered before it is carried out.
    #[serde(rename = "async")]
    pub asynchronous: bool,
    /// What it does.
    pub description: String,
    /// Its result is sent as it is, not as JSON.
    pub attach: bool,
    /// Nothing else may happen to the node meanwhile.
    pub require_exclusive_lock: bool,
}

/// What a vendor method gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VendorAnswer {
    /// It is written down and will be carried out.
    Accepted,
    /// Its result.
    Done(Json),
}

/// A call of a vendor method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VendorCall {
    /// The method.
    pub method: String,
    /// HTTP method of the request, in capitals.
    pub http_method: String,
    /// The body.
    pub args: JsonMap,
}

/// See the module documentation.
#[async_trait]
pub trait DeviceApi: Send + Sync + 'static {
    /// Ids of the virtual interfaces attached to a node.
    ///
    /// # Errors
    /// `NodeNotFound`.
    async fn vifs(&self, node: NodeId) -> Result<Vec<String>, Fault>;
    /// Attaches a virtual interface to a free port or port group.
    ///
    /// # Errors
    /// `AlreadyExists` when it is attached, `InvalidParameterValue` without a free port, `NodeLocked`.
    async fn attach_vif(&self, node: NodeId, vif: &VifRequest) -> Result<(), Fault>;
    /// Detaches a virtual interface.
    ///
    /// # Errors
    /// `InvalidParameterValue` when it is not attached, `NodeLocked`.
    async fn detach_vif(&self, node: NodeId, vif: &str) -> Result<(), Fault>;

    /// Where the console of a node can be reached.
    ///
    /// # Errors
    /// `NodeConsoleNotEnabled`.
    async fn console(&self, node: NodeId) -> Result<Json, Fault>;
    /// Starts or stops the console of a node. Returns once it is persisted. `None` is what the client left open: taken, and
    /// reported in `last_error`.
    ///
    /// # Errors
    /// `UnsupportedDriverExtension`, `NodeLocked`.
    async fn set_console(&self, cx: &RequestCx, node: NodeId, enabled: Option<bool>) -> Result<(), Fault>;

    /// The indicators of a node.
    ///
    /// # Errors
    /// `UnsupportedDriverExtension`; what the BMC says.
    async fn indicators(&self, node: NodeId) -> Result<Vec<Indicator>, Fault>;
    /// State of an indicator.
    ///
    /// # Errors
    /// `InvalidParameterValue` for an unknown one; as above.
    async fn indicator(&self, node: NodeId, component: &str, name: &str) -> Result<String, Fault>;
    /// Sets an indicator.
    ///
    /// # Errors
    /// As above; `InvalidParameterValue` for a state that it cannot have.
    async fn set_indicator(&self, node: NodeId, component: &str, name: &str, state: &str) -> Result<(), Fault>;

    /// Vendor methods of a node.
    ///
    /// # Errors
    /// `NodeNotFound`.
    async fn vendor_methods(&self, node: NodeId) -> Result<BTreeMap<String, VendorMethod>, Fault>;
    /// Calls a vendor method of a node.
    ///
    /// # Errors
    /// `InvalidParameterValue` for an unknown method or a wrong HTTP method, `MissingParameterValue`, `NodeLocked`; what the BMC says.
    async fn vendor_call(&self, cx: &RequestCx, node: NodeId, call: VendorCall) -> Result<VendorAnswer, Fault>;
    /// Vendor methods of a hardware type that need no node.
    ///
    /// # Errors
    /// `DriverNotFound`.
    async fn driver_vendor_methods(&self, driver: &str) -> Result<BTreeMap<String, VendorMethod>, Fault>;
    /// Calls a vendor method of a hardware type.
    ///
    /// # Errors
    /// As for [`Self::vendor_call`]; `DriverNotFound`.
    async fn driver_vendor_call(&self, driver: &str, call: VendorCall) -> Result<VendorAnswer, Fault>;

    /// Drives for virtual media, as the BMC tells them.
    ///
    /// # Errors
    /// `UnsupportedDriverExtension`; what the BMC says.
    async fn media(&self, node: NodeId) -> Result<Vec<Json>, Fault>;
    /// Inserts the image at `url` into a drive for `device` (`disk`, `cdrom`, `floppy`). Returns once it is persisted.
    ///
    /// # Errors
    /// `UnsupportedDriverExtension`, `NodeLocked`, `TemporaryFailure` while the power of the node cannot be read.
    async fn insert_media(&self, cx: &RequestCx, node: NodeId, device: &str, url: &str, through_server: bool) -> Result<(), Fault>;
    /// Ejects virtual media; `None` = all. Returns once it is persisted.
    ///
    /// # Errors
    /// As for [`Self::insert_media`].
    async fn eject_media(&self, cx: &RequestCx, node: NodeId, devices: Option<Vec<String>>) -> Result<(), Fault>;
}
