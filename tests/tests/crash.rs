//! Crashes at every write: whatever a flow was doing when its process died, a new process brings it to the same end.

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::{Context, Result};
use bessemer_db::CommitPoint;
use bessemer_model::{
    flow::FlowKind,
    ids::NodeId,
    interface::InterfaceKind,
    node::Node,
    state::{PowerChange, ProvisionState},
};
use bessemer_rpc::{ConductorApi, RequestCx, UserStep, Verb, devices::DeviceApi};
use bessemer_tests::world::{CrashAt, Database, ENGINES, Engine, World, step};
use std::sync::atomic::Ordering;

/// One kind of work on a node.
struct Scenario {
    kind: FlowKind,
    from: ProvisionState,
    verb: Option<Verb>,
    steps: Vec<UserStep>,
    ends: ProvisionState,
}

fn scenarios() -> Vec<Scenario> {
    use ProvisionState as P;
    let s = |kind, from, verb, ends| Scenario { kind, from, verb: Some(verb), steps: vec![], ends };
    let bios = || vec![step(InterfaceKind::Bios, "factory_reset"), step(InterfaceKind::Raid, "delete_configuration")];
    vec![
        s(FlowKind::Verify, P::Enroll, Verb::Manage, P::Manageable),
        s(FlowKind::Inspect, P::Manageable, Verb::Inspect, P::Manageable),
        s(FlowKind::Clean, P::Manageable, Verb::Provide, P::Available),
        Scenario { steps: bios(), ..s(FlowKind::Clean, P::Manageable, Verb::Clean, P::Manageable) },
        s(FlowKind::Deploy, P::Available, Verb::Active, P::Active),
        s(FlowKind::Deploy, P::Active, Verb::Rebuild, P::Active),
        s(FlowKind::Delete, P::Active, Verb::Deleted, P::Available),
        s(FlowKind::Rescue, P::Active, Verb::Rescue, P::Rescue),
        s(FlowKind::Unrescue, P::Rescue, Verb::Unrescue, P::Active),
        Scenario { steps: bios(), ..s(FlowKind::Service, P::Active, Verb::Service, P::Active) },
        s(FlowKind::Adopt, P::Manageable, Verb::Adopt, P::Active),
        Scenario { kind: FlowKind::Power, from: P::Manageable, verb: None, steps: vec![], ends: P::Manageable },
        Scenario { kind: FlowKind::Device, from: P::Manageable, verb: None, steps: vec![], ends: P::Manageable },
    ]
}

async fn begin(w: &World, node: NodeId, s: &Scenario) -> Result<(), bessemer_model::fault::Fault> {
    match s.verb {
        Some(v) => w.verb(node, v, (!s.steps.is_empty()).then(|| s.steps.clone())).await,
        None if s.kind == FlowKind::Device => w.api().set_console(&RequestCx::default(), node, Some(true)).await,
        None => w.api().set_power(&RequestCx::default(), node, PowerChange::On, None).await,
    }
}

/// What must not depend on when the process died.
fn essence(n: &Node) -> String {
    let s = &n.status;
    let mut info = s.driver_internal_info.clone();
    info.remove("last_power_state_change");
    format!(
        "{} target {:?} console {} power {:?}/{:?} error {:?} maintenance {} fault {:?} instance {:?} info {}",
        s.provision_state,
        s.target_provision_state,
        s.console_enabled,
        s.power_state,
        s.target_power_state,
        s.last_error,
        n.spec.maintenance,
        n.spec.fault,
        n.spec.instance_info,
        serde_json::Value::Object(info)
    )
}

async fn undisturbed(engine: Engine, s: &Scenario) -> Result<(u64, u64, String)> {
    let db = Database::new(engine).await?;
    let w = World::start(db.open().await?).await?;
    let node = w.node(s.from).await?;
    let before = w.store.commits();
    begin(&w, node, s).await?;
    let end = w.settled(node).await?;
    assert_eq!(end.status.provision_state, s.ends, "{:?}", s.kind);
    let after = w.store.commits();
    Ok((before, after, essence(&end)))
}

/// Gives whether the crash point was reached.
async fn with_crash(engine: Engine, s: &Scenario, commit: u64, point: CommitPoint, expected: &str) -> Result<bool> {
    let db = Database::new(engine).await?;
    let happened = Arc::new(AtomicBool::new(false));
    let hook = CrashAt { commit, point, happened: Arc::clone(&happened) };
    let first = World::start(db.open().await?.with_commit_hook(Arc::new(hook))).await?;
    let node = first.node(s.from).await?;
    let begun = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        tokio::select! {
            r = begin(&first, node, s) => {
                r?;
                let end = first.settled(node);
                tokio::select! {
                    r = end => { r?; }
                    () = until(&happened) => {}
                }
            }
            () = until(&happened) => {}
        }
        anyhow::Ok(())
    });
    begun.await.context("neither the end nor the crash came")??;
    let crashed = happened.load(Ordering::SeqCst);
    first.kill();

    let second = World::start(db.open().await?).await?;
    let now = second.store.node_get(node).await?;
    let nothing_begun = now.flow.is_none() && now.status.provision_state == s.from && essence(&now) != expected;
    let power_begun = second.store.flow_get(node, bessemer_model::flow::Lane::Power).await?.is_some();
    if nothing_begun && !power_begun && now.status.provision_updated_at.is_none() {
        // The verb itself was lost before it was recorded: its client saw no 202 and asks again.
        begin(&second, node, s).await?;
    }
    let end = second.settled(node).await?;
    assert_eq!(essence(&end), expected, "{:?} crashed {point:?} commit {commit} on {engine:?}", s.kind);
    Ok(crashed)
}

async fn until(flag: &AtomicBool) {
    while !flag.load(Ordering::SeqCst) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

async fn every_crash_point(engine: Engine) -> Result<()> {
    let (mut points, mut commits) = (0, 0);
    for s in scenarios() {
        let (before, after, expected) = undisturbed(engine, &s).await?;
        commits += after - before;
        for commit in before + 1..=after {
            for point in [CommitPoint::Before, CommitPoint::After] {
                if with_crash(engine, &s, commit, point, &expected).await? {
                    points += 1;
                }
            }
        }
    }
    println!("{engine:?}: {points} crash points over {commits} commits");
    assert!(points >= commits, "only {points} crash points for {commits} commits");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_commit_ends_in_the_same_state_on_sqlite() -> Result<()> {
    every_crash_point(ENGINES[0]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_commit_ends_in_the_same_state_on_postgresql() -> Result<()> {
    every_crash_point(ENGINES[1]).await
}
