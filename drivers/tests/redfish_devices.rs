//! Indicators, virtual media and vendor methods of the `redfish` interfaces against the fixture BMC.
#![allow(clippy::unwrap_used, reason = "tests")]

mod redfish_support;

use std::{sync::Arc, time::Duration};

use bessemer_drivers::fake::{FakeBehaviour, FakeHardware};
use bessemer_drivers::iface::{BootDevice, DriverCx, DriverError, IndicatorState, Power, StepOutcome, Vendor};
use bessemer_drivers::redfish::{RedfishPool, iface::RedfishInterfaces};
use bessemer_drivers::registry::Registry;
use bessemer_model::firmware::BiosSetting;
use bessemer_model::interface::InterfaceKind;
use bessemer_model::node::Node;
use bessemer_model::state::PowerChange;
use bessemer_model::step::{Replay, Step};
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

#[tokio::test]
async fn bios_settings_are_read_with_their_limits_and_taken_over_by_a_restart() {
    let (_bmc, _machine, registry, mut node) = world().await;
    node.spec.interfaces.set(InterfaceKind::Bios, "redfish");
    let bios = registry.bios(&node).unwrap();
    let find = |all: &[BiosSetting], name: &str| all.iter().find(|s| s.name == name).cloned().unwrap();
    let before = bios.settings(&cx(&node)).await.unwrap();
    assert_eq!(find(&before, "Virtualization").allowable_values, [json!("Enabled"), json!("Disabled")]);
    assert_eq!((find(&before, "Cores").upper_bound, find(&before, "QuietBoot").value.as_deref()), (Some(64), Some("True")));
    let steps = registry.steps(&node, InterfaceKind::Bios).unwrap();
    let step = |name: &str, value: Value| {
        let mut s = Step::internal("apply_configuration", Replay::Idempotent);
        s.args.insert("settings".into(), json!([{ "name": name, "value": value }]));
        s
    };
    let same = steps.run(&cx(&node), &step("Cores", json!("8"))).await.unwrap();
    assert!(matches!(same, StepOutcome::BiosSettings(_)), "nothing to change, nothing to restart for: {same:?}");
    assert!(matches!(steps.run(&cx(&node), &step("Nope", json!(1))).await, Err(DriverError::Invalid(_))));
    let change = step("Cores", json!("4"));
    let StepOutcome::Restart(restart) = steps.run(&cx(&node), &change).await.unwrap() else { panic!("a restart is needed") };
    let StepOutcome::Wait { note, .. } = steps.resume(&cx(&node), &change, &restart.note).await.unwrap() else {
        panic!("the machine has not started anew yet")
    };
    let power = RedfishInterfaces::new(Arc::new(RedfishPool::new(quick())));
    Power::set(&power, &cx(&node), PowerChange::On, Duration::from_secs(5)).await.unwrap();
    let StepOutcome::BiosSettings(after) = steps.resume(&cx(&node), &change, &note).await.unwrap() else { panic!("taken over") };
    assert_eq!(find(&after, "Cores").value.as_deref(), Some("4"));
}

#[tokio::test]
async fn versions_of_firmware_are_read() {
    let (_bmc, _machine, registry, mut node) = world().await;
    node.spec.interfaces.set(InterfaceKind::Firmware, "redfish");
    let found = registry.firmware(&node).unwrap().components(&cx(&node)).await.unwrap();
    let names: Vec<&str> = found.iter().map(|f| f.component.as_str()).collect();
    assert_eq!(names, ["bios", "bmc"]);
    assert!(found.iter().all(|f| !f.version.is_empty()));
}
