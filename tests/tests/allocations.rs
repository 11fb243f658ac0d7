//! Allocations: whatever a conductor was doing for one when it died, another brings it to the same end; no node is given twice.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bessemer_conductor::ConductorConfig;
use bessemer_db::{AllocationFilter, AllocationPage, CommitPoint, DbError, NodeFilter, NodeNew, NodePage, Store};
use bessemer_drivers::fake::{FakeBehaviour, FakeHardware};
use bessemer_model::{
    JsonMap,
    allocation::{Allocation, AllocationState},
    clock::Timestamp,
    ids::{AllocationId, NodeId},
    node::{NodeSpec, NodeStatus},
    state::{PowerState, ProvisionState},
};
use bessemer_rpc::ConductorApi;
use bessemer_tests::world::{CrashAt, Database, ENGINES, Engine, World, config};

async fn free_node(store: &Store, name: &str) -> Result<NodeId> {
    let mut status = NodeStatus::new(ProvisionState::Available);
    status.power_state = Some(PowerState::Off);
    let spec =
        NodeSpec { name: Some(name.into()), driver: "fake-hardware".into(), resource_class: Some("gold".into()), ..NodeSpec::default() };
    let id = NodeId::random();
    store.node_create(NodeNew { id, spec, status, traits: vec!["CUSTOM_A".into()], history: vec![], events: vec![] }).await?;
    Ok(id)
}

fn wish(name: Option<&str>, class: &str) -> Allocation {
    Allocation {
        id: AllocationId::random(),
        seq: 0,
        revision: 0,
        created_at: Timestamp(0),
        updated_at: None,
        name: name.map(Into::into),
        node: None,
        state: AllocationState::Allocating,
        last_error: None,
        resource_class: Some(class.into()),
        traits: vec!["CUSTOM_A".into()],
        candidates: vec![],
        extra: JsonMap::new(),
        owner: None,
    }
}

/// What the API does with a request.
async fn ask(w: &World, a: &Allocation) -> Result<()> {
    w.store.allocation_create(a.clone()).await?;
    w.api().allocations_wait();
    Ok(())
}

async fn ended(store: &Store, id: AllocationId) -> Result<Allocation> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let a = store.allocation_get(&id.to_string()).await?;
        if a.state != AllocationState::Allocating {
            return Ok(a);
        }
        if Instant::now() > until {
            bail!("the allocation did not end");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What must not depend on when the process died.
async fn essence(store: &Store, a: &Allocation, node: NodeId) -> Result<String> {
    let n = store.node_get(node).await?;
    Ok(format!(
        "{:?} {:?} node {} instance {:?} allocation {:?} info {:?} revision {}",
        a.state,
        a.last_error.as_ref().map(|e| e.replace(&a.id.to_string(), "A")),
        a.node == Some(node),
        n.spec.instance_uuid.map(|u| u == a.id.0),
        n.allocation.map(|x| x == a.id),
        n.spec.instance_info,
        n.revision
    ))
}

async fn until(flag: &AtomicBool) {
    while !flag.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Gives how many commits it took.
async fn undisturbed(engine: Engine, class: &str) -> Result<(u64, u64, String)> {
    let db = Database::new(engine).await?;
    let w = World::start(db.open().await?).await?;
    let node = free_node(&w.store, "n").await?;
    let before = w.store.commits();
    let a = wish(None, class);
    ask(&w, &a).await?;
    let end = ended(&w.store, a.id).await?;
    Ok((before, w.store.commits(), essence(&w.store, &end, node).await?))
}

async fn with_crash(engine: Engine, class: &str, commit: u64, point: CommitPoint, expected: &str) -> Result<bool> {
    let db = Database::new(engine).await?;
    let happened = Arc::new(AtomicBool::new(false));
    let hook = CrashAt { commit, point, happened: Arc::clone(&happened) };
    let first = World::start(db.open().await?.with_commit_hook(Arc::new(hook))).await?;
    let node = free_node(&first.store, "n").await?;
    let a = wish(None, class);
    let begun = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! {
            r = async { ask(&first, &a).await?; ended(&first.store, a.id).await } => { r?; }
            () = until(&happened) => {}
        }
        anyhow::Ok(())
    });
    begun.await.context("neither the end nor the crash came")??;
    let crashed = happened.load(Ordering::SeqCst);
    first.kill();

    let second = World::start(db.open().await?).await?;
    if let Err(DbError::NotFound { .. }) = second.store.allocation_get(&a.id.to_string()).await {
        // The request was lost before it was recorded: its client saw no 201 and asks again.
        ask(&second, &a).await?;
    }
    let end = ended(&second.store, a.id).await?;
    assert_eq!(essence(&second.store, &end, node).await?, expected, "crashed {point:?} commit {commit} on {engine:?}");
    Ok(crashed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_commit_ends_an_allocation_in_the_same_state() -> Result<()> {
    for engine in ENGINES {
        for (class, ends) in [("gold", "Active"), ("tin", "Error")] {
            let (before, after, expected) = undisturbed(engine, class).await?;
            assert!(expected.starts_with(ends), "{expected}");
            let mut points = 0;
            for commit in before + 1..=after {
                for point in [CommitPoint::Before, CommitPoint::After] {
                    points += u64::from(with_crash(engine, class, commit, point, &expected).await?);
                }
            }
            assert!(points >= after - before, "only {points} crash points for {} commits", after - before);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_conductors_give_each_node_to_one_of_many_requests() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let named = |host: &str| ConductorConfig { host: host.into(), ..config() };
        let hardware = || FakeHardware::new(FakeBehaviour::default());
        let one = World::start_with(db.open().await?, named("one"), hardware()).await?;
        let two = World::start_with(db.open().await?, named("two"), hardware()).await?;
        for i in 0..5 {
            free_node(&one.store, &format!("n{i}")).await?;
        }
        let asked: Vec<Allocation> = (0..12).map(|_| wish(None, "gold")).collect();
        for (i, a) in asked.iter().enumerate() {
            ask(if i % 2 == 0 { &one } else { &two }, a).await?;
        }
        for a in &asked {
            ended(&one.store, a.id).await?;
        }
        let all = one.store.allocation_list(&AllocationFilter::default(), &AllocationPage::all()).await?;
        let got: Vec<&Allocation> = all.iter().filter(|a| a.state == AllocationState::Active).collect();
        let nodes: HashSet<NodeId> = got.iter().filter_map(|a| a.node).collect();
        assert_eq!((got.len(), nodes.len()), (5, 5), "{engine:?}");
        for n in one.store.node_list(&NodeFilter::default(), &NodePage::all()).await? {
            let owner = got.iter().find(|a| a.node == Some(n.id)).map(|a| a.id);
            assert_eq!((n.allocation, n.spec.instance_uuid), (owner, owner.map(|o| o.0)));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_of_the_allocations_name_comes_first() -> Result<()> {
    let db = Database::new(Engine::Sqlite).await?;
    let w = World::start(db.open().await?).await?;
    for i in 0..8 {
        free_node(&w.store, &format!("n{i}")).await?;
    }
    for i in (0..8).rev() {
        let a = wish(Some(&format!("n{i}")), "gold");
        ask(&w, &a).await?;
        let got = ended(&w.store, a.id).await?.node.context("a node")?;
        assert_eq!(w.store.node_get(got).await?.spec.name, a.name);
    }
    Ok(())
}
