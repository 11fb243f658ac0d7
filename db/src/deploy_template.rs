//! Deploy templates (`api.md` section 11).

use bessemer_model::{clock::Timestamp, deploy_template::DeployTemplate, ids::DeployTemplateId};

use crate::{
    engine::{
        Arg, Row, Sql,
        row::{map_text, to_json},
        sql::{args, statements},
    },
    error::{Entity, Result},
    page::{Key, Listing},
    record::{Stored, Table},
    store::Store,
    types::DeployTemplateSort,
};

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT seq, id, revision, created_at, updated_at, name, extra, steps FROM deploy_templates ", $rest)
    };
}

statements! {
    BY_ID = Sql::same(select!("WHERE id = $1"));
    BY_NAME = Sql::same(select!("WHERE name = $1"));
    INSERT = Sql::same("INSERT INTO deploy_templates (id, created_at, name, extra, steps) VALUES ($1, $2, $3, $4, $5)");
    UPDATE = Sql::same(
        "UPDATE deploy_templates SET (updated_at, name, extra, steps, revision) = ($2, $3, $4, $5, revision + 1) \
         WHERE id = $1 AND revision = $6",
    );
    DELETE = Sql::same("DELETE FROM deploy_templates WHERE id = $1");
}

impl Stored for DeployTemplate {
    type Id = DeployTemplateId;
    type Sort = DeployTemplateSort;
    type Filter = ();
    const TABLE: Table = Table {
        listing: Listing { what: Entity::DeployTemplate, from_id: " FROM deploy_templates WHERE id = ", seq: "seq" },
        select: select!(""),
        by_id: BY_ID,
        by_name: Some(BY_NAME),
        insert: INSERT,
        update: UPDATE,
        delete: DELETE,
    };
    fn id(&self) -> DeployTemplateId {
        self.id
    }
    fn revision(&self) -> i64 {
        self.revision
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn columns(&self) -> Result<Vec<Arg>> {
        Ok(args![&self.name, map_text(&self.extra), to_json("steps", &self.steps)?])
    }
    fn from_row(row: &Row) -> Result<Self> {
        let c = &mut row.cols();
        Ok(Self {
            seq: c.int()?,
            id: c.parsed("template id")?,
            revision: c.int()?,
            created_at: c.time()?,
            updated_at: c.opt_time()?,
            name: c.text()?,
            extra: c.map("extra")?,
            steps: c.json("steps")?,
        })
    }
    fn stamp(&self, old: &Self, now: Timestamp) -> Option<Timestamp> {
        let same = (&self.name, &self.extra) == (&old.name, &old.extra);
        if same { old.updated_at } else { Some(now) }
    }
    fn key(sort: DeployTemplateSort) -> Key {
        use DeployTemplateSort as S;
        match sort {
            S::Created => Key::CREATED,
            S::Uuid => Key::text("id"),
            S::Name => Key::text("name"),
            S::CreatedAt => Key::int("created_at"),
            S::UpdatedAt => Key::int("updated_at"),
        }
    }
}

impl Store {
    /// The templates of these names, in order of creation; unknown names are left out.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn deploy_templates_named(&self, names: &[String]) -> Result<Vec<DeployTemplate>> {
        let mut b = self.build(select!(""));
        b.push("WHERE name").in_set(names);
        b.push(" ORDER BY seq");
        self.read(move |c| Box::pin(async move { c.rows_built(b).await?.iter().map(DeployTemplate::from_row).collect() })).await
    }
}
