//! Tests over the statements as texts, and over the schema that they meet.

use std::collections::BTreeSet;

use bessemer_model::volume::{Connector, Target};

use crate::{
    engine::{Conn, Sql},
    open::OpenOptions,
    request_types::*,
    seal::SealKey,
    store::Store,
    types::*,
};

const MODULES: &[(&str, &[(&str, Sql)])] = &[
    ("agent", crate::agent::ALL),
    ("allocation", crate::allocation::ALL),
    ("boot_plan", crate::boot_plan::ALL),
    ("chassis", crate::chassis::ALL),
    ("claim", crate::claim::ALL),
    ("conductor", crate::conductor::ALL),
    ("deploy_template", crate::deploy_template::ALL),
    ("event", crate::event::ALL),
    ("firmware", crate::firmware::ALL),
    ("flow", crate::flow::ALL),
    ("flow_row", crate::flow_row::ALL),
    ("history", crate::history::ALL),
    ("inventory", crate::inventory::ALL),
    ("lease", crate::lease::ALL),
    ("node", crate::node::ALL),
    ("notify", crate::notify::ALL),
    ("port", crate::port::ALL),
    ("portgroup", crate::portgroup::ALL),
    ("rule", crate::rule::ALL),
    ("runbook", crate::runbook::ALL),
    ("portgroup", crate::portgroup::ALL),
    ("secret", crate::secret::ALL),
    ("store", crate::store::ALL),
    ("volume", crate::volume::ALL),
];

async fn both() -> [Store; 2] {
    let options = || OpenOptions::new(SealKey::random());
    let pg = Store::open(&bessemer_lab::postgres::database().unwrap(), options()).await.unwrap();
    let lite = Store::open("sqlite::memory:", options()).await.unwrap();
    pg.migrate().await.unwrap();
    lite.migrate().await.unwrap();
    [lite, pg]
}

#[tokio::test]
async fn every_statement_prepares_on_both_engines() {
    for s in both().await {
        for (module, statements) in MODULES {
            for (name, sql) in *statements {
                let r = s.read(move |c: &mut Conn| Box::pin(c.prepare(*sql))).await;
                assert!(r.is_ok(), "{module}::{name} on {s:?}: {r:?}");
            }
        }
    }
}

#[test]
fn every_module_with_statements_is_in_the_list() {
    let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let with: BTreeSet<String> = std::fs::read_dir(src)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_file() && std::fs::read_to_string(p).unwrap().contains("\nstatements! {"))
        .map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(with, MODULES.iter().map(|(n, _)| (*n).to_owned()).collect());
}

async fn every_volume_key<D: crate::VolumeDetail>(s: &Store) {
    for sort in D::SORTS {
        let page = VolumePage { sort: *sort, ..VolumePage::all() };
        assert!(s.volume_list::<D>(&VolumeFilter::default(), &page).await.is_ok(), "{sort:?}");
    }
}

#[tokio::test]
async fn every_sort_key_pages_on_both_engines() {
    use bessemer_model::interface::InterfaceKind;
    for s in both().await {
        let mut keys: Vec<NodeSort> = InterfaceKind::ALL.iter().map(|k| NodeSort::Interface(*k)).collect();
        keys.extend(NodeSort::PLAIN);
        for sort in keys {
            for desc in [false, true] {
                let page = NodePage { sort, desc, ..NodePage::all() };
                assert!(s.node_list(&NodeFilter::default(), &page).await.is_ok(), "{sort:?}");
            }
        }
        for sort in PortSort::ALL {
            let page = PortPage { sort: *sort, ..PortPage::all() };
            assert!(s.port_list(&PortFilter::default(), &page).await.is_ok(), "{sort:?}");
        }
        for sort in AllocationSort::ALL {
            let page = AllocationPage { sort: *sort, ..AllocationPage::all() };
            assert!(s.allocation_list(&AllocationFilter::default(), &page).await.is_ok(), "{sort:?}");
        }
        every_volume_key::<Connector>(&s).await;
        every_volume_key::<Target>(&s).await;
        every_record_key::<bessemer_model::deploy_template::DeployTemplate>(&s, &(), DeployTemplateSort::ALL).await;
        every_record_key::<bessemer_model::runbook::Runbook>(&s, &Some("p".into()), RunbookSort::ALL).await;
        every_record_key::<bessemer_model::inspection_rule::InspectionRule>(&s, &(), RuleSort::ALL).await;
        for sort in crate::PortgroupSort::ALL {
            let page = crate::PortgroupPage { sort: *sort, ..crate::PortgroupPage::all() };
            assert!(s.portgroup_list(&crate::PortgroupFilter::default(), &page).await.is_ok(), "{sort:?}");
        }
        for sort in crate::ChassisSort::ALL {
            let page = crate::ChassisPage { sort: *sort, ..crate::ChassisPage::all() };
            assert!(s.chassis_list(&page).await.is_ok(), "{sort:?}");
        }
    }
}

