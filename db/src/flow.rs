//! Flows: reading, waking, aborting, and their log. Their progress is written by [`Store::claim_commit`].

use bessemer_model::{
    clock::Timestamp,
    flow::{FlowKind, FlowLogEntry, Lane},
    ids::{FlowId, NodeId},
};

use crate::{
    engine::{
        Conn, Row, Sql,
        sql::{args, statements},
    },
    error::Result,
    flow_row::flow_from,
    store::Store,
    types::StoredFlow,
};

statements! {
    GET = Sql::same(
        "SELECT id, kind, aborting, wake_at, created_at, doc, request, wakes FROM flows WHERE node = $1 AND lane = $2",
    );
    WAKE = Sql::same(
        "UPDATE flows SET wakes = wakes + 1, wake_at = CASE WHEN wake_at IS NULL OR wake_at > $3 THEN $3 ELSE wake_at END \
         WHERE node = $1 AND lane = $2",
    );
    ABORT = Sql::same("UPDATE flows SET aborting = TRUE, wakes = wakes + 1 WHERE node = $1 AND lane = 'provision'");
    LOG = Sql::same("INSERT INTO flow_log (flow, node, at, step, outcome, detail) VALUES ($1, $2, $3, $4, $5, $6)");
    LOG_LIST = Sql::same(
        "SELECT flow, node, at, step, outcome, detail FROM (SELECT seq, flow, node, at, step, outcome, detail FROM flow_log \
         WHERE node = $1 ORDER BY seq DESC LIMIT $2) AS newest ORDER BY seq",
    );
    LOG_END = Sql::same(
        "SELECT flow, node, at, step, outcome, detail FROM flow_log WHERE node = $1 AND flow = $2 AND outcome IN ('finished', 'failed') \
         ORDER BY seq DESC LIMIT 1",
    );
    LOG_PURGE = Sql::same("DELETE FROM flow_log WHERE at < $1");
}

impl Store {
    /// A node's flow of a lane.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn flow_get(&self, node: NodeId, lane: Lane) -> Result<Option<StoredFlow>> {
        let Some(row) = self.fetch_one(GET, args![node, lane.as_str()]).await? else {
            return Ok(None);
        };
        let c = &mut row.cols();
        let (id, kind) = (c.parsed("flow id")?, c.named("flow kind", FlowKind::parse)?);
        let (aborting, wake_at, created_at) = (c.bool()?, c.opt_time()?, c.time()?);
        let (doc, request) = (c.str()?, c.str()?);
        let flow = flow_from(id, node, kind, aborting, wake_at, created_at, doc, Some(request))?;
        Ok(Some(StoredFlow { flow, wakes: c.int()? }))
    }

    /// Makes a flow due at `at`, or earlier if it was; false without such a flow. Never lost: see [`crate::FlowWrite::Put`].
    ///
    /// # Errors
    /// Of the database only.
    pub async fn flow_wake(&self, node: NodeId, lane: Lane, at: Timestamp) -> Result<bool> {
        Ok(self.execute(WAKE, args![node, lane.as_str(), at]).await? == 1)
    }

    /// Asks the runner of the provision flow to end it once its step has ended; false without such a flow. A flow that waits is not woken:
    /// its step would take that for what it waits for.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn flow_set_aborting(&self, node: NodeId) -> Result<bool> {
        Ok(self.execute(ABORT, args![node]).await? == 1)
    }

    /// The newest lines of a node's flow log, oldest of them first.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn flow_log_list(&self, node: NodeId, limit: u32) -> Result<Vec<FlowLogEntry>> {
        let rows = self.fetch(LOG_LIST, args![node, limit]).await?;
        rows.iter().map(log_entry).collect()
    }

    /// The line that tells how a flow ended (`finished` or `failed`); `None` while it runs and for one that never was.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn flow_end(&self, node: NodeId, flow: FlowId) -> Result<Option<FlowLogEntry>> {
        self.fetch_one(LOG_END, args![node, flow]).await?.as_ref().map(log_entry).transpose()
    }

    /// Forgets log lines from before a time; gives how many went.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn flow_log_purge(&self, before: Timestamp) -> Result<u64> {
        self.execute(LOG_PURGE, args![before]).await
    }
}

fn log_entry(row: &Row) -> Result<FlowLogEntry> {
    let c = &mut row.cols();
    Ok(FlowLogEntry {
        flow: c.parsed("flow id")?,
        node: c.parsed("node id")?,
        at: c.time()?,
        step: c.text()?,
        outcome: c.text()?,
        detail: c.text()?,
    })
}

/// Wakes the provision flow within a transaction.
pub(crate) async fn wake(c: &mut Conn, node: NodeId, at: Timestamp) -> Result<()> {
    c.execute(WAKE, args![node, Lane::Provision.as_str(), at]).await.map(drop)
}

pub(crate) async fn log_all(c: &mut Conn, log: &[FlowLogEntry]) -> Result<()> {
    for l in log {
        c.execute(LOG, args![l.flow, l.node, l.at, l.step.as_str(), l.outcome.as_str(), l.detail.as_str()]).await?;
    }
    Ok(())
}
