//! Nodes: creating, reading, the owner's writes, traits.

use bessemer_model::{
    event::OutboxEvent,
    history::HistoryEntry,
    ids::NodeId,
    node::{Node, NodeSpec},
    state::ProvisionState,
};

use crate::{
    driver_secrets,
    engine::{
        Conn, Sql,
        sql::{args, statements},
    },
    error::{DbError, Entity, Result, Unique},
    event, history,
    node_row::{node_from, node_select, spec_args, spec_columns, status_args, status_columns},
    seal::SealKey,
    secret,
    store::Store,
    types::NodeNew,
};

statements! {
    INSERT = Sql::same(concat!(
        "INSERT INTO nodes (id, created_at, ", spec_columns!(), ", ", status_columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, \
         $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, \
         $35, $36, $37, $38, $39, $40, $41, $42, $43, $44) RETURNING seq",
    ));
    UPDATE_SPEC = Sql::same(concat!(
        "UPDATE nodes SET (", spec_columns!(), ", updated_at, revision) = ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
         $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, revision + 1) \
         WHERE id = $30 AND revision = $31 AND (CAST($32 AS TEXT) IS NULL OR provision_state = $32) \
         RETURNING revision, EXISTS (SELECT 1 FROM allocations a WHERE a.node = nodes.id AND a.id <> coalesce(nodes.instance_uuid, ''))",
    ));
    LOCK = Sql::same("UPDATE nodes SET revision = revision WHERE id = $1");
    TOUCH = Sql::same("UPDATE nodes SET updated_at = $2 WHERE id = $1");
    WHERE_IT_STANDS = Sql::same("SELECT revision, provision_state FROM nodes WHERE id = $1");
    DISOWN = Sql::same("DELETE FROM allocations WHERE node = $1");
    BY_ID = Sql::same(node_select!("f.request", "WHERE n.id = $1"));
    BY_NAME = Sql::same(node_select!("f.request", "WHERE n.name = $1"));
    TRAITS = Sql::same("SELECT trait FROM node_traits WHERE node = $1 ORDER BY trait");
    TRAIT_ADD = Sql::same("INSERT INTO node_traits (node, trait) VALUES ($1, $2) ON CONFLICT (node, trait) DO NOTHING");
    TRAIT_REMOVE = Sql::same("DELETE FROM node_traits WHERE node = $1 AND trait = $2");
    TRAITS_CLEAR = Sql::same("DELETE FROM node_traits WHERE node = $1");
    DELETE = Sql::same("DELETE FROM nodes WHERE id = $1");
    SHARDS = Sql::same("SELECT shard, count(*) FROM nodes GROUP BY shard ORDER BY count(*) DESC, shard ASC NULLS FIRST");
    BY_MACS = Sql {
        sqlite: "SELECT DISTINCT node FROM ports WHERE address IN (SELECT value FROM json_each($1)) ORDER BY node",
        postgres: "SELECT DISTINCT node FROM ports \
                   WHERE address IN (SELECT value FROM json_array_elements_text(CAST($1 AS json))) ORDER BY node",
    };
}

impl Store {
    /// Creates a node.
    ///
    /// # Errors
    /// [`DbError::Duplicate`] when its UUID, name or instance UUID is taken; [`DbError::NotFound`] without its chassis.
    pub async fn node_create(&self, new: NodeNew) -> Result<Node> {
        let (key, now) = (self.key(), self.now());
        let id = new.id;
        self.write(move |c| {
            Box::pin(async move {
                let NodeNew { id, spec, status, traits, history, events } = new;
                // The row first, with the secrets masked: they refer to it.
                let (masked, _) = driver_secrets::split(&spec.driver_info, &bessemer_model::JsonMap::new());
                let mut a = args![id, now];
                a.extend(spec_args(&spec, &masked)?);
                a.extend(status_args(&status));
                let inserted = c.row(INSERT, a).await.map_err(|e| taken(e, id, &spec))?;
                inserted.ok_or_else(|| DbError::corrupt("nodes", "no row came back from an insert"))?;
                secret::take_driver_secrets(c, &key, id, &spec.driver_info, true).await?;
                traits_write(c, id, &traits).await?;
                history::add_all(c, &history).await?;
                event::add_all(c, &events).await?;
                one(c, BY_ID, id.to_string()).await?.ok_or_else(|| DbError::not_found(Entity::Node, id))
            })
        })
        .await
        .map_err(|e| e.about(id))
    }

