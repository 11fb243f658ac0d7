//! Claims, flows and verbs: who may write what, and that nothing is lost between those who write at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeMap, time::Duration};

use bessemer_db::{Commit, DbError, FlowWrite, Store, WorkBegin, Write};
use bessemer_model::{
    agent::AgentState,
    clock::{Clock as _, Timestamp},
    conductor::Claim,
    event::OutboxEvent,
    flow::{FlowKind, Lane, Phase},
    ids::NodeId,
    node::NodeChange,
    state::{PowerState, ProvisionState},
};
use common::*;

const LEASE: Duration = Duration::from_secs(600);

async fn conductor(s: &Store, db: &Database, host: &str) -> i64 {
    s.conductor_take(host, "", BTreeMap::new(), None, db.clock.now(), LEASE).await.unwrap()
}

async fn take(s: &Store, db: &Database, node: NodeId, host: &str, epoch: i64) -> Option<Claim> {
    s.claim_take(node, epoch, host, db.clock.now(), "a test").await.unwrap()
}

fn power(p: PowerState) -> NodeChange {
    NodeChange { power_state: Some(Some(p)), ..NodeChange::default() }
}

fn to(state: ProvisionState) -> NodeChange {
    NodeChange { provision_state: Some(state), ..NodeChange::default() }
}

/// A node in `manageable` with a cleaning flow that is due now.
async fn cleaning(s: &Store, db: &Database) -> NodeId {
    let id = node(s, "n", ProvisionState::Manageable).await;
    let f = flow(id, FlowKind::Clean, Some(db.clock.now()));
    s.work_begin(WorkBegin { flow: Some(f), ..WorkBegin::new(id, Some(ProvisionState::Manageable), to(ProvisionState::Cleaning)) })
        .await
        .unwrap();
    id
}

