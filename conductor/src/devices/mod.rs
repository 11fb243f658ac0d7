//! [`DeviceApi`] in the same process.

mod vendor;
mod vif;

pub(crate) use vendor::checked;
pub(crate) use vif::detach_all;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bessemer_db::WorkBegin;
use bessemer_drivers::iface::{DriverCx, IndicatorState};
use bessemer_model::{
    Json,
    fault::{Fault, FaultKind},
    flow::FlowKind,
    ids::NodeId,
    node::{Node, NodeChange, NodeFault},
    step::Replay,
};
use bessemer_rpc::{
    RequestCx,
    devices::{DeviceApi, Indicator, VendorAnswer, VendorCall, VendorMethod, VifRequest},
};
use serde_json::json;

use crate::{
    actions::{self, Action},
    api::LocalConductor,
    flows,
};

/// Longest time that a request waits for a BMC.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

fn cx(node: &Node) -> DriverCx<'_> {
    DriverCx { node, deadline: DEADLINE }
}

impl LocalConductor {
    /// Persists a hidden step that deals with a device; what the last one left in `last_error` goes.
    pub(crate) async fn start(
        &self,
        id: NodeId,
        step: &str,
        request: Json,
        check: impl Fn(&Node) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let core = &self.0;
        actions::begin(core, id, |node| {
            if !check(node)? {
                return Ok(None);
            }
            let mut flow = flows::single(node, FlowKind::Device, step, request.clone(), core.now());
            // What a vendor method does is not known here, so neither is whether it may be done twice.
            for s in flow.steps.iter_mut().filter(|s| s.name == "vendor.call") {
                s.replay = Replay::Never;
            }
            Ok(Some(Action { flow, change: NodeChange { last_error: Some(None), ..NodeChange::default() } }))
        })
        .await
    }

    fn check_media(&self, node: &Node) -> Result<bool, Fault> {
        self.0.registry.management(node)?.validate(node)?;
        if node.spec.maintenance && node.spec.fault == Some(NodeFault::PowerFailure) {
            let text = format!("The virtual media of node {} cannot be changed while its power cannot be read.", node.id);
            return Err(Fault::new(FaultKind::TemporaryFailure, text));
        }
        Ok(true)
    }
}

#[async_trait]
impl DeviceApi for LocalConductor {
    async fn vifs(&self, node: NodeId) -> Result<Vec<String>, Fault> {
        vif::list(&self.0, &self.0.store.node_get(node).await?).await
    }

    async fn attach_vif(&self, node: NodeId, vif: &VifRequest) -> Result<(), Fault> {
        let vif = vif.clone();
        actions::exclusively(&self.0, node, "attaching a network interface", async move |core, node| vif::attach(&core, &node, &vif).await)
            .await
    }

    async fn detach_vif(&self, node: NodeId, vif: &str) -> Result<(), Fault> {
        let vif = vif.to_owned();
        actions::exclusively(&self.0, node, "detaching a network interface", async move |core, node| vif::detach(&core, &node, &vif).await)
            .await
    }

    async fn console(&self, node: NodeId) -> Result<Json, Fault> {
        let node = self.0.store.node_get_with_secrets(node).await?;
        if !node.status.console_enabled {
            return Err(Fault::new(FaultKind::NodeConsoleNotEnabled, format!("The console of node {} is not enabled.", node.id)));
        }
        let console = self.0.registry.console(&node)?;
        console.validate(&node)?;
        Ok(console.info(&cx(&node)).await?)
    }

    async fn set_console(&self, _cx: &RequestCx, id: NodeId, enabled: Option<bool>) -> Result<(), Fault> {
        let Some(enabled) = enabled else {
            // Taken, as the contract has it, and then found to be nothing that can be done.
            let node = self.0.store.node_get_with_secrets(id).await?;
            self.0.registry.console(&node)?.validate(&node)?;
            let text = "\"enabled\" of the console was null; give true or false".to_owned();
            let change = NodeChange { last_error: Some(Some(text)), ..NodeChange::default() };
            return Ok(self.0.store.work_begin(WorkBegin::new(id, None, change)).await?);
        };
        self.start(id, "console.set", json!({ "enabled": enabled }), |node| {
            self.0.registry.console(node)?.validate(node)?;
            Ok(enabled != node.status.console_enabled)
        })
        .await
    }

    async fn indicators(&self, node: NodeId) -> Result<Vec<Indicator>, Fault> {
        let node = self.0.store.node_get_with_secrets(node).await?;
        let found = self.0.registry.management(&node)?.indicators(&cx(&node), None).await?;
        let wire = |i: bessemer_drivers::iface::Indicator| Indicator {
            name: i.name,
            component: i.component.to_owned(),
            readonly: i.readonly,
            states: i.states.into_iter().map(|s| s.as_str().to_owned()).collect(),
        };
        Ok(found.into_iter().map(wire).collect())
    }

    async fn indicator(&self, node: NodeId, component: &str, name: &str) -> Result<String, Fault> {
        let node = self.0.store.node_get_with_secrets(node).await?;
        let management = self.0.registry.management(&node)?;
        management.validate(&node)?;
        Ok(management.indicator(&cx(&node), component, name).await?.as_str().to_owned())
    }

    async fn set_indicator(&self, node: NodeId, component: &str, name: &str, state: &str) -> Result<(), Fault> {
        let wanted = IndicatorState::parse(state)
            .ok_or_else(|| Fault::invalid(format!("Invalid indicator state \"{state}\": use off, on, blinking or unknown.")))?;
        let (component, name) = (component.to_owned(), name.to_owned());
        actions::exclusively(&self.0, node, "setting an indicator", async move |core, node| {
            let management = core.registry.management(&node)?;
            management.validate(&node)?;
            Ok(management.set_indicator(&cx(&node), &component, &name, wanted).await?)
        })
        .await
    }

    async fn vendor_methods(&self, node: NodeId) -> Result<BTreeMap<String, VendorMethod>, Fault> {
        Ok(vendor::methods(&self.0, &self.0.store.node_get(node).await?))
    }

    async fn vendor_call(&self, _cx: &RequestCx, node: NodeId, call: VendorCall) -> Result<VendorAnswer, Fault> {
        vendor::call(self, node, call).await
    }

    async fn driver_vendor_methods(&self, driver: &str) -> Result<BTreeMap<String, VendorMethod>, Fault> {
        vendor::known_driver(&self.0, driver)?;
        // No implementation that this program has offers any.
        Ok(BTreeMap::new())
    }

    async fn driver_vendor_call(&self, driver: &str, call: VendorCall) -> Result<VendorAnswer, Fault> {
        vendor::known_driver(&self.0, driver)?;
        Err(vendor::no_handler(&call.method))
    }

    async fn media(&self, node: NodeId) -> Result<Vec<Json>, Fault> {
        let node = self.0.store.node_get_with_secrets(node).await?;
        self.0.registry.management(&node)?.validate(&node)?;
        Ok(self.0.registry.media_of_management(&node)?.list(&cx(&node)).await?)
    }

    async fn insert_media(&self, _cx: &RequestCx, id: NodeId, device: &str, url: &str, through_server: bool) -> Result<(), Fault> {
        let request = json!({ "device": device, "url": url, "local": through_server });
        self.start(id, "media.insert", request, |node| self.check_media(node)).await
    }

    async fn eject_media(&self, _cx: &RequestCx, id: NodeId, devices: Option<Vec<String>>) -> Result<(), Fault> {
        self.start(id, "media.eject", json!({ "devices": devices }), |node| self.check_media(node)).await
    }
}