    /// A node, the secrets of its `driver_info` masked.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn node_get(&self, id: NodeId) -> Result<Node> {
        self.read_one(BY_ID, id.to_string()).await
    }

    /// A node by UUID or name.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn node_get_by_ident(&self, ident: &str) -> Result<Node> {
        match ident.parse::<NodeId>() {
            Ok(id) => self.read_one(BY_ID, id.to_string()).await,
            Err(_) => self.read_one(BY_NAME, ident.to_owned()).await,
        }
    }

    /// A node with its `driver_info` in clear; for drivers only.
    ///
    /// # Errors
    /// [`DbError::NotFound`]; [`DbError::Unsealable`].
    pub async fn node_get_with_secrets(&self, id: NodeId) -> Result<Node> {
        let key = self.key();
        self.read(move |c| {
            Box::pin(async move {
                let mut n = one(c, BY_ID, id.to_string()).await?.ok_or_else(|| DbError::not_found(Entity::Node, id))?;
                if driver_secrets::holds_mask(&n.spec.driver_info) {
                    let secrets = secret::driver_secrets(c, &key, id).await?;
                    driver_secrets::join(&mut n.spec.driver_info, secrets);
                }
                Ok(n)
            })
        })
        .await
    }

    async fn read_one(&self, sql: Sql, by: String) -> Result<Node> {
        self.read(move |c| Box::pin(async move { one(c, sql, by.clone()).await?.ok_or_else(|| DbError::not_found(Entity::Node, by)) }))
            .await
    }

    /// Writes the owner's columns if the node is still at `revision` (and, when given, in state `expect`); gives the new revision.
    /// Secrets of `driver_info` that are masked stay as they are.
    ///
    /// # Errors
    /// [`DbError::RevisionLost`], [`DbError::StateChanged`], [`DbError::NotFound`], [`DbError::Duplicate`].
    pub async fn node_update_spec(&self, id: NodeId, revision: i64, spec: NodeSpec, expect: Option<ProvisionState>) -> Result<i64> {
        let (key, now) = (self.key(), self.now());
        self.write(move |c| {
            Box::pin(async move {
                let revision = spec_write(c, &key, id, revision, &spec, expect, now).await?;
                Ok(revision)
            })
        })
        .await
    }

    /// [`Store::node_update_spec`] with history and events in the same transaction.
    ///
    /// # Errors
    /// As there.
    pub async fn node_update_spec_noting(
        &self,
        id: NodeId,
        revision: i64,
        spec: NodeSpec,
        expect: Option<ProvisionState>,
        history: Vec<HistoryEntry>,
        events: Vec<OutboxEvent>,
    ) -> Result<i64> {
        let (key, now) = (self.key(), self.now());
        self.write(move |c| {
            Box::pin(async move {
                let revision = spec_write(c, &key, id, revision, &spec, expect, now).await?;
                history::add_all(c, &history).await?;
                event::add_all(c, &events).await?;
                Ok(revision)
            })
        })
        .await
    }

    /// Deletes a node and everything of it. Whether its state allows that is the caller's to check.
    ///
    /// # Errors
    /// [`DbError::NotFound`]; [`DbError::Locked`] while a living conductor holds it.
    pub async fn node_delete(&self, id: NodeId) -> Result<()> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                crate::claim::refuse_held(c, id, now).await?;
                if c.execute(DELETE, args![id]).await? == 0 {
                    return Err(DbError::not_found(Entity::Node, id));
                }
                Ok(())
            })
        })
        .await
    }

    /// Replaces the set of traits.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn node_set_traits(&self, id: NodeId, traits: Vec<String>) -> Result<()> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                touch(c, id, now).await?;
                traits_write(c, id, &traits).await
            })
        })
        .await
    }

    /// Adds a trait; nothing happens when it is there.
    ///
    /// # Errors
    /// [`DbError::NotFound`] without that node.
    pub async fn node_add_trait(&self, id: NodeId, name: &str) -> Result<()> {
        let (now, name) = (self.now(), name.to_owned());
        self.write(move |c| {
            Box::pin(async move {
                touch(c, id, now).await?;
                c.execute(TRAIT_ADD, args![id, name]).await.map(drop)
            })
        })
        .await
    }

    /// Removes a trait.
    ///
    /// # Errors
    /// [`DbError::NotFound`] when the node does not have it.
    pub async fn node_remove_trait(&self, id: NodeId, name: &str) -> Result<()> {
        let (now, name) = (self.now(), name.to_owned());
        self.write(move |c| {
            Box::pin(async move {
                touch(c, id, now).await?;
                if c.execute(TRAIT_REMOVE, args![id, &name]).await? == 0 {
                    return Err(DbError::not_found(Entity::Trait, name));
                }
                Ok(())
            })
        })
        .await
    }

    /// The shards that nodes are in (`None` = in no shard) and how many nodes each has, the largest first.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn node_shards(&self) -> Result<Vec<(Option<String>, i64)>> {
        let rows = self.fetch(SHARDS, args![]).await?;
        rows.iter()
            .map(|r| {
                let c = &mut r.cols();
                Ok((c.opt_text()?, c.int()?))
            })
            .collect()
    }

    /// The nodes that have a port with one of these addresses, each once.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn node_by_macs(&self, macs: &[String]) -> Result<Vec<NodeId>> {
        let set = serde_json::Value::from(macs.to_vec()).to_string();
        self.fetch(BY_MACS, args![set]).await?.iter().map(|r| r.cols().parsed("node id")).collect()
    }
}

