//! Pages: however they are cut, they hold every node once, in an order that both engines share.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bessemer_db::{NodeFilter, NodePage, NodeSort, PortFilter, PortPage, PortSort, Store};
use bessemer_model::{
    clock::Timestamp,
    ids::NodeId,
    interface::InterfaceKind,
    state::{PowerState, ProvisionState},
};
use common::*;
use proptest::prelude::*;

const NODES: usize = 47;

/// Fills a store with nodes full of NULLs, ties and texts that collations disagree about.
async fn fill(s: &Store) {
    const WORDS: [&str; 7] = ["a", "B", "b", "A", "\u{e4}", "_", "a b"];
    let word = |i: usize, step: usize| (!i.is_multiple_of(step)).then(|| WORDS[i * step % WORDS.len()].to_owned());
    for i in 0..NODES {
        let mut sp = spec("x");
        sp.name = (!i.is_multiple_of(5)).then(|| format!("{}{i}", WORDS[i % WORDS.len()]));
        sp.description = word(i, 3);
        sp.owner = word(i, 2);
        sp.resource_class = word(i, 4);
        sp.automated_clean = [None, Some(true), Some(false)][i % 3];
        sp.maintenance = i % 2 == 0;
        sp.interfaces.set(InterfaceKind::Boot, ["ipxe", "pxe", "Fake"][i % 3]);
        let mut new = new_node(sp, ProvisionState::ALL[i * 7 % ProvisionState::ALL.len()]);
        new.id = NodeId(uuid::Uuid::from_u128((i as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)));
        new.status.power_state = [None, Some(PowerState::On), Some(PowerState::Off)][i % 3];
        new.status.provision_updated_at = (i % 4 != 0).then_some(Timestamp((i % 6) as i64));
        let id = s.node_create(new).await.unwrap().id;
        let mut p = port(id, &format!("52:54:00:00:00:{i:02x}"));
        p.id = bessemer_model::ids::PortId(id.0);
        p.description = word(i, 3);
        p.is_smartnic = [None, Some(true), Some(false)][i % 3];
        s.port_create(p).await.unwrap();
    }
}

async fn node_pages(s: &Store, sort: NodeSort, desc: bool, limit: u32, filter: &NodeFilter) -> Vec<NodeId> {
    let mut out: Vec<NodeId> = vec![];
    loop {
        let page = NodePage { limit, marker: out.last().copied(), sort, desc };
        let ids: Vec<NodeId> = s.node_list(filter, &page).await.unwrap().iter().map(|n| n.id).collect();
        assert!(ids.len() <= limit as usize);
        if ids.is_empty() {
            return out;
        }
        out.extend(ids);
        assert!(out.len() <= NODES, "a page came twice");
    }
}

async fn port_pages(s: &Store, sort: PortSort, desc: bool, limit: u32) -> Vec<uuid::Uuid> {
    let mut out = vec![];
    loop {
        let page = PortPage { limit, marker: out.last().copied().map(bessemer_model::ids::PortId), sort, desc };
        let ids: Vec<_> = s.port_list(&PortFilter::default(), &page).await.unwrap().iter().map(|p| p.id.0).collect();
        if ids.is_empty() {
            return out;
        }
        out.extend(ids);
        assert!(out.len() <= NODES);
    }
}

#[test]
fn pages_cut_anyhow_hold_each_row_once_in_the_same_order_on_both_engines() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (lite, pg) = (Database::sqlite(), Database::postgres());
    let (a, b) = runtime.block_on(async {
        let stores = (lite.open().await, pg.open().await);
        fill(&stores.0).await;
        fill(&stores.1).await;
        stores
    });
    let mut sorts: Vec<NodeSort> = NodeSort::PLAIN.to_vec();
    sorts.push(NodeSort::Interface(InterfaceKind::Boot));
    sorts.push(NodeSort::Interface(InterfaceKind::Raid));
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() });
    let strategy = (proptest::sample::select(sorts), any::<bool>(), 1u32..60, proptest::option::of(any::<bool>()));
    runner
        .run(&strategy, |(sort, desc, limit, maintenance)| {
            let filter = NodeFilter { maintenance, ..NodeFilter::default() };
            let (whole, x, y) = runtime.block_on(async {
                let whole = node_pages(&a, sort, desc, 1000, &filter).await;
                (whole, node_pages(&a, sort, desc, limit, &filter).await, node_pages(&b, sort, desc, limit, &filter).await)
            });
            let expected = match maintenance {
                None => NODES,
                Some(true) => NODES.div_ceil(2),
                Some(false) => NODES / 2,
            };
            prop_assert_eq!(whole.len(), expected);
            prop_assert_eq!(&x, &whole);
            prop_assert_eq!(&y, &whole);
            Ok(())
        })
        .unwrap();
    let strategy = (proptest::sample::select(PortSort::ALL), any::<bool>(), 1u32..60);
    runner
        .run(&strategy, |(sort, desc, limit)| {
            let (whole, x, y) = runtime.block_on(async {
                (port_pages(&a, sort, desc, 1000).await, port_pages(&a, sort, desc, limit).await, port_pages(&b, sort, desc, limit).await)
            });
            prop_assert_eq!(whole.len(), NODES);
            prop_assert_eq!(&x, &whole);
            prop_assert_eq!(&y, &whole);
            Ok(())
        })
        .unwrap();
}

on_both! {
    async fn nulls_come_first_upwards_and_last_downwards(db: Database) {
        let s = db.open().await;
        fill(&s).await;
        for desc in [false, true] {
            let page = NodePage { sort: NodeSort::Description, desc, ..NodePage::all() };
            let mut got: Vec<(Option<String>, i64)> =
                s.node_list(&NodeFilter::default(), &page).await.unwrap().into_iter().map(|n| (n.spec.description, n.seq)).collect();
            if desc {
                got.reverse();
            }
            assert!(got.is_sorted(), "{got:?}");
            assert_eq!(got[0].0, None);
        }
    }

    async fn an_unknown_marker_is_not_found(db: Database) {
        let s = db.open().await;
        let page = NodePage { marker: Some(NodeId::random()), ..NodePage::first(1) };
        let e = s.node_list(&NodeFilter::default(), &page).await.unwrap_err();
        assert!(matches!(e, bessemer_db::DbError::NotFound { .. }), "{e:?}");
    }
}
