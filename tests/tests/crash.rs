//! Crashes at every write: whatever a flow was doing when its process died, a new process brings it to the same end.

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::{Context, Result};
use bessemer_conductor::{AutomatedCleaning, CleaningSource};
use bessemer_db::{Children, CommitPoint, HistoryPage, NodeFilter, PortFilter, PortPage, Store};
use bessemer_drivers::{
    fake::{FakeBehaviour, FakeHardware},
    iface::Inspected,
};
use bessemer_model::{
    JsonMap,
    clock::Timestamp,
    deploy_template::{DeployTemplate, TemplateStep},
    flow::FlowKind,
    ids::{DeployTemplateId, NodeId, RuleId, RunbookId},
    inspection_rule::{self, InspectionRule},
    interface::InterfaceKind,
    node::Node,
    runbook::{Runbook, RunbookStep},
    state::{PowerChange, PowerState, ProvisionState},
};
use bessemer_rpc::{ConductorApi, RequestCx, UserStep, Verb, devices::DeviceApi};
use bessemer_tests::world::{CrashAt, Database, ENGINES, Engine, World, config, step};
use serde_json::json;
use std::sync::atomic::Ordering;

/// One kind of work on a node.
struct Scenario {
    kind: FlowKind,
    from: ProvisionState,
    verb: Option<Verb>,
    steps: Vec<UserStep>,
    ends: ProvisionState,
    /// A deploy template for the instance, rules for the inspection.
    prepared: bool,
    /// Another node that takes part.
    kin: Kin,
    /// Automated cleaning is by a runbook.
    runbook: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kin {
    Nobody,
    Child,
    /// It feeds the node.
    Parent,
}

fn scenarios() -> Vec<Scenario> {
    use ProvisionState as P;
    let s = |kind, from, verb, ends| Scenario {
        kind,
        from,
        verb: Some(verb),
        steps: vec![],
        ends,
        prepared: false,
        kin: Kin::Nobody,
        runbook: false,
    };
    let for_children = |kind, name| UserStep { children: Some(vec![]), ..step(kind, name) };
    let on_children = || vec![for_children(InterfaceKind::Bios, "factory_reset"), for_children(InterfaceKind::Power, "power_on")];
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
        Scenario { verb: None, ..s(FlowKind::Power, P::Manageable, Verb::Manage, P::Manageable) },
        Scenario { verb: None, ..s(FlowKind::Device, P::Manageable, Verb::Manage, P::Manageable) },
        Scenario { prepared: true, ..s(FlowKind::Inspect, P::Manageable, Verb::Inspect, P::Manageable) },
        Scenario { prepared: true, ..s(FlowKind::Deploy, P::Available, Verb::Active, P::Active) },
        Scenario { kin: Kin::Child, steps: on_children(), ..s(FlowKind::Clean, P::Manageable, Verb::Clean, P::Manageable) },
        Scenario { kin: Kin::Parent, verb: None, ..s(FlowKind::Power, P::Manageable, Verb::Manage, P::Manageable) },
        Scenario { runbook: true, ..s(FlowKind::Clean, P::Manageable, Verb::Provide, P::Available) },
    ]
}

async fn node(w: &World, s: &Scenario) -> Result<NodeId> {
    if s.runbook {
        let step = RunbookStep { interface: InterfaceKind::Bios, step: "factory_reset".into(), args: JsonMap::new(), order: 0 };
        w.store.record_create(Runbook { name: BOOK.into(), steps: vec![step], ..Runbook::blank(RunbookId::random()) }).await?;
    }
    if s.kin == Kin::Parent {
        let parent = w.node(ProvisionState::Available).await?;
        return w.node_with(s.from, |spec| spec.parent_node = Some(parent)).await;
    }
    let node = w.node(s.from).await?;
    if s.kin == Kin::Child {
        w.node_with(ProvisionState::Available, |spec| spec.parent_node = Some(node)).await?;
    }
    Ok(node)
}

const BOOK: &str = "book";

async fn world(store: Store, s: &Scenario) -> Result<World> {
    let mut settings = config();
    if s.runbook {
        let runbook = Some(BOOK.to_owned());
        settings.automated_cleaning =
            AutomatedCleaning { source: CleaningSource::Runbook, runbook, validate_traits: false, ..AutomatedCleaning::default() };
    }
    let hardware = FakeHardware::new(FakeBehaviour::default());
    // Before the conductor starts: it goes on with what it finds at once.
    if s.prepared {
        hardware.finds(findings());
    }
    World::start_with(store, settings, hardware).await
}

async fn begin(w: &World, node: NodeId, s: &Scenario) -> Result<(), bessemer_model::fault::Fault> {
    match s.verb {
        Some(v) => w.verb(node, v, (!s.steps.is_empty()).then(|| s.steps.clone())).await,
        None if s.kind == FlowKind::Device => w.api().set_console(&RequestCx::default(), node, Some(true)).await,
        None => w.api().set_power(&RequestCx::default(), node, PowerChange::On, None).await,
    }
}

/// What the fake hardware tells of itself.
fn findings() -> Inspected {
    Inspected { inventory: Some(json!({"cpu": {"count": 8}})), macs: vec!["52:54:00:aa:00:02".into()], ..Inspected::default() }
}

