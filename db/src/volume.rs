//! Volume connectors and targets (`api.md` section 10): one set of methods over two tables.

use bessemer_model::{
    JsonMap,
    clock::Timestamp,
    ids::{NodeId, VolumeId},
    volume::{Connector, Target, Volume, VolumeTarget},
};

use crate::{
    driver_secrets,
    engine::{
        Arg, Build, Cols, Conn, Row, Sql,
        row::{from_json, map_text, to_json},
        sql::{args, statements},
    },
    error::{DbError, Entity, Result, Unique},
    page::{Key, Listing},
    request_types::{VolumeFilter, VolumePage, VolumeSort},
    seal::SealKey,
    store::Store,
};

macro_rules! select {
    ($table:literal, $columns:literal, $rest:literal) => {
        concat!("SELECT v.seq, v.id, v.revision, v.created_at, v.updated_at, v.node, v.extra, ", $columns, " FROM ", $table, " v ", $rest)
    };
}
macro_rules! connectors {
    ($rest:literal) => {
        select!("volume_connectors", "v.type, v.connector_id", $rest)
    };
}
macro_rules! targets {
    ($rest:literal) => {
        select!("volume_targets", "v.volume_type, v.volume_id, v.boot_index, v.properties", $rest)
    };
}

statements! {
    CONNECTOR_INSERT = Sql::same(
        "INSERT INTO volume_connectors (id, created_at, node, extra, type, connector_id) VALUES ($1, $2, $3, $4, $5, $6)",
    );
    CONNECTOR_UPDATE = Sql::same(
        "UPDATE volume_connectors SET (updated_at, node, extra, type, connector_id, revision) = ($2, $3, $4, $5, $6, revision + 1) \
         WHERE id = $1 AND revision = $7",
    );
    CONNECTOR_BY_ID = Sql::same(connectors!("WHERE v.id = $1"));
    CONNECTOR_LIST = Sql::same(connectors!("WHERE 1 = 1"));
    CONNECTOR_DELETE = Sql::same("DELETE FROM volume_connectors WHERE id = $1");
    TARGET_INSERT = Sql::same(
        "INSERT INTO volume_targets (id, created_at, node, extra, volume_type, volume_id, boot_index, properties, secrets) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    );
    TARGET_UPDATE = Sql::same(
        "UPDATE volume_targets SET (updated_at, node, extra, volume_type, volume_id, boot_index, properties, secrets, revision) = \
         ($2, $3, $4, $5, $6, $7, $8, $9, revision + 1) WHERE id = $1 AND revision = $10",
    );
    TARGET_BY_ID = Sql::same(targets!("WHERE v.id = $1"));
    TARGET_LIST = Sql::same(targets!("WHERE 1 = 1"));
    TARGET_DELETE = Sql::same("DELETE FROM volume_targets WHERE id = $1");
    TARGET_SECRETS = Sql::same("SELECT node, secrets FROM volume_targets WHERE id = $1");
}

/// What differs between the two tables.
pub(crate) struct Table {
    what: Entity,
    insert: Sql,
    update: Sql,
    by_id: Sql,
    list: Sql,
    delete: Sql,
    listing: Listing,
}

/// A kind of [`Volume`]: [`Connector`] or [`Target`].
#[allow(private_interfaces, reason = "the parts that speak SQL are for the two kinds of this module only")]
pub trait VolumeDetail: Clone + Send + Sync + 'static {
    /// Columns that the kind can be sorted by.
    const SORTS: &'static [VolumeSort];
    #[doc(hidden)]
    const TABLE: Table;
    /// The kind's own columns, for a row of this id and node. `old` are the secrets that it had.
    #[doc(hidden)]
    fn args(&self, key: &SealKey, id: VolumeId, node: NodeId, old: &JsonMap) -> Result<Vec<Arg>>;
    #[doc(hidden)]
    fn from_cols(c: &mut Cols<'_>) -> Result<Self>;
    /// Whether the secrets that the row had are needed to write it.
    #[doc(hidden)]
    fn keeps_secrets(&self) -> bool;
    /// The value that a unique column would have held.
    #[doc(hidden)]
    fn value(&self, of: Unique) -> Option<String>;
}

#[allow(private_interfaces, reason = "as for the trait")]
impl VolumeDetail for Connector {
    const SORTS: &'static [VolumeSort] = {
        use VolumeSort as S;
        &[S::Created, S::Uuid, S::CreatedAt, S::UpdatedAt, S::Type, S::ConnectorId]
    };
    const TABLE: Table = Table {
        what: Entity::VolumeConnector,
        insert: CONNECTOR_INSERT,
        update: CONNECTOR_UPDATE,
        by_id: CONNECTOR_BY_ID,
        list: CONNECTOR_LIST,
        delete: CONNECTOR_DELETE,
        listing: Listing { what: Entity::VolumeConnector, from_id: " FROM volume_connectors v WHERE v.id = ", seq: "v.seq" },
    };
    fn args(&self, _: &SealKey, _: VolumeId, _: NodeId, _: &JsonMap) -> Result<Vec<Arg>> {
        Ok(args![&self.kind, &self.connector_id])
    }
    fn from_cols(c: &mut Cols<'_>) -> Result<Self> {
        Ok(Self { kind: c.text()?, connector_id: c.text()? })
    }
    fn keeps_secrets(&self) -> bool {
        false
    }
    fn value(&self, of: Unique) -> Option<String> {
        (of == Unique::VolumeConnector).then(|| format!("{} and connector ID {}", self.kind, self.connector_id))
    }
}

