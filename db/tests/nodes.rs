//! Nodes: what is written is read back, by its owner's rules.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bessemer_db::{Children, DbError, Entity, NodeFilter, NodePage, Unique};
use bessemer_model::{
    clock::Timestamp,
    interface::InterfaceKind,
    node::{NodeFault, NodeSpec, NodeStatus},
    secret::MASK,
    state::{PowerState, ProvisionState},
};
use common::*;

async fn full_spec(store: &bessemer_db::Store) -> NodeSpec {
    let rack = store.chassis_create(chassis()).await.unwrap();
    let mut s = spec("full");
    for k in InterfaceKind::ALL {
        s.interfaces.set(*k, format!("fake-{}", k.as_str()));
    }
    NodeSpec {
        driver_info: map(serde_json::json!({"a": {"b": [1, 2.5, "\u{e9}"]}})),
        extra: map(serde_json::json!({"x": null})),
        instance_info: map(serde_json::json!({"image_source": "http://x"})),
        instance_uuid: Some(uuid::Uuid::new_v4()),
        instance_name: Some("i".into()),
        chassis_uuid: Some(rack.id.0),
        resource_class: Some("rc".into()),
        conductor_group: "g".into(),
        automated_clean: Some(false),
        protected: true,
        protected_reason: Some("p".into()),
        owner: Some("o".into()),
        lessee: Some("l".into()),
        description: Some("d".into()),
        retired: true,
        retired_reason: Some("r".into()),
        network_data: map(serde_json::json!({"links": []})),
        shard: Some("s".into()),
        parent_node: Some(bessemer_model::ids::NodeId::random()),
        disable_power_off: Some(true),
        maintenance: true,
        maintenance_reason: Some("m".into()),
        fault: Some(NodeFault::CleanFailure),
        target_raid_config: map(serde_json::json!({"logical_disks": []})),
        ..s
    }
}

fn full_status() -> NodeStatus {
    NodeStatus {
        provision_state: ProvisionState::CleanWait,
        target_provision_state: Some(ProvisionState::Manageable),
        provision_updated_at: Some(Timestamp(5)),
        power_state: Some(PowerState::On),
        target_power_state: Some(PowerState::Off),
        last_error: Some("e".into()),
        driver_internal_info: map(serde_json::json!({"k": 1})),
        inspection_started_at: Some(Timestamp(6)),
        inspection_finished_at: Some(Timestamp(7)),
        boot_mode: Some("uefi".into()),
        secure_boot: Some(true),
        health: Some("OK".into()),
        raid_config: map(serde_json::json!({"r": 1})),
        console_enabled: true,
    }
}

