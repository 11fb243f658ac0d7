//! Runbooks (`api.md` section 12).

use bessemer_model::{clock::Timestamp, ids::RunbookId, runbook::Runbook};

use crate::{
    engine::{
        Arg, Build, Row, Sql,
        row::{map_text, to_json},
        sql::{args, statements},
    },
    error::{Entity, Result},
    page::{Key, Listing},
    record::{Stored, Table},
    types::RunbookSort,
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT seq, id, revision, created_at, updated_at, name, description, public, owner, disable_ramdisk, extra, steps, traits \
             FROM runbooks ",
            $rest
        )
    };
}

statements! {
    BY_ID = Sql::same(select!("WHERE id = $1"));
    BY_NAME = Sql::same(select!("WHERE name = $1"));
    INSERT = Sql::same(
        "INSERT INTO runbooks (id, created_at, name, description, public, owner, disable_ramdisk, extra, steps, traits) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    );
    UPDATE = Sql::same(
        "UPDATE runbooks SET (updated_at, name, description, public, owner, disable_ramdisk, extra, steps, traits, revision) = \
         ($2, $3, $4, $5, $6, $7, $8, $9, $10, revision + 1) WHERE id = $1 AND revision = $11",
    );
    DELETE = Sql::same("DELETE FROM runbooks WHERE id = $1");
}

impl Stored for Runbook {
    type Id = RunbookId;
    type Sort = RunbookSort;
    type Filter = Option<String>;
    const TABLE: Table = Table {
        listing: Listing { what: Entity::Runbook, from_id: " FROM runbooks WHERE id = ", seq: "seq" },
        select: select!(""),
        by_id: BY_ID,
        by_name: Some(BY_NAME),
        insert: INSERT,
        update: UPDATE,
        delete: DELETE,
    };
    fn id(&self) -> RunbookId {
        self.id
    }
    fn revision(&self) -> i64 {
        self.revision
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn columns(&self) -> Result<Vec<Arg>> {
        Ok(args![
            &self.name,
            &self.description,
            self.public,
            &self.owner,
            self.disable_ramdisk,
            map_text(&self.extra),
            to_json("steps", &self.steps)?,
            to_json("traits", &self.traits)?,
        ])
    }
    fn from_row(row: &Row) -> Result<Self> {
        let c = &mut row.cols();
        Ok(Self {
            seq: c.int()?,
            id: c.parsed("runbook id")?,
            revision: c.int()?,
            created_at: c.time()?,
            updated_at: c.opt_time()?,
            name: c.text()?,
            description: c.opt_text()?,
            public: c.bool()?,
            owner: c.opt_text()?,
            disable_ramdisk: c.bool()?,
            extra: c.map("extra")?,
            steps: c.json("steps")?,
            traits: c.json("traits")?,
        })
    }
    fn stamp(&self, old: &Self, now: Timestamp) -> Option<Timestamp> {
        let own = |r: &Self| (r.name.clone(), r.description.clone(), r.public, r.owner.clone(), r.disable_ramdisk, r.extra.clone());
        if own(self) == own(old) { old.updated_at } else { Some(now) }
    }
    fn key(sort: RunbookSort) -> Key {
        use RunbookSort as S;
        match sort {
            S::Created => Key::CREATED,
            S::Uuid => Key::text("id"),
            S::Name => Key::text("name"),
            S::Description => Key::text("description"),
            S::Public => Key::bool("public"),
            S::Owner => Key::text("owner"),
            S::DisableRamdisk => Key::bool("disable_ramdisk"),
            S::CreatedAt => Key::int("created_at"),
            S::UpdatedAt => Key::int("updated_at"),
        }
    }
    /// What a project sees: its own and the public ones.
    fn push_filter(b: &mut Build, project: &Option<String>) {
        if let Some(p) = project {
            b.push(" AND (public OR owner = ").bind(p).push(")");
        }
    }
}
