//! Volume connectors and targets, allocations.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeMap, time::Duration};

use bessemer_db::{AllocationFilter, AllocationPage, DbError, Store, Unique, VolumeFilter, VolumePage, VolumeSort};
use bessemer_model::{
    JsonMap,
    allocation::{Allocation, AllocationState},
    clock::{Clock as _, Timestamp},
    ids::{AllocationId, NodeId, VolumeId},
    node::NodeChange,
    state::{PowerState, ProvisionState},
    volume::{Connector, Target, Volume, VolumeConnector, VolumeTarget},
};
use common::*;

fn volume<D>(node: NodeId, detail: D) -> Volume<D> {
    Volume {
        id: VolumeId::random(),
        seq: 0,
        revision: 0,
        created_at: Timestamp(0),
        updated_at: None,
        node,
        extra: map(serde_json::json!({"k": 1})),
        detail,
    }
}

fn connector(id: &str) -> Connector {
    Connector { kind: "iqn".into(), connector_id: id.into() }
}

fn target(boot_index: i64, properties: serde_json::Value) -> Target {
    Target { volume_type: "iscsi".into(), volume_id: "v".into(), boot_index, properties: map(properties) }
}

fn wish(class: &str) -> Allocation {
    Allocation {
        id: AllocationId::random(),
        seq: 0,
        revision: 0,
        created_at: Timestamp(0),
        updated_at: None,
        name: None,
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

/// A node that an allocation of class `gold` may get.
async fn free_node(s: &Store, name: &str, state: ProvisionState) -> NodeId {
    let mut new = new_node(spec(name), state);
    new.spec.resource_class = Some("gold".into());
    new.status.power_state = Some(PowerState::Off);
    new.traits = vec!["CUSTOM_A".into()];
    s.node_create(new).await.unwrap().id
}

async fn conductor(s: &Store, db: &Database, host: &str) -> i64 {
    s.conductor_take(host, "", BTreeMap::new(), None, db.clock.now(), Duration::from_secs(60)).await.unwrap()
}

fn never(_: &Allocation, _: &bessemer_model::node::Node) -> Result<(), ()> {
    Ok(())
}

on_both! {
    async fn connectors_are_unique_by_type_and_id_and_written_by_revision(db: Database) {
        let s = db.open().await;
        let id = node(&s, "n", ProvisionState::Enroll).await;
        let a: VolumeConnector = s.volume_create(volume(id, connector("a"))).await.unwrap();
        let e = s.volume_create(volume(id, connector("a"))).await.unwrap_err();
        assert!(matches!(&e, DbError::Duplicate { what: Unique::VolumeConnector, value } if value == "iqn and connector ID a"), "{e}");
        let same_id = Volume { id: a.id, ..volume(id, connector("b")) };
        let e = s.volume_create(same_id).await.unwrap_err();
        assert!(matches!(e, DbError::Duplicate { what: Unique::VolumeConnectorUuid, .. }), "{e}");
        let e = s.volume_create(volume(NodeId::random(), connector("b"))).await.unwrap_err();
        assert!(matches!(e, DbError::NotFound { .. }), "{e}");
        let b = s.volume_create(volume(id, connector("b"))).await.unwrap();
        let changed = s.volume_update(Volume { detail: connector("c"), ..a.clone() }).await.unwrap();
        assert_eq!((changed.revision, changed.detail.connector_id.as_str()), (2, "c"));
        assert!(matches!(s.volume_update(a.clone()).await, Err(DbError::RevisionLost { .. })));
        let page = VolumePage { sort: VolumeSort::ConnectorId, ..VolumePage::first(1) };
        let of = |node| VolumeFilter { node: Some(node), ..VolumeFilter::default() };
        assert_eq!(s.volume_list(&of(id), &page).await.unwrap(), std::slice::from_ref(&b));
        let after = VolumePage { marker: Some(b.id), ..page };
        assert_eq!(s.volume_list(&VolumeFilter::default(), &after).await.unwrap(), [changed]);
        assert!(s.volume_list::<Connector>(&of(NodeId::random()), &VolumePage::all()).await.unwrap().is_empty());
        let mut lent = s.node_get(id).await.unwrap();
        lent.spec.lessee = Some("p".into());
        s.node_update_spec(id, lent.revision, lent.spec, None).await.unwrap();
        for (project, seen) in [("p", 2), ("q", 0)] {
            let mine = VolumeFilter { project: Some(project.into()), ..VolumeFilter::default() };
            assert_eq!(s.volume_list::<Connector>(&mine, &VolumePage::all()).await.unwrap().len(), seen);
        }
        s.volume_delete::<Connector>(b.id).await.unwrap();
        assert!(matches!(s.volume_delete::<Connector>(b.id).await, Err(DbError::NotFound { .. })));
        s.node_delete(id).await.unwrap();
        assert!(matches!(s.volume_get::<Connector>(a.id).await, Err(DbError::NotFound { .. })));
    }

    async fn secrets_of_a_target_are_sealed_and_outlive_writes_that_do_not_name_them(db: Database) {
        let s = db.open().await;
        let (first, second) = (node(&s, "a", ProvisionState::Enroll).await, node(&s, "b", ProvisionState::Enroll).await);
        let plain = serde_json::json!({"auth_password": "chap-secret", "target_lun": 1});
        let t: VolumeTarget = s.volume_create(volume(first, target(0, plain.clone()))).await.unwrap();
        assert_eq!(t.detail.properties["auth_password"], "******");
        assert_eq!(s.volume_target_with_secrets(t.id).await.unwrap().detail.properties, map(plain.clone()));
        let e = s.volume_create(volume(first, target(0, plain.clone()))).await.unwrap_err();
        assert!(matches!(e, DbError::Duplicate { what: Unique::VolumeTargetIndex, .. }), "{e}");
        // To another node, with the masked properties that the caller was shown.
        let moved = s.volume_update(Volume { node: second, ..t.clone() }).await.unwrap();
        assert_eq!(s.volume_target_with_secrets(t.id).await.unwrap().detail.properties, map(plain));
        let bare = s.volume_update(Volume { detail: target(0, serde_json::json!({})), ..moved }).await.unwrap();
        assert_eq!(s.volume_target_with_secrets(t.id).await.unwrap(), bare);
        if !db.is_postgres() {
            s.volume_update(Volume { detail: target(0, serde_json::json!({"auth_password": "chap-secret"})), ..bare }).await.unwrap();
            for f in std::fs::read_dir(db.folder.path()).unwrap() {
                let bytes = std::fs::read(f.unwrap().path()).unwrap();
                assert!(!bytes.windows(11).any(|w| w == b"chap-secret"));
            }
        }
    }

    async fn an_allocation_gets_a_node_once_and_loses_it_with_the_instance(db: Database) {
        let s = db.open().await;
        let id = free_node(&s, "n", ProvisionState::Available).await;
        let epoch = conductor(&s, &db, "c").await;
        let now = db.clock.now();
        let (a, b) = (s.allocation_create(wish("gold")).await.unwrap(), s.allocation_create(wish("gold")).await.unwrap());
        assert_eq!(s.allocations_due(now, 10).await.unwrap(), [a.id, b.id]);
        let (mine, _) = s.allocation_take(a.id, epoch, "c", now).await.unwrap().unwrap();
        assert_eq!(s.allocation_take(a.id, epoch, "c", now).await.unwrap(), None);
        let (other, _) = s.allocation_take(b.id, epoch, "c", now).await.unwrap().unwrap();
        let (x, y) = tokio::join!(s.allocation_reserve(&mine, id), s.allocation_reserve(&other, id));
        let (x, y) = (x.unwrap(), y.unwrap());
        assert!(x != y, "one of the two gets the node");
        let (winner, loser) = if x { (mine, other) } else { (other, mine) };
        let n = s.node_get(id).await.unwrap();
        assert_eq!((n.allocation, n.spec.instance_uuid), (Some(winner.allocation), Some(winner.allocation.0)));
        assert_eq!(n.spec.instance_info["traits"], serde_json::json!(["CUSTOM_A"]));
        s.allocation_fail(&loser, "no node").await.unwrap();
        assert!(matches!(s.allocation_fail(&loser, "again").await, Err(DbError::FenceLost { .. })));
        let lost = s.allocation_get(&loser.allocation.to_string()).await.unwrap();
        assert_eq!((lost.state, lost.last_error.as_deref(), lost.node), (AllocationState::Error, Some("no node"), None));
        assert!(s.allocations_due(now, 10).await.unwrap().is_empty());
        let active = AllocationFilter { node: Some(id), state: Some("active".into()), ..AllocationFilter::default() };
        assert_eq!(s.allocation_list(&active, &AllocationPage::all()).await.unwrap().len(), 1);

        // The owner takes the instance off: the allocation goes with that write.
        let mut bare = n.spec.clone();
        bare.instance_uuid = None;
        s.node_update_spec(id, n.revision, bare, None).await.unwrap();
        assert!(matches!(s.allocation_get(&winner.allocation.to_string()).await, Err(DbError::NotFound { .. })));
        assert_eq!(s.node_get(id).await.unwrap().allocation, None);
    }

    async fn an_allocation_of_a_dead_conductor_is_taken_by_another_and_the_first_can_write_no_more(db: Database) {
        let s = db.open().await;
        let id = free_node(&s, "n", ProvisionState::Available).await;
        let epoch = conductor(&s, &db, "c").await;
        let now = db.clock.now();
        let a = s.allocation_create(wish("gold")).await.unwrap();
        let (old, _) = s.allocation_take(a.id, epoch, "c", now).await.unwrap().unwrap();
        let next = conductor(&s, &db, "c").await;
        assert_eq!(s.allocations_due(now, 10).await.unwrap(), [a.id]);
        assert_eq!(s.allocation_take(a.id, epoch, "c", now).await.unwrap(), None, "its own lease is over");
        let (new, _) = s.allocation_take(a.id, next, "c", now).await.unwrap().unwrap();
        assert!(matches!(s.allocation_reserve(&old, id).await, Err(DbError::FenceLost { .. })));
        assert_eq!(s.node_get(id).await.unwrap().spec.instance_uuid, None, "nothing of the lost race is kept");
        assert!(s.allocation_reserve(&new, id).await.unwrap());
    }

    async fn deleting_an_allocation_frees_its_node_unless_refused(db: Database) {
        let s = db.open().await;
        let id = free_node(&s, "n", ProvisionState::Available).await;
        let epoch = conductor(&s, &db, "c").await;
        let a = s.allocation_create(Allocation { name: Some("a".into()), ..wish("gold") }).await.unwrap();
        let (claim, _) = s.allocation_take(a.id, epoch, "c", db.clock.now()).await.unwrap().unwrap();
        assert!(s.allocation_reserve(&claim, id).await.unwrap());
        assert_eq!(s.allocation_delete(a.id, |_, _| Err("no")).await.unwrap(), Err("no"));
        assert_eq!(s.node_get(id).await.unwrap().allocation, Some(a.id));
        let now = s.allocation_get("a").await.unwrap();
        let renamed = s.allocation_update(Allocation { name: Some("b".into()), ..now.clone() }).await.unwrap();
        assert!(matches!(s.allocation_update(now).await, Err(DbError::RevisionLost { .. })));
        assert_eq!(s.allocation_get("b").await.unwrap(), renamed);
        assert_eq!(s.allocation_delete(a.id, never).await.unwrap(), Ok(()));
        let n = s.node_get(id).await.unwrap();
        assert_eq!((n.allocation, n.spec.instance_uuid), (None, None));
        assert!(matches!(s.allocation_delete(a.id, never).await, Err(DbError::NotFound { .. })));
        let b = s.allocation_create(wish("gold")).await.unwrap();
        assert_eq!(s.allocation_delete(b.id, never).await.unwrap(), Ok(()));
    }

    async fn a_backfill_stores_all_or_nothing(db: Database) {
        let s = db.open().await;
        let id = free_node(&s, "n", ProvisionState::Active).await;
        let refused = s.allocation_backfill(wish("gold"), id, |_, _| Err("no")).await.unwrap();
        assert_eq!(refused, Err("no"));
        assert!(s.allocation_list(&AllocationFilter::default(), &AllocationPage::all()).await.unwrap().is_empty());
        let done = s.allocation_backfill(wish("gold"), id, never).await.unwrap().unwrap();
        assert_eq!((done.state, done.node), (AllocationState::Active, Some(id)));
        assert_eq!(s.node_get(id).await.unwrap().allocation, Some(done.id));
        let again = s.allocation_backfill(Allocation { id: done.id, ..wish("gold") }, id, never).await.unwrap_err();
        assert!(matches!(again, DbError::Duplicate { what: Unique::AllocationUuid, .. }), "{again}");
        let mut bare = s.node_get(id).await.unwrap();
        bare.spec.instance_uuid = Some(uuid::Uuid::new_v4());
        s.node_update_spec(id, bare.revision, bare.spec, None).await.unwrap();
        let taken = s.allocation_backfill(wish("gold"), id, never).await.unwrap_err();
        assert!(matches!(taken, DbError::Associated { .. }), "{taken}");
        s.node_delete(id).await.unwrap();
    }

    async fn a_node_that_changed_since_it_was_chosen_is_not_given(db: Database) {
        let s = db.open().await;
        let id = free_node(&s, "n", ProvisionState::Available).await;
        let epoch = conductor(&s, &db, "c").await;
        let a = s.allocation_create(wish("gold")).await.unwrap();
        let (claim, _) = s.allocation_take(a.id, epoch, "c", db.clock.now()).await.unwrap().unwrap();
        let change = NodeChange { provision_state: Some(ProvisionState::Cleaning), ..NodeChange::default() };
        s.work_begin(bessemer_db::WorkBegin::new(id, None, change)).await.unwrap();
        assert!(!s.allocation_reserve(&claim, id).await.unwrap());
        assert!(!s.allocation_reserve(&claim, NodeId::random()).await.unwrap());
        let n = s.node_get(id).await.unwrap();
        assert_eq!((n.spec.instance_uuid, n.revision), (None, 1));
    }
}
