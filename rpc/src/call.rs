//! The calls that are done by the conductor that owns the node (or by one that knows the hardware type), as messages.
//!
//! Verbs, power, VIFs and what ramdisks say are not among them: these write to the store only, which any daemon can do.

use bessemer_model::{
    Json,
    fault::{Fault, FaultKind},
    ids::NodeId,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{ConductorApi, RequestCx, devices::VendorCall};

/// A call: the method of [`ConductorApi`] or [`crate::devices::DeviceApi`] of that name with its arguments. It has no `Debug`: arguments of
/// vendor methods and addresses of images may hold secrets.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs, reason = "named after the methods and their arguments")]
pub enum Call {
    Validate { node: NodeId },
    BootDevice { node: NodeId },
    SetBootDevice { node: NodeId, device: String, persistent: bool },
    SupportedBootDevices { node: NodeId },
    SetBootMode { node: NodeId, mode: String },
    SetSecureBoot { node: NodeId, on: bool },
    InjectNmi { node: NodeId },
    Console { node: NodeId },
    SetConsole { node: NodeId, cx: RequestCx, enabled: Option<bool> },
    Indicators { node: NodeId },
    Indicator { node: NodeId, component: String, name: String },
    SetIndicator { node: NodeId, component: String, name: String, state: String },
    VendorMethods { node: NodeId },
    VendorCall { node: NodeId, cx: RequestCx, vendor: VendorCall },
    Media { node: NodeId },
    InsertMedia { node: NodeId, cx: RequestCx, device: String, url: String, through_server: bool },
    EjectMedia { node: NodeId, cx: RequestCx, devices: Option<Vec<String>> },
    DriverProperties { driver: String },
    DriverVendorMethods { driver: String },
    DriverVendorCall { driver: String, vendor: VendorCall },
}

/// What a call is about, which says who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A node: its owner by the hash ring.
    Node(NodeId),
    /// A hardware type: any conductor that offers it.
    Driver(&'a str),
}

impl Call {
    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Self::Validate { node }
            | Self::BootDevice { node }
            | Self::SetBootDevice { node, .. }
            | Self::SupportedBootDevices { node }
            | Self::SetBootMode { node, .. }
            | Self::SetSecureBoot { node, .. }
            | Self::InjectNmi { node }
            | Self::Console { node }
            | Self::SetConsole { node, .. }
            | Self::Indicators { node }
            | Self::Indicator { node, .. }
            | Self::SetIndicator { node, .. }
            | Self::VendorMethods { node }
            | Self::VendorCall { node, .. }
            | Self::Media { node }
            | Self::InsertMedia { node, .. }
            | Self::EjectMedia { node, .. } => Subject::Node(*node),
            Self::DriverProperties { driver } | Self::DriverVendorMethods { driver } | Self::DriverVendorCall { driver, .. } => {
                Subject::Driver(driver)
            }
        }
    }

    /// Its name, for logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Validate { .. } => "validate",
            Self::BootDevice { .. } => "boot_device",
            Self::SetBootDevice { .. } => "set_boot_device",
            Self::SupportedBootDevices { .. } => "supported_boot_devices",
            Self::SetBootMode { .. } => "set_boot_mode",
            Self::SetSecureBoot { .. } => "set_secure_boot",
            Self::InjectNmi { .. } => "inject_nmi",
            Self::Console { .. } => "console",
            Self::SetConsole { .. } => "set_console",
            Self::Indicators { .. } => "indicators",
            Self::Indicator { .. } => "indicator",
            Self::SetIndicator { .. } => "set_indicator",
            Self::VendorMethods { .. } => "vendor_methods",
            Self::VendorCall { .. } => "vendor_call",
            Self::Media { .. } => "media",
            Self::InsertMedia { .. } => "insert_media",
            Self::EjectMedia { .. } => "eject_media",
            Self::DriverProperties { .. } => "driver_properties",
            Self::DriverVendorMethods { .. } => "driver_vendor_methods",
            Self::DriverVendorCall { .. } => "driver_vendor_call",
        }
    }

    /// Does the call in this process.
    ///
    /// # Errors
    /// Those of the method.
    pub async fn run(self, api: &dyn ConductorApi) -> Result<Json, Fault> {
        match self {
            Self::Validate { node } => told(&api.validate(node).await?),
            Self::BootDevice { node } => told(&api.boot_device(node).await?),
            Self::SetBootDevice { node, device, persistent } => told(&api.set_boot_device(node, &device, persistent).await?),
            Self::SupportedBootDevices { node } => told(&api.supported_boot_devices(node).await?),
            Self::SetBootMode { node, mode } => told(&api.set_boot_mode(node, &mode).await?),
            Self::SetSecureBoot { node, on } => told(&api.set_secure_boot(node, on).await?),
            Self::InjectNmi { node } => told(&api.inject_nmi(node).await?),
            Self::Console { node } => api.console(node).await,
            Self::SetConsole { node, cx, enabled } => told(&api.set_console(&cx, node, enabled).await?),
            Self::Indicators { node } => told(&api.indicators(node).await?),
            Self::Indicator { node, component, name } => told(&api.indicator(node, &component, &name).await?),
            Self::SetIndicator { node, component, name, state } => told(&api.set_indicator(node, &component, &name, &state).await?),
            Self::VendorMethods { node } => told(&api.vendor_methods(node).await?),
            Self::VendorCall { node, cx, vendor } => told(&api.vendor_call(&cx, node, vendor).await?),
            Self::Media { node } => told(&api.media(node).await?),
            Self::InsertMedia { node, cx, device, url, through_server } => {
                told(&api.insert_media(&cx, node, &device, &url, through_server).await?)
            }
            Self::EjectMedia { node, cx, devices } => told(&api.eject_media(&cx, node, devices).await?),
            Self::DriverProperties { driver } => told(&api.driver_properties(&driver).await?),
            Self::DriverVendorMethods { driver } => told(&api.driver_vendor_methods(&driver).await?),
            Self::DriverVendorCall { driver, vendor } => told(&api.driver_vendor_call(&driver, vendor).await?),
        }
    }
}

