//! Claims: who may run a node (`states.md` section 6). A node is held by an epoch of a conductor; a claim is worth as much as that
//! epoch's lease. Every taking adds 1 to the node's fence, and every write of a runner carries the fence that it was given.

use bessemer_model::{clock::Timestamp, conductor::Claim, ids::NodeId, port::Port, state::ProvisionState};

use crate::{
    agent, boot_plan,
    engine::{
        Build, Cols, Conn, Sql,
        sql::{args, judged, statements},
    },
    error::{DbError, Entity, Result},
    event, firmware, flow, flow_row, history, inventory,
    node::{spec_write, traits_change, traits_write},
    node_row::push_change,
    port,
    seal::SealKey,
    secret,
    secret_kind::AGENT_TOKEN,
    store::Store,
    types::{Commit, Committed, FlowWrite, NodeRef, Write},
};

statements! {
    // Takes what is free or whose holder's lease is over or superseded, for a conductor whose own lease is not.
    TAKE = judged!(
        "UPDATE nodes AS n SET task_epoch = $2, task_host = $3, conductor_affinity = $3, fence = fence + 1, task_since = $4, \
         task_purpose = $5 WHERE id = $1 \
         AND (task_epoch IS NULL OR NOT EXISTS (SELECT 1 FROM conductors c WHERE c.hostname = n.task_host AND c.epoch = n.task_epoch \
         AND c.expires_at > " now "$4" ")) \
         AND EXISTS (SELECT 1 FROM conductors c WHERE c.hostname = $3 AND c.epoch = $2 AND c.expires_at > " now "$4" ") \
         RETURNING fence"
    );
    DUE = judged!(
        "SELECT n.id, n.driver, n.conductor_group FROM flows f JOIN nodes n ON n.id = f.node WHERE f.wake_at <= $1 \
         AND (n.task_epoch IS NULL OR NOT EXISTS (SELECT 1 FROM conductors c WHERE c.hostname = n.task_host \
         AND c.epoch = n.task_epoch AND c.expires_at > " now "$1" ")) ORDER BY f.wake_at, n.seq LIMIT $2"
    );
    RELEASE = Sql::same("UPDATE nodes SET task_epoch = NULL, task_host = NULL WHERE id = $1 AND fence = $2 AND task_epoch = $3");
    HELD = judged!(
        "SELECT n.task_host, n.task_purpose, n.task_since FROM nodes n JOIN conductors c ON c.hostname = n.task_host AND c.epoch = n.task_epoch \
         WHERE n.id = $1 AND c.expires_at > " now "$2" ""
    );
    NEXT_WAKE = Sql::same("SELECT min(wake_at) FROM flows WHERE wake_at IS NOT NULL");
}

/// Appends `EXISTS (…)`: a living conductor holds the node `n`.
pub(crate) fn push_held(b: &mut Build, now: Timestamp) {
    b.push("EXISTS (SELECT 1 FROM conductors c WHERE c.hostname = n.task_host AND c.epoch = n.task_epoch AND c.expires_at > ");
    b.bind_now(now).push(")");
}

/// [`DbError::Locked`] while a living conductor holds the node.
pub(crate) async fn refuse_held(c: &mut Conn, node: NodeId, now: Timestamp) -> Result<()> {
    match c.row(HELD, args![node, now]).await? {
        Some(r) => Err(locked(node, &mut r.cols())?),
        None => Ok(()),
    }
}

/// Why a guarded write of a node found no row.
pub(crate) async fn diagnose(c: &mut Conn, node: NodeId, expect: Option<ProvisionState>) -> Result<DbError> {
    let mut b = Build::new(c.engine(), "SELECT provision_state, task_host, task_purpose, task_since FROM nodes WHERE id = ");
    b.bind(node);
    let Some(row) = c.row_built(b).await? else {
        return Ok(DbError::not_found(Entity::Node, node));
    };
    let cols = &mut row.cols();
    let state = cols.named("provision_state", ProvisionState::parse)?;
    if expect.is_some_and(|e| e != state) {
        return Ok(DbError::StateChanged { node: node.to_string(), state: Some(state) });
    }
    locked(node, cols)
}

/// [`DbError::Locked`] from host, purpose and time of the holder.
fn locked(node: NodeId, c: &mut Cols<'_>) -> Result<DbError> {
    Ok(DbError::Locked { node: node.to_string(), host: c.opt_text()?.unwrap_or_default(), purpose: c.opt_text()?, since: c.opt_time()? })
}