on_both! {
    async fn of_many_racers_for_a_node_one_wins(db: Database) {
        let s = db.open().await;
        let other = db.open().await;
        let (a, b) = (conductor(&s, &db, "a").await, conductor(&s, &db, "b").await);
        let id = node(&s, "n", ProvisionState::Enroll).await;
        for round in 1..=20 {
            let mut racers = tokio::task::JoinSet::new();
            for i in 0..8 {
                let (s, now) = (if i % 2 == 0 { s.clone() } else { other.clone() }, db.clock.now());
                racers.spawn(async move {
                    let (host, epoch) = if i % 2 == 0 { ("a", a) } else { ("b", b) };
                    s.claim_take(id, epoch, host, now, "a test").await.unwrap()
                });
            }
            let won: Vec<Claim> = racers.join_all().await.into_iter().flatten().collect();
            assert_eq!(won.len(), 1);
            assert_eq!(won[0].fence, round);
            s.claim_release(&won[0]).await.unwrap();
        }
        assert_eq!(s.node_get(id).await.unwrap().reservation, None);
    }

    async fn a_holder_whose_lease_ended_is_replaced_and_its_commit_refused(db: Database) {
        let s = db.open().await;
        let (a, b) = (conductor(&s, &db, "a").await, conductor(&s, &db, "b").await);
        let id = cleaning(&s, &db).await;
        let old = take(&s, &db, id, "a", a).await.unwrap();
        assert!(take(&s, &db, id, "b", b).await.is_none());
        assert!(s.claims_due(db.clock.now(), 10).await.unwrap().is_empty());
        s.conductor_expire("a", a).await.unwrap();
        assert_eq!(s.claims_due(db.clock.now(), 10).await.unwrap().len(), 1);
        let new = take(&s, &db, id, "b", b).await.unwrap();
        assert_eq!(new.fence, old.fence + 1);
        let e = s.claim_commit(&old, Commit { change: power(PowerState::Off), ..Commit::default() }).await.unwrap_err();
        assert!(matches!(e, DbError::FenceLost { .. }), "{e:?}");
        s.claim_commit(&new, Commit { change: power(PowerState::On), ..Commit::default() }).await.unwrap();
        s.claim_release(&old).await.unwrap();
        let n = s.node_get(id).await.unwrap();
        assert_eq!((n.status.power_state, n.reservation.as_deref()), (Some(PowerState::On), Some("b")));
        assert!(take(&s, &db, id, "a", a).await.is_none(), "a conductor without a lease takes nothing");
    }

    async fn a_restarted_daemon_takes_its_own_nodes_at_once(db: Database) {
        let s = db.open().await;
        let first = conductor(&s, &db, "a").await;
        let id = cleaning(&s, &db).await;
        let old = take(&s, &db, id, "a", first).await.unwrap();
        let second = conductor(&s, &db, "a").await;
        assert_eq!(second, first + 1);
        assert!(!s.conductor_renew("a", first, db.clock.now(), LEASE).await.unwrap());
        assert!(s.conductor_renew("a", second, db.clock.now(), LEASE).await.unwrap());
        let new = take(&s, &db, id, "a", second).await.unwrap();
        assert!(s.claim_commit(&old, Commit::default()).await.is_err());
        assert!(s.claim_commit(&new, Commit::default()).await.is_ok());
    }

    async fn a_commit_is_all_or_nothing(db: Database) {
        let s = db.open().await;
        let a = conductor(&s, &db, "a").await;
        let id = cleaning(&s, &db).await;
        let c = take(&s, &db, id, "a", a).await.unwrap();
        let n = s.node_get(id).await.unwrap();
        let event = OutboxEvent { seq: 0, at: Timestamp(1), node: Some(id), kind: "k".into(), data: serde_json::json!({}) };
        let bad = Commit {
            change: power(PowerState::On),
            agent: Write::Put(AgentState::default()),
            events: vec![event.clone()],
            spec: Some((n.revision + 5, n.spec.clone())),
            ..Commit::default()
        };
        assert!(matches!(s.claim_commit(&c, bad).await, Err(DbError::RevisionLost { .. })));
        let after = s.node_get(id).await.unwrap();
        assert_eq!((after.status.power_state, after.agent), (None, None));
        assert!(s.events_after(Default::default(), 10).await.unwrap().is_empty());
        let mut spec = n.spec;
        spec.instance_info.clear();
        let done = Commit {
            change: to(ProvisionState::Available),
            spec: Some((n.revision, spec)),
            flow: FlowWrite::Delete(Lane::Provision),
            traits: Some(vec!["T".into()]),
            inventory: Write::Put(bessemer_db::Inventory::default()),
            new_ports: vec![port(id, "52:54:00:00:00:07")],
            events: vec![event],
            release: true,
            ..Commit::default()
        };
        let told = s.claim_commit(&c, done).await.unwrap();
        let after = s.node_get(id).await.unwrap();
        assert_eq!((after.revision, told.revision), (n.revision + 1, n.revision + 1));
        assert_eq!((after.reservation, after.flow, after.traits), (None, None, vec!["T".to_owned()]));
        assert_eq!(events(&s, Default::default(), 1).await.len(), 1);
        assert_eq!(s.node_by_macs(&["52:54:00:00:00:07".into(), "52:54:00:00:00:08".into()]).await.unwrap(), [id]);
    }

    async fn a_verb_is_taken_on_once_and_only_in_its_state(db: Database) {
        let s = db.open().await;
        let id = cleaning(&s, &db).await;
        let again = |expect, replace| WorkBegin {
            flow: Some(flow(id, FlowKind::Abort, None)),
            replace,
            events: vec![OutboxEvent { seq: 0, at: Timestamp(1), node: Some(id), kind: "k".into(), data: serde_json::json!({}) }],
            ..WorkBegin::new(id, Some(expect), NodeChange { last_error: Some(Some("x".into())), ..NodeChange::default() })
        };
        let e = s.work_begin(again(ProvisionState::Manageable, false)).await.unwrap_err();
        assert!(matches!(e, DbError::StateChanged { state: Some(ProvisionState::Cleaning), .. }), "{e:?}");
        let e = s.work_begin(again(ProvisionState::Cleaning, false)).await.unwrap_err();
        assert!(matches!(e, DbError::FlowExists { .. }), "{e:?}");
        assert_eq!(s.node_get(id).await.unwrap().status.last_error, None);
        assert!(s.events_after(Default::default(), 10).await.unwrap().is_empty());
        // A living holder keeps its flow; a dead one loses it, and its fence with it.
        let a = conductor(&s, &db, "a").await;
        let held = take(&s, &db, id, "a", a).await.unwrap();
        let e = s.work_begin(again(ProvisionState::Cleaning, true)).await.unwrap_err();
        assert!(matches!(&e, DbError::Locked { host, .. } if host == "a"), "{e:?}");
        let text = e.to_string();
        assert!(text.contains("host a for a test since 20"), "{text}");
        s.conductor_expire("a", a).await.unwrap();
        s.work_begin(again(ProvisionState::Cleaning, true)).await.unwrap();
        assert_eq!(s.flow_get(id, Lane::Provision).await.unwrap().unwrap().flow.kind, FlowKind::Abort);
        assert!(matches!(s.claim_commit(&held, Commit::default()).await, Err(DbError::FenceLost { .. })));
        assert!(matches!(s.work_begin(WorkBegin::new(NodeId::random(), None, to(ProvisionState::Enroll))).await, Err(DbError::NotFound { .. })));
    }

    async fn of_many_equal_verbs_at_once_one_is_taken_on(db: Database) {
        let s = db.open().await;
        let id = node(&s, "n", ProvisionState::Manageable).await;
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let s = s.clone();
            all.spawn(async move {
                let f = flow(id, FlowKind::Clean, None);
                let w = WorkBegin::new(id, Some(ProvisionState::Manageable), to(ProvisionState::Cleaning));
                s.work_begin(WorkBegin { flow: Some(f), ..w }).await.is_ok()
            });
        }
        assert_eq!(all.join_all().await.into_iter().filter(|ok| *ok).count(), 1);
    }

    async fn a_flow_is_read_back_as_it_was_committed(db: Database) {
        let s = db.open().await;
        let a = conductor(&s, &db, "a").await;
        let id = cleaning(&s, &db).await;
        let c = take(&s, &db, id, "a", a).await.unwrap();
        let stored = s.flow_get(id, Lane::Provision).await.unwrap().unwrap();
        let mut f = stored.flow;
        assert_eq!(f.request["configdrive"], "abc");
        f.at = 1;
        f.attempt = 3;
        f.phase = Phase::WaitingAgent { command: "c".into() };
        f.note = serde_json::json!({"k": [1]});
        f.deadline = Some(Timestamp(9));
        f.wake_at = Some(db.clock.now().after(Duration::from_secs(60)));
        let put = |f: &bessemer_model::flow::Flow| Commit { flow: FlowWrite::Put { flow: Box::new(f.clone()), wakes: stored.wakes }, ..Commit::default() };
        assert!(!s.claim_commit(&c, put(&f)).await.unwrap().woken);
        assert_eq!(s.flow_get(id, Lane::Provision).await.unwrap().unwrap().flow, f);
        assert_eq!(s.node_get(id).await.unwrap().flow, Some(f.clone()));
        assert!(s.claims_due(db.clock.now(), 10).await.unwrap().is_empty());
        // Another flow's progress is not taken for this one's.
        f.id = bessemer_model::ids::FlowId::random();
        assert!(matches!(s.claim_commit(&c, put(&f)).await, Err(DbError::StateChanged { .. })));
    }

    async fn a_runner_going_to_sleep_does_not_take_back_an_abort_or_a_wake_up(db: Database) {
        let s = db.open().await;
        let a = conductor(&s, &db, "a").await;
        let id = cleaning(&s, &db).await;
        let c = take(&s, &db, id, "a", a).await.unwrap();
        let stored = s.flow_get(id, Lane::Provision).await.unwrap().unwrap();
        assert!(s.flow_set_aborting(id).await.unwrap());
        let mut f = stored.flow.clone();
        f.wake_at = None;
        let sleep = Commit { flow: FlowWrite::Put { flow: Box::new(f), wakes: stored.wakes }, release: true, ..Commit::default() };
        assert!(s.claim_commit(&c, sleep).await.unwrap().woken);
        let stored = s.flow_get(id, Lane::Provision).await.unwrap().unwrap();
        assert!(stored.flow.aborting);
        assert_eq!(s.claims_due(db.clock.now(), 10).await.unwrap().len(), 1);
        // Having seen it, the runner may sleep.
        let c = take(&s, &db, id, "a", a).await.unwrap();
        let later = db.clock.now().after(Duration::from_secs(5));
        let f = bessemer_model::flow::Flow { wake_at: Some(later), ..stored.flow };
        let sleep = Commit { flow: FlowWrite::Put { flow: Box::new(f), wakes: stored.wakes }, release: true, ..Commit::default() };
        assert!(!s.claim_commit(&c, sleep).await.unwrap().woken);
        assert!(s.claims_due(db.clock.now(), 10).await.unwrap().is_empty());
        assert_eq!(s.claims_next_wake().await.unwrap(), Some(later));
        // A later wake-up does not put off an earlier one.
        assert!(s.flow_wake(id, Lane::Provision, later.after(Duration::from_secs(5))).await.unwrap());
        assert_eq!(s.claims_next_wake().await.unwrap(), Some(later));
        assert!(!s.flow_wake(id, Lane::Power, later).await.unwrap());
    }

    async fn no_heartbeat_is_slept_through(db: Database) {
        const BEATS: u64 = 120;
        let s = db.open().await;
        let a = conductor(&s, &db, "a").await;
        let id = cleaning(&s, &db).await;
        let (sender, now) = (db.open().await, db.clock.now());
        let (tell, mut told) = tokio::sync::watch::channel(0u64);
        // Each beat is the last one until the runner has acted on it: one that is slept through is never made up for.
        let mut beats = tokio::spawn(async move {
            for i in 1..=BEATS {
                let agent = AgentState { status_message: Some(i.to_string()), ..AgentState::default() };
                sender.agent_heartbeat(id, agent, now).await.unwrap();
                let seen = async { told.wait_for(|seen| *seen == i).await.map(drop) };
                let seen = tokio::time::timeout(Duration::from_secs(10), seen).await;
                assert!(seen.is_ok_and(|s| s.is_ok()), "heartbeat {i} was slept through");
                // At every moment of the runner's turn.
                tokio::time::sleep(Duration::from_micros(i * 37 % 3000)).await;
            }
        });
        // The runner acts on what the agent said and sleeps until the next word, with no timer to fall back on.
        while !beats.is_finished() {
            if s.claims_due(now, 1).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            let c = take(&s, &db, id, "a", a).await.unwrap();
            let stored = s.flow_get(id, Lane::Provision).await.unwrap().unwrap();
            let said = s.agent_get(id).await.unwrap().and_then(|a| a.status_message);
            tell.send_replace(said.and_then(|m| m.parse().ok()).unwrap_or(0));
            tokio::time::sleep(Duration::from_millis(1)).await;
            let f = bessemer_model::flow::Flow { wake_at: None, ..stored.flow };
            let sleep = Commit { flow: FlowWrite::Put { flow: Box::new(f), wakes: stored.wakes }, release: true, ..Commit::default() };
            s.claim_commit(&c, sleep).await.unwrap();
        }
        (&mut beats).await.unwrap();
    }

    async fn patches_racing_a_flow_lose_neither_side(db: Database) {
        const ROUNDS: i64 = 40;
        let s = db.open().await;
        let a = conductor(&s, &db, "a").await;
        let id = cleaning(&s, &db).await;
        let c = take(&s, &db, id, "a", a).await.unwrap();
        let count = |m: &bessemer_model::JsonMap| m.get("count").and_then(serde_json::Value::as_i64).unwrap_or(0);
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let s = s.clone();
            all.spawn(async move {
                for _ in 0..ROUNDS {
                    loop {
                        let mut n = s.node_get(id).await.unwrap();
                        let next = count(&n.spec.extra) + 1;
                        n.spec.extra.insert("count".into(), next.into());
                        match s.node_update_spec(id, n.revision, n.spec, None).await {
                            Ok(_) => break,
                            Err(DbError::RevisionLost { .. }) => {}
                            Err(e) => panic!("{e:?}"),
                        }
                    }
                }
            });
        }
        let runner = s.clone();
        all.spawn(async move {
            for i in 1..=ROUNDS {
                // Status alone never collides with the owner.
                let change = NodeChange { driver_internal_info: Some(map(serde_json::json!({"count": i}))), ..NodeChange::default() };
                runner.claim_commit(&c, Commit { change, ..Commit::default() }).await.unwrap();
                loop {
                    let mut n = runner.node_get(id).await.unwrap();
                    let next = count(&n.spec.properties) + 1;
                    n.spec.properties.insert("count".into(), next.into());
                    match runner.claim_commit(&c, Commit { spec: Some((n.revision, n.spec)), ..Commit::default() }).await {
                        Ok(_) => break,
                        Err(DbError::RevisionLost { .. }) => {}
                        Err(e) => panic!("{e:?}"),
                    }
                }
            }
        });
        all.join_all().await;
        let n = s.node_get(id).await.unwrap();
        assert_eq!(
            (count(&n.spec.extra), count(&n.spec.properties), count(&n.status.driver_internal_info)),
            (2 * ROUNDS, ROUNDS, ROUNDS)
        );
    }

    async fn tear_down_goes_on_into_cleaning_in_one_commit(db: Database) {
        let s = db.open().await;
        let a = conductor(&s, &db, "a").await;
        let id = cleaning(&s, &db).await;
        let c = take(&s, &db, id, "a", a).await.unwrap();
        let next = flow(id, FlowKind::Clean, Some(db.clock.now()));
        let e = s.claim_commit(&c, Commit { next_flow: Some(next.clone()), ..Commit::default() }).await.unwrap_err();
        assert!(matches!(e, DbError::FlowExists { .. }), "{e:?}");
        let go_on = Commit { flow: FlowWrite::Delete(Lane::Provision), next_flow: Some(next.clone()), release: true, ..Commit::default() };
        s.claim_commit(&c, go_on).await.unwrap();
        assert_eq!(s.flow_get(id, Lane::Provision).await.unwrap().unwrap().flow, next);
    }

    async fn a_heartbeat_moves_the_time_only_where_the_node_waits(db: Database) {
        let s = db.open().await;
        let (still, waiting) = (node(&s, "a", ProvisionState::Available).await, node(&s, "b", ProvisionState::CleanWait).await);
        let said = AgentState { url: Some("https://x".into()), last_heartbeat: Some(Timestamp(7)), ..AgentState::default() };
        for id in [still, waiting] {
            s.agent_heartbeat(id, said.clone(), Timestamp(7)).await.unwrap();
            assert_eq!(s.agent_get(id).await.unwrap(), Some(said.clone()));
            assert_eq!(s.node_get(id).await.unwrap().agent, Some(said.clone()));
        }
        assert_eq!(s.node_get(still).await.unwrap().status.provision_updated_at, None);
        assert_eq!(s.node_get(waiting).await.unwrap().status.provision_updated_at, Some(Timestamp(7)));
        let e = s.agent_heartbeat(NodeId::random(), said, Timestamp(7)).await.unwrap_err();
        assert!(matches!(&e, DbError::NotFound { ident, .. } if !ident.is_empty()), "{e:?}");
    }

    async fn a_token_is_minted_once_until_the_ramdisk_is_forgotten(db: Database) {
        let s = db.open().await;
        let id = node(&s, "n", ProvisionState::CleanWait).await;
        assert!(s.agent_token_mint(id, &"one".to_owned().into()).await.unwrap());
        assert!(!s.agent_token_mint(id, &"two".to_owned().into()).await.unwrap());
        assert_eq!(s.agent_token_get(id).await.unwrap().unwrap().reveal(), "one");
        assert!(s.node_get(id).await.unwrap().has_agent_token);
        s.agent_clear(id).await.unwrap();
        assert!(!s.node_get(id).await.unwrap().has_agent_token);
        assert!(s.agent_token_mint(id, &"two".to_owned().into()).await.unwrap());
    }
}
