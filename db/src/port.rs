//! Ports (`api.md` section 4).

use bessemer_model::{clock::Timestamp, ids::PortId, port::Port};

use crate::{
    engine::{
        Arg, Build, Conn, Row, Sql,
        row::map_text,
        sql::{args, statements},
    },
    error::{DbError, Entity, Result, Unique},
    page::{Key, Listing, contains},
    portgroup,
    store::Store,
    types::{PortChange, PortFilter, PortPage, PortSort},
};

macro_rules! columns {
    () => {
        "node, address, name, extra, internal_info, local_link_connection, pxe_enabled, portgroup, physical_network, is_smartnic, \
         description, vendor, category, available_for_dynamic_portgroup"
    };
}
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT p.seq, p.id, p.revision, p.created_at, p.updated_at, p.node, p.address, p.name, p.extra, p.internal_info, \
             p.local_link_connection, p.pxe_enabled, p.portgroup, p.physical_network, p.is_smartnic, p.description, p.vendor, \
             p.category, p.available_for_dynamic_portgroup FROM ports p ",
            $rest
        )
    };
}

statements! {
    INSERT = Sql::same(concat!(
        "INSERT INTO ports (id, created_at, ", columns!(), ") \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    ));
    INSERT_UNKNOWN = Sql::same(concat!(
        "INSERT INTO ports (id, created_at, ", columns!(), ") \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT (address) DO NOTHING",
    ));
    UPDATE = Sql::same(concat!(
        "UPDATE ports SET (", columns!(), ", updated_at, revision) = ($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
         $2, revision + 1) WHERE id = $1 AND revision = $17",
    ));
    DELETE = Sql::same("DELETE FROM ports WHERE id = $1");
    BY_ID = Sql::same(select!("WHERE p.id = $1"));
    BY_WORD = Sql::same(select!("WHERE p.address = $1 OR p.name = $2 ORDER BY p.seq"));
}

const PORTS: Listing = Listing { what: Entity::Port, from_id: " FROM ports p WHERE p.id = ", seq: "p.seq" };

const fn key(sort: PortSort) -> Key {
    use PortSort as S;
    match sort {
        S::Created => Key::CREATED,
        S::Uuid => Key::text("p.id"),
        S::Address => Key::text("p.address"),
        S::NodeUuid => Key::text("p.node"),
        S::Name => Key::text("p.name"),
        S::PxeEnabled => Key::bool("p.pxe_enabled"),
        S::PhysicalNetwork => Key::text("p.physical_network"),
        S::IsSmartnic => Key::bool("p.is_smartnic"),
        S::Description => Key::text("p.description"),
        S::Vendor => Key::text("p.vendor"),
        S::Category => Key::text("p.category"),
        S::AvailableForDynamicPortgroup => Key::bool("p.available_for_dynamic_portgroup"),
        S::CreatedAt => Key::int("p.created_at"),
        S::UpdatedAt => Key::int("p.updated_at"),
    }
}

impl Store {
    /// Creates a port; `seq`, `revision` and the times of `port` are not looked at. A group without physical network takes the port's.
    ///
    /// # Errors
    /// [`DbError::Duplicate`] when its UUID, address or name is taken; [`DbError::NotFound`] without its node or its group;
    /// [`DbError::Unfit`] for the group.
    pub async fn port_create(&self, port: Port) -> Result<Port> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                portgroup::join(c, &port, now).await?;
                c.execute(INSERT, port_args(&port, now)).await.map_err(|e| taken(e, &port))?;
                by_id(c, port.id).await
            })
        })
        .await
    }

    /// A port by UUID, address or name.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn port_get(&self, ident: &str) -> Result<Port> {
        let row = match ident.parse::<PortId>() {
            Ok(id) => self.fetch_one(BY_ID, args![id]).await?,
            Err(_) => self.fetch_one(BY_WORD, args![ident.to_ascii_lowercase(), ident]).await?,
        };
        row.map(|r| port_from(&r)).ok_or_else(|| DbError::not_found(Entity::Port, ident))?
    }

    /// A page of ports.
    ///
    /// # Errors
    /// [`DbError::NotFound`] for an unknown marker.
    pub async fn port_list(&self, filter: &PortFilter, page: &PortPage) -> Result<Vec<Port>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read_many(move |c| {
            Box::pin(async move {
                let mut b = Build::new(c.engine(), select!(""));
                push_filter(&mut b, &filter);
                PORTS.rows(c, b, key(page.sort), &page).await?.iter().map(port_from).collect()
            })
        })
        .await
    }

    /// Writes a port if it is still at `revision`. A group without physical network takes that of the port that joins it.
    ///
    /// # Errors
    /// [`DbError::RevisionLost`], [`DbError::NotFound`], [`DbError::Duplicate`], [`DbError::Unfit`].
    pub async fn port_update(&self, port: Port, revision: i64) -> Result<Port> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                let old = by_id(c, port.id).await?;
                if (old.portgroup, &old.physical_network) != (port.portgroup, &port.physical_network) {
                    portgroup::join(c, &port, now).await?;
                }
                let mut a = port_args(&port, now);
                a.push(revision.into());
                if c.execute(UPDATE, a).await.map_err(|e| taken(e, &port))? == 0 {
                    return Err(DbError::revision_lost(Entity::Port, port.id));
                }
                by_id(c, port.id).await
            })
        })
        .await
    }

    /// Deletes a port.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn port_delete(&self, id: PortId) -> Result<()> {
        if self.execute(DELETE, args![id]).await? == 0 {
            return Err(DbError::not_found(Entity::Port, id));
        }
        Ok(())
    }
}

