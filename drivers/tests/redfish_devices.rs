//! Indicators, virtual media and vendor methods of the `redfish` interfaces against the fixture BMC.
#![allow(clippy::unwrap_used, reason = "tests")]

mod redfish_support;

use std::{sync::Arc, time::Duration};

use bessemer_drivers::fake::{FakeBehaviour, FakeHardware};
use bessemer_drivers::iface::{BootDevice, DriverCx, DriverError, IndicatorState, Vendor};
use bessemer_drivers::redfish::{RedfishPool, iface::RedfishInterfaces};
use bessemer_drivers::registry::Registry;
use bessemer_model::interface::InterfaceKind;
use bessemer_model::node::Node;
use redfish_support::{node, quick};
use serde_json::{Value, json};
use virtualbmc_fixtures::machine::Machine;
use virtualbmc_fixtures::redfish::{ORDINARY, RedfishBmc, RedfishConfig};

async fn world() -> (RedfishBmc, Machine, Registry, Node) {
    let machine = Machine::new("node");
    let bmc = RedfishBmc::start(RedfishConfig::new(machine.clone()).profile(ORDINARY)).await.unwrap();
    let mut registry = Registry::with_fake(&FakeHardware::new(FakeBehaviour::default()));
    RedfishInterfaces::new(Arc::new(RedfishPool::new(quick()))).register(&mut registry);
    let mut node = node(&json!({"redfish_address": bmc.url(), "redfish_username": "admin", "redfish_password": "secret-password"}));
    node.spec.interfaces.set(InterfaceKind::Management, "redfish");
    (bmc, machine, registry, node)
}

fn cx(node: &Node) -> DriverCx<'_> {
    DriverCx { node, deadline: Duration::from_secs(10) }
}

async fn call(vendor: &Arc<dyn Vendor>, node: &Node, name: &str, args: Value) -> Result<Value, DriverError> {
    let method = vendor.methods().iter().find(|m| m.name == name).unwrap();
    let args = args.as_object().unwrap();
    method.check(args)?;
    vendor.check(method, args)?;
    vendor.call(&cx(node), method, args).await
}

#[tokio::test]
async fn the_lamp_of_the_system_is_told_and_set() {
    let (_bmc, _machine, registry, node) = world().await;
    let management = registry.management(&node).unwrap();
    let all = management.indicators(&cx(&node), None).await.unwrap();
    let [lamp] = all.as_slice() else { panic!("one lamp: {all:?}") };
    assert_eq!((lamp.component, lamp.readonly), ("system", false));
    assert_eq!(management.indicator(&cx(&node), "system", &lamp.name).await, Ok(IndicatorState::Off));
    management.set_indicator(&cx(&node), "system", &lamp.name, IndicatorState::Blinking).await.unwrap();
    assert_eq!(management.indicator(&cx(&node), "system", &lamp.name).await, Ok(IndicatorState::Blinking));
    assert_eq!(management.indicators(&cx(&node), Some("chassis")).await.unwrap(), [], "a chassis without a lamp has none");
    for (component, name) in [("system", "nope"), ("nic", "x")] {
        let e = management.indicator(&cx(&node), component, name).await.unwrap_err();
        assert!(matches!(e, DriverError::Invalid(_)), "{e:?}");
    }
}

#[tokio::test]
async fn operators_insert_list_and_eject_media() {
    let (_bmc, machine, registry, node) = world().await;
    let media = registry.media_of_management(&node).unwrap();
    media.insert(&cx(&node), BootDevice::Cdrom, "http://192.0.2.1/x.iso").await.unwrap();
    let drives = media.list(&cx(&node)).await.unwrap();
    assert!(drives.iter().any(|d| d["inserted"] == true && d["image"] == "http://192.0.2.1/x.iso"), "{drives:?}");
    let vendor = registry.vendor_named("redfish").unwrap();
    call(vendor, &node, "eject_vmedia", json!({"boot_device": "usb"})).await.unwrap();
    assert_eq!(machine.media().len(), 1, "another drive keeps its medium");
    call(vendor, &node, "eject_vmedia", json!({})).await.unwrap();
    assert!(machine.media().is_empty());
}

#[tokio::test]
async fn subscriptions_are_made_shown_and_ended() {
    let (_bmc, _machine, registry, node) = world().await;
    let vendor = registry.vendor_named("redfish").unwrap();
    let wanted = json!({"Destination": "https://192.0.2.1/events", "HttpHeaders": [{"X-Auth-Token": "very-secret"}]});
    let made = call(vendor, &node, "create_subscription", wanted).await.unwrap();
    assert_eq!((&made["Destination"], &made["EventTypes"]), (&json!("https://192.0.2.1/events"), &json!(["Alert"])));
    assert!(!made.to_string().contains("very-secret"), "{made}");
    let id = made["Id"].as_str().unwrap();
    let all = call(vendor, &node, "get_all_subscriptions", json!({})).await.unwrap();
    assert_eq!(all["Members"].as_array().map(Vec::len), Some(1));
    assert_eq!(call(vendor, &node, "get_subscription", json!({ "id": id })).await.unwrap(), made);
    call(vendor, &node, "delete_subscription", json!({ "id": id })).await.unwrap();
    assert!(call(vendor, &node, "get_subscription", json!({ "id": id })).await.is_err());
    let e = call(vendor, &node, "delete_subscription", json!({})).await.unwrap_err();
    assert!(matches!(e, DriverError::Missing(_)), "{e:?}");
}
