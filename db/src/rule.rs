//! Inspection rules (`api.md` section 13).

use bessemer_model::{clock::Timestamp, ids::RuleId, inspection_rule::InspectionRule};

use crate::{
    engine::{
        Arg, Row, Sql,
        row::to_json,
        sql::{args, statements},
    },
    error::{Entity, Result},
    page::{Key, Listing},
    record::{Stored, Table},
    store::Store,
    types::RuleSort,
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT seq, id, revision, created_at, updated_at, priority, description, phase, sensitive, conditions, actions \
             FROM inspection_rules ",
            $rest
        )
    };
}

statements! {
    BY_ID = Sql::same(select!("WHERE id = $1"));
    OF_PHASE = Sql::same(select!("WHERE phase = $1 ORDER BY priority DESC, seq"));
    INSERT = Sql::same(
        "INSERT INTO inspection_rules (id, created_at, priority, description, phase, sensitive, conditions, actions) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    );
    UPDATE = Sql::same(
        "UPDATE inspection_rules SET (updated_at, priority, description, phase, sensitive, conditions, actions, revision) = \
         ($2, $3, $4, $5, $6, $7, $8, revision + 1) WHERE id = $1 AND revision = $9",
    );
    DELETE = Sql::same("DELETE FROM inspection_rules WHERE id = $1");
}

impl Stored for InspectionRule {
    type Id = RuleId;
    type Sort = RuleSort;
    type Filter = ();
    const TABLE: Table = Table {
        listing: Listing { what: Entity::InspectionRule, from_id: " FROM inspection_rules WHERE id = ", seq: "seq" },
        select: select!(""),
        by_id: BY_ID,
        by_name: None,
        insert: INSERT,
        update: UPDATE,
        delete: DELETE,
    };
    fn id(&self) -> RuleId {
        self.id
    }
    fn revision(&self) -> i64 {
        self.revision
    }
    fn name(&self) -> &'static str {
        ""
    }
    fn columns(&self) -> Result<Vec<Arg>> {
        Ok(args![
            self.priority,
            &self.description,
            &self.phase,
            self.sensitive,
            to_json("conditions", &self.conditions)?,
            to_json("actions", &self.actions)?,
        ])
    }
    fn from_row(row: &Row) -> Result<Self> {
        let c = &mut row.cols();
        Ok(Self {
            seq: c.int()?,
            id: c.parsed("rule id")?,
            revision: c.int()?,
            created_at: c.time()?,
            updated_at: c.opt_time()?,
            priority: c.int()?,
            description: c.opt_text()?,
            phase: c.opt_text()?,
            sensitive: c.bool()?,
            conditions: c.json("conditions")?,
            actions: c.json("actions")?,
        })
    }
    fn stamp(&self, old: &Self, now: Timestamp) -> Option<Timestamp> {
        let own = |r: &Self| (r.priority, r.description.clone(), r.phase.clone(), r.sensitive, r.conditions.clone(), r.actions.clone());
        if own(self) == own(old) { old.updated_at } else { Some(now) }
    }
    fn key(sort: RuleSort) -> Key {
        use RuleSort as S;
        match sort {
            S::Created => Key::CREATED,
            S::Uuid => Key::text("id"),
            S::Priority => Key::int("priority"),
            S::Description => Key::text("description"),
            S::Phase => Key::text("phase"),
            S::Sensitive => Key::bool("sensitive"),
            S::CreatedAt => Key::int("created_at"),
            S::UpdatedAt => Key::int("updated_at"),
        }
    }
}

impl Store {
    /// The rules of a phase, in the order in which they are applied.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn rules_of_phase(&self, phase: &str) -> Result<Vec<InspectionRule>> {
        self.fetch(OF_PHASE, args![phase]).await?.iter().map(InspectionRule::from_row).collect()
    }
}
