//! Ports, history, inventory, boot plans, leases, conductors, events.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use bessemer_db::{BootPlanRow, Commit, DbError, Entity, HistoryPage, Inventory, LeaseRequest, PortFilter, PortPage, Unique};
use bessemer_model::{
    clock::{Clock as _, Timestamp},
    conductor::DriverOffer,
    event::OutboxEvent,
    firmware::{BiosSetting, FirmwareComponent},
    history::HistoryEntry,
    ids::{HistoryId, NodeId},
    state::ProvisionState,
};
use common::*;

fn entry(node: NodeId, at: i64) -> HistoryEntry {
    HistoryEntry {
        id: HistoryId::random(),
        node,
        created_at: Timestamp(at),
        severity: "INFO".into(),
        event: format!("e{at}"),
        event_type: "transition".into(),
        conductor: Some("c".into()),
        user: None,
        project: Some("p".into()),
        state: Some(ProvisionState::Active),
        target_provision_state: None,
        duration_seconds: Some(1.5),
    }
}

fn request(mac: &str, from: u8, to: u8) -> LeaseRequest {
    LeaseRequest {
        network: "net".into(),
        mac: mac.into(),
        wanted: None,
        fixed: None,
        pool: Ipv4Addr::new(10, 0, 0, from)..=Ipv4Addr::new(10, 0, 0, to),
        reserved: vec![Ipv4Addr::new(10, 0, 0, 10)],
        hold: Duration::from_secs(60),
    }
}

const fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

