//! Vendor methods: looked up by name, checked, then called now or written down.

use std::{collections::BTreeMap, sync::Arc};

use bessemer_drivers::iface::{MethodDecl, Vendor};
use bessemer_model::{
    fault::{Fault, FaultKind},
    ids::NodeId,
    interface::{InterfaceKind, hardware_type},
    node::Node,
};
use bessemer_rpc::devices::{VendorAnswer, VendorCall, VendorMethod};
use serde_json::json;

use super::cx;
use crate::{actions, api::LocalConductor, core::Core};

pub(super) fn no_handler(method: &str) -> Fault {
    Fault::invalid(format!("No handler for method {}", method.chars().take(255).collect::<String>()))
}

pub(super) fn known_driver(core: &Core, driver: &str) -> Result<(), Fault> {
    if hardware_type(driver).is_some() && core.config.drivers.contains_key(driver) {
        return Ok(());
    }
    let driver: String = driver.chars().take(255).collect();
    Err(Fault::new(FaultKind::DriverNotFound, format!("The driver '{driver}' is unknown.")))
}

fn implementation<'a>(core: &'a Core, node: &Node) -> Option<&'a Arc<dyn Vendor>> {
    core.registry.vendor_named(node.spec.interfaces.get(InterfaceKind::Vendor))
}

pub(super) fn methods(core: &Core, node: &Node) -> BTreeMap<String, VendorMethod> {
    let wire = |m: &MethodDecl| VendorMethod {
        http_methods: m.http.iter().map(|h| (*h).to_owned()).collect(),
        asynchronous: m.asynchronous,
        description: m.text.to_owned(),
        attach: false,
        require_exclusive_lock: m.exclusive,
    };
    implementation(core, node).map_or(&[][..], |v| v.methods()).iter().map(|m| (m.name.to_owned(), wire(m))).collect()
}

/// The implementation and the method, everything about the call checked.
pub(crate) fn checked(core: &Core, node: &Node, call: &VendorCall) -> Result<(Arc<dyn Vendor>, &'static MethodDecl), Fault> {
    let vendor = implementation(core, node).ok_or_else(|| no_handler(&call.method))?;
    let method = vendor.methods().iter().find(|m| m.name == call.method).ok_or_else(|| no_handler(&call.method))?;
    if !method.http.contains(&call.http_method.as_str()) {
        return Err(Fault::invalid(format!("The method {} does not support HTTP {}", method.name, call.http_method)));
    }
    vendor.validate(node)?;
    method.check(&call.args)?;
    vendor.check(method, &call.args)?;
    Ok((Arc::clone(vendor), method))
}

pub(super) async fn call(me: &LocalConductor, id: NodeId, call: VendorCall) -> Result<VendorAnswer, Fault> {
    let core = &me.0;
    let node = core.store.node_get_with_secrets(id).await?;
    let (vendor, method) = checked(core, &node, &call)?;
    if method.asynchronous {
        let request = json!({ "method": call.method, "http_method": call.http_method, "args": call.args });
        me.start(id, "vendor.call", request, |node| checked(core, node, &call).map(|_| true)).await?;
        return Ok(VendorAnswer::Accepted);
    }
    if !method.exclusive {
        return Ok(VendorAnswer::Done(vendor.call(&cx(&node), method, &call.args).await?));
    }
    actions::exclusively(core, id, "a vendor method", async move |core, node| {
        // Looked up again: the node may be another one by now.
        let (vendor, method) = checked(&core, &node, &call)?;
        Ok(VendorAnswer::Done(vendor.call(&cx(&node), method, &call.args).await?))
    })
    .await
}