fn push_filter(b: &mut Build, f: &PortFilter) {
    let PortFilter { node, addresses, portgroup, shards, conductor_groups, description_contains, pxe_enabled, project } = f;
    if !shards.is_empty() || !conductor_groups.is_empty() || project.is_some() {
        b.push("JOIN nodes n ON n.id = p.node ");
    }
    b.push("WHERE 1 = 1");
    if let Some(n) = node {
        b.push(" AND p.node = ").bind(*n);
    }
    if !addresses.is_empty() {
        b.push(" AND p.address").in_set(addresses.iter().map(|a| a.to_ascii_lowercase()));
    }
    if let Some(g) = portgroup {
        b.push(" AND p.portgroup = ").bind(*g);
    }
    if !shards.is_empty() {
        b.push(" AND n.shard").in_set(shards);
    }
    if !conductor_groups.is_empty() {
        b.push(" AND n.conductor_group").in_set(conductor_groups);
    }
    if let Some(d) = description_contains {
        b.push(" AND lower(p.description) LIKE ").bind(contains(d)).push(" ESCAPE '!'");
    }
    if let Some(v) = pxe_enabled {
        b.push(" AND p.pxe_enabled = ").bind(*v);
    }
    if let Some(p) = project {
        b.push(" AND (n.owner = ").bind(p).push(" OR n.lessee = ").bind(p).push(")");
    }
}

fn port_args(p: &Port, now: Timestamp) -> Vec<Arg> {
    args![
        p.id,
        now,
        p.node,
        p.address.to_ascii_lowercase(),
        &p.name,
        map_text(&p.extra),
        map_text(&p.internal_info),
        map_text(&p.local_link_connection),
        p.pxe_enabled,
        p.portgroup,
        &p.physical_network,
        p.is_smartnic,
        &p.description,
        &p.vendor,
        &p.category,
        p.available_for_dynamic_portgroup,
    ]
}

fn port_from(row: &Row) -> Result<Port> {
    let c = &mut row.cols();
    Ok(Port {
        seq: c.int()?,
        id: c.parsed("port id")?,
        revision: c.int()?,
        created_at: c.time()?,
        updated_at: c.opt_time()?,
        node: c.parsed("node id")?,
        address: c.text()?,
        name: c.opt_text()?,
        extra: c.map("extra")?,
        internal_info: c.map("internal_info")?,
        local_link_connection: c.map("local_link_connection")?,
        pxe_enabled: c.bool()?,
        portgroup: c.opt_parsed("portgroup")?,
        physical_network: c.opt_text()?,
        is_smartnic: c.opt_bool()?,
        description: c.opt_text()?,
        vendor: c.opt_text()?,
        category: c.opt_text()?,
        available_for_dynamic_portgroup: c.bool()?,
    })
}

async fn by_id(c: &mut Conn, id: PortId) -> Result<Port> {
    c.row(BY_ID, args![id]).await?.map(|r| port_from(&r)).ok_or_else(|| DbError::not_found(Entity::Port, id))?
}

/// Adds a port that inspection found, unless its address is known.
pub(crate) async fn add_if_unknown(c: &mut Conn, p: &Port, now: Timestamp) -> Result<()> {
    c.execute(INSERT_UNKNOWN, port_args(p, now)).await.map(drop).map_err(|e| taken(e, p))
}

/// Changes a port that nobody else changed since it was read; one that is gone stays gone.
pub(crate) async fn change(c: &mut Conn, p: &PortChange, now: Timestamp) -> Result<()> {
    let mut a = port_args(&p.new, now);
    a.push(p.base.revision.into());
    if c.execute(UPDATE, a).await.map_err(|e| taken(e, &p.new))? == 0 && c.row(BY_ID, args![p.new.id]).await?.is_some() {
        return Err(DbError::RevisionLost { node: p.new.node.to_string() });
    }
    Ok(())
}

fn taken(e: DbError, p: &Port) -> DbError {
    e.about_node(p.node).taken(|u| match u {
        Unique::PortAddress => Some(p.address.clone()),
        Unique::PortName => p.name.clone(),
        _ => Some(p.id.to_string()),
    })
}
