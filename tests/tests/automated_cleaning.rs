//! Automated cleaning by a runbook (`[conductor] automated_cleaning_step_source`).

use anyhow::Result;
use bessemer_conductor::{AutomatedCleaning, CleaningSource, ConductorConfig};
use bessemer_drivers::fake::{FakeBehaviour, FakeHardware};
use bessemer_model::{
    JsonMap,
    ids::{NodeId, RunbookId},
    interface::InterfaceKind,
    node::{Node, NodeSpec},
    runbook::{Runbook, RunbookStep},
    state::ProvisionState as P,
};
use bessemer_rpc::Verb;
use bessemer_tests::world::{Database, ENGINES, World, config};
use serde_json::json;

async fn world(db: &Database, cleaning: AutomatedCleaning) -> Result<World> {
    let settings = ConductorConfig { automated_cleaning: cleaning, ..config() };
    World::start_with(db.open().await?, settings, FakeHardware::new(FakeBehaviour::default())).await
}

fn by(source: CleaningSource, runbook: &str) -> AutomatedCleaning {
    AutomatedCleaning { source, runbook: Some(runbook.to_owned()), ..AutomatedCleaning::default() }
}

async fn runbook(w: &World, name: &str, steps: &[(InterfaceKind, &str)], traits: &[&str]) -> Result<()> {
    let step = |(interface, step): &(InterfaceKind, &str)| RunbookStep {
        interface: *interface,
        step: (*step).to_owned(),
        args: JsonMap::new(),
        order: 0,
    };
    let book = Runbook {
        name: name.into(),
        steps: steps.iter().map(step).collect(),
        traits: traits.iter().map(|t| (*t).to_owned()).collect(),
        ..Runbook::blank(RunbookId::random())
    };
    w.store.record_create(book).await?;
    Ok(())
}

async fn cleaned(w: &World, node: NodeId) -> Result<Node> {
    w.verb(node, Verb::Provide, None).await?;
    w.settled(node).await
}

const RESET: (InterfaceKind, &str) = (InterfaceKind::Bios, "factory_reset");
const RAID: (InterfaceKind, &str) = (InterfaceKind::Raid, "delete_configuration");
const RULED_OUT: (InterfaceKind, &str) = (InterfaceKind::Vendor, "send_raw");

fn of_class(class: &'static str) -> impl Fn(&mut NodeSpec) {
    move |spec| spec.resource_class = Some(class.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runbook_of_the_node_beats_that_of_its_class_which_beats_the_general_one() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let policy = AutomatedCleaning {
            runbook_by_resource_class: [("gold".to_owned(), "of-class".to_owned())].into(),
            runbook_from_node: true,
            ..by(CleaningSource::Runbook, "general")
        };
        let w = world(&db, policy).await?;
        let traits: &[&str] = &["CUSTOM_CLEAN"];
        // What the operator rules out is passed over.
        runbook(&w, "general", &[RESET, RULED_OUT], traits).await?;
        runbook(&w, "of-class", &[RAID], traits).await?;
        runbook(&w, "own", &[RESET, RAID], traits).await?;
        let own = |spec: &mut NodeSpec| {
            spec.resource_class = Some("gold".into());
            spec.driver_info.insert("cleaning_runbook".into(), json!("own"));
        };
        let nodes = [
            (w.node(P::Manageable).await?, (1, 0)),
            (w.node_with(P::Manageable, of_class("gold")).await?, (0, 1)),
            (w.node_with(P::Manageable, own).await?, (1, 1)),
        ];
        for (node, (resets, raids)) in nodes {
            w.store.node_add_trait(node, "CUSTOM_CLEAN").await?;
            let before = (w.hardware.calls("bios.factory_reset"), w.hardware.calls("raid.delete_configuration"));
            let end = cleaned(&w, node).await?;
            assert_eq!((end.status.provision_state, end.status.last_error), (P::Available, None));
            let now = (w.hardware.calls("bios.factory_reset"), w.hardware.calls("raid.delete_configuration"));
            assert_eq!((now.0 - before.0, now.1 - before.1), (resets, raids));
        }
        w.kill();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runbook_that_is_missing_or_does_not_fit_fails_the_cleaning_and_says_why() -> Result<()> {
    let cases: [(AutomatedCleaning, &[&str], &str); 4] = [
        (AutomatedCleaning { source: CleaningSource::Runbook, ..AutomatedCleaning::default() }, &[], "wants a runbook"),
        (by(CleaningSource::Hybrid, "absent"), &[], "there is no runbook absent"),
        (by(CleaningSource::Runbook, "book"), &["CUSTOM_OTHER"], "its traits are CUSTOM_OTHER"),
        (by(CleaningSource::Runbook, "book"), &[], "it has no traits"),
    ];
    for (engine, (policy, traits, expected)) in ENGINES.into_iter().flat_map(|e| cases.clone().map(|case| (e, case))) {
        let db = Database::new(engine).await?;
        let w = world(&db, policy).await?;
        runbook(&w, "book", &[RESET], traits).await?;
        let end = cleaned(&w, w.node(P::Manageable).await?).await?;
        assert_eq!(end.status.provision_state, P::CleanFailed);
        let text = end.status.last_error.unwrap_or_default();
        assert!(text.contains(expected), "{text}");
        assert!(!end.spec.maintenance, "no step was run");
        w.kill();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_runbook_hybrid_cleaning_is_that_of_the_drivers_and_traits_need_not_be_looked_at() -> Result<()> {
    for engine in ENGINES {
        let db = Database::new(engine).await?;
        let w = world(&db, AutomatedCleaning { source: CleaningSource::Hybrid, ..AutomatedCleaning::default() }).await?;
        let end = cleaned(&w, w.node(P::Manageable).await?).await?;
        assert_eq!((end.status.provision_state, end.status.last_error), (P::Available, None));
        w.kill();

        let w = world(&db, AutomatedCleaning { validate_traits: false, ..by(CleaningSource::Hybrid, "book") }).await?;
        runbook(&w, "book", &[RESET], &[]).await?;
        let end = cleaned(&w, w.node(P::Manageable).await?).await?;
        assert_eq!((end.status.provision_state, end.status.last_error), (P::Available, None));
        assert_eq!(w.hardware.calls("bios.factory_reset"), 1);
    }
    Ok(())
}
