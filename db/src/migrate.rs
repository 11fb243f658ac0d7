//! The migrations, inside the program. Forward only; the same numbers and names for both engines.

use std::borrow::Cow;

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::engine::{Engine, Sql};

macro_rules! migrations {
    ($($number:literal $name:literal;)*) => {
        pub(crate) const MIGRATIONS: &[(i64, &str, Sql)] = &[$((
            $number,
            $name,
            Sql {
                sqlite: include_str!(concat!("../../migrations/sqlite/", $name, ".sql")),
                postgres: include_str!(concat!("../../migrations/postgres/", $name, ".sql")),
            },
        ),)*];
    };
}

migrations! {
    1 "0001_foundation";
    2 "0002_groups";
    3 "0003_volumes_allocations";
    4 "0004_templates_rules";
    5 "0005_devices";
}

/// The migrations of an engine.
pub(crate) fn migrator(engine: Engine) -> Migrator {
    Migrator::with_migrations(
        MIGRATIONS
            .iter()
            .map(|(n, name, sql)| {
                Migration::new(*n, Cow::Borrowed(*name), MigrationType::Simple, SqlStr::from_static(sql.of(engine)), false)
            })
            .collect(),
    )
}
