//! Hints between daemons.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeSet, time::Duration};

use bessemer_db::{Heard, Hints, Result};
use common::*;

async fn next(hints: &mut Hints) -> Result<Heard> {
    tokio::time::timeout(Duration::from_secs(10), hints.next()).await.unwrap()
}

fn names(hosts: &[&str]) -> BTreeSet<String> {
    hosts.iter().map(|h| (*h).to_owned()).collect()
}

#[tokio::test]
async fn a_hint_is_heard_by_everybody_who_listens() {
    let store = Database::postgres().open().await;
    let (mut one, mut two) = (store.hints().unwrap(), store.hints().unwrap());
    for h in [&mut one, &mut two] {
        assert_eq!(next(h).await.unwrap(), Heard::Gap);
    }
    let hosts = names(&["a", "b"]);
    store.hint_send(&hosts).await.unwrap();
    for h in [&mut one, &mut two] {
        assert_eq!(next(h).await.unwrap(), Heard::Work(hosts.clone()));
    }
}

#[tokio::test]
async fn more_names_than_fit_wake_everybody() {
    let store = Database::postgres().open().await;
    let mut hints = store.hints().unwrap();
    next(&mut hints).await.unwrap();
    store.hint_send(&(0..1000).map(|n| format!("conductor-{n}")).collect()).await.unwrap();
    assert_eq!(next(&mut hints).await.unwrap(), Heard::Gap);
}

#[tokio::test]
async fn a_lost_connection_is_told_and_made_again() {
    const KILL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    let database = Database::postgres();
    let store = database.open().await;
    let mut hints = store.hints().unwrap();
    next(&mut hints).await.unwrap();
    let other = sqlx::PgPool::connect(&database.url).await.unwrap();
    assert_eq!(sqlx::query(KILL).fetch_all(&other).await.unwrap().len(), 1);
    assert!(next(&mut hints).await.is_err());
    assert_eq!(next(&mut hints).await.unwrap(), Heard::Gap);
    store.hint_send(&names(&["a"])).await.unwrap();
    assert_eq!(next(&mut hints).await.unwrap(), Heard::Work(names(&["a"])));
}

#[tokio::test]
async fn sqlite_has_no_other_daemons() {
    assert!(Database::sqlite().open().await.hints().is_none());
}
