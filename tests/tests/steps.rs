//! Every step repeated, every step failed.

use std::sync::Arc;

use anyhow::Result;
use bessemer_drivers::fake::{FakeBehaviour, FakeHardware};
use bessemer_model::{
    interface::InterfaceKind,
    state::{ProvisionState as P, StateClass},
};
use bessemer_rpc::{UserStep, Verb};
use bessemer_tests::world::{Database, ENGINES, World, config, step};

type Life = (P, Verb, Vec<UserStep>, P);

fn lives() -> Vec<Life> {
    let steps = || vec![step(InterfaceKind::Bios, "factory_reset"), step(InterfaceKind::Raid, "delete_configuration")];
    vec![
        (P::Enroll, Verb::Manage, vec![], P::Manageable),
        (P::Manageable, Verb::Inspect, vec![], P::Manageable),
        (P::Manageable, Verb::Provide, vec![], P::Available),
        (P::Manageable, Verb::Clean, steps(), P::Manageable),
        (P::Available, Verb::Active, vec![], P::Active),
        (P::Active, Verb::Rebuild, vec![], P::Active),
        (P::Active, Verb::Deleted, vec![], P::Available),
        (P::Active, Verb::Rescue, vec![], P::Rescue),
        (P::Rescue, Verb::Unrescue, vec![], P::Active),
        (P::Active, Verb::Service, steps(), P::Active),
        (P::Manageable, Verb::Adopt, vec![], P::Active),
    ]
}

fn given(steps: &[UserStep]) -> Option<Vec<UserStep>> {
    (!steps.is_empty()).then(|| steps.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_may_be_run_twice() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let settings = bessemer_conductor::ConductorConfig { repeat_steps: true, ..config() };
        let w = World::start_with(db.open().await?, settings, FakeHardware::new(FakeBehaviour::default())).await?;
        for (from, verb, steps, to) in lives() {
            let node = w.node(from).await?;
            w.verb(node, verb, given(&steps)).await?;
            let end = w.settled(node).await?;
            assert_eq!(end.status.provision_state, to, "{verb:?}: {:?}", end.status.last_error);
            assert_eq!(end.status.last_error, None, "{verb:?}");
        }
        assert!(w.hardware.calls("deploy.deploy") >= 4, "steps really ran twice");
        w.kill();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_that_fails_says_so_and_leaves_a_node_that_can_be_used_again() -> Result<()> {
    let mut failed = 0;
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let hardware = FakeHardware::new(FakeBehaviour::default());
        let w = World::start_with(db.open().await?, config(), Arc::clone(&hardware)).await?;
        let operations = ["inspect.inspect", "bios.factory_reset", "raid.delete_configuration", "deploy.deploy", "vendor.log_passthrough"];
        for (from, verb, steps, to) in lives() {
            for op in operations {
                let before = hardware.calls(op);
                let node = w.node(from).await?;
                hardware.fail_next(op, 1);
                w.verb(node, verb, given(&steps)).await?;
                let end = w.settled(node).await?;
                let used = hardware.calls(op) > before;
                hardware.fail_next(op, 0);
                if !used {
                    assert_eq!(end.status.provision_state, to, "{verb:?} does not use {op}");
                    continue;
                }
                failed += 1;
                let state = end.status.provision_state;
                assert_eq!(state.class(), StateClass::Failed, "{verb:?} with {op} failing ended in {state}");
                let text = end.status.last_error.unwrap_or_default();
                assert!(text.contains("was told to fail"), "{verb:?} {op}: {text}");
                // The way back.
                let again = match state {
                    P::DeployFailed => (Verb::Active, P::Active),
                    P::ServiceFailed => (Verb::Abort, P::Active),
                    _ => (Verb::Manage, P::Manageable),
                };
                if end.spec.maintenance {
                    let mut spec = end.spec.clone();
                    (spec.maintenance, spec.maintenance_reason, spec.fault) = (false, None, None);
                    w.store.node_update_spec(node, end.revision, spec, None).await?;
                }
                w.verb(node, again.0, None).await?;
                assert_eq!(w.settled(node).await?.status.provision_state, again.1, "{verb:?} {op}: the way back");
            }
        }
        w.kill();
    }
    assert!(failed >= 12, "only {failed} failures were provoked");
    Ok(())
}
