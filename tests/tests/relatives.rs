//! Parents and children: steps of the one on the others, and the power supply that they share.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bessemer_model::{
    flow::Lane,
    ids::NodeId,
    interface::InterfaceKind,
    node::{Node, NodeSpec},
    state::{PowerChange, PowerState, ProvisionState as P},
};
use bessemer_rpc::{ConductorApi, RequestCx, UserStep, Verb};
use bessemer_tests::world::{Database, ENGINES, World, step};
use serde_json::json;

fn child_of(parent: NodeId) -> impl Fn(&mut NodeSpec) {
    move |spec| spec.parent_node = Some(parent)
}

fn on_children(interface: InterfaceKind, name: &str, only: &[NodeId]) -> UserStep {
    UserStep { children: Some(only.to_vec()), ..step(interface, name) }
}

/// The outcomes in the log of the flows that ran on the node.
async fn outcomes(w: &World, node: NodeId, label: &str) -> Result<Vec<String>> {
    let log = w.store.flow_log_list(node, 100).await?;
    Ok(log.into_iter().filter(|l| l.step == label).map(|l| l.outcome).collect())
}

async fn power(w: &World, node: NodeId, change: PowerChange) -> Result<Node> {
    w.api().set_power(&RequestCx::default(), node, change, None).await?;
    w.settled(node).await
}