impl Store {
    /// Takes a node for the conductor `host` in its `epoch`. `None` when a living conductor (this one too) holds it, when the own lease
    /// is over, or without that node. `purpose` is told to those who find the node held.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn claim_take(&self, node: NodeId, epoch: i64, host: &str, now: Timestamp, purpose: &str) -> Result<Option<Claim>> {
        let row = self.execute_returning(TAKE, args![node, epoch, host, now, purpose]).await?;
        row.map(|r| Ok(Claim { node, epoch, fence: r.cols().int()? })).transpose()
    }

    /// Whether nobody holds the node.
    ///
    /// # Errors
    /// [`DbError::Locked`], which tells who does, since when and for what.
    pub async fn claim_refuse_held(&self, node: NodeId) -> Result<()> {
        let now = self.now();
        self.read(move |c| Box::pin(refuse_held(c, node, now))).await
    }

    /// Nodes that have a flow to look at and no living holder, longest due first, each once.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn claims_due(&self, now: Timestamp, limit: u32) -> Result<Vec<NodeRef>> {
        let rows = self.fetch(DUE, args![now, limit]).await?;
        let mut seen = std::collections::HashSet::new();
        let mut out = Vec::with_capacity(rows.len());
        for r in &rows {
            let c = &mut r.cols();
            let n = NodeRef { id: c.parsed("node id")?, driver: c.text()?, conductor_group: c.text()? };
            if seen.insert(n.id) {
                out.push(n);
            }
        }
        Ok(out)
    }

    /// When the next flow wants to be looked at; past times mean now.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn claims_next_wake(&self) -> Result<Option<Timestamp>> {
        self.fetch_one(NEXT_WAKE, args![]).await?.map_or(Ok(None), |r| r.cols().opt_time())
    }

    /// Lets a node go; nothing happens when the claim is lost already.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn claim_release(&self, claim: &Claim) -> Result<()> {
        self.execute(RELEASE, args![claim.node, claim.fence, claim.epoch]).await.map(drop)
    }

    /// Writes what a runner found out, all of it or nothing.
    ///
    /// # Errors
    /// [`DbError::FenceLost`]: stop at once. [`DbError::RevisionLost`]: the owner wrote meanwhile; read and decide again.
    /// [`DbError::StateChanged`]: the flow is not the node's any more. [`DbError::FlowExists`]: the lane of `next_flow` is taken.
    pub async fn claim_commit(&self, claim: &Claim, commit: Commit) -> Result<Committed> {
        let (key, now, claim) = (self.key(), self.now(), claim.clone());
        self.write(move |c| Box::pin(async move { write_commit(c, &key, now, &claim, commit).await })).await
    }
}

/// Rows are written in the order nodes, flows, agents, others: the same everywhere, so that no two transactions wait for each other.
async fn write_commit(c: &mut Conn, key: &SealKey, now: Timestamp, claim: &Claim, commit: Commit) -> Result<Committed> {
    let Commit {
        change,
        spec,
        flow: written,
        next_flow,
        traits,
        traits_added,
        traits_removed,
        inventory: inspected,
        boot_plan: plan,
        agent: said,
        clear_token,
        secrets,
        bios,
        firmware: components,
        new_ports,
        ports,
        log,
        history: entries,
        events,
        release,
    } = commit;
    let node = claim.node;
    let mut revision = write_status(c, now, claim, &change, release).await?;
    if let Some((at, spec)) = spec {
        revision = spec_write(c, key, node, at, &spec, None, now).await?;
    }
    let mut woken = false;
    match written {
        FlowWrite::Keep => {}
        FlowWrite::Put { flow, wakes } => woken = flow_row::progress(c, &flow, wakes).await?,
        FlowWrite::Delete(lane) => flow_row::delete(c, node, lane).await?,
    }
    if let Some(f) = next_flow
        && !flow_row::insert(c, &f).await?
    {
        return Err(flow_row::busy(c, &f).await?);
    }
    agent::write(c, node, said).await?;
    if clear_token {
        secret::write(c, key, node, AGENT_TOKEN, None).await?;
    }
    for (kind, s) in &secrets {
        secret::write(c, key, node, kind, s.as_ref()).await?;
    }
    if let Some(t) = traits {
        traits_write(c, node, &t).await?;
    }
    traits_change(c, node, &traits_added, &traits_removed).await?;
    match inspected {
        Write::Keep => {}
        Write::Put(i) => inventory::put(c, node, &i).await?,
        Write::Delete => inventory::delete(c, node).await?,
    }
    match plan {
        Write::Keep => {}
        Write::Put(p) => boot_plan::put(c, &p).await?,
        Write::Delete => boot_plan::delete(c, node).await?,
    }
    if let Some(settings) = bios {
        firmware::bios_sync(c, node, &settings, now).await?;
    }
    if !components.is_empty() {
        firmware::firmware_sync(c, node, &components, now).await?;
    }
    add_ports(c, now, &new_ports).await?;
    for p in &ports {
        port::change(c, p, now).await?;
    }
    flow::log_all(c, &log).await?;
    history::add_all(c, &entries).await?;
    event::add_all(c, &events).await?;
    Ok(Committed { revision, woken })
}

async fn write_status(
    c: &mut Conn,
    now: Timestamp,
    claim: &Claim,
    change: &bessemer_model::node::NodeChange,
    release: bool,
) -> Result<i64> {
    let mut b = Build::new(c.engine(), "UPDATE nodes SET fence = fence");
    if !change.is_empty() {
        b.push(", updated_at = ").bind(now);
        push_change(&mut b, change);
    }
    if release {
        b.push(", task_epoch = NULL, task_host = NULL");
    }
    b.push(" WHERE id = ").bind(claim.node);
    b.push(" AND fence = ").bind(claim.fence);
    b.push(" AND task_epoch = ").bind(claim.epoch);
    b.push(" RETURNING revision");
    match c.row_built(b).await? {
        Some(r) => r.cols().int(),
        None => Err(DbError::FenceLost { node: claim.node.to_string() }),
    }
}

async fn add_ports(c: &mut Conn, now: Timestamp, ports: &[Port]) -> Result<()> {
    for p in ports {
        port::add_if_unknown(c, p, now).await?;
    }
    Ok(())
}