on_both! {
    async fn every_column_is_read_back_as_written(db: Database) {
        let s = db.open().await;
        let mut new = new_node(full_spec(&s).await, ProvisionState::Enroll);
        new.status = full_status();
        new.traits = vec!["CUSTOM_B".into(), "CUSTOM_A".into()];
        let made = s.node_create(new.clone()).await.unwrap();
        assert_eq!((made.spec.clone(), made.status.clone()), (new.spec, new.status));
        assert_eq!(made.traits, ["CUSTOM_A", "CUSTOM_B"]);
        assert_eq!(s.node_get(made.id).await.unwrap(), made);
        assert_eq!(s.node_get_by_ident("full").await.unwrap(), made);
        assert_eq!(s.node_get_by_ident(&made.id.to_string()).await.unwrap(), made);
        assert_eq!(s.node_list(&NodeFilter::default(), &NodePage::all()).await.unwrap(), [made]);
    }

    async fn taken_names_are_told_by_column(db: Database) {
        let s = db.open().await;
        let first = s.node_create(new_node(full_spec(&s).await, ProvisionState::Enroll)).await.unwrap();
        let other = full_spec(&s).await;
        let clash = |change: fn(&mut NodeSpec)| {
            let mut sp = other.clone();
            change(&mut sp);
            s.node_create(new_node(sp, ProvisionState::Enroll))
        };
        let e = clash(|_| {}).await.unwrap_err();
        assert!(matches!(&e, DbError::Duplicate { what: Unique::NodeName, value } if value == "full"), "{e:?}");
        let mut sp = full_spec(&s).await;
        sp.name = None;
        sp.instance_uuid = first.spec.instance_uuid;
        let e = s.node_create(new_node(sp, ProvisionState::Enroll)).await.unwrap_err();
        assert!(matches!(&e, DbError::Duplicate { what: Unique::InstanceUuid, .. }), "{e:?}");
        let mut again = new_node(spec("other"), ProvisionState::Enroll);
        again.id = first.id;
        let e = s.node_create(again).await.unwrap_err();
        assert!(matches!(&e, DbError::Duplicate { what: Unique::NodeUuid, value } if *value == first.id.to_string()), "{e:?}");
    }

    async fn a_write_of_an_old_revision_or_state_changes_nothing(db: Database) {
        let s = db.open().await;
        let n = s.node_create(new_node(spec("n"), ProvisionState::Manageable)).await.unwrap();
        let mut sp = n.spec.clone();
        sp.description = Some("one".into());
        let r = s.node_update_spec(n.id, n.revision, sp.clone(), Some(ProvisionState::Manageable)).await.unwrap();
        assert_eq!(r, n.revision + 1);
        sp.description = Some("two".into());
        let e = s.node_update_spec(n.id, n.revision, sp.clone(), None).await.unwrap_err();
        assert!(matches!(e, DbError::RevisionLost { .. }), "{e:?}");
        let e = s.node_update_spec(n.id, r, sp.clone(), Some(ProvisionState::Enroll)).await.unwrap_err();
        assert!(matches!(e, DbError::StateChanged { state: Some(ProvisionState::Manageable), .. }), "{e:?}");
        let e = s.node_update_spec(bessemer_model::ids::NodeId::random(), 1, sp, None).await.unwrap_err();
        assert!(matches!(e, DbError::NotFound { what: Entity::Node, .. }), "{e:?}");
        let now = s.node_get(n.id).await.unwrap();
        assert_eq!(now.spec.description.as_deref(), Some("one"));
        assert!(now.updated_at.is_some() && n.updated_at.is_none());
    }

    async fn driver_secrets_are_masked_kept_and_shown_only_on_demand(db: Database) {
        let s = db.open().await;
        let mut sp = spec("n");
        sp.driver_info = map(serde_json::json!({"ipmi_address": "a", "ipmi_password": "hunter2", "deep": [{"auth_token": "t0k3n"}]}));
        let clear = sp.driver_info.clone();
        let n = s.node_create(new_node(sp, ProvisionState::Enroll)).await.unwrap();
        assert_eq!(n.spec.driver_info["ipmi_password"], MASK);
        assert_eq!(s.node_get_with_secrets(n.id).await.unwrap().spec.driver_info, clear);
        // A patch of another key sends the mask back.
        let mut sp = n.spec.clone();
        sp.driver_info.insert("ipmi_address".into(), "b".into());
        let r = s.node_update_spec(n.id, n.revision, sp, None).await.unwrap();
        let full = s.node_get_with_secrets(n.id).await.unwrap();
        assert_eq!((&full.spec.driver_info["ipmi_password"], &full.spec.driver_info["ipmi_address"]), (&"hunter2".into(), &"b".into()));
        // Writing what was read with secrets stores them sealed again.
        let r = s.node_update_spec(n.id, r, full.spec.clone(), None).await.unwrap();
        assert_eq!(s.node_get(n.id).await.unwrap().spec.driver_info["ipmi_password"], MASK);
        let mut sp = full.spec;
        sp.driver_info.remove("ipmi_password");
        sp.driver_info.remove("deep");
        s.node_update_spec(n.id, r, sp, None).await.unwrap();
        assert_eq!(s.secret_get(n.id, "driver_info").await.unwrap(), None);
    }

    async fn a_deleted_node_takes_everything_of_it_along(db: Database) {
        let s = db.open().await;
        let id = node(&s, "n", ProvisionState::Enroll).await;
        s.port_create(port(id, "52:54:00:00:00:01")).await.unwrap();
        s.inventory_put(id, bessemer_db::Inventory::default()).await.unwrap();
        s.node_delete(id).await.unwrap();
        assert!(matches!(s.node_get(id).await, Err(DbError::NotFound { .. })));
        assert!(matches!(s.node_delete(id).await, Err(DbError::NotFound { .. })));
        assert!(s.port_get("52:54:00:00:00:01").await.is_err());
        assert_eq!(s.inventory_get(id).await.unwrap(), None);
    }

    async fn traits_are_a_set(db: Database) {
        let s = db.open().await;
        let id = node(&s, "n", ProvisionState::Enroll).await;
        s.node_set_traits(id, vec!["B".into(), "A".into(), "B".into()]).await.unwrap();
        s.node_add_trait(id, "C").await.unwrap();
        s.node_add_trait(id, "C").await.unwrap();
        s.node_remove_trait(id, "A").await.unwrap();
        assert!(matches!(s.node_remove_trait(id, "A").await, Err(DbError::NotFound { what: Entity::Trait, .. })));
        assert_eq!(s.node_get(id).await.unwrap().traits, ["B", "C"]);
        let nobody = bessemer_model::ids::NodeId::random();
        assert!(matches!(s.node_add_trait(nobody, "C").await, Err(DbError::NotFound { what: Entity::Node, .. })));
        assert!(matches!(s.node_set_traits(nobody, vec![]).await, Err(DbError::NotFound { what: Entity::Node, .. })));
    }

    async fn each_filter_selects_what_it_says(db: Database) {
        let s = db.open().await;
        let parent = node(&s, "parent", ProvisionState::Enroll).await;
        let mut sp = full_spec(&s).await;
        sp.parent_node = Some(parent);
        sp.description = Some("100%_Sure".into());
        let mut new = new_node(sp.clone(), ProvisionState::Available);
        new.status.provision_state = ProvisionState::Available;
        let full = s.node_create(new).await.unwrap().id;
        let f = NodeFilter::default;
        let cases = vec![
            (NodeFilter { instance_uuid: sp.instance_uuid, ..f() }, true),
            (NodeFilter { instance_name: Some("i".into()), ..f() }, true),
            (NodeFilter { chassis_uuid: sp.chassis_uuid, ..f() }, true),
            (NodeFilter { associated: Some(true), ..f() }, true),
            (NodeFilter { associated: Some(false), ..f() }, false),
            (NodeFilter { maintenance: Some(true), ..f() }, true),
            (NodeFilter { maintenance: Some(false), ..f() }, false),
            (NodeFilter { provision_states: vec![ProvisionState::Available, ProvisionState::Active], ..f() }, true),
            (NodeFilter { resource_class: Some("rc".into()), ..f() }, true),
            (NodeFilter { fault: Some(NodeFault::CleanFailure), ..f() }, true),
            (NodeFilter { conductor_group: Some("g".into()), ..f() }, true),
            (NodeFilter { conductor_group: Some(String::new()), ..f() }, false),
            (NodeFilter { owner: Some("o".into()), ..f() }, true),
            (NodeFilter { lessee: Some("l".into()), ..f() }, true),
            (NodeFilter { project: Some("l".into()), ..f() }, true),
            (NodeFilter { description_contains: Some("%_sure".into()), ..f() }, true),
            // SQL LIKE, as the contract has it: `%` matches anything.
            (NodeFilter { description_contains: Some("1%0".into()), ..f() }, true),
            (NodeFilter { retired: Some(true), ..f() }, true),
            (NodeFilter { shards: vec!["x".into(), "s".into()], ..f() }, true),
            (NodeFilter { sharded: Some(false), ..f() }, false),
            (NodeFilter { children: Children::TopOnly, ..f() }, false),
            (NodeFilter { children: Children::Of(parent), ..f() }, true),
            (NodeFilter { ids: Some(vec![full]), ..f() }, true),
        ];
        for (filter, is_full) in cases {
            let found: Vec<_> = s.node_list(&filter, &NodePage::all()).await.unwrap().into_iter().map(|n| n.id).collect();
            assert_eq!(found, [if is_full { full } else { parent }], "{filter:?}");
            assert_eq!(s.node_count(&filter).await.unwrap(), 1);
            assert_eq!(s.node_refs(&filter).await.unwrap().len(), 1);
        }
        for none in [
            NodeFilter { description_contains: Some("no such words".into()), ..f() },
            NodeFilter { ids: Some(vec![]), ..f() },
            NodeFilter { reserved: Some(true), ..f() },
            NodeFilter { driver: Some("ipmi".into()), ..f() },
        ] {
            assert_eq!(s.node_count(&none).await.unwrap(), 0, "{none:?}");
        }
    }

    async fn a_nul_character_is_refused_and_never_stored(db: Database) {
        let s = db.open().await;
        let e = s.node_create(new_node(spec("a\0b"), ProvisionState::Enroll)).await.unwrap_err();
        assert!(matches!(e, DbError::NulCharacter), "{e:?}");
        assert_eq!(s.node_count(&NodeFilter::default()).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_database_in_memory_works_with_its_one_connection() {
    let s = bessemer_db::Store::open("sqlite::memory:", bessemer_db::OpenOptions::new(bessemer_db::SealKey::random())).await.unwrap();
    s.migrate().await.unwrap();
    s.ping().await.unwrap();
    let id = node(&s, "n", ProvisionState::Enroll).await;
    assert_eq!(s.node_get(id).await.unwrap().spec.name.as_deref(), Some("n"));
}