async fn power_of(w: &World, node: NodeId) -> Result<Option<PowerState>> {
    Ok(w.settled(node).await?.status.power_state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_for_children_runs_on_each_of_them_and_not_on_the_node() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let w = World::start(db.open().await?).await?;
        let parent = w.node(P::Manageable).await?;
        let (a, b) = (w.node_with(P::Available, child_of(parent)).await?, w.node_with(P::Enroll, child_of(parent)).await?);
        let stranger = w.node(P::Available).await?;
        for node in [a, b, stranger] {
            power(&w, node, PowerChange::Off).await?;
        }
        let steps = vec![
            on_children(InterfaceKind::Bios, "factory_reset", &[]),
            step(InterfaceKind::Raid, "delete_configuration"),
            on_children(InterfaceKind::Power, "power_on", &[b, stranger]),
        ];
        w.verb(parent, Verb::Clean, Some(steps)).await?;
        let end = w.settled(parent).await?;
        assert_eq!((end.status.provision_state, end.status.last_error), (P::Manageable, None));
        for (node, resets, switched) in [(parent, 0, 0), (a, 1, 0), (b, 1, 1), (stranger, 0, 0)] {
            assert_eq!(
                outcomes(&w, node, "bios.factory_reset").await?.iter().filter(|o| *o == "done").count(),
                resets + usize::from(node == parent)
            );
            let on = w.settled(node).await?.status.power_state == Some(PowerState::On);
            assert_eq!(on && node != parent, switched == 1, "only the child that was named, of those that are children");
        }
        assert_eq!(w.hardware.calls("bios.factory_reset"), 2, "once on each child, never on the node");
        assert_eq!((w.settled(a).await?.status.provision_state, w.settled(b).await?.status.provision_state), (P::Available, P::Enroll));
        w.kill();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_on_a_child_fails_the_node_and_names_the_child() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let w = World::start(db.open().await?).await?;
        let parent = w.node(P::Active).await?;
        let child = w.node_with(P::Available, child_of(parent)).await?;
        w.hardware.fail_next("bios.factory_reset", 1);
        w.verb(parent, Verb::Service, Some(vec![on_children(InterfaceKind::Bios, "factory_reset", &[])])).await?;
        let end = w.settled(parent).await?;
        assert_eq!(end.status.provision_state, P::ServiceFailed);
        let text = end.status.last_error.unwrap_or_default();
        assert!(text.contains(&child.to_string()) && text.contains("was told to fail"), "{text}");
        assert_eq!(w.settled(child).await?.status.provision_state, P::Available, "the child itself is as it was");

        let parent = w.node(P::Manageable).await?;
        let child = w.node_with(P::Available, child_of(parent)).await?;
        w.verb(parent, Verb::Clean, Some(vec![on_children(InterfaceKind::Raid, "no_such_step", &[])])).await?;
        let end = w.settled(parent).await?;
        assert_eq!(end.status.provision_state, P::CleanFailed);
        let text = end.status.last_error.unwrap_or_default();
        assert!(text.contains(&child.to_string()) && text.contains("raid.no_such_step"), "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_waits_for_a_step_that_takes_its_time_on_a_child() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let w = World::start(db.open().await?).await?;
        let parent = w.node(P::Active).await?;
        let child = w.node_with(P::Available, child_of(parent)).await?;
        let mut wait = on_children(InterfaceKind::Power, "wait", &[]);
        wait.args.insert("seconds".into(), json!(2));
        let begun = Instant::now();
        w.verb(parent, Verb::Service, Some(vec![wait, step(InterfaceKind::Bios, "factory_reset")])).await?;
        let until = begun + Duration::from_secs(20);
        while w.store.node_get(parent).await?.status.provision_state != P::ServiceWait {
            if Instant::now() > until {
                bail!("the node never waited for its child");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(w.store.flow_get(child, Lane::Power).await?.is_some(), "the child is at work meanwhile");
        let end = loop {
            let n = w.settled(parent).await?;
            if n.flow.is_none() {
                break n;
            }
        };
        assert_eq!((end.status.provision_state, end.status.last_error), (P::Active, None));
        assert!(begun.elapsed() >= Duration::from_secs(2));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_without_a_supply_of_its_own_has_its_parent_switched_on_first() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let w = World::start(db.open().await?).await?;
        let parent = w.node(P::Available).await?;
        let child = w.node_with(P::Available, child_of(parent)).await?;
        let own = |spec: &mut NodeSpec| {
            spec.parent_node = Some(parent);
            spec.driver_info.insert("has_dedicated_power_supply".into(), json!("true"));
        };
        let independent = w.node_with(P::Available, own).await?;
        power(&w, independent, PowerChange::On).await?;
        assert_eq!(power_of(&w, parent).await?, None, "nobody touched the parent");
        assert_eq!(power(&w, child, PowerChange::On).await?.status.power_state, Some(PowerState::On));
        assert_eq!(power_of(&w, parent).await?, Some(PowerState::On));

        // And off together, but for the child that does not depend on it.
        assert_eq!(power(&w, parent, PowerChange::Off).await?.status.power_state, Some(PowerState::Off));
        assert_eq!(power_of(&w, child).await?, Some(PowerState::Off));
        assert_eq!(power_of(&w, independent).await?, Some(PowerState::On));
        w.kill();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_whose_power_fails_keeps_its_child_off_and_the_child_says_why() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let w = World::start(db.open().await?).await?;
        let parent = w.node(P::Available).await?;
        let child = w.node_with(P::Available, child_of(parent)).await?;
        w.hardware.fail_next("power.set", 1);
        let end = power(&w, child, PowerChange::On).await?;
        assert_ne!(end.status.power_state, Some(PowerState::On));
        let text = end.status.last_error.unwrap_or_default();
        assert!(text.contains(&parent.to_string()) && text.contains("was told to fail"), "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_beside_a_flow_that_waits_leaves_the_provision_state_alone() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let w = World::start(db.open().await?).await?;
        let node = w.node(P::Active).await?;
        let mut wait = step(InterfaceKind::Power, "wait");
        wait.args.insert("seconds".into(), json!(30));
        w.verb(node, Verb::Service, Some(vec![wait])).await?;
        assert_eq!(w.settled(node).await?.status.provision_state, P::ServiceWait);
        assert_eq!(power(&w, node, PowerChange::On).await?.status.provision_state, P::ServiceWait, "a power action that works");
        w.hardware.fail_next("power.set", 1);
        let end = power(&w, node, PowerChange::Off).await?;
        assert!(end.status.last_error.is_some(), "the power action failed");
        assert_eq!(end.status.provision_state, P::ServiceWait, "a power action that fails");
    }
    Ok(())
}
