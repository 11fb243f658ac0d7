//! What stands around the nodes of [`super::FakeConductor`]: as with fake hardware and the network interface `noop`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bessemer_db::WorkBegin;
use bessemer_model::{
    Json,
    fault::{Fault, FaultKind},
    ids::NodeId,
    interface::{HARDWARE_TYPES, InterfaceKind},
    node::NodeChange,
};
use bessemer_rpc::{
    RequestCx,
    devices::{DeviceApi, Indicator, VendorAnswer, VendorCall, VendorMethod, VifRequest},
};
use serde_json::json;

use super::FakeConductor;

fn method(asynchronous: bool, exclusive: bool) -> VendorMethod {
    VendorMethod {
        http_methods: vec!["POST".to_owned()],
        asynchronous,
        description: "compares its argument".to_owned(),
        attach: false,
        require_exclusive_lock: exclusive,
    }
}

fn unsupported(what: &str) -> Fault {
    Fault::new(FaultKind::UnsupportedDriverExtension, format!("no {what} here"))
}

#[async_trait]
impl DeviceApi for FakeConductor {
    async fn vifs(&self, node: NodeId) -> Result<Vec<String>, Fault> {
        self.store.node_get(node).await?;
        Ok(vec![])
    }
    async fn attach_vif(&self, _: NodeId, vif: &VifRequest) -> Result<(), Fault> {
        assert!(!vif.id.is_empty(), "the API checks ids");
        Ok(())
    }
    async fn detach_vif(&self, _: NodeId, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    async fn console(&self, id: NodeId) -> Result<Json, Fault> {
        if self.store.node_get(id).await?.status.console_enabled {
            return Ok(json!({}));
        }
        Err(Fault::new(FaultKind::NodeConsoleNotEnabled, "not enabled"))
    }
    async fn set_console(&self, _: &RequestCx, id: NodeId, enabled: Option<bool>) -> Result<(), Fault> {
        let node = self.store.node_get(id).await?;
        if node.spec.interfaces.get(InterfaceKind::Console) == "no-console" {
            return Err(unsupported("console"));
        }
        let change = match enabled {
            Some(on) => NodeChange { console_enabled: Some(on), last_error: Some(None), ..NodeChange::default() },
            None => NodeChange { last_error: Some(Some("enabled must not be null".to_owned())), ..NodeChange::default() },
        };
        Ok(self.store.work_begin(WorkBegin::new(id, None, change)).await?)
    }

    async fn indicators(&self, _: NodeId) -> Result<Vec<Indicator>, Fault> {
        let lamp = |name: &str, component: &str, readonly: bool, states: &[&str]| Indicator {
            name: name.to_owned(),
            component: component.to_owned(),
            readonly,
            states: states.iter().map(|s| (*s).to_owned()).collect(),
        };
        Ok(vec![lamp("led-0", "chassis", true, &["off", "on"]), lamp("led", "system", false, &["blinking", "off", "on"])])
    }
    async fn indicator(&self, id: NodeId, component: &str, name: &str) -> Result<String, Fault> {
        let known = self.indicators(id).await?.iter().any(|i| i.component == component && i.name == name);
        if known { Ok("on".to_owned()) } else { Err(Fault::invalid("no such indicator")) }
    }
    async fn set_indicator(&self, _: NodeId, _: &str, _: &str, _: &str) -> Result<(), Fault> {
        Err(unsupported("setting of indicators"))
    }

    async fn vendor_methods(&self, _: NodeId) -> Result<BTreeMap<String, VendorMethod>, Fault> {
        let all = [
            ("fourth_method_shared_lock", method(true, false)),
            ("log_passthrough", method(true, true)),
            ("second_method", method(true, true)),
            ("third_method_sync", method(false, true)),
        ];
        Ok(all.into_iter().map(|(n, m)| (n.to_owned(), m)).collect())
    }
    async fn vendor_call(&self, _: &RequestCx, id: NodeId, call: VendorCall) -> Result<VendorAnswer, Fault> {
        let methods = self.vendor_methods(id).await?;
        let m = methods.get(&call.method).ok_or_else(|| Fault::invalid("no such method"))?;
        if !m.http_methods.contains(&call.http_method) {
            return Err(Fault::invalid("not by this HTTP method"));
        }
        let bar = call.args.get("bar").ok_or_else(|| Fault::missing("bar is missing"))?;
        Ok(if m.asynchronous { VendorAnswer::Accepted } else { VendorAnswer::Done(json!(bar == "meow")) })
    }
    async fn driver_vendor_methods(&self, driver: &str) -> Result<BTreeMap<String, VendorMethod>, Fault> {
        match HARDWARE_TYPES.iter().any(|h| h.name == driver) {
            true => Ok(BTreeMap::new()),
            false => Err(Fault::new(FaultKind::DriverNotFound, "no such driver")),
        }
    }
    async fn driver_vendor_call(&self, driver: &str, _: VendorCall) -> Result<VendorAnswer, Fault> {
        self.driver_vendor_methods(driver).await?;
        Err(Fault::invalid("no such method"))
    }

    async fn media(&self, _: NodeId) -> Result<Vec<Json>, Fault> {
        Err(unsupported("virtual media"))
    }
    async fn insert_media(&self, _: &RequestCx, _: NodeId, _: &str, _: &str, _: bool) -> Result<(), Fault> {
        Ok(())
    }
    async fn eject_media(&self, _: &RequestCx, _: NodeId, _: Option<Vec<String>>) -> Result<(), Fault> {
        Ok(())
    }
}