/// Rules that change the node, its traits, a port and the data; a template for the instance.
async fn prepare(w: &World, node: NodeId) -> Result<()> {
    let port = bessemer_conductor::hooks::new_ports(&w.store.node_get(node).await?, &[("52:54:00:aa:00:01".into(), true)], Timestamp(0));
    for p in port {
        let id = w.store.port_create(p).await?.id.to_string();
        let actions = json!([
            {"op": "extend-attribute", "args": {"path": "extra/seen", "value": "{inventory[cpu][count]}"}},
            {"op": "set-capability", "args": {"name": "k", "value": "v"}},
            {"op": "add-trait", "args": {"name": "CUSTOM_RULED"}},
            {"op": "set-port-attribute", "args": {"port_id": id, "path": "extra/ruled", "value": true}},
            {"op": "extend-plugin-data", "args": {"path": "marks", "value": 1}},
        ]);
        let actions = inspection_rule::actions(&actions).map_err(anyhow::Error::msg)?;
        w.store.record_create(InspectionRule { actions, ..InspectionRule::blank(RuleId::random()) }).await?;
    }
    let step = TemplateStep { interface: InterfaceKind::Bios, step: "factory_reset".into(), args: JsonMap::new(), priority: 50 };
    let template = DeployTemplate { name: "CUSTOM_T".into(), steps: vec![step], ..DeployTemplate::blank(DeployTemplateId::random()) };
    w.store.record_create(template).await?;
    w.store.node_add_trait(node, "CUSTOM_T").await?;
    let n = w.store.node_get(node).await?;
    let mut spec = n.spec.clone();
    spec.instance_info.insert("traits".into(), json!(["CUSTOM_T"]));
    w.store.node_update_spec(node, n.revision, spec, None).await?;
    Ok(())
}

/// What must not depend on when the process died.
async fn essence(w: &World, n: &Node) -> Result<String> {
    let ports = w.store.port_list(&PortFilter { node: Some(n.id), ..PortFilter::default() }, &PortPage::all()).await?;
    let ports: Vec<_> = ports.iter().map(|p| (p.address.clone(), p.extra.clone())).collect();
    let data = w.store.inventory_get(n.id).await?;
    let history = w.store.history_list(n.id, &HistoryPage::all()).await?;
    let history: Vec<_> = history.iter().map(|h| (h.event_type.clone(), h.event.clone())).collect();
    let (extra, properties) = (&n.spec.extra, &n.spec.properties);
    let filter = NodeFilter { children: Children::Of(n.id), ..NodeFilter::default() };
    let mut children = Vec::new();
    for c in w.store.node_refs(&filter).await? {
        children.push(status(&w.settled(c.id).await?));
    }
    let parent = match n.spec.parent_node {
        Some(id) => Some(status(&w.settled(id).await?)),
        None => None,
    };
    Ok(format!("{} {extra:?} {properties:?} {:?} {ports:?} {data:?} {history:?} {children:?} {parent:?}", status(n), n.traits))
}

fn status(n: &Node) -> String {
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
    let w = world(db.open().await?, s).await?;
    let node = node(&w, s).await?;
    if s.prepared {
        prepare(&w, node).await?;
    }
    let before = w.store.commits();
    begin(&w, node, s).await?;
    let end = w.settled(node).await?;
    assert_eq!(end.status.provision_state, s.ends, "{:?}", s.kind);
    let after = w.store.commits();
    if s.prepared && s.kind == FlowKind::Inspect {
        assert_eq!(end.spec.extra.get("seen"), Some(&json!(["8"])));
        assert!(end.traits.iter().any(|t| t == "CUSTOM_RULED"));
    }
    if s.prepared && s.kind == FlowKind::Deploy {
        assert_eq!(w.hardware.calls("bios.factory_reset"), 1, "the template's step was run");
    }
    if s.runbook {
        assert_eq!(w.hardware.calls("bios.factory_reset"), 1, "the runbook's step was run");
    }
    if let (Kin::Parent, Some(parent)) = (s.kin, end.spec.parent_node) {
        assert_eq!(w.store.node_get(parent).await?.status.power_state, Some(PowerState::On), "the parent feeds the node");
    }
    Ok((before, after, essence(&w, &end).await?.replace(&node.to_string(), "<node>")))
}

/// Gives whether the crash point was reached.
async fn with_crash(engine: Engine, s: &Scenario, commit: u64, point: CommitPoint, expected: &str) -> Result<bool> {
    let db = Database::new(engine).await?;
    let happened = Arc::new(AtomicBool::new(false));
    let hook = CrashAt { commit, point, happened: Arc::clone(&happened) };
    let first = world(db.open().await?.with_commit_hook(Arc::new(hook)), s).await?;
    let node = node(&first, s).await?;
    if s.prepared {
        prepare(&first, node).await?;
    }
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

    let second = world(db.open().await?, s).await?;
    let now = second.store.node_get(node).await?;
    let nothing_begun = now.flow.is_none()
        && now.status.provision_state == s.from
        && essence(&second, &now).await?.replace(&node.to_string(), "<node>") != expected;
    let power_begun = second.store.flow_get(node, bessemer_model::flow::Lane::Power).await?.is_some();
    if nothing_begun && !power_begun && now.status.provision_updated_at.is_none() {
        // The verb itself was lost before it was recorded: its client saw no 202 and asks again.
        begin(&second, node, s).await?;
    }
    let end = second.settled(node).await?;
    let got = essence(&second, &end).await?.replace(&node.to_string(), "<node>");
    assert_eq!(got, expected, "{:?} crashed {point:?} commit {commit} on {engine:?}", s.kind);
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