async fn every_record_key<R: crate::Record>(s: &Store, filter: &R::Filter, keys: &[R::Sort]) {
    for sort in keys {
        for desc in [false, true] {
            let page = Page { limit: 5, marker: None, sort: *sort, desc };
            assert!(s.record_list::<R>(filter, &page).await.is_ok());
        }
    }
}

/// (table, column, type family, nullable) of everything.
async fn columns(s: &Store) -> BTreeSet<(String, String, &'static str, bool)> {
    const COLUMNS: Sql = Sql {
        sqlite: "SELECT m.name, p.name, lower(p.type), CAST(p.\"notnull\" = 0 AND p.pk = 0 AS BIGINT) FROM sqlite_schema m \
                 JOIN pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name NOT LIKE '%sqlx%'",
        postgres: "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CAST(data_type AS TEXT), \
                   CAST(CASE is_nullable WHEN 'YES' THEN 1 ELSE 0 END AS BIGINT) FROM information_schema.columns \
                   WHERE table_schema = 'public' AND table_name NOT LIKE '%sqlx%'",
    };
    let rows = s.fetch(COLUMNS, vec![]).await.unwrap();
    rows.iter()
        .map(|r| {
            let c = &mut r.cols();
            let (table, column, kind) = (c.text().unwrap(), c.text().unwrap(), c.text().unwrap());
            let family = match kind.as_str() {
                "integer" | "bigint" | "xid8" => "int",
                "text" => "text",
                "boolean" => "bool",
                "blob" | "bytea" => "bytes",
                "double precision" => "float",
                other => panic!("{table}.{column}: {other}"),
            };
            (table, column, family, c.int().unwrap() == 1)
        })
        .collect()
}

/// Names of the indexes that were given one.
async fn indexes(s: &Store) -> BTreeSet<String> {
    const INDEXES: Sql = Sql {
        sqlite: "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND name NOT LIKE '%sqlx%'",
        postgres: "SELECT CAST(indexname AS TEXT) FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%\\_key' \
                   AND indexname NOT LIKE '%\\_pkey'",
    };
    s.fetch(INDEXES, vec![]).await.unwrap().iter().map(|r| r.cols().text().unwrap()).collect()
}

#[tokio::test]
async fn migrations_from_empty_give_the_same_columns_and_indexes() {
    let [lite, pg] = both().await;
    let (a, b) = (columns(&lite).await, columns(&pg).await);
    assert!(a.len() > 100, "{}", a.len());
    assert_eq!(a.difference(&b).collect::<Vec<_>>(), Vec::<&_>::new(), "only in SQLite");
    assert_eq!(b.difference(&a).collect::<Vec<_>>(), Vec::<&_>::new(), "only in PostgreSQL");
    assert_eq!(indexes(&lite).await, indexes(&pg).await);
    // Migrating again finds nothing to do.
    lite.migrate().await.unwrap();
    pg.migrate().await.unwrap();
}

#[test]
fn migrations_have_the_same_numbers_and_names_in_both_folders_and_in_the_program() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let names = |engine: &str| -> BTreeSet<String> {
        std::fs::read_dir(root.join(engine)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    };
    let inside: BTreeSet<String> = crate::migrate::MIGRATIONS
        .iter()
        .map(|(n, name, _)| {
            assert!(name.starts_with(&format!("{n:04}_")), "{name}");
            format!("{name}.sql")
        })
        .collect();
    assert_eq!(names("sqlite"), inside);
    assert_eq!(names("postgres"), inside);
}
