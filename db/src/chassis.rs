//! Chassis (`api.md` section 6).

use bessemer_model::{chassis::Chassis, ids::ChassisId};

use crate::{
    engine::{
        Build, Conn, Row, Sql,
        row::map_text,
        sql::{args, statements},
    },
    error::{DbError, Entity, Result},
    page::{Key, Listing},
    store::Store,
    types::Page,
};

/// A page of chassis.
pub type ChassisPage = Page<ChassisId, ChassisSort>;

/// Columns that chassis can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the fields")]
pub enum ChassisSort {
    /// Order of creation (`id`).
    #[default]
    Created,
    Uuid,
    Description,
    CreatedAt,
    UpdatedAt,
}

impl ChassisSort {
    /// Every key.
    pub const ALL: &'static [Self] = &[Self::Created, Self::Uuid, Self::Description, Self::CreatedAt, Self::UpdatedAt];
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT c.seq, c.id, c.revision, c.created_at, c.updated_at, c.description, c.extra FROM chassis c ", $rest)
    };
}

statements! {
    INSERT = Sql::same("INSERT INTO chassis (id, created_at, description, extra) VALUES ($1, $2, $3, $4)");
    UPDATE = Sql::same(
        "UPDATE chassis SET description = $3, extra = $4, updated_at = $2, revision = revision + 1 WHERE id = $1 AND revision = $5",
    );
    DELETE = Sql::same("DELETE FROM chassis WHERE id = $1");
    BY_ID = Sql::same(select!("WHERE c.id = $1"));
}

const CHASSIS: Listing = Listing { what: Entity::Chassis, from_id: " FROM chassis c WHERE c.id = ", seq: "c.seq" };

const fn key(sort: ChassisSort) -> Key {
    match sort {
        ChassisSort::Created => Key::CREATED,
        ChassisSort::Uuid => Key::text("c.id"),
        ChassisSort::Description => Key::text("c.description"),
        ChassisSort::CreatedAt => Key::int("c.created_at"),
        ChassisSort::UpdatedAt => Key::int("c.updated_at"),
    }
}

impl Store {
    /// Creates a chassis; `seq`, `revision` and the times of `chassis` are not looked at.
    ///
    /// # Errors
    /// [`DbError::Duplicate`] when its UUID is taken.
    pub async fn chassis_create(&self, chassis: Chassis) -> Result<Chassis> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                let a = args![chassis.id, now, &chassis.description, map_text(&chassis.extra)];
                c.execute(INSERT, a).await.map_err(|e| e.about(chassis.id))?;
                by_id(c, chassis.id).await
            })
        })
        .await
    }

    /// A chassis.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn chassis_get(&self, id: ChassisId) -> Result<Chassis> {
        self.read(move |c| Box::pin(by_id(c, id))).await
    }

    /// A page of chassis.
    ///
    /// # Errors
    /// [`DbError::NotFound`] for an unknown marker.
    pub async fn chassis_list(&self, page: &ChassisPage) -> Result<Vec<Chassis>> {
        let page = page.clone();
        self.read_many(move |c| {
            Box::pin(async move {
                let b = Build::new(c.engine(), select!("WHERE 1 = 1"));
                CHASSIS.rows(c, b, key(page.sort), &page).await?.iter().map(chassis_from).collect()
            })
        })
        .await
    }

    /// Writes a chassis if it is still at `revision`.
    ///
    /// # Errors
    /// [`DbError::RevisionLost`], [`DbError::NotFound`].
    pub async fn chassis_update(&self, chassis: Chassis, revision: i64) -> Result<Chassis> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                let a = args![chassis.id, now, &chassis.description, map_text(&chassis.extra), revision];
                let touched = c.execute(UPDATE, a).await?;
                let there = by_id(c, chassis.id).await?;
                if touched == 0 { Err(DbError::revision_lost(Entity::Chassis, there.id)) } else { Ok(there) }
            })
        })
        .await
    }

    /// Deletes a chassis.
    ///
    /// # Errors
    /// [`DbError::NotFound`]; [`DbError::NotEmpty`] while nodes stand in it.
    pub async fn chassis_delete(&self, id: ChassisId) -> Result<()> {
        let deleted = self.execute(DELETE, args![id]).await.map_err(|e| match e {
            // The only reference to a chassis is a node's.
            DbError::NotFound { .. } => DbError::NotEmpty { what: Entity::Chassis, ident: id.to_string() },
            other => other,
        })?;
        if deleted == 0 { Err(DbError::not_found(Entity::Chassis, id)) } else { Ok(()) }
    }
}

fn chassis_from(row: &Row) -> Result<Chassis> {
    let c = &mut row.cols();
    Ok(Chassis {
        seq: c.int()?,
        id: c.parsed("chassis id")?,
        revision: c.int()?,
        created_at: c.time()?,
        updated_at: c.opt_time()?,
        description: c.opt_text()?,
        extra: c.map("extra")?,
    })
}

async fn by_id(c: &mut Conn, id: ChassisId) -> Result<Chassis> {
    c.row(BY_ID, args![id]).await?.map(|r| chassis_from(&r)).ok_or_else(|| DbError::not_found(Entity::Chassis, id))?
}