fn told<T: Serialize>(answer: &T) -> Result<Json, Fault> {
    serde_json::to_value(answer).map_err(|e| Fault::internal(format!("an answer cannot be told to another daemon: {e}")))
}

/// How a call ended, as the daemon that did it tells the one that asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its answer.
    Done(Json),
    /// Its fault.
    Failed {
        /// [`FaultKind::name`].
        kind: String,
        /// See [`Fault::detail`].
        detail: String,
    },
}

impl From<Result<Json, Fault>> for Outcome {
    fn from(r: Result<Json, Fault>) -> Self {
        match r {
            Ok(answer) => Self::Done(answer),
            Err(f) => Self::Failed { kind: f.kind.name().to_owned(), detail: f.detail },
        }
    }
}

impl Outcome {
    /// What the method itself would have given.
    ///
    /// # Errors
    /// The fault of the call; `Internal` for what a daemon of another release says that this one does not know.
    pub fn into_answer<T: DeserializeOwned>(self) -> Result<T, Fault> {
        match self {
            Self::Done(answer) => serde_json::from_value(answer)
                .map_err(|e| Fault::internal(format!("the answer of another daemon is not understood (of another release?): {e}"))),
            Self::Failed { kind, detail } => Err(Fault::new(FaultKind::parse(&kind).unwrap_or(FaultKind::Internal), detail)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bessemer_model::interface::InterfaceKind;
    use serde_json::json;

    use super::*;
    use crate::{
        BootDevice, Validation,
        devices::{Indicator, VendorAnswer},
    };

    #[test]
    fn every_fault_crosses_unchanged() {
        for kind in FaultKind::ALL {
            let fault = Fault::new(*kind, "what failed: \"é\"\n");
            let wire = serde_json::to_vec(&Outcome::from(Err(fault.clone()))).unwrap();
            let back: Outcome = serde_json::from_slice(&wire).unwrap();
            assert_eq!(back.into_answer::<()>(), Err(fault));
        }
    }

    fn crosses<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(answer: T) {
        let wire = serde_json::to_vec(&Outcome::from(told(&answer))).unwrap();
        assert_eq!(serde_json::from_slice::<Outcome>(&wire).unwrap().into_answer::<T>(), Ok(answer));
    }

    #[test]
    fn every_sort_of_answer_crosses_unchanged() {
        crosses(());
        crosses("blinking".to_owned());
        crosses(vec!["pxe".to_owned()]);
        crosses(BootDevice { device: None, persistent: Some(true) });
        crosses(BTreeMap::from([(InterfaceKind::Boot, Validation { result: None, reason: Some("no".into()) })]));
        crosses(vec![Indicator { name: "led".into(), component: "chassis".into(), readonly: false, states: vec!["on".into()] }]);
        crosses(VendorAnswer::Accepted);
        crosses(VendorAnswer::Done(Json::Null));
        crosses(json!({"type": "shellinabox", "url": null}));
    }

    #[test]
    fn a_call_crosses_unchanged_and_an_unknown_one_is_refused() {
        let node = NodeId::random();
        let cx = RequestCx { request_id: "req-1".into(), user: None, project: Some("p".into()) };
        let vendor = VendorCall { method: "m".into(), http_method: "POST".into(), args: Default::default() };
        let calls = [
            Call::SetConsole { node, cx: cx.clone(), enabled: None },
            Call::VendorCall { node, cx: cx.clone(), vendor },
            Call::EjectMedia { node, cx, devices: Some(vec!["cdrom".into()]) },
            Call::DriverProperties { driver: "ipmi".into() },
        ];
        for call in calls {
            let wire = serde_json::to_value(&call).unwrap();
            assert_eq!(wire["call"], call.name());
            assert!(serde_json::from_value::<Call>(wire).unwrap() == call);
        }
        assert!(serde_json::from_value::<Call>(json!({"call": "provision", "node": node})).is_err());
    }
}