#[allow(private_interfaces, reason = "as for the trait")]
impl VolumeDetail for Target {
    const SORTS: &'static [VolumeSort] = {
        use VolumeSort as S;
        &[S::Created, S::Uuid, S::CreatedAt, S::UpdatedAt, S::VolumeType, S::VolumeId, S::BootIndex]
    };
    const TABLE: Table = Table {
        what: Entity::VolumeTarget,
        insert: TARGET_INSERT,
        update: TARGET_UPDATE,
        by_id: TARGET_BY_ID,
        list: TARGET_LIST,
        delete: TARGET_DELETE,
        listing: Listing { what: Entity::VolumeTarget, from_id: " FROM volume_targets v WHERE v.id = ", seq: "v.seq" },
    };
    fn args(&self, key: &SealKey, id: VolumeId, node: NodeId, old: &JsonMap) -> Result<Vec<Arg>> {
        let (masked, secrets) = driver_secrets::split(&self.properties, old);
        let sealed = if secrets.is_empty() {
            Vec::new()
        } else {
            let plain = zeroize::Zeroizing::new(to_json("properties", &secrets)?);
            key.seal(node, &seal_kind(id), plain.as_bytes())?
        };
        Ok(args![&self.volume_type, &self.volume_id, self.boot_index, map_text(&masked), sealed])
    }
    fn from_cols(c: &mut Cols<'_>) -> Result<Self> {
        Ok(Self { volume_type: c.text()?, volume_id: c.text()?, boot_index: c.int()?, properties: c.map("properties")? })
    }
    fn keeps_secrets(&self) -> bool {
        driver_secrets::holds_mask(&self.properties)
    }
    fn value(&self, of: Unique) -> Option<String> {
        (of == Unique::VolumeTargetIndex).then(|| self.boot_index.to_string())
    }
}

/// What the secrets of a target are bound to, beside its node.
fn seal_kind(id: VolumeId) -> String {
    format!("volume_target/{id}")
}

const fn key(sort: VolumeSort) -> Key {
    use VolumeSort as S;
    match sort {
        S::Created => Key::CREATED,
        S::Uuid => Key::text("v.id"),
        S::CreatedAt => Key::int("v.created_at"),
        S::UpdatedAt => Key::int("v.updated_at"),
        S::Type => Key::text("v.type"),
        S::ConnectorId => Key::text("v.connector_id"),
        S::VolumeType => Key::text("v.volume_type"),
        S::VolumeId => Key::text("v.volume_id"),
        S::BootIndex => Key::int("v.boot_index"),
    }
}

impl Store {
    /// Creates a volume connector or target; `seq`, `revision` and the times of `volume` are not looked at.
    ///
    /// # Errors
    /// [`DbError::Duplicate`]; [`DbError::NotFound`] without its node.
    pub async fn volume_create<D: VolumeDetail>(&self, volume: Volume<D>) -> Result<Volume<D>> {
        let (key, now) = (self.key(), self.now());
        self.write(move |c| {
            Box::pin(async move {
                let mut a = row_args(&volume, now);
                a.extend(volume.detail.args(&key, volume.id, volume.node, &JsonMap::new())?);
                c.execute(D::TABLE.insert, a).await.map_err(|e| taken(e, &volume))?;
                by_id(c, volume.id).await
            })
        })
        .await
    }

