//! Hints between the conductors of one PostgreSQL database.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bessemer_conductor::ConductorConfig;
use bessemer_drivers::fake::{FakeBehaviour, FakeHardware};
use bessemer_model::{
    clock::{Clock, SystemClock},
    hashring::Rings,
    ids::NodeId,
    node::Node,
    state::ProvisionState as P,
};
use bessemer_rpc::Verb;
use bessemer_tests::world::{Database, Engine, World, config};

/// So rarely do these conductors look for work by themselves.
const SCAN: Duration = Duration::from_secs(600);

async fn conductor(db: &Database, host: &str) -> Result<(World, Arc<FakeHardware>)> {
    let hardware = FakeHardware::new(FakeBehaviour::default());
    let config = ConductorConfig { host: host.into(), scan_interval: SCAN, ..config() };
    Ok((World::start_with(db.open().await?, config, Arc::clone(&hardware)).await?, hardware))
}

/// A node in `available` that the ring gives to `host`.
async fn node_of(world: &World, host: &str) -> Result<NodeId> {
    let alive = world.store.conductor_list_alive(SystemClock.now()).await?;
    let rings = Rings::new(&alive, config().hash_partition_exponent);
    for _ in 0..100 {
        let node = world.node(P::Available).await?;
        if rings.host("", "fake-hardware", node) == Some(host) {
            return Ok(node);
        }
    }
    anyhow::bail!("none of 100 nodes belongs to {host}")
}

async fn active(world: &World, node: NodeId) -> Result<Node> {
    tokio::time::timeout(Duration::from_secs(25), world.settled(node)).await.context("nobody did it")?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_written_by_one_conductor_starts_at_once_on_the_one_that_owns_the_node() -> Result<()> {
    let db = Database::new(Engine::Postgres).await?;
    let (a, of_a) = conductor(&db, "a").await?;
    let (b, of_b) = conductor(&db, "b").await?;
    // `a` was alone when it last looked, two seconds ago at most.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    for (round, (owner, own, others)) in [("b", &of_b, &of_a), ("a", &of_a, &of_b)].into_iter().enumerate() {
        let node = node_of(&a, owner).await?;
        let before = others.calls("deploy.deploy");
        let began = Instant::now();
        a.verb(node, Verb::Active, None).await?;
        let end = active(&b, node).await?;
        ensure!(end.status.provision_state == P::Active, "{}: {:?}", end.status.provision_state, end.status.last_error);
        ensure!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
        ensure!(own.calls("deploy.deploy") > 0, "round {round}: {owner} did not do it");
        ensure!(others.calls("deploy.deploy") == before, "round {round}: another than {owner} did it");
    }
    Ok(())
}
