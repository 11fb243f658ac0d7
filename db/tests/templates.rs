//! Deploy templates, runbooks and inspection rules.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeMap, time::Duration};

use bessemer_db::{Commit, DbError, DeployTemplateSort, Page, PortChange, RuleSort, RunbookSort, Unique};
use bessemer_model::{
    JsonMap,
    clock::Clock as _,
    deploy_template::{DeployTemplate, TemplateStep},
    ids::{DeployTemplateId, RuleId, RunbookId},
    inspection_rule::{self, InspectionRule},
    interface::InterfaceKind,
    runbook::Runbook,
    state::ProvisionState,
};
use common::*;
use serde_json::json;

fn template(name: &str) -> DeployTemplate {
    let step = TemplateStep { interface: InterfaceKind::Bios, step: "apply".into(), args: JsonMap::new(), priority: 5 };
    DeployTemplate { name: name.into(), steps: vec![step], ..DeployTemplate::blank(DeployTemplateId::random()) }
}

on_both! {
    async fn a_record_is_found_by_uuid_and_name_and_its_name_is_unique(db: Database) {
        let s = db.open().await;
        let t = s.record_create(template("CUSTOM_A")).await.unwrap();
        assert!(s.record_get::<DeployTemplate>("CUSTOM_A").await.unwrap() == t);
        assert!(s.record_get::<DeployTemplate>(&t.id.to_string()).await.unwrap() == t);
        let again = s.record_create(template("CUSTOM_A")).await;
        assert!(matches!(again, Err(DbError::Duplicate { what: Unique::DeployTemplateName, value }) if value == "CUSTOM_A"));
        let same_id = s.record_create(DeployTemplate { name: "CUSTOM_B".into(), ..t.clone() }).await;
        assert!(matches!(same_id, Err(DbError::Duplicate { what: Unique::DeployTemplateUuid, .. })));
        let other = s.record_create(template("CUSTOM_B")).await.unwrap();
        let renamed = s.record_update(DeployTemplate { name: "CUSTOM_A".into(), ..other.clone() }, other.revision).await;
        assert!(matches!(renamed, Err(DbError::Duplicate { .. })));
        let names = ["CUSTOM_B".to_owned(), "CUSTOM_A".to_owned(), "CUSTOM_NONE".to_owned()];
        let found: Vec<_> = s.deploy_templates_named(&names).await.unwrap().into_iter().map(|t| t.name).collect();
        assert_eq!(found, ["CUSTOM_A", "CUSTOM_B"]);
        s.record_delete::<DeployTemplate>(t.id).await.unwrap();
        assert!(matches!(s.record_get::<DeployTemplate>("CUSTOM_A").await, Err(DbError::NotFound { .. })));
        assert!(matches!(s.record_delete::<DeployTemplate>(t.id).await, Err(DbError::NotFound { .. })));
    }

    async fn only_a_records_own_columns_move_its_time_of_change(db: Database) {
        let s = db.open().await;
        let mut t = s.record_create(template("CUSTOM_A")).await.unwrap();
        db.clock.advance(Duration::from_secs(5));
        t.steps[0].priority = 9;
        let t = s.record_update(t.clone(), t.revision).await.unwrap();
        assert_eq!((t.updated_at, t.steps[0].priority), (None, 9));
        let mut renamed = t.clone();
        renamed.extra.insert("a".into(), json!(1));
        let renamed = s.record_update(renamed, t.revision).await.unwrap();
        assert!(renamed.updated_at.is_some());
        // The revision was used up.
        assert!(matches!(s.record_update(t.clone(), t.revision).await, Err(DbError::RevisionLost { .. })));
    }

    async fn runbooks_page_and_a_project_sees_its_own_and_the_public_ones(db: Database) {
        let s = db.open().await;
        for (name, owner, public) in [("a", Some("p"), false), ("b", Some("q"), false), ("c", None, true), ("d", None, false)] {
            let r = Runbook { name: name.into(), owner: owner.map(str::to_owned), public, ..Runbook::blank(RunbookId::random()) };
            s.record_create(r).await.unwrap();
        }
        let page = |sort, marker| Page { limit: 2, marker, sort, desc: true };
        let first = s.record_list::<Runbook>(&None, &page(RunbookSort::Name, None)).await.unwrap();
        let second = s.record_list::<Runbook>(&None, &page(RunbookSort::Name, Some(first[1].id))).await.unwrap();
        let names: Vec<_> = first.iter().chain(&second).map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["d", "c", "b", "a"]);
        let seen = s.record_list::<Runbook>(&Some("p".into()), &Page { desc: false, ..page(RunbookSort::Name, None) }).await.unwrap();
        assert_eq!(seen.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    }

    async fn rules_of_a_phase_come_from_high_to_low_priority(db: Database) {
        let s = db.open().await;
        let actions = inspection_rule::actions(&json!([{"op": "fail", "args": {"msg": "x"}}])).unwrap();
        for (priority, phase) in [(1, Some("main")), (7, Some("main")), (1, Some("main")), (9, None)] {
            let phase = phase.map(str::to_owned);
            let r = InspectionRule { priority, phase, actions: actions.clone(), ..InspectionRule::blank(RuleId::random()) };
            s.record_create(r).await.unwrap();
        }
        let rules = s.rules_of_phase("main").await.unwrap();
        assert_eq!(rules.iter().map(|r| (r.priority, r.seq)).collect::<Vec<_>>(), [(7, 2), (1, 1), (1, 3)]);
        let all = s.record_list::<InspectionRule>(&(), &Page::<RuleId, RuleSort>::all()).await.unwrap();
        assert_eq!(all.len(), 4);
        assert!(s.record_list::<DeployTemplate>(&(), &Page::<_, DeployTemplateSort>::all()).await.unwrap().is_empty());
    }

    async fn a_commit_changes_ports_and_traits_and_loses_no_patch(db: Database) {
        let s = db.open().await;
        let node = s.node_create(new_node(spec("n"), ProvisionState::Manageable)).await.unwrap().id;
        s.node_set_traits(node, vec!["CUSTOM_A".into(), "CUSTOM_B".into()]).await.unwrap();
        let base = s.port_create(port(node, "52:54:00:00:00:01")).await.unwrap();
        let lease = Duration::from_secs(600);
        let epoch = s.conductor_take("h", "", BTreeMap::new(), None, db.clock.now(), lease).await.unwrap();
        let claim = s.claim_take(node, epoch, "h", db.clock.now(), "a test").await.unwrap().unwrap();
        let mut new = base.clone();
        new.extra.insert("ruled".into(), json!(true));
        let commit = Commit {
            traits_added: vec!["CUSTOM_C".into(), "CUSTOM_A".into()],
            traits_removed: vec!["CUSTOM_B".into(), "CUSTOM_NONE".into()],
            ports: vec![PortChange { base: base.clone(), new: new.clone() }],
            ..Commit::default()
        };
        s.claim_commit(&claim, commit.clone()).await.unwrap();
        assert_eq!(s.node_get(node).await.unwrap().traits, ["CUSTOM_A", "CUSTOM_C"]);
        assert_eq!(s.port_get(&base.address).await.unwrap().extra, new.extra);
        // The port is at another revision now: nothing of a second commit is written.
        let second = Commit { traits_added: vec!["CUSTOM_D".into()], ..commit.clone() };
        assert!(matches!(s.claim_commit(&claim, second).await, Err(DbError::RevisionLost { .. })));
        assert_eq!(s.node_get(node).await.unwrap().traits, ["CUSTOM_A", "CUSTOM_C"]);
        s.port_delete(base.id).await.unwrap();
        s.claim_commit(&claim, commit).await.unwrap();
    }
}