on_both! {
    async fn ports_are_written_by_revision_and_found_by_each_name(db: Database) {
        let s = db.open().await;
        let id = node(&s, "n", ProvisionState::Enroll).await;
        let mut p = port(id, "52:54:00:AA:00:01");
        p.name = Some("eth0".into());
        p.local_link_connection = map(serde_json::json!({"port_id": "1"}));
        p.portgroup = Some(s.portgroup_create(portgroup(id, "bond0")).await.unwrap().id);
        p.physical_network = Some("phys".into());
        let p = s.port_create(p).await.unwrap();
        assert_eq!((p.address.as_str(), p.revision), ("52:54:00:aa:00:01", 1));
        for ident in [p.id.to_string().as_str(), "52:54:00:AA:00:01", "eth0"] {
            assert_eq!(s.port_get(ident).await.unwrap(), p);
        }
        let mut q = p.clone();
        q.pxe_enabled = false;
        let q = s.port_update(q, 1).await.unwrap();
        assert!(!q.pxe_enabled && q.revision == 2 && q.updated_at.is_some());
        assert!(matches!(s.port_update(p.clone(), 1).await, Err(DbError::RevisionLost { .. })));
        let e = s.port_create(port(id, "52:54:00:aa:00:01")).await.unwrap_err();
        assert!(matches!(&e, DbError::Duplicate { what: Unique::PortAddress, value } if value == "52:54:00:aa:00:01"), "{e:?}");
        let e = s.port_create(port(NodeId::random(), "52:54:00:aa:00:02")).await.unwrap_err();
        assert!(matches!(e, DbError::NotFound { what: Entity::Node, .. }), "{e:?}");
        let by_node = PortFilter { node: Some(id), addresses: vec!["52:54:00:AA:00:01".into()], ..PortFilter::default() };
        assert_eq!(s.port_list(&by_node, &PortPage::all()).await.unwrap(), [q]);
        let by_group = PortFilter { conductor_groups: vec!["x".into()], ..PortFilter::default() };
        assert!(s.port_list(&by_group, &PortPage::all()).await.unwrap().is_empty());
        s.port_delete(p.id).await.unwrap();
        assert!(matches!(s.port_delete(p.id).await, Err(DbError::NotFound { what: Entity::Port, .. })));
    }

    async fn firmware_settings_are_replaced_as_a_whole_and_versions_remember_the_first(db: Database) {
        let s = db.open().await;
        let id = node(&s, "n", ProvisionState::Enroll).await;
        let (now, lease) = (db.clock.now(), Duration::from_secs(60));
        let epoch = s.conductor_take("c", "", BTreeMap::new(), None, now, lease).await.unwrap();
        let claim = s.claim_take(id, epoch, "c", now, "a test").await.unwrap().unwrap();
        let plain = |name: &str, value: &str| BiosSetting::plain(name, &value.into());
        let first = vec![plain("a", "1"), BiosSetting { upper_bound: Some(9), unique: Some(true), allowable_values: vec![1.into()], ..plain("b", "2") }];
        let bmc = |version: &str| FirmwareComponent { component: "bmc".into(), version: version.into(), ..FirmwareComponent::default() };
        let commit = |bios: &[BiosSetting], version: &str| Commit { bios: Some(bios.to_vec()), firmware: vec![bmc(version)], ..Commit::default() };
        s.claim_commit(&claim, commit(&first, "1")).await.unwrap();
        let stored = s.bios_list(id).await.unwrap();
        assert_eq!(stored.iter().map(|b| b.setting.clone()).collect::<Vec<_>>(), first);
        assert!(stored.iter().all(|b| b.updated_at.is_none()));
        s.claim_commit(&claim, commit(&[plain("b", "3"), plain("c", "4")], "2")).await.unwrap();
        assert!(matches!(s.bios_get(id, "a").await, Err(DbError::NotFound { what: Entity::BiosSetting, .. })));
        let b = s.bios_get(id, "b").await.unwrap();
        assert_eq!((b.setting.value.as_deref(), b.setting.upper_bound, b.created_at), (Some("3"), None, stored[1].created_at));
        assert!(b.updated_at.is_some());
        let f = s.firmware_list(id).await.unwrap().remove(0);
        assert_eq!((f.initial_version.as_str(), f.current_version.as_deref(), f.last_version_flashed.as_deref()), ("1", Some("2"), Some("2")));
        s.claim_commit(&claim, Commit::default()).await.unwrap();
        assert_eq!(s.bios_list(id).await.unwrap().len(), 2, "a commit that says nothing changes nothing");
        s.claim_release(&claim).await.unwrap();
        s.node_delete(id).await.unwrap();
        assert!(s.bios_list(id).await.unwrap().is_empty() && s.firmware_list(id).await.unwrap().is_empty());
    }

    async fn history_pages_by_time_and_keeps_the_newest(db: Database) {
        let s = db.open().await;
        let id = node(&s, "n", ProvisionState::Enroll).await;
        let all: Vec<_> = (1..=5).map(|i| entry(id, i)).collect();
        for e in all.iter().rev() {
            s.history_add(e.clone()).await.unwrap();
        }
        assert_eq!(s.history_list(id, &HistoryPage::all()).await.unwrap(), all);
        let page = HistoryPage { marker: Some(all[1].id), ..HistoryPage::first(2) };
        assert_eq!(s.history_list(id, &page).await.unwrap(), all[2..4]);
        assert_eq!(s.history_get(id, all[0].id).await.unwrap(), all[0]);
        assert!(s.history_get(NodeId::random(), all[0].id).await.is_err());
        assert_eq!(s.history_purge(3, Timestamp(0), 1).await.unwrap(), 1);
        assert_eq!(s.history_purge(3, Timestamp(0), 100).await.unwrap(), 1);
        assert_eq!(s.history_list(id, &HistoryPage::all()).await.unwrap(), all[2..]);
        assert_eq!(s.history_purge(300, Timestamp(5), 100).await.unwrap(), 2);
        assert!(matches!(s.history_add(entry(NodeId::random(), 1)).await, Err(DbError::NotFound { .. })));
    }

    async fn inventory_is_replaced_whole(db: Database) {
        let s = db.open().await;
        let id = node(&s, "n", ProvisionState::Enroll).await;
        assert_eq!(s.inventory_get(id).await.unwrap(), None);
        for n in 1..3 {
            let i = Inventory { inventory: serde_json::json!({"cpu": {"count": n}}), plugin_data: serde_json::json!({"x": "\u{0}"}) };
            s.inventory_put(id, i.clone()).await.unwrap();
            assert_eq!(s.inventory_get(id).await.unwrap(), Some(i));
        }
    }

    async fn a_boot_plan_voids_the_nonce_and_the_cards_of_the_one_before(db: Database) {
        let s = db.open().await;
        let id = node(&s, "n", ProvisionState::Enroll).await;
        let plan = |nonce: &str, macs: &[&str]| BootPlanRow {
            node: id,
            nonce: nonce.into(),
            macs: macs.iter().map(|m| (*m).to_owned()).collect(),
            plan: serde_json::json!({"kernel": nonce}),
        };
        s.boot_plan_put(plan("one", &["52:54:00:00:00:01", "52:54:00:00:00:02"])).await.unwrap();
        s.boot_plan_put(plan("two", &["52:54:00:00:00:02"])).await.unwrap();
        let two = Some(plan("two", &["52:54:00:00:00:02"]));
        assert_eq!(s.boot_plan_get_by_node(id).await.unwrap(), two);
        assert_eq!(s.boot_plan_get_by_nonce("two").await.unwrap(), two);
        assert_eq!(s.boot_plan_get_by_mac("52:54:00:00:00:02").await.unwrap(), two);
        assert_eq!(s.boot_plan_get_by_nonce("one").await.unwrap(), None);
        assert_eq!(s.boot_plan_get_by_mac("52:54:00:00:00:01").await.unwrap(), None);
        s.boot_plan_delete(id).await.unwrap();
        assert_eq!(s.boot_plan_get_by_mac("52:54:00:00:00:02").await.unwrap(), None);
    }

    async fn a_client_keeps_its_address_and_strangers_get_others(db: Database) {
        let s = db.open().await;
        let now = Timestamp(1_000_000_000);
        let later = now.after(Duration::from_secs(3600));
        assert_eq!(s.lease_offer(request("a", 10, 12), now).await.unwrap(), Some(ip(11)), "10 is reserved");
        assert_eq!(s.lease_offer(request("a", 10, 12), now).await.unwrap(), Some(ip(11)));
        assert_eq!(s.lease_offer(request("b", 10, 12), now).await.unwrap(), Some(ip(12)));
        assert_eq!(s.lease_offer(request("c", 10, 12), now).await.unwrap(), None, "exhausted");
        assert!(s.lease_commit("net", "a", ip(11), later).await.unwrap());
        assert!(!s.lease_commit("net", "a", ip(12), later).await.unwrap(), "not its own");
        assert!(!s.lease_commit("net", "c", ip(11), later).await.unwrap());
        assert_eq!(s.lease_mac_of("net", ip(11), now).await.unwrap().as_deref(), Some("a"));
        assert_eq!(s.lease_mac_of("other", ip(11), now).await.unwrap(), None);
        // b never took its offer: when it has ended, c may have the address, though not a's.
        let after_offer = now.after(Duration::from_secs(61));
        assert_eq!(s.lease_mac_of("net", ip(12), after_offer).await.unwrap(), None);
        assert_eq!(s.lease_offer(request("c", 10, 12), after_offer).await.unwrap(), Some(ip(12)));
        assert_eq!(s.lease_of("net", "b").await.unwrap(), None);
        // A released address comes back to the same client first.
        s.lease_release("net", "a", after_offer).await.unwrap();
        let a = s.lease_of("net", "a").await.unwrap().unwrap();
        assert!(!a.bound && a.expires_at == after_offer);
        assert_eq!(s.lease_offer(request("a", 10, 12), after_offer).await.unwrap(), Some(ip(11)));
        assert_eq!(s.lease_list("net").await.unwrap().len(), 2);
    }

    async fn a_wish_is_granted_when_free_and_a_reservation_always(db: Database) {
        let s = db.open().await;
        let now = Timestamp(1_000_000_000);
        let wish = |mac: &str, last| LeaseRequest { wanted: Some(ip(last)), ..request(mac, 10, 20) };
        assert_eq!(s.lease_offer(wish("a", 15), now).await.unwrap(), Some(ip(15)));
        assert_eq!(s.lease_offer(wish("b", 15), now).await.unwrap(), Some(ip(11)), "taken");
        assert_eq!(s.lease_offer(wish("c", 99), now).await.unwrap(), Some(ip(12)), "outside the pool");
        assert_eq!(s.lease_offer(wish("d", 10), now).await.unwrap(), Some(ip(13)), "reserved for another");
        let fixed = LeaseRequest { fixed: Some(ip(10)), ..request("e", 10, 20) };
        assert_eq!(s.lease_offer(fixed.clone(), now).await.unwrap(), Some(ip(10)));
        // A reservation made for a client that has an address already moves it.
        let fixed = LeaseRequest { fixed: Some(ip(200)), ..request("a", 10, 20) };
        assert_eq!(s.lease_offer(fixed, now).await.unwrap(), Some(ip(200)));
    }

    async fn two_daemons_never_give_one_address_to_two_clients(db: Database) {
        let (s, t) = (db.open().await, db.open().await);
        let now = Timestamp(1_000_000_000);
        let mut all = tokio::task::JoinSet::new();
        for i in 0..30 {
            let d = if i % 2 == 0 { s.clone() } else { t.clone() };
            // Every client asks both daemons.
            all.spawn(async move { (i / 2, d.lease_offer(request(&format!("m{}", i / 2), 10, 40), now).await.unwrap().unwrap()) });
        }
        let mut given: BTreeMap<i32, Vec<Ipv4Addr>> = BTreeMap::new();
        for (client, address) in all.join_all().await {
            given.entry(client).or_default().push(address);
        }
        let mut seen = std::collections::HashSet::new();
        for (client, addresses) in given {
            assert_eq!(addresses[0], addresses[1], "client {client}");
            assert!(seen.insert(addresses[0]));
        }
    }

    async fn conductors_are_listed_with_their_lease(db: Database) {
        let s = db.open().await;
        let now = db.clock.now();
        let offer = BTreeMap::from([("ipmi".to_owned(), DriverOffer::default())]);
        let a = s.conductor_take("a", "g", offer.clone(), Some("http://x"), now, Duration::from_secs(60)).await.unwrap();
        s.conductor_take("b", "", BTreeMap::new(), None, now, Duration::ZERO).await.unwrap();
        let all = s.conductor_list().await.unwrap();
        assert_eq!(all.iter().map(|c| c.hostname.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((&all[0].drivers, all[0].address.as_deref(), all[0].conductor_group.as_str()), (&offer, Some("http://x"), "g"));
        let alive = |v: Vec<bessemer_model::conductor::Conductor>| v.into_iter().map(|c| c.hostname).collect::<Vec<_>>();
        assert_eq!(alive(s.conductor_list_alive(now).await.unwrap()), ["a"]);
        assert_eq!(s.conductor_get("a").await.unwrap(), all[0]);
        assert!(matches!(s.conductor_get("z").await, Err(DbError::NotFound { what: Entity::Conductor, .. })));
        s.conductor_expire("a", a).await.unwrap();
        assert!(s.conductor_list_alive(now).await.unwrap().is_empty());
        // PostgreSQL judges by its own clock, which may be far ahead by now on a busy machine.
        assert_eq!(s.conductor_purge(now.after(Duration::from_secs(3600))).await.unwrap(), 2);
    }

    async fn events_are_read_in_order_from_a_position(db: Database) {
        let s = db.open().await;
        for i in 0..5 {
            let mut new = new_node(spec(&format!("n{i}")), ProvisionState::Enroll);
            new.events = vec![OutboxEvent { seq: 0, at: Timestamp(i), node: Some(new.id), kind: "made".into(), data: serde_json::json!({"i": i}) }];
            s.node_create(new).await.unwrap();
        }
        events(&s, Default::default(), 5).await;
        let first = s.events_after(Default::default(), 2).await.unwrap();
        let rest = s.events_after(first[1].0, 10).await.unwrap();
        let got: Vec<_> = first.iter().chain(&rest).map(|(_, e)| e.data["i"].as_i64().unwrap()).collect();
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert_eq!(s.events_last().await.unwrap(), rest[2].0);
        assert_eq!(s.events_purge(Timestamp(4)).await.unwrap(), 4);
    }

    async fn secrets_are_not_in_the_bytes_of_the_database(db: Database) {
        const SECRET: &str = "Tr0ub4dor-and-3";
        let s = db.open().await;
        let mut sp = spec("visible-name");
        sp.driver_info = map(serde_json::json!({"redfish_password": SECRET}));
        let id = s.node_create(new_node(sp, ProvisionState::Enroll)).await.unwrap().id;
        s.agent_token_mint(id, &SECRET.to_owned().into()).await.unwrap();
        s.secret_put(id, bessemer_db::secret_kind::RESCUE_PASSWORD, Some(&SECRET.to_owned().into())).await.unwrap();
        let root = if db.is_postgres() {
            sqlx::query("CHECKPOINT").execute(&sqlx::PgPool::connect(&db.url).await.unwrap()).await.unwrap();
            std::path::PathBuf::from(db.url.split("host=").nth(1).unwrap()).join("data")
        } else {
            db.folder.path().to_owned()
        };
        let (mut name, mut secret) = (false, false);
        let mut open = vec![root];
        while let Some(p) = open.pop() {
            if p.is_dir() {
                open.extend(std::fs::read_dir(&p).unwrap().flatten().map(|e| e.path()));
            } else if let Ok(bytes) = std::fs::read(&p) {
                let holds = |t: &str| bytes.windows(t.len()).any(|w| w == t.as_bytes());
                name |= holds("visible-name");
                secret |= holds(SECRET);
            }
        }
        assert!(name, "looked in the right place");
        assert!(!secret);
        assert_eq!(s.node_get_with_secrets(id).await.unwrap().spec.driver_info["redfish_password"], SECRET);
        // Another key opens nothing.
        let stranger = bessemer_db::Store::open(&db.url, bessemer_db::OpenOptions::new(bessemer_db::SealKey::random())).await.unwrap();
        assert!(matches!(stranger.agent_token_get(id).await, Err(DbError::Unsealable { .. })));
    }
}

/// PostgreSQL gives out numbers before it commits: in both orders of number and transaction, a reader that goes on from where it
/// stood sees each event once.
#[tokio::test]
async fn a_reader_misses_no_event_of_transactions_that_commit_in_reverse() {
    use sqlx::{Connection as _, PgConnection};
    let db = Database::postgres();
    let s = db.open().await;
    const ADD: &str = "INSERT INTO events (at, kind, data) VALUES (0, $1, '{}')";
    for low_number_first in [true, false] {
        let mut a = PgConnection::connect(&db.url).await.unwrap();
        let mut b = PgConnection::connect(&db.url).await.unwrap();
        let start = s.events_last().await.unwrap();
        let mut ta = a.begin().await.unwrap();
        sqlx::query("SELECT pg_current_xact_id()").execute(&mut *ta).await.unwrap();
        let mut tb = b.begin().await.unwrap();
        if low_number_first {
            sqlx::query(ADD).bind("a").execute(&mut *ta).await.unwrap();
            sqlx::query(ADD).bind("b").execute(&mut *tb).await.unwrap();
        } else {
            sqlx::query(ADD).bind("b").execute(&mut *tb).await.unwrap();
            sqlx::query(ADD).bind("a").execute(&mut *ta).await.unwrap();
        }
        let mut at = start;
        let mut seen = vec![];
        let mut read = async |at: &mut bessemer_db::EventCursor| {
            for (cursor, e) in s.events_after(*at, 10).await.unwrap() {
                *at = cursor;
                seen.push(e.kind);
            }
            seen.len()
        };
        if low_number_first {
            tb.commit().await.unwrap();
            read(&mut at).await;
            ta.commit().await.unwrap();
        } else {
            ta.commit().await.unwrap();
            read(&mut at).await;
            tb.commit().await.unwrap();
        }
        for _ in 0..500 {
            if read(&mut at).await == 2 {
                break;
            }
            // Other tests' transactions on the same server hold rows back too.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(seen, ["a", "b"]);
    }
}