    /// A volume connector or target, its secrets masked.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn volume_get<D: VolumeDetail>(&self, id: VolumeId) -> Result<Volume<D>> {
        self.read(move |c| Box::pin(by_id(c, id))).await
    }

    /// A volume target with its secrets in clear; for those who attach volumes.
    ///
    /// # Errors
    /// [`DbError::NotFound`], [`DbError::Unsealable`].
    pub async fn volume_target_with_secrets(&self, id: VolumeId) -> Result<VolumeTarget> {
        let key = self.key();
        self.read(move |c| {
            Box::pin(async move {
                let mut t: VolumeTarget = by_id(c, id).await?;
                if t.detail.keeps_secrets() {
                    let secrets = secrets_of(c, &key, id).await?;
                    driver_secrets::join(&mut t.detail.properties, secrets);
                }
                Ok(t)
            })
        })
        .await
    }

    /// A page of volume connectors or targets.
    ///
    /// # Errors
    /// [`DbError::NotFound`] for an unknown marker.
    pub async fn volume_list<D: VolumeDetail>(&self, filter: &VolumeFilter, page: &VolumePage) -> Result<Vec<Volume<D>>> {
        let (VolumeFilter { node, project }, page) = (filter.clone(), page.clone());
        self.read_many(move |c| {
            Box::pin(async move {
                let (key, table) = (key(page.sort), D::TABLE);
                let mut b = Build::new(c.engine(), "");
                b.push_sql(table.list);
                if let Some(n) = node {
                    b.push(" AND v.node = ").bind(n);
                }
                if let Some(p) = project {
                    b.push(" AND EXISTS (SELECT 1 FROM nodes n WHERE n.id = v.node AND (n.owner = ").bind(p.clone());
                    b.push(" OR n.lessee = ").bind(p).push("))");
                }
                table.listing.rows(c, b, key, &page).await?.iter().map(volume_from).collect()
            })
        })
        .await
    }

    /// Writes a volume connector or target if it is still at the revision that it was read at. Secrets that are masked stay as they are.
    ///
    /// # Errors
    /// [`DbError::RevisionLost`], [`DbError::NotFound`], [`DbError::Duplicate`].
    pub async fn volume_update<D: VolumeDetail>(&self, volume: Volume<D>) -> Result<Volume<D>> {
        let (key, now) = (self.key(), self.now());
        self.write(move |c| {
            Box::pin(async move {
                let old = if volume.detail.keeps_secrets() { secrets_of(c, &key, volume.id).await? } else { JsonMap::new() };
                let mut a = row_args(&volume, now);
                a.extend(volume.detail.args(&key, volume.id, volume.node, &old)?);
                a.push(volume.revision.into());
                if c.execute(D::TABLE.update, a).await.map_err(|e| taken(e, &volume))? == 0 {
                    let there: Volume<D> = by_id(c, volume.id).await?;
                    return Err(DbError::RevisionLost { node: there.node.to_string() });
                }
                by_id(c, volume.id).await
            })
        })
        .await
    }

    /// Deletes a volume connector or target.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn volume_delete<D: VolumeDetail>(&self, id: VolumeId) -> Result<()> {
        if self.execute(D::TABLE.delete, args![id]).await? == 0 {
            return Err(DbError::not_found(D::TABLE.what, id));
        }
        Ok(())
    }
}

fn row_args<D>(v: &Volume<D>, now: Timestamp) -> Vec<Arg> {
    args![v.id, now, v.node, map_text(&v.extra)]
}

fn volume_from<D: VolumeDetail>(row: &Row) -> Result<Volume<D>> {
    let c = &mut row.cols();
    Ok(Volume {
        seq: c.int()?,
        id: c.parsed("volume id")?,
        revision: c.int()?,
        created_at: c.time()?,
        updated_at: c.opt_time()?,
        node: c.parsed("node id")?,
        extra: c.map("extra")?,
        detail: D::from_cols(c)?,
    })
}

async fn by_id<D: VolumeDetail>(c: &mut Conn, id: VolumeId) -> Result<Volume<D>> {
    c.row(D::TABLE.by_id, args![id]).await?.map(|r| volume_from(&r)).ok_or_else(|| DbError::not_found(D::TABLE.what, id))?
}

/// The secrets of a target by pointer; empty when it has none or does not exist.
async fn secrets_of(c: &mut Conn, key: &SealKey, id: VolumeId) -> Result<JsonMap> {
    let Some(row) = c.row(TARGET_SECRETS, args![id]).await? else { return Ok(JsonMap::new()) };
    let cols = &mut row.cols();
    let (node, sealed): (NodeId, _) = (cols.parsed("node id")?, cols.bytes()?);
    if sealed.is_empty() {
        return Ok(JsonMap::new());
    }
    let kind = seal_kind(id);
    let plain = key.unseal(node, &kind, &sealed)?;
    let text = std::str::from_utf8(&plain).map_err(|_| DbError::Unsealable { kind })?;
    from_json("properties", text)
}

fn taken<D: VolumeDetail>(e: DbError, v: &Volume<D>) -> DbError {
    e.about_node(v.node).taken(|u| v.detail.value(u).or_else(|| Some(v.id.to_string())))
}
