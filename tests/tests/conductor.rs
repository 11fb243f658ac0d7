//! Several conductors on one database, and what ramdisks may say to them.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bessemer_conductor::{ConductorConfig, flows};
use bessemer_db::WorkBegin;
use bessemer_drivers::fake::{FakeBehaviour, FakeHardware};
use bessemer_model::{
    clock::{Clock, SystemClock},
    fault::FaultKind,
    flow::FlowKind,
    interface::InterfaceKind,
    node::{NodeChange, NodeFault},
    secret::Secret,
    state::{PowerChange, PowerState, ProvisionState as P},
};
use bessemer_rpc::{ConductorApi, Heartbeat, LookupQuery, RequestCx, Verb};
use bessemer_tests::world::{Database, ENGINES, World, config, step};
use serde_json::json;

fn slow(interface: &str, seconds: f64) -> Arc<FakeHardware> {
    FakeHardware::new(FakeBehaviour { delays: [(interface.to_owned(), seconds)].into(), ..FakeBehaviour::default() })
}

fn named(host: &str) -> ConductorConfig {
    ConductorConfig { host: host.into(), lease: Duration::from_secs(5), ..config() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_conductor_finishes_the_work_of_one_that_died() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let first = World::start_with(db.open().await?, named("first"), slow("deploy", 2.0)).await?;
        let node = first.node(P::Available).await?;
        first.verb(node, Verb::Active, None).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        first.kill();
        let second = World::start_with(db.open().await?, named("second"), slow("deploy", 0.0)).await?;
        let end = second.settled(node).await?;
        assert_eq!(end.status.provision_state, P::Active, "{engine:?}: {:?}", end.status.last_error);
        assert_eq!(end.status.last_error, None);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_row_was_taken_writes_nothing_more() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let old_hardware = slow("deploy", 1.5);
        let old = World::start_with(db.open().await?, named("same"), Arc::clone(&old_hardware)).await?;
        let node = old.node(P::Available).await?;
        old.verb(node, Verb::Active, None).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        // A restart while the old process still hangs in a step: the new epoch fences it out.
        let new = World::start_with(db.open().await?, named("same"), slow("deploy", 0.0)).await?;
        let end = new.settled(node).await?;
        assert_eq!(end.status.provision_state, P::Active);
        let revision = end.revision;
        let log = new.store.flow_log_list(node, 100).await?.len();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let later = new.store.node_get(node).await?;
        assert_eq!((later.revision, later.status.provision_state), (revision, P::Active), "the old process wrote after it was fenced");
        assert_eq!(new.store.flow_log_list(node, 100).await?.len(), log, "the old process wrote after it was fenced");
        old.kill();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_action_waits_for_the_one_before_it_instead_of_being_refused() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let w = World::start_with(db.open().await?, config(), slow("power", 0.2)).await?;
    let node = w.node(P::Manageable).await?;
    for change in [PowerChange::On, PowerChange::Reboot, PowerChange::Off] {
        w.api().set_power(&RequestCx::default(), node, change, None).await?;
    }
    let end = w.settled(node).await?;
    assert_eq!(end.status.power_state, Some(PowerState::Off));
    assert_eq!(end.status.target_power_state, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_without_the_token_is_not_heard() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let w = World::start(db.open().await?).await?;
    let node = w.node(P::Active).await?;
    w.verb(node, Verb::Service, Some(vec![step(InterfaceKind::Vendor, "trigger_servicewait")])).await?;
    assert_eq!(w.settled(node).await?.status.provision_state, P::ServiceWait);
    let query = || LookupQuery { node: Some(node), mint_token: true, ..LookupQuery::default() };
    let token = w.api().lookup(query()).await?.token.expect("the first lookup mints a token");
    assert!(w.api().lookup(query()).await?.token.is_none(), "the token is given out once");
    let beat = |url: &str, token: Option<Secret<String>>| Heartbeat {
        callback_url: url.into(),
        agent_token: token,
        agent_version: Some("1".into()),
        ..Heartbeat::default()
    };
    for bad in [None, Some(Secret::new(String::new())), Some(Secret::new("guess".into()))] {
        let e = w.api().heartbeat(node, beat("https://192.0.2.1:9999", bad)).await.expect_err("a wrong token");
        assert_eq!(e.kind, FaultKind::InvalidParameterValue);
    }
    let plain = w.api().heartbeat(node, beat("http://192.0.2.1:9999", Some(token.clone()))).await;
    assert!(plain.is_err(), "plain HTTP is refused while [agent] require_tls is set");
    assert_eq!(w.store.node_get(node).await?.status.provision_state, P::ServiceWait, "nothing moved");
    w.api().heartbeat(node, beat("https://192.0.2.1:9999", Some(token.clone()))).await?;
    assert_eq!(w.settled(node).await?.status.provision_state, P::Active, "the agent's word ended the wait");
    let e = w.api().heartbeat(node, beat("https://192.0.2.66:9999", Some(token))).await;
    assert!(e.is_err(), "an address may not change during a boot");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_machines_become_nodes_only_where_discovery_is_on() -> Result<()> {
    let report = || {
        json!({"inventory": {
            "interfaces": [{"name": "eth0", "mac_address": "52:54:00:aa:00:77", "ipv4_address": "192.0.2.9", "has_carrier": true}],
            "cpu": {"architecture": "x86_64", "count": 4}, "memory": {"physical_mb": 2048}, "boot": {"pxe_interface": "52:54:00:aa:00:77"},
        }})
    };
    let db = Database::new(ENGINES[0]).await?;
    let closed = World::start(db.open().await?).await?;
    let e = closed.api().continue_inspection(None, report()).await.expect_err("a stranger");
    assert_eq!(e.kind, FaultKind::NodeNotFound);
    closed.kill();
    let settings = ConductorConfig { auto_discovery: true, auto_discovery_driver: "fake-hardware".into(), ..config() };
    let open = World::start_with(db.open().await?, settings, slow("none", 0.0)).await?;
    let node = open.api().continue_inspection(None, report()).await?;
    assert_eq!(node.status.provision_state, P::Enroll);
    assert_eq!(node.spec.properties["cpu_arch"], json!("x86_64"));
    assert_eq!(node.spec.properties["memory_mb"], json!(2048));
    assert_eq!(open.store.node_by_macs(&["52:54:00:aa:00:77".into()]).await?, vec![node.id]);
    let again = open.api().continue_inspection(None, report()).await;
    assert!(again.is_err(), "a machine is discovered once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_cleaning_step_sets_maintenance_and_its_fault() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let hardware = slow("none", 0.0);
    let w = World::start_with(db.open().await?, config(), Arc::clone(&hardware)).await?;
    let node = w.node(P::Manageable).await?;
    hardware.fail_next("bios.factory_reset", 1);
    w.verb(node, Verb::Clean, Some(vec![step(InterfaceKind::Bios, "factory_reset")])).await?;
    let end = w.settled(node).await?;
    assert_eq!(end.status.provision_state, P::CleanFailed);
    assert_eq!(end.status.target_provision_state, Some(P::Manageable), "a manual clean keeps its target");
    assert!(end.spec.maintenance);
    assert_eq!(end.spec.fault, Some(NodeFault::CleanFailure));
    let history = w.store.history_list(node, &bessemer_db::HistoryPage::first(10)).await?;
    assert!(history.iter().any(|h| h.severity == "ERROR" && h.event.contains("factory_reset")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_during_a_flow_is_kept() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let w = World::start_with(db.open().await?, config(), slow("deploy", 0.3)).await?;
        let node = w.node(P::Available).await?;
        w.verb(node, Verb::Active, None).await?;
        w.settled(node).await?;
        w.verb(node, Verb::Deleted, None).await?;
        for i in 0..20 {
            let n = w.store.node_get(node).await?;
            let mut spec = n.spec.clone();
            spec.extra.insert(format!("k{i}"), json!(i));
            if w.store.node_update_spec(node, n.revision, spec, None).await.is_err() {
                let n = w.store.node_get(node).await?;
                let mut spec = n.spec.clone();
                spec.extra.insert(format!("k{i}"), json!(i));
                w.store.node_update_spec(node, n.revision, spec, None).await?;
            }
        }
        let end = w.settled(node).await?;
        assert_eq!(end.status.provision_state, P::Available);
        assert_eq!(end.spec.extra.len(), 20, "{engine:?}: a patch was lost");
        assert!(end.spec.instance_info.is_empty());
        w.kill();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_moves_nothing_while_the_node_is_in_maintenance() -> Result<()> {
    for (allowed, ends) in [(true, P::ServiceWait), (false, P::ServiceFailed)] {
        let db = Database::new(ENGINES[0]).await?;
        let settings = ConductorConfig { allow_provisioning_in_maintenance: allowed, ..config() };
        let w = World::start_with(db.open().await?, settings, slow("none", 0.0)).await?;
        let node = w.node(P::Active).await?;
        w.verb(node, Verb::Service, Some(vec![step(InterfaceKind::Vendor, "trigger_servicewait")])).await?;
        let waiting = w.settled(node).await?;
        let query = LookupQuery { node: Some(node), mint_token: true, ..LookupQuery::default() };
        let token = w.api().lookup(query).await?.token;
        let mut spec = waiting.spec.clone();
        spec.maintenance = true;
        w.store.node_update_spec(node, waiting.revision, spec, None).await?;
        let beat = Heartbeat {
            callback_url: "https://192.0.2.1:9999".into(),
            agent_token: token,
            agent_version: Some("1".into()),
            ..Heartbeat::default()
        };
        w.api().heartbeat(node, beat).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let end = w.settled(node).await?;
        assert_eq!(end.status.provision_state, ends);
        assert!(end.agent.is_some_and(|a| a.last_heartbeat.is_some()), "it is written down");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_of_a_step_that_must_not_be_interrupted_is_kept_until_its_end() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let w = World::start(db.open().await?).await?;
    let node = w.node(P::Active).await?;
    w.verb(node, Verb::Service, Some(vec![step(InterfaceKind::Vendor, "trigger_servicewait")])).await?;
    assert_eq!(w.settled(node).await?.status.provision_state, P::ServiceWait);
    w.verb(node, Verb::Abort, None).await?;
    // Time enough for a conductor that took it for the end of the wait.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let now = w.store.node_get(node).await?;
    assert_eq!(now.status.provision_state, P::ServiceWait, "{:?}", now.status.last_error);
    assert!(now.flow.is_some_and(|f| f.aborting), "the wish is kept");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_boot_mode_that_the_hardware_cannot_set_is_told_afterwards() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let w = World::start(db.open().await?).await?;
    let node = w.node(P::Available).await?;
    w.api().set_boot_mode(node, "uefi").await?;
    let told = w.settled(node).await?.status.last_error.unwrap_or_default();
    assert!(told.contains("boot mode") && told.contains("uefi"), "{told}");
    w.api().set_secure_boot(node, true).await?;
    let told = w.settled(node).await?.status.last_error.unwrap_or_default();
    assert!(told.contains("Secure boot"), "{told}");
    let refused = w.api().set_boot_mode(node, "coreboot").await.unwrap_err();
    assert_eq!(refused.kind, FaultKind::InvalidParameterValue);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cleaning_beyond_the_limit_waits_for_a_place_instead_of_being_refused() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let limited = ConductorConfig { max_concurrent_clean: 1, ..config() };
    let delays = ["power", "deploy", "boot", "network", "management"].map(|i| (i.to_owned(), 0.3));
    let hardware = FakeHardware::new(FakeBehaviour { delays: delays.into(), ..FakeBehaviour::default() });
    let w = World::start_with(db.open().await?, limited, hardware).await?;
    let (first, second) = (w.node(P::Active).await?, w.node(P::Active).await?);
    w.verb(first, Verb::Deleted, None).await?;
    w.verb(second, Verb::Deleted, None).await?;
    assert_eq!(w.store.node_get(first).await?.status.provision_state, P::Available, "the second began after it");
    assert_eq!(w.settled(second).await?.status.provision_state, P::Available);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_other_conductors_does_not_hide_a_node() -> Result<()> {
    let db = Database::new(ENGINES[0]).await?;
    let w = World::start(db.open().await?).await?;
    // Nobody hints at this work, and all of it but the last piece waits for a conductor of another group.
    let mut last = None;
    for n in 0..=1000 {
        let id = w.node_with(P::Manageable, |s| s.conductor_group = if n < 1000 { "elsewhere".into() } else { String::new() }).await?;
        let node = w.store.node_get(id).await?;
        let flow = flows::single(&node, FlowKind::Power, "power.set", json!({ "target": "power on" }), SystemClock.now());
        w.store.work_begin(WorkBegin { flow: Some(flow), ..WorkBegin::new(id, None, NodeChange::default()) }).await?;
        last = Some(id);
    }
    let end = w.settled(last.expect("there are nodes")).await?;
    assert_eq!(end.status.power_state, Some(PowerState::On));
    Ok(())
}
