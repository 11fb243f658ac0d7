//! What stands around a node: virtual interfaces, console, vendor methods, virtual media.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bessemer_db::{PortFilter, PortPage};
use bessemer_drivers::{
    fake::{FakeBehaviour, FakeHardware},
    redfish::{PoolConfig, RedfishPool, iface::RedfishInterfaces},
    registry::Registry,
};
use bessemer_model::{
    fault::FaultKind,
    ids::{NodeId, PortId, PortgroupId},
    interface::InterfaceKind,
    node::NodeSpec,
    port::Port,
    portgroup::Portgroup,
    state::ProvisionState as P,
};
use bessemer_rpc::{
    RequestCx, UserStep, Verb,
    devices::{DeviceApi, VendorAnswer, VendorCall, VifRequest},
};
use bessemer_tests::world::{Database, ENGINES, World, config, step};
use serde_json::json;
use virtualbmc_fixtures::{
    machine::{Happening, Machine},
    redfish::{RedfishBmc, RedfishConfig},
};

fn flat(spec: &mut NodeSpec) {
    spec.interfaces.set(InterfaceKind::Network, "flat");
}

fn vif(id: &str) -> VifRequest {
    VifRequest { id: id.into(), ..VifRequest::default() }
}

async fn port(w: &World, node: NodeId, last: u8, change: impl FnOnce(&mut Port)) -> Result<PortId> {
    let mut p = Port { address: format!("52:54:00:bb:00:{last:02x}"), ..Port::blank(PortId::random(), node) };
    change(&mut p);
    Ok(w.store.port_create(p).await?.id)
}

