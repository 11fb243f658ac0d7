//! Port groups (`api.md` section 5), and what makes a port a member of one.

use bessemer_model::{
    clock::Timestamp,
    ids::{NodeId, PortgroupId},
    port::Port,
    portgroup::{Portgroup, admit},
};

use crate::{
    engine::{
        Arg, Build, Conn, Row, Sql,
        row::map_text,
        sql::{args, statements},
    },
    error::{DbError, Entity, Result, Unique},
    page::{Key, Listing},
    store::Store,
    types::Page,
};

/// A page of port groups.
pub type PortgroupPage = Page<PortgroupId, PortgroupSort>;

/// Columns that port groups can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the fields")]
pub enum PortgroupSort {
    /// Order of creation (`id`).
    #[default]
    Created,
    Uuid,
    Name,
    NodeUuid,
    Address,
    Mode,
    StandalonePortsSupported,
    PhysicalNetwork,
    Category,
    DynamicPortgroup,
    CreatedAt,
    UpdatedAt,
}

impl PortgroupSort {
    /// Every key.
    pub const ALL: &'static [Self] = &[
        Self::Created,
        Self::Uuid,
        Self::Name,
        Self::NodeUuid,
        Self::Address,
        Self::Mode,
        Self::StandalonePortsSupported,
        Self::PhysicalNetwork,
        Self::Category,
        Self::DynamicPortgroup,
        Self::CreatedAt,
        Self::UpdatedAt,
    ];
}

/// Conditions on port groups, all of which must hold.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "named after the query parameters")]
pub struct PortgroupFilter {
    pub node: Option<NodeId>,
    /// Normalised.
    pub address: Option<String>,
    /// Of the node; empty = any.
    pub shards: Vec<String>,
    /// Of the node; empty = any.
    pub conductor_groups: Vec<String>,
    /// Owner or lessee of the node.
    pub project: Option<String>,
}

macro_rules! columns {
    () => {
        "node, name, address, extra, internal_info, mode, properties, standalone_ports_supported, physical_network, category, \
         dynamic_portgroup"
    };
}
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT g.seq, g.id, g.revision, g.created_at, g.updated_at, g.node, g.name, g.address, g.extra, g.internal_info, g.mode, \
             g.properties, g.standalone_ports_supported, g.physical_network, g.category, g.dynamic_portgroup FROM portgroups g ",
            $rest
        )
    };
}

statements! {
    INSERT = Sql::same(concat!(
        "INSERT INTO portgroups (id, created_at, ", columns!(), ") \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    ));
    UPDATE = Sql::same(concat!(
        "UPDATE portgroups SET (", columns!(), ", updated_at, revision) = \
         ($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $2, revision + 1) WHERE id = $1 AND revision = $14",
    ));
    ADOPT = Sql::same("UPDATE portgroups SET physical_network = $2, updated_at = $3, revision = revision + 1 WHERE id = $1");
    SPREAD = Sql::same(
        "UPDATE ports SET physical_network = $2, updated_at = $3, revision = revision + 1 \
         WHERE portgroup = $1 AND physical_network IS DISTINCT FROM $2",
    );
    LOCK = Sql::same("UPDATE portgroups SET revision = revision WHERE id = $1");
    MEMBERS = Sql::same("SELECT count(*) FROM ports WHERE portgroup = $1");
    BESIDE = Sql::same("SELECT physical_network FROM ports WHERE portgroup = $1 AND id <> $2 ORDER BY seq LIMIT 1");
    DELETE = Sql::same("DELETE FROM portgroups WHERE id = $1");
    BY_ID = Sql::same(select!("WHERE g.id = $1"));
    BY_NAME = Sql::same(select!("WHERE g.name = $1"));
}

const PORTGROUPS: Listing = Listing { what: Entity::Portgroup, from_id: " FROM portgroups g WHERE g.id = ", seq: "g.seq" };

const fn key(sort: PortgroupSort) -> Key {
    use PortgroupSort as S;
    match sort {
        S::Created => Key::CREATED,
        S::Uuid => Key::text("g.id"),
        S::Name => Key::text("g.name"),
        S::NodeUuid => Key::text("g.node"),
        S::Address => Key::text("g.address"),
        S::Mode => Key::text("g.mode"),
        S::StandalonePortsSupported => Key::bool("g.standalone_ports_supported"),
        S::PhysicalNetwork => Key::text("g.physical_network"),
        S::Category => Key::text("g.category"),
        S::DynamicPortgroup => Key::bool("g.dynamic_portgroup"),
        S::CreatedAt => Key::int("g.created_at"),
        S::UpdatedAt => Key::int("g.updated_at"),
    }
}

impl Store {
    /// Creates a port group; `seq`, `revision` and the times of `group` are not looked at.
    ///
    /// # Errors
    /// [`DbError::Duplicate`] when its UUID, address or name is taken; [`DbError::NotFound`] without its node.
    pub async fn portgroup_create(&self, group: Portgroup) -> Result<Portgroup> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                c.execute(INSERT, group_args(&group, now)).await.map_err(|e| taken(e, &group))?;
                by_id(c, group.id).await
            })
        })
        .await
    }

    /// A port group by UUID or name.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn portgroup_get(&self, ident: &str) -> Result<Portgroup> {
        let row = match ident.parse::<PortgroupId>() {
            Ok(id) => self.fetch_one(BY_ID, args![id]).await?,
            Err(_) => self.fetch_one(BY_NAME, args![ident]).await?,
        };
        row.map(|r| group_from(&r)).ok_or_else(|| DbError::not_found(Entity::Portgroup, ident))?
    }

    /// A page of port groups.
    ///
    /// # Errors
    /// [`DbError::NotFound`] for an unknown marker.
    pub async fn portgroup_list(&self, filter: &PortgroupFilter, page: &PortgroupPage) -> Result<Vec<Portgroup>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read_many(move |c| {
            Box::pin(async move {
                let mut b = Build::new(c.engine(), select!(""));
                push_filter(&mut b, &filter);
                PORTGROUPS.rows(c, b, key(page.sort), &page).await?.iter().map(group_from).collect()
            })
        })
        .await
    }

    /// Writes a port group if it is still at `revision`; its members follow to another physical network.
    ///
    /// # Errors
    /// [`DbError::RevisionLost`], [`DbError::NotFound`], [`DbError::Duplicate`]; [`DbError::NotEmpty`] when a group with ports would
    /// go to another node.
    pub async fn portgroup_update(&self, group: Portgroup, revision: i64) -> Result<Portgroup> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                let old = locked(c, group.id).await?;
                if old.node != group.node {
                    refuse_members(c, group.id).await?;
                }
                let mut a = group_args(&group, now);
                a.push(revision.into());
                if c.execute(UPDATE, a).await.map_err(|e| taken(e, &group))? == 0 {
                    return Err(DbError::revision_lost(Entity::Portgroup, group.id));
                }
                if old.physical_network != group.physical_network {
                    c.execute(SPREAD, args![group.id, &group.physical_network, now]).await?;
                }
                by_id(c, group.id).await
            })
        })
        .await
    }

    /// Deletes a port group.
    ///
    /// # Errors
    /// [`DbError::NotFound`]; [`DbError::NotEmpty`] while it has ports.
    pub async fn portgroup_delete(&self, id: PortgroupId) -> Result<()> {
        self.write(move |c| {
            Box::pin(async move {
                locked(c, id).await?;
                refuse_members(c, id).await?;
                c.execute(DELETE, args![id]).await.map(drop)
            })
        })
        .await
    }
}

