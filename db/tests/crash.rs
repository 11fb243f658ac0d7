//! The death of the process at any commit, group commit, and closing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{sync::Arc, time::Duration};

use bessemer_db::{CommitAction, CommitHook, CommitPoint, DbError, NodeFilter};
use bessemer_model::state::ProvisionState;
use common::*;

struct DieAt(CommitPoint, u64);

impl CommitHook for DieAt {
    fn at(&self, point: CommitPoint, number: u64) -> CommitAction {
        if (point, number) == (self.0, self.1) { CommitAction::Crash } else { CommitAction::Continue }
    }
}

on_both! {
    async fn a_death_before_the_commit_loses_the_write_and_one_after_it_keeps_it(db: Database) {
        for (point, expected) in [(CommitPoint::Before, 1), (CommitPoint::After, 3)] {
            let s = db.open().await.with_commit_hook(Arc::new(DieAt(point, 2)));
            let before = s.node_count(&NodeFilter::default()).await.unwrap();
            node(&s, &format!("{point:?}-1"), ProvisionState::Enroll).await;
            let victim = s.clone();
            let name = format!("{point:?}-2");
            let dying = tokio::spawn(async move { node(&victim, &name, ProvisionState::Enroll).await });
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(!dying.is_finished(), "a dead process answers nothing");
            let after = tokio::time::timeout(Duration::from_millis(100), s.ping()).await;
            assert!(after.is_err(), "nor does it read");
            dying.abort();
            drop(s);
            let again = db.open().await;
            assert_eq!(again.node_count(&NodeFilter::default()).await.unwrap(), expected, "{point:?}, {before} before");
            // The dead process holds nothing that the next one needs.
            node(&again, &format!("{point:?}-3"), ProvisionState::Enroll).await;
            again.node_delete(again.node_get_by_ident(&format!("{point:?}-3")).await.unwrap().id).await.unwrap();
        }
    }

    async fn commits_are_counted_and_reads_are_not(db: Database) {
        let s = db.open().await;
        let start = s.commits();
        let id = node(&s, "n", ProvisionState::Enroll).await;
        s.node_get(id).await.unwrap();
        s.node_add_trait(id, "T").await.unwrap();
        assert_eq!(s.commits() - start, 2);
        assert!(s.node_add_trait(bessemer_model::ids::NodeId::random(), "T").await.is_err());
        assert_eq!(s.commits() - start, 2);
    }

    async fn a_failing_caller_does_not_hurt_its_neighbours(db: Database) {
        let s = db.open().await;
        node(&s, "taken", ProvisionState::Enroll).await;
        let start = s.commits();
        let mut all = tokio::task::JoinSet::new();
        for i in 0..120 {
            let s = s.clone();
            all.spawn(async move {
                let name = if i % 3 == 0 { "taken".to_owned() } else { format!("n{i}") };
                s.node_create(new_node(spec(&name), ProvisionState::Enroll)).await
            });
        }
        let (ok, bad): (Vec<_>, Vec<_>) = all.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((ok.len(), bad.len()), (80, 40));
        assert!(bad.iter().all(|e| matches!(e, Err(DbError::Duplicate { .. }))));
        assert_eq!(s.node_count(&NodeFilter::default()).await.unwrap(), 81);
        if !db.is_postgres() {
            assert!(s.commits() - start < 60, "{} commits for 80 writes", s.commits() - start);
        }
    }

    async fn a_caller_that_goes_away_leaves_no_half_written_transaction(db: Database) {
        let s = db.open().await;
        for i in 0..40u64 {
            let t = s.clone();
            let mut new = new_node(spec(&format!("n{i}")), ProvisionState::Enroll);
            new.traits = (0..20).map(|t| format!("T{t}")).collect();
            let job = tokio::spawn(async move { t.node_create(new).await });
            tokio::time::sleep(Duration::from_micros(i * 100)).await;
            job.abort();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        for n in s.node_list(&NodeFilter::default(), &bessemer_db::NodePage::all()).await.unwrap() {
            assert_eq!(n.traits.len(), 20);
        }
        node(&s, "last", ProvisionState::Enroll).await;
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named_with_what_to_check() {
    let options = || bessemer_db::OpenOptions::new(bessemer_db::SealKey::random());
    for (url, words) in [
        ("sqlite:///nowhere/at/all/db.sqlite", "/nowhere/at/all/db.sqlite: its folder must exist"),
        ("postgresql://u:pa55@localhost:1/d", "d at localhost:1: PostgreSQL must run there"),
        ("mysql://u:pa55@h/d", "mysql; use sqlite://"),
    ] {
        let e = bessemer_db::Store::open(url, options()).await.unwrap_err();
        assert!(e.to_string().contains(words), "{e}");
        assert!(!format!("{e:?}").contains("pa55"));
    }
}

#[tokio::test]
async fn the_database_file_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let db = Database::sqlite();
    let _s = db.open().await;
    for f in std::fs::read_dir(db.folder.path()).unwrap() {
        let f = f.unwrap();
        assert_eq!(f.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", f.path());
    }
}
