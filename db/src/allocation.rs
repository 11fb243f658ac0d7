//! Allocations (`api.md` section 9). Choosing a node, freeing it and taking it as found are one transaction each over both rows.
//!
//! **An allocation's node has the allocation as its instance**: `nodes.instance_uuid` is its id. Whoever writes another instance into
//! the node destroys the allocation with that write ([`crate::node::spec_write`]). Rows are locked in the order node, allocation.

use bessemer_model::{
    allocation::{Allocation, AllocationState},
    clock::Timestamp,
    ids::{AllocationId, NodeId},
    node::Node,
};

use crate::{
    engine::{
        Arg, Build, Conn, Row, Sql,
        row::{map_text, to_json},
        sql::{args, judged, statements},
    },
    error::{DbError, Entity, Result, Unique},
    node::{node_locked, spec_write},
    page::{Key, Listing},
    request_types::{AllocationClaim, AllocationFilter, AllocationPage, AllocationSort},
    seal::SealKey,
    store::Store,
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT a.seq, a.id, a.revision, a.created_at, a.updated_at, a.name, a.node, a.state, a.last_error, a.resource_class, \
             a.traits, a.candidates, a.extra, a.owner FROM allocations a ",
            $rest
        )
    };
}

statements! {
    INSERT = Sql::same(
        "INSERT INTO allocations (id, created_at, updated_at, name, node, state, last_error, resource_class, traits, candidates, extra, \
         owner) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    );
    UPDATE = Sql::same(
        "UPDATE allocations SET name = $2, extra = $3, updated_at = $4, revision = revision + 1 WHERE id = $1 AND revision = $5",
    );
    BY_ID = Sql::same(select!("WHERE a.id = $1"));
    BY_NAME = Sql::same(select!("WHERE a.name = $1"));
    DELETE = Sql::same("DELETE FROM allocations WHERE id = $1 AND (node = $2 OR (node IS NULL AND CAST($2 AS TEXT) IS NULL))");
    FREE_NODE = Sql::same("UPDATE nodes SET instance_uuid = NULL, updated_at = $2, revision = revision + 1 WHERE id = $1");
    TAKE = judged!(
        "UPDATE allocations AS a SET task_epoch = $2, task_host = $3, fence = fence + 1 WHERE id = $1 AND state = 'allocating' \
         AND (task_epoch IS NULL OR NOT EXISTS (SELECT 1 FROM conductors c WHERE c.hostname = a.task_host AND c.epoch = a.task_epoch \
         AND c.expires_at > " now "$4" ")) \
         AND EXISTS (SELECT 1 FROM conductors c WHERE c.hostname = $3 AND c.epoch = $2 AND c.expires_at > " now "$4" ") \
         RETURNING fence"
    );
    DUE = judged!(
        "SELECT a.id FROM allocations a WHERE a.state = 'allocating' AND (a.task_epoch IS NULL OR NOT EXISTS (SELECT 1 FROM conductors c \
         WHERE c.hostname = a.task_host AND c.epoch = a.task_epoch AND c.expires_at > " now "$1" ")) ORDER BY a.seq LIMIT $2"
    );
    FINISH = Sql::same(
        "UPDATE allocations SET node = $4, state = $5, last_error = $6, updated_at = $7, revision = revision + 1, task_epoch = NULL, \
         task_host = NULL WHERE id = $1 AND fence = $2 AND task_epoch = $3 AND state = 'allocating'",
    );
}

const ALLOCATIONS: Listing = Listing { what: Entity::Allocation, from_id: " FROM allocations a WHERE a.id = ", seq: "a.seq" };

/// How often a deletion is tried again when the allocation got or lost its node meanwhile.
const TRIES: usize = 8;

const fn key(sort: AllocationSort) -> Key {
    use AllocationSort as S;
    match sort {
        S::Created => Key::CREATED,
        S::Uuid => Key::text("a.id"),
        S::Name => Key::text("a.name"),
        S::State => Key::text("a.state"),
        S::LastError => Key::text("a.last_error"),
        S::ResourceClass => Key::text("a.resource_class"),
        S::Owner => Key::text("a.owner"),
        S::CreatedAt => Key::int("a.created_at"),
        S::UpdatedAt => Key::int("a.updated_at"),
    }
}

impl Store {
    /// Stores a request for a node; `seq`, `revision` and the times of `allocation` are not looked at. A conductor must be told.
    ///
    /// # Errors
    /// [`DbError::Duplicate`] when its UUID or name is taken.
    pub async fn allocation_create(&self, allocation: Allocation) -> Result<Allocation> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                insert(c, &allocation, now, None).await?;
                by_id(c, allocation.id).await
            })
        })
        .await
    }

    /// Makes the allocation that a node has had all along: it is active at once. `check` tells why the node, as it is now, may not be
    /// taken; nothing is stored then.
    ///
    /// # Errors
    /// The refusal as the outer value's error. [`DbError::NotFound`], [`DbError::Duplicate`], [`DbError::Associated`] when the node has
    /// another instance.
    pub async fn allocation_backfill<E: Send + 'static>(
        &self,
        mut allocation: Allocation,
        node: NodeId,
        check: impl FnOnce(&Allocation, &Node) -> std::result::Result<(), E> + Send + 'static,
    ) -> Result<std::result::Result<Allocation, E>> {
        let (key, now) = (self.key(), self.now());
        self.write(move |c| {
            Box::pin(async move {
                let n = node_locked(c, node).await?;
                // What exists already is told before what does not match.
                refuse_taken(c, &allocation).await?;
                if let Err(refusal) = check(&allocation, &n) {
                    return Ok(Err(refusal));
                }
                refuse_other(&allocation, &n)?;
                allocation.state = AllocationState::Active;
                insert(c, &allocation, now, Some(node)).await?;
                take_node(c, &key, &allocation, n, now).await?;
                Ok(Ok(by_id(c, allocation.id).await?))
            })
        })
        .await
    }

    /// An allocation by UUID or name.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn allocation_get(&self, ident: &str) -> Result<Allocation> {
        let row = match ident.parse::<AllocationId>() {
            Ok(id) => self.fetch_one(BY_ID, args![id]).await?,
            Err(_) => self.fetch_one(BY_NAME, args![ident]).await?,
        };
        row.map(|r| allocation_from(&r)).ok_or_else(|| DbError::not_found(Entity::Allocation, ident))?
    }

    /// A page of allocations.
    ///
    /// # Errors
    /// [`DbError::NotFound`] for an unknown marker.
    pub async fn allocation_list(&self, filter: &AllocationFilter, page: &AllocationPage) -> Result<Vec<Allocation>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read_many(move |c| {
            Box::pin(async move {
                let key = key(page.sort);
                let mut b = Build::new(c.engine(), select!("WHERE 1 = 1"));
                let AllocationFilter { node, resource_class, state, owner } = filter;
                let conditions = [
                    (" AND a.node = ", node.map(|n| n.to_string())),
                    (" AND a.resource_class = ", resource_class),
                    (" AND a.state = ", state),
                    (" AND a.owner = ", owner),
                ];
                for (words, value) in conditions {
                    if let Some(v) = value {
                        b.push(words).bind(v);
                    }
                }
                ALLOCATIONS.rows(c, b, key, &page).await?.iter().map(allocation_from).collect()
            })
        })
        .await
    }

    /// Writes `name` and `extra` if the allocation is still at the revision that it was read at.
    ///
    /// # Errors
    /// [`DbError::RevisionLost`], [`DbError::NotFound`], [`DbError::Duplicate`].
    pub async fn allocation_update(&self, allocation: Allocation) -> Result<Allocation> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                let a = args![allocation.id, &allocation.name, map_text(&allocation.extra), now, allocation.revision];
                let done = c.execute(UPDATE, a).await.map_err(|e| taken(e, &allocation))?;
                let there = by_id(c, allocation.id).await?;
                if done == 0 { Err(DbError::RevisionLost { node: allocation.id.to_string() }) } else { Ok(there) }
            })
        })
        .await
    }

    /// Deletes an allocation and frees its node. `check` tells why the node, as it is now, may not be freed.
    ///
    /// # Errors
    /// The refusal as the outer value's error; [`DbError::NotFound`].
    pub async fn allocation_delete<E: Send + 'static>(
        &self,
        id: AllocationId,
        check: impl Fn(&Allocation, &Node) -> std::result::Result<(), E> + Send + 'static,
    ) -> Result<std::result::Result<(), E>> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                for _ in 0..TRIES {
                    let there = by_id(c, id).await?;
                    if let Some(node) = there.node {
                        let n = node_locked(c, node).await?;
                        if n.allocation != Some(id) {
                            continue;
                        }
                        if let Err(refusal) = check(&there, &n) {
                            return Ok(Err(refusal));
                        }
                        c.execute(FREE_NODE, args![node, now]).await?;
                    }
                    if c.execute(DELETE, args![id, there.node]).await? == 1 {
                        return Ok(Ok(()));
                    }
                }
                Err(DbError::RevisionLost { node: id.to_string() })
            })
        })
        .await
    }

    /// Allocations that wait for a node and that no living conductor works on, oldest first.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn allocations_due(&self, now: Timestamp, limit: u32) -> Result<Vec<AllocationId>> {
        self.fetch(DUE, args![now, limit]).await?.iter().map(|r| r.cols().parsed("allocation id")).collect()
    }

    /// Takes an allocation that waits for a node, for the conductor `host` in its `epoch`. `None` when a living conductor has it, when
    /// the own lease is over, or when it does not wait any more.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn allocation_take(
        &self,
        id: AllocationId,
        epoch: i64,
        host: &str,
        now: Timestamp,
    ) -> Result<Option<(AllocationClaim, Allocation)>> {
        let host = host.to_owned();
        self.write(move |c| {
            Box::pin(async move {
                let Some(row) = c.row(TAKE, args![id, epoch, host, now]).await? else { return Ok(None) };
                let claim = AllocationClaim { allocation: id, epoch, fence: row.cols().int()? };
                Ok(Some((claim, by_id(c, id).await?)))
            })
        })
        .await
    }

    /// Gives the node to the allocation if it still fits; false when it does not.
    ///
    /// # Errors
    /// [`DbError::FenceLost`] when the allocation is not this conductor's any more (or gone); [`DbError::Duplicate`] when another node has the
    /// allocation's UUID as its instance.
    pub async fn allocation_reserve(&self, claim: &AllocationClaim, node: NodeId) -> Result<bool> {
        let (key, now, claim) = (self.key(), self.now(), claim.clone());
        self.write(move |c| {
            Box::pin(async move {
                let n = match node_locked(c, node).await {
                    Ok(n) => n,
                    Err(DbError::NotFound { .. }) => return Ok(false),
                    Err(e) => return Err(e),
                };
                let lost = || DbError::FenceLost { node: node.to_string() };
                let a = by_id(c, claim.allocation).await.map_err(|_| lost())?;
                if !a.fits(&n) {
                    return Ok(false);
                }
                finish(c, &claim, Some(node), AllocationState::Active, None, now).await?;
                take_node(c, &key, &a, n, now).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Ends an allocation without a node.
    ///
    /// # Errors
    /// [`DbError::FenceLost`] when it is not this conductor's any more (or gone).
    pub async fn allocation_fail(&self, claim: &AllocationClaim, error: &str) -> Result<()> {
        let (now, claim, error) = (self.now(), claim.clone(), error.to_owned());
        self.write(move |c| Box::pin(async move { finish(c, &claim, None, AllocationState::Error, Some(&error), now).await })).await
    }
}

/// Writes the allocation into its node.
async fn take_node(c: &mut Conn, key: &SealKey, a: &Allocation, mut n: Node, now: Timestamp) -> Result<()> {
    refuse_other(a, &n)?;
    a.mark(&mut n.spec);
    spec_write(c, key, n.id, n.revision, &n.spec, None, now).await.map(drop)
}

/// [`DbError::Associated`] when the node has another instance than the allocation.
fn refuse_other(a: &Allocation, n: &Node) -> Result<()> {
    match n.spec.instance_uuid.filter(|i| *i != a.id.0) {
        Some(i) => Err(DbError::Associated { node: n.id.to_string(), instance: i.to_string() }),
        None => Ok(()),
    }
}

async fn finish(
    c: &mut Conn,
    claim: &AllocationClaim,
    node: Option<NodeId>,
    state: AllocationState,
    error: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    let a = args![claim.allocation, claim.fence, claim.epoch, node, state.as_str(), error, now];
    match c.execute(FINISH, a).await? {
        0 => Err(DbError::FenceLost { node: node.map(|n| n.to_string()).unwrap_or_default() }),
        _ => Ok(()),
    }
}

async fn insert(c: &mut Conn, a: &Allocation, now: Timestamp, node: Option<NodeId>) -> Result<()> {
    let args: Vec<Arg> = args![
        a.id,
        now,
        node.map(|_| now),
        &a.name,
        node,
        a.state.as_str(),
        &a.last_error,
        &a.resource_class,
        to_json("traits", &a.traits)?,
        to_json("candidates", &a.candidates)?,
        map_text(&a.extra),
        &a.owner,
    ];
    c.execute(INSERT, args).await.map(drop).map_err(|e| taken(e, a))
}

/// [`DbError::Duplicate`] when the allocation could not be stored for its UUID or name.
async fn refuse_taken(c: &mut Conn, a: &Allocation) -> Result<()> {
    if c.row(BY_ID, args![a.id]).await?.is_some() {
        return Err(DbError::Duplicate { what: Unique::AllocationUuid, value: a.id.to_string() });
    }
    match &a.name {
        Some(n) if c.row(BY_NAME, args![n]).await?.is_some() => Err(DbError::Duplicate { what: Unique::AllocationName, value: n.clone() }),
        _ => Ok(()),
    }
}

fn allocation_from(row: &Row) -> Result<Allocation> {
    let c = &mut row.cols();
    Ok(Allocation {
        seq: c.int()?,
        id: c.parsed("allocation id")?,
        revision: c.int()?,
        created_at: c.time()?,
        updated_at: c.opt_time()?,
        name: c.opt_text()?,
        node: c.opt_parsed("node id")?,
        state: c.named("state", AllocationState::parse)?,
        last_error: c.opt_text()?,
        resource_class: c.opt_text()?,
        traits: c.json("traits")?,
        candidates: c.json("candidates")?,
        extra: c.map("extra")?,
        owner: c.opt_text()?,
    })
}

async fn by_id(c: &mut Conn, id: AllocationId) -> Result<Allocation> {
    c.row(BY_ID, args![id]).await?.map(|r| allocation_from(&r)).ok_or_else(|| DbError::not_found(Entity::Allocation, id))?
}

fn taken(e: DbError, a: &Allocation) -> DbError {
    e.taken(|u| match u {
        Unique::AllocationName => a.name.clone(),
        _ => Some(a.id.to_string()),
    })
}
