//! Port groups, chassis and shards: what belongs to what, and what must not go while others belong to it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bessemer_db::{
    ChassisPage, ChassisSort, DbError, Entity, PortFilter, PortPage, PortgroupFilter, PortgroupPage, PortgroupSort, Store, Unique,
};
use bessemer_model::{
    ids::{ChassisId, NodeId, PortgroupId},
    port::Port,
    portgroup::Portgroup,
    state::ProvisionState,
};
use common::*;

async fn one_node(s: &Store, name: &str) -> NodeId {
    node(s, name, ProvisionState::Enroll).await
}

/// Makes the port `52:54:00:00:00:<n>` in a group.
async fn member(s: &Store, group: &Portgroup, n: u8, network: Option<&str>) -> Result<Port, DbError> {
    let mut p = port(group.node, &format!("52:54:00:00:00:{n:02x}"));
    p.portgroup = Some(group.id);
    p.physical_network = network.map(str::to_owned);
    s.port_create(p).await
}

on_both! {
    async fn a_port_group_is_found_by_each_name_and_written_by_revision(db: Database) {
        let s = db.open().await;
        let n = one_node(&s, "n").await;
        let mut g = portgroup(n, "bond0");
        g.address = Some("52:54:00:AA:00:01".into());
        g.category = Some("c".into());
        let g = s.portgroup_create(g).await.unwrap();
        assert_eq!((g.address.as_deref(), g.revision), (Some("52:54:00:aa:00:01"), 1));
        for ident in [g.id.to_string().as_str(), "bond0"] {
            assert_eq!(s.portgroup_get(ident).await.unwrap(), g);
        }
        let mut h = g.clone();
        h.mode = Some("802.3ad".into());
        let h = s.portgroup_update(h, 1).await.unwrap();
        assert!(h.mode.as_deref() == Some("802.3ad") && h.revision == 2 && h.updated_at.is_some());
        assert!(matches!(s.portgroup_update(g.clone(), 1).await, Err(DbError::RevisionLost { .. })));
        for (other, what) in [
            (Portgroup { id: g.id, ..portgroup(n, "b") }, Unique::PortgroupUuid),
            (portgroup(n, "bond0"), Unique::PortgroupName),
            (Portgroup { address: g.address.clone(), ..portgroup(n, "c") }, Unique::PortgroupAddress),
        ] {
            let e = s.portgroup_create(other).await.unwrap_err();
            assert!(matches!(&e, DbError::Duplicate { what: w, .. } if *w == what), "{e:?}");
        }
        let e = s.portgroup_create(portgroup(NodeId::random(), "d")).await.unwrap_err();
        assert!(matches!(e, DbError::NotFound { what: Entity::Node, .. }), "{e:?}");
        s.portgroup_delete(g.id).await.unwrap();
        assert!(matches!(s.portgroup_delete(g.id).await, Err(DbError::NotFound { what: Entity::Portgroup, .. })));
    }

    async fn port_groups_are_listed_by_what_their_node_is(db: Database) {
        let s = db.open().await;
        let mut sp = spec("full");
        (sp.owner, sp.shard, sp.conductor_group) = (Some("o".into()), Some("s".into()), "g".into());
        let a = s.node_create(new_node(sp, ProvisionState::Enroll)).await.unwrap().id;
        let b = one_node(&s, "plain").await;
        let mut one = portgroup(a, "one");
        one.address = Some("52:54:00:00:00:01".into());
        let one = s.portgroup_create(one).await.unwrap();
        let two = s.portgroup_create(portgroup(b, "two")).await.unwrap();
        let f = PortgroupFilter::default;
        for filter in [
            PortgroupFilter { node: Some(a), ..f() },
            PortgroupFilter { address: one.address.clone(), ..f() },
            PortgroupFilter { shards: vec!["x".into(), "s".into()], ..f() },
            PortgroupFilter { conductor_groups: vec!["g".into()], ..f() },
            PortgroupFilter { project: Some("o".into()), ..f() },
        ] {
            assert_eq!(s.portgroup_list(&filter, &PortgroupPage::all()).await.unwrap(), std::slice::from_ref(&one), "{filter:?}");
        }
        let page = PortgroupPage { sort: PortgroupSort::Name, desc: true, marker: Some(two.id), ..PortgroupPage::all() };
        assert_eq!(s.portgroup_list(&f(), &page).await.unwrap(), [one]);
    }

    async fn a_group_with_ports_stays_where_it_is(db: Database) {
        let s = db.open().await;
        let (a, b) = (one_node(&s, "a").await, one_node(&s, "b").await);
        let g = s.portgroup_create(portgroup(a, "bond0")).await.unwrap();
        let p = member(&s, &g, 1, None).await.unwrap();
        assert!(matches!(s.portgroup_delete(g.id).await, Err(DbError::NotEmpty { what: Entity::Portgroup, .. })));
        let moved = Portgroup { node: b, ..g.clone() };
        assert!(matches!(s.portgroup_update(moved.clone(), g.revision).await, Err(DbError::NotEmpty { .. })));
        let by_group = PortFilter { portgroup: Some(g.id), ..PortFilter::default() };
        assert_eq!(s.port_list(&by_group, &PortPage::all()).await.unwrap(), std::slice::from_ref(&p));
        s.port_delete(p.id).await.unwrap();
        assert_eq!(s.portgroup_update(moved, g.revision).await.unwrap().node, b);
        s.portgroup_delete(g.id).await.unwrap();
    }

    async fn the_ports_of_a_group_share_its_physical_network(db: Database) {
        let s = db.open().await;
        let n = one_node(&s, "n").await;
        let g = s.portgroup_create(portgroup(n, "bond0")).await.unwrap();
        let p = member(&s, &g, 1, Some("a")).await.unwrap();
        let g = s.portgroup_get("bond0").await.unwrap();
        assert_eq!(g.physical_network.as_deref(), Some("a"), "the first member brings its network");
        for other in [None, Some("b")] {
            assert!(matches!(member(&s, &g, 2, other).await, Err(DbError::Unfit(_))), "{other:?}");
        }
        let q = member(&s, &g, 2, Some("a")).await.unwrap();
        let lonely = Port { physical_network: Some("b".into()), ..q.clone() };
        assert!(matches!(s.port_update(lonely, q.revision).await, Err(DbError::Unfit(_))));
        // The group takes its members along.
        let moved = Portgroup { physical_network: Some("c".into()), ..g.clone() };
        s.portgroup_update(moved, g.revision).await.unwrap();
        for id in [p.id, q.id] {
            assert_eq!(s.port_get(&id.to_string()).await.unwrap().physical_network.as_deref(), Some("c"));
        }
        let e = s.port_create(Port { portgroup: Some(PortgroupId::random()), ..port(n, "52:54:00:00:00:03") }).await.unwrap_err();
        assert!(matches!(e, DbError::NotFound { what: Entity::Portgroup, .. }), "{e:?}");
    }

    async fn ports_that_join_at_once_agree_on_one_network(db: Database) {
        let s = db.open().await;
        let n = one_node(&s, "n").await;
        let g = s.portgroup_create(portgroup(n, "bond0")).await.unwrap();
        let joining: Vec<_> = (0..8u8)
            .map(|i| {
                let (s, g) = (s.clone(), g.clone());
                tokio::spawn(async move { member(&s, &g, i, Some(["a", "b"][usize::from(i % 2)])).await.is_ok() })
            })
            .collect();
        let mut joined = 0;
        for j in joining {
            joined += usize::from(j.await.unwrap());
        }
        let ports = s.port_list(&PortFilter { portgroup: Some(g.id), ..PortFilter::default() }, &PortPage::all()).await.unwrap();
        assert_eq!(ports.len(), joined);
        let network = s.portgroup_get("bond0").await.unwrap().physical_network;
        assert!(!ports.is_empty() && ports.iter().all(|p| p.physical_network == network), "{ports:?}");
    }

    async fn a_deleted_node_takes_its_groups_along_and_frees_ports_of_others(db: Database) {
        let s = db.open().await;
        let (a, b) = (one_node(&s, "a").await, one_node(&s, "b").await);
        let g = s.portgroup_create(portgroup(a, "bond0")).await.unwrap();
        member(&s, &g, 1, None).await.unwrap();
        let strange = s.port_create(Port { portgroup: Some(g.id), ..port(b, "52:54:00:00:00:09") }).await.unwrap();
        s.node_delete(a).await.unwrap();
        assert!(s.portgroup_get("bond0").await.is_err());
        assert_eq!(s.port_get(&strange.id.to_string()).await.unwrap().portgroup, None);
    }

    async fn a_chassis_is_written_by_revision_and_stays_while_nodes_stand_in_it(db: Database) {
        let s = db.open().await;
        let c = s.chassis_create(chassis()).await.unwrap();
        assert_eq!(s.chassis_get(c.id).await.unwrap(), c);
        assert!(matches!(s.chassis_create(c.clone()).await, Err(DbError::Duplicate { what: Unique::ChassisUuid, .. })));
        let mut d = c.clone();
        d.description = None;
        let d = s.chassis_update(d, c.revision).await.unwrap();
        assert!(d.description.is_none() && d.updated_at.is_some());
        assert!(matches!(s.chassis_update(c.clone(), c.revision).await, Err(DbError::RevisionLost { .. })));
        let other = s.chassis_create(chassis()).await.unwrap();
        let page = ChassisPage { sort: ChassisSort::Description, desc: true, ..ChassisPage::first(1) };
        assert_eq!(s.chassis_list(&page).await.unwrap(), std::slice::from_ref(&other));

        let mut sp = spec("n");
        sp.chassis_uuid = Some(c.id.0);
        let n = s.node_create(new_node(sp.clone(), ProvisionState::Enroll)).await.unwrap();
        let e = s.chassis_delete(c.id).await.unwrap_err();
        assert!(matches!(e, DbError::NotEmpty { what: Entity::Chassis, .. }), "{e:?}");
        let nowhere = ChassisId::random();
        sp.chassis_uuid = Some(nowhere.0);
        sp.name = Some("m".into());
        let e = s.node_update_spec(n.id, n.revision, sp.clone(), None).await.unwrap_err();
        assert!(matches!(e, DbError::NotFound { what: Entity::Chassis, .. }), "{e:?}");
        let e = s.node_create(new_node(sp, ProvisionState::Enroll)).await.unwrap_err();
        assert!(matches!(e, DbError::NotFound { what: Entity::Chassis, .. }), "{e:?}");
        s.node_delete(n.id).await.unwrap();
        s.chassis_delete(c.id).await.unwrap();
        assert!(matches!(s.chassis_delete(c.id).await, Err(DbError::NotFound { what: Entity::Chassis, .. })));
    }

    async fn shards_are_counted_largest_first(db: Database) {
        let s = db.open().await;
        assert_eq!(s.node_shards().await.unwrap(), []);
        for (name, shard) in [("a", Some("s2")), ("b", None), ("c", Some("s1")), ("d", Some("s1"))] {
            let mut sp = spec(name);
            sp.shard = shard.map(str::to_owned);
            s.node_create(new_node(sp, ProvisionState::Enroll)).await.unwrap();
        }
        assert_eq!(s.node_shards().await.unwrap(), [(Some("s1".into()), 2), (None, 1), (Some("s2".into()), 1)]);
    }
}