fn push_filter(b: &mut Build, f: &PortgroupFilter) {
    let PortgroupFilter { node, address, shards, conductor_groups, project } = f;
    if !shards.is_empty() || !conductor_groups.is_empty() || project.is_some() {
        b.push("JOIN nodes n ON n.id = g.node ");
    }
    b.push("WHERE 1 = 1");
    if let Some(n) = node {
        b.push(" AND g.node = ").bind(*n);
    }
    if let Some(a) = address {
        b.push(" AND g.address = ").bind(a);
    }
    if !shards.is_empty() {
        b.push(" AND n.shard").in_set(shards);
    }
    if !conductor_groups.is_empty() {
        b.push(" AND n.conductor_group").in_set(conductor_groups);
    }
    if let Some(p) = project {
        b.push(" AND (n.owner = ").bind(p).push(" OR n.lessee = ").bind(p).push(")");
    }
}

/// Checks within a transaction that a port fits the group that it names, and gives the group the port's physical network if it has none.
pub(crate) async fn join(c: &mut Conn, port: &Port, now: Timestamp) -> Result<()> {
    let Some(id) = port.portgroup else { return Ok(()) };
    let group = locked(c, id).await?;
    let beside = c.row(BESIDE, args![id, port.id]).await?.map(|r| r.cols().opt_text()).transpose()?;
    let beside = beside.as_ref().map(Option::as_deref);
    if let Some(network) = admit(&group, beside, port)? {
        c.execute(ADOPT, args![id, network, now]).await?;
    }
    Ok(())
}

/// The group, held until the transaction ends: members come and go one at a time.
async fn locked(c: &mut Conn, id: PortgroupId) -> Result<Portgroup> {
    c.execute(LOCK, args![id]).await?;
    by_id(c, id).await
}

async fn refuse_members(c: &mut Conn, id: PortgroupId) -> Result<()> {
    let members = c.row(MEMBERS, args![id]).await?.map_or(Ok(0), |r| r.cols().int())?;
    if members > 0 { Err(DbError::NotEmpty { what: Entity::Portgroup, ident: id.to_string() }) } else { Ok(()) }
}

fn group_args(g: &Portgroup, now: Timestamp) -> Vec<Arg> {
    args![
        g.id,
        now,
        g.node,
        &g.name,
        g.address.as_ref().map(|a| a.to_ascii_lowercase()),
        map_text(&g.extra),
        map_text(&g.internal_info),
        &g.mode,
        map_text(&g.properties),
        g.standalone_ports_supported,
        &g.physical_network,
        &g.category,
        g.dynamic_portgroup,
    ]
}

fn group_from(row: &Row) -> Result<Portgroup> {
    let c = &mut row.cols();
    Ok(Portgroup {
        seq: c.int()?,
        id: c.parsed("port group id")?,
        revision: c.int()?,
        created_at: c.time()?,
        updated_at: c.opt_time()?,
        node: c.parsed("node id")?,
        name: c.opt_text()?,
        address: c.opt_text()?,
        extra: c.map("extra")?,
        internal_info: c.map("internal_info")?,
        mode: c.opt_text()?,
        properties: c.map("properties")?,
        standalone_ports_supported: c.bool()?,
        physical_network: c.opt_text()?,
        category: c.opt_text()?,
        dynamic_portgroup: c.bool()?,
    })
}

async fn by_id(c: &mut Conn, id: PortgroupId) -> Result<Portgroup> {
    c.row(BY_ID, args![id]).await?.map(|r| group_from(&r)).ok_or_else(|| DbError::not_found(Entity::Portgroup, id))?
}

fn taken(e: DbError, g: &Portgroup) -> DbError {
    e.about_node(g.node).taken(|u| match u {
        Unique::PortgroupAddress => g.address.clone(),
        Unique::PortgroupName => g.name.clone(),
        _ => Some(g.id.to_string()),
    })
}