async fn attached(w: &World, id: PortId) -> Result<Option<String>> {
    let p = w.store.port_get(&id.to_string()).await?;
    Ok(p.vif().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vif_takes_a_free_port_that_boots_before_others_and_only_once() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let w = World::start(db.open().await?).await?;
        let node = w.node_with(P::Available, flat).await?;
        let plain = port(&w, node, 1, |p| p.pxe_enabled = false).await?;
        let first = port(&w, node, 2, |_| {}).await?;
        let second = port(&w, node, 3, |_| {}).await?;
        let api = w.api();
        api.attach_vif(node, &vif("a")).await?;
        assert_eq!(attached(&w, first).await?.as_deref(), Some("a"), "the first port that boots");
        let again = api.attach_vif(node, &vif("a")).await.expect_err("attached already");
        assert_eq!(again.kind, FaultKind::AlreadyExists);
        let named = VifRequest { port_uuid: Some(plain.to_string()), ..vif("b") };
        api.attach_vif(node, &named).await?;
        assert_eq!(attached(&w, plain).await?.as_deref(), Some("b"), "the port that was named");
        api.attach_vif(node, &vif("c")).await?;
        assert_eq!(attached(&w, second).await?.as_deref(), Some("c"));
        let full = api.attach_vif(node, &vif("d")).await.expect_err("no port is free");
        assert_eq!(full.kind, FaultKind::InvalidParameterValue);
        let mut vifs = api.vifs(node).await?;
        vifs.sort();
        assert_eq!(vifs, ["a", "b", "c"]);
        api.detach_vif(node, "a").await?;
        assert_eq!(attached(&w, first).await?, None);
        assert_eq!(api.detach_vif(node, "a").await.expect_err("gone").kind, FaultKind::InvalidParameterValue);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vif_takes_a_port_group_with_ports_before_a_port() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let w = World::start(db.open().await?).await?;
        let node = w.node_with(P::Available, flat).await?;
        let group = || async { anyhow::Ok(w.store.portgroup_create(Portgroup::blank(PortgroupId::random(), node)).await?.id) };
        let of = |id: PortgroupId| {
            let store = &w.store;
            async move { anyhow::Ok(store.portgroup_get(&id.to_string()).await?.vif().map(str::to_owned)) }
        };
        let (empty, bond, split) = (group().await?, group().await?, group().await?);
        let alone = port(&w, node, 1, |_| {}).await?;
        let in_bond = port(&w, node, 2, |p| p.portgroup = Some(bond)).await?;
        let busy = |p: &mut Port| {
            p.portgroup = Some(split);
            p.internal_info.insert("tenant_vif_port_id".into(), json!("x"));
        };
        port(&w, node, 3, busy).await?;
        let in_split = port(&w, node, 4, |p| p.portgroup = Some(split)).await?;
        let api = w.api();
        let full = |r: Result<(), _>| r.map_err(|f: bessemer_model::fault::Fault| f.kind);
        for unusable in [empty, split] {
            let named = VifRequest { portgroup_uuid: Some(unusable.to_string()), ..vif("a") };
            assert_eq!(full(api.attach_vif(node, &named).await), Err(FaultKind::InvalidParameterValue));
        }
        let member = VifRequest { port_uuid: Some(in_bond.to_string()), ..vif("a") };
        assert_eq!(full(api.attach_vif(node, &member).await), Err(FaultKind::InvalidParameterValue), "a port of a group");

        api.attach_vif(node, &vif("a")).await?;
        assert_eq!((of(bond).await?.as_deref(), attached(&w, in_bond).await?), (Some("a"), None));
        assert_eq!(full(api.attach_vif(node, &vif("a")).await), Err(FaultKind::AlreadyExists));
        for (name, place) in [("b", alone), ("c", in_split)] {
            api.attach_vif(node, &vif(name)).await?;
            assert_eq!(attached(&w, place).await?.as_deref(), Some(name));
        }
        assert_eq!(full(api.attach_vif(node, &vif("d")).await), Err(FaultKind::InvalidParameterValue));
        assert_eq!(api.vifs(node).await?, ["b", "x", "c", "a"], "ports, then groups");
        api.detach_vif(node, "a").await?;
        assert_eq!(of(bond).await?, None);
        assert_eq!(full(api.detach_vif(node, "a").await), Err(FaultKind::InvalidParameterValue));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_vifs_at_once_get_two_ports() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let w = World::start(db.open().await?).await?;
    let node = w.node_with(P::Available, flat).await?;
    for n in 1..=2 {
        port(&w, node, n, |_| {}).await?;
    }
    let api = w.api();
    let (a, b) = (vif("a"), vif("b"));
    let (one, two) = tokio::join!(api.attach_vif(node, &a), api.attach_vif(node, &b));
    one?;
    two?;
    assert_eq!(api.vifs(node).await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tearing_down_detaches_vifs_and_stops_the_console_which_the_next_instance_gets_again() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let hardware = FakeHardware::new(FakeBehaviour::default());
    let w = World::start_with(db.open().await?, config(), Arc::clone(&hardware)).await?;
    let node = w.node_with(P::Active, flat).await?;
    let id = port(&w, node, 1, |p| drop(p.extra.insert("vif_port_id".into(), json!("a")))).await?;
    let api = w.api();
    api.attach_vif(node, &vif("a")).await?;
    api.set_console(&RequestCx::default(), node, Some(true)).await?;
    assert!(w.settled(node).await?.status.console_enabled);
    assert_eq!(api.console(node).await?, json!({}));
    w.verb(node, Verb::Deleted, None).await?;
    let end = w.settled(node).await?;
    assert_eq!((end.status.provision_state, end.status.console_enabled), (P::Available, true));
    assert_eq!(attached(&w, id).await?, None);
    assert!(w.store.port_list(&PortFilter::default(), &PortPage::all()).await?[0].extra.is_empty());
    assert_eq!((hardware.calls("console.start"), hardware.calls("console.stop")), (1, 1));
    w.verb(node, Verb::Active, None).await?;
    assert_eq!(w.settled(node).await?.status.provision_state, P::Active);
    assert_eq!(hardware.calls("console.start"), 2, "it starts with the next instance");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_that_does_not_start_says_so_and_stays_disabled() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let w = World::start(db.open().await?).await?;
    let node = w.node(P::Active).await?;
    w.hardware.fail_next("console.start", 1);
    w.api().set_console(&RequestCx::default(), node, Some(true)).await?;
    let n = w.settled(node).await?;
    assert!(!n.status.console_enabled);
    assert!(n.status.last_error.as_deref().is_some_and(|e| e.contains("enabling the console")), "{:?}", n.status.last_error);
    assert_eq!(w.api().console(node).await.expect_err("it does not run").kind, FaultKind::NodeConsoleNotEnabled);
    w.api().set_console(&RequestCx::default(), node, Some(true)).await?;
    let n = w.settled(node).await?;
    assert_eq!((n.status.console_enabled, n.status.last_error), (true, None));
    w.api().set_console(&RequestCx::default(), node, Some(true)).await?;
    w.settled(node).await?;
    assert_eq!(w.hardware.calls("console.start"), 2, "one that runs is not started again");
    Ok(())
}

fn call(method: &str, bar: &str) -> VendorCall {
    let args = json!({ "bar": bar }).as_object().cloned().unwrap_or_default();
    VendorCall { method: method.into(), http_method: "POST".into(), args }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vendor_methods_are_answered_now_or_carried_out_later() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let w = World::start(db.open().await?).await?;
    let node = w.node(P::Manageable).await?;
    let (api, cx) = (w.api(), RequestCx::default());
    assert_eq!(api.vendor_call(&cx, node, call("third_method_sync", "meow")).await?, VendorAnswer::Done(json!(true)));
    assert_eq!(api.vendor_call(&cx, node, call("second_method", "kazoo")).await?, VendorAnswer::Accepted);
    assert_eq!(w.settled(node).await?.status.last_error, None);
    assert_eq!(w.hardware.calls("vendor.second_method"), 1);
    for bad in [call("nope", "x"), VendorCall { http_method: "GET".into(), ..call("second_method", "x") }] {
        assert_eq!(api.vendor_call(&cx, node, bad).await.expect_err("refused").kind, FaultKind::InvalidParameterValue);
    }
    assert_eq!(api.vendor_call(&cx, node, call("second_method", "")).await.expect_err("bar").kind, FaultKind::MissingParameterValue);
    assert_eq!(w.hardware.calls("vendor.second_method"), 1, "what was refused was not tried");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusive_method_waits_for_other_work_and_runs_on_when_its_client_leaves() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let hardware = FakeHardware::new(FakeBehaviour { delays: [("vendor".to_owned(), 0.3)].into(), ..FakeBehaviour::default() });
    let w = World::start_with(db.open().await?, config(), Arc::clone(&hardware)).await?;
    let node = w.node(P::Manageable).await?;
    let (api, cx) = (w.api(), RequestCx::default());
    let left = tokio::time::timeout(Duration::from_millis(100), api.vendor_call(&cx, node, call("third_method_sync", "meow"))).await;
    assert!(left.is_err(), "the client went away");
    assert!(w.store.node_get(node).await?.reservation.is_some(), "the method still runs, and the node is held");
    assert_eq!(api.vendor_call(&cx, node, call("third_method_sync", "x")).await?, VendorAnswer::Done(json!(false)));
    assert_eq!(hardware.calls("vendor.third_method_sync"), 2);
    assert_eq!(w.settled(node).await?.reservation, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn virtual_media_of_a_machine_without_any_fail_after_the_answer() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let w = World::start(db.open().await?).await?;
    let node = w.node(P::Manageable).await?;
    w.api().insert_media(&RequestCx::default(), node, "cdrom", "http://192.0.2.1/x.iso", false).await?;
    let error = w.settled(node).await?.status.last_error.unwrap_or_default();
    assert!(error.starts_with("Could not attach device cdrom"), "{error}");
    assert_eq!(w.api().media(node).await.expect_err("none").kind, FaultKind::UnsupportedDriverExtension);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cleaning_writes_down_the_firmware_settings_and_volumes_that_it_made() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let w = World::start(db.open().await?).await?;
    let disks = json!([{"size_gb": 10, "raid_level": "1", "is_root_volume": true}, {"size_gb": 20, "raid_level": "0"}]);
    let wish = json!({ "logical_disks": disks }).as_object().cloned().unwrap_or_default();
    let node = w.node_with(P::Manageable, |s| s.target_raid_config = wish).await?;
    let with = |interface, name: &str, args: serde_json::Value| UserStep {
        args: args.as_object().cloned().unwrap_or_default(),
        ..step(interface, name)
    };
    let steps = vec![
        with(InterfaceKind::Bios, "apply_configuration", json!({"settings": [{"name": "virt", "value": true}]})),
        with(InterfaceKind::Raid, "create_configuration", json!({"create_nonroot_volumes": false})),
    ];
    w.verb(node, Verb::Clean, Some(steps)).await?;
    let end = w.settled(node).await?;
    assert_eq!((end.status.provision_state, end.status.last_error), (P::Manageable, None));
    assert_eq!(end.status.raid_config.get("logical_disks"), Some(&json!([disks[0]])));
    let settings = w.store.bios_list(node).await?;
    assert_eq!(
        settings.iter().map(|s| (s.setting.name.as_str(), s.setting.value.as_deref())).collect::<Vec<_>>(),
        [("virt", Some("True"))]
    );
    let reset = vec![step(InterfaceKind::Bios, "factory_reset"), step(InterfaceKind::Raid, "delete_configuration")];
    w.verb(node, Verb::Clean, Some(reset)).await?;
    assert!(w.settled(node).await?.status.raid_config.is_empty());
    assert!(w.store.bios_list(node).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bios_settings_of_a_redfish_machine_are_taken_over_by_the_restart_that_cleaning_makes() -> Result<()> {
    let machine = Machine::new("node");
    let bmc = RedfishBmc::start(RedfishConfig::new(machine.clone())).await?;
    let quick = Duration::from_millis(20);
    let pool = PoolConfig { settings_look: quick, poll: quick, reboot_pause: quick, retry_interval: quick, ..PoolConfig::default() };
    let hardware = FakeHardware::new(FakeBehaviour::default());
    let mut registry = Registry::with_fake(&hardware);
    RedfishInterfaces::new(Arc::new(RedfishPool::new(pool))).register(&mut registry);
    let mut settings = config();
    let offer = settings.drivers["fake-hardware"].clone();
    settings.drivers.insert("redfish".into(), offer);
    let db = Database::new(ENGINES[0]).await?;
    let w = World::start_on(db.open().await?, settings, hardware, registry).await?;
    let node = w
        .node_with(P::Enroll, |s| {
            s.driver = "redfish".into();
            let info = json!({"redfish_address": bmc.url(), "redfish_username": "admin", "redfish_password": "secret-password"});
            s.driver_info = info.as_object().cloned().unwrap_or_default();
            for kind in [InterfaceKind::Power, InterfaceKind::Management, InterfaceKind::Bios, InterfaceKind::Firmware] {
                s.interfaces.set(kind, "redfish");
            }
        })
        .await?;
    w.verb(node, Verb::Manage, None).await?;
    let known = w.settled(node).await?;
    assert_eq!(known.status.provision_state, P::Manageable, "{:?}", known.status.last_error);
    let value = async |name: &str| w.store.bios_get(node, name).await.map(|s| s.setting.value.unwrap_or_default());
    assert_eq!(value("Cores").await?, "8", "read when the machine was verified");
    assert_eq!(w.store.firmware_list(node).await?.iter().map(|f| f.component.clone()).collect::<Vec<_>>(), ["bios", "bmc"]);
    let args = json!({"settings": [{"name": "Cores", "value": 4}, {"name": "Virtualization", "value": "Disabled"}]});
    let apply = UserStep { args: args.as_object().cloned().unwrap_or_default(), ..step(InterfaceKind::Bios, "apply_configuration") };
    w.verb(node, Verb::Clean, Some(vec![apply])).await?;
    let end = w.settled(node).await?;
    assert_eq!((end.status.provision_state, end.status.last_error), (P::Manageable, None));
    assert_eq!((value("Cores").await?.as_str(), value("Virtualization").await?.as_str()), ("4", "Disabled"));
    assert!(machine.log().iter().any(|l| matches!(l.what, Happening::Booted(..))), "the machine was started for it");
    let args = json!({"settings": [{"name": "Nope", "value": 4}]});
    let unknown = UserStep { args: args.as_object().cloned().unwrap_or_default(), ..step(InterfaceKind::Bios, "apply_configuration") };
    w.verb(node, Verb::Clean, Some(vec![unknown])).await?;
    let end = w.settled(node).await?;
    assert_eq!(end.status.provision_state, P::CleanFailed);
    assert!(end.status.last_error.as_deref().is_some_and(|e| e.contains("\"Nope\"")), "{:?}", end.status.last_error);
    Ok(())
}