async fn one(c: &mut Conn, sql: Sql, by: String) -> Result<Option<Node>> {
    let Some(row) = c.row(sql, args![by]).await? else {
        return Ok(None);
    };
    let mut n = node_from(&row)?;
    n.traits = c.rows(TRAITS, args![n.id]).await?.iter().map(|r| r.cols().text()).collect::<Result<_>>()?;
    Ok(Some(n))
}

/// A node that nobody else can write until this transaction ends.
pub(crate) async fn node_locked(c: &mut Conn, id: NodeId) -> Result<Node> {
    c.execute(LOCK, args![id]).await?;
    one(c, BY_ID, id.to_string()).await?.ok_or_else(|| DbError::not_found(Entity::Node, id))
}

/// Writes the owner's columns within a transaction; see [`Store::node_update_spec`].
pub(crate) async fn spec_write(
    c: &mut Conn,
    key: &SealKey,
    id: NodeId,
    revision: i64,
    spec: &NodeSpec,
    expect: Option<ProvisionState>,
    now: bessemer_model::clock::Timestamp,
) -> Result<i64> {
    // The row first: it locks the node, so that the secrets read below are those of this revision.
    let (masked, _) = driver_secrets::split(&spec.driver_info, &bessemer_model::JsonMap::new());
    let mut a = spec_args(spec, &masked)?;
    a.extend(args![now, id, revision, expect.map(ProvisionState::as_str)]);
    let Some(row) = c.row(UPDATE_SPEC, a).await.map_err(|e| taken(e, id, spec))? else {
        return Err(lost(c, id, revision, expect).await?);
    };
    secret::take_driver_secrets(c, key, id, &spec.driver_info, false).await?;
    let cols = &mut row.cols();
    let (revision, other_instance) = (cols.int()?, cols.bool()?);
    // An allocation lasts as long as the node has it as its instance.
    if other_instance {
        c.execute(DISOWN, args![id]).await?;
    }
    Ok(revision)
}

/// Why a write of the owner's columns found no row.
async fn lost(c: &mut Conn, id: NodeId, revision: i64, expect: Option<ProvisionState>) -> Result<DbError> {
    let Some(row) = c.row(WHERE_IT_STANDS, args![id]).await? else {
        return Ok(DbError::not_found(Entity::Node, id));
    };
    let cols = &mut row.cols();
    let (is, state) = (cols.int()?, cols.named("provision_state", ProvisionState::parse)?);
    Ok(if is == revision && expect.is_some_and(|e| e != state) {
        DbError::StateChanged { node: id.to_string(), state: Some(state) }
    } else {
        DbError::revision_lost(Entity::Node, id)
    })
}

/// Marks the node as changed, and holds its row until the transaction ends.
async fn touch(c: &mut Conn, id: NodeId, now: bessemer_model::clock::Timestamp) -> Result<()> {
    if c.execute(TOUCH, args![id, now]).await? == 0 {
        return Err(DbError::not_found(Entity::Node, id));
    }
    Ok(())
}

/// Adds and removes traits; what is there or gone already is no error.
pub(crate) async fn traits_change(c: &mut Conn, id: NodeId, added: &[String], removed: &[String]) -> Result<()> {
    for t in added {
        c.execute(TRAIT_ADD, args![id, t]).await?;
    }
    for t in removed {
        c.execute(TRAIT_REMOVE, args![id, t]).await?;
    }
    Ok(())
}

pub(crate) async fn traits_write(c: &mut Conn, id: NodeId, traits: &[String]) -> Result<()> {
    c.execute(TRAITS_CLEAR, args![id]).await?;
    for t in traits {
        c.execute(TRAIT_ADD, args![id, t.as_str()]).await?;
    }
    Ok(())
}

fn taken(e: DbError, id: NodeId, spec: &NodeSpec) -> DbError {
    e.about_chassis(spec.chassis_uuid).taken(|u| match u {
        Unique::NodeName => spec.name.clone(),
        Unique::InstanceUuid => spec.instance_uuid.map(|u| u.to_string()),
        _ => Some(id.to_string()),
    })
}
