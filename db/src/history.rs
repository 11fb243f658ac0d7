//! Node history (`api.md` section 3.7).

use bessemer_model::{
    history::HistoryEntry,
    ids::{HistoryId, NodeId},
    state::ProvisionState,
};

use crate::{
    engine::{
        Arg, Build, Conn, Row, Sql,
        sql::{args, statements},
    },
    error::{DbError, Entity, Result},
    page::{Key, Listing},
    store::Store,
    types::{HistoryPage, HistorySort},
};

macro_rules! columns {
    () => {
        "h.id, h.node, h.created_at, h.severity, h.event, h.event_type, h.conductor, h.user_name, h.project, h.state, \
         h.target_provision_state, h.duration_seconds"
    };
}

statements! {
    INSERT = Sql::same(
        "INSERT INTO node_history (id, node, created_at, severity, event, event_type, conductor, user_name, project, state, \
         target_provision_state, duration_seconds) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    );
    GET = Sql::same(concat!("SELECT ", columns!(), " FROM node_history h WHERE h.node = $1 AND h.id = $2"));
    PURGE = Sql::same(
        "DELETE FROM node_history WHERE seq IN (SELECT h.seq FROM (SELECT seq, created_at, \
         row_number() OVER (PARTITION BY node ORDER BY created_at DESC, seq DESC) AS place FROM node_history) h \
         WHERE h.place > $1 OR h.created_at < $2 ORDER BY h.seq LIMIT $3)",
    );
}

const HISTORY: Listing = Listing { what: Entity::History, from_id: " FROM node_history h WHERE h.id = ", seq: "h.seq" };

const fn key(sort: HistorySort) -> Key {
    match sort {
        HistorySort::CreatedAt => Key::int("h.created_at"),
        HistorySort::Uuid => Key::text("h.id"),
        HistorySort::Severity => Key::text("h.severity"),
        HistorySort::Event => Key::text("h.event"),
        HistorySort::EventType => Key::text("h.event_type"),
        HistorySort::Conductor => Key::text("h.conductor"),
        HistorySort::User => Key::text("h.user_name"),
        HistorySort::Project => Key::text("h.project"),
        HistorySort::State => Key::text("h.state"),
        HistorySort::TargetProvisionState => Key::text("h.target_provision_state"),
        HistorySort::DurationSeconds => Key::int("CAST(h.duration_seconds AS BIGINT)"),
    }
}

impl Store {
    /// Adds an entry.
    ///
    /// # Errors
    /// [`DbError::NotFound`] without that node.
    pub async fn history_add(&self, entry: HistoryEntry) -> Result<()> {
        self.execute(INSERT, insert_args(&entry)).await.map(drop).map_err(|e| e.about(entry.node))
    }

    /// A page of a node's history.
    ///
    /// # Errors
    /// [`DbError::NotFound`] for an unknown marker.
    pub async fn history_list(&self, node: NodeId, page: &HistoryPage) -> Result<Vec<HistoryEntry>> {
        let page = page.clone();
        self.read_many(move |c| {
            Box::pin(async move {
                let mut b = Build::new(c.engine(), concat!("SELECT ", columns!(), " FROM node_history h WHERE h.node = "));
                b.bind(node);
                HISTORY.rows(c, b, key(page.sort), &page).await?.iter().map(entry_from).collect()
            })
        })
        .await
    }

    /// An entry of a node's history.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn history_get(&self, node: NodeId, id: HistoryId) -> Result<HistoryEntry> {
        let row = self.fetch_one(GET, args![node, id]).await?;
        row.map(|r| entry_from(&r)).ok_or_else(|| DbError::not_found(Entity::History, id))?
    }

    /// Removes entries beyond the newest `keep` of each node and those from before `before`, at most `batch`; gives how many went.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn history_purge(&self, keep: u32, before: bessemer_model::clock::Timestamp, batch: u32) -> Result<u64> {
        self.execute(PURGE, args![keep, before, batch]).await
    }
}

fn insert_args(e: &HistoryEntry) -> Vec<Arg> {
    args![
        e.id,
        e.node,
        e.created_at,
        e.severity.as_str(),
        e.event.as_str(),
        e.event_type.as_str(),
        &e.conductor,
        &e.user,
        &e.project,
        e.state.map(ProvisionState::as_str),
        e.target_provision_state.map(ProvisionState::as_str),
        e.duration_seconds,
    ]
}

pub(crate) async fn add_all(c: &mut Conn, entries: &[HistoryEntry]) -> Result<()> {
    for e in entries {
        c.execute(INSERT, insert_args(e)).await?;
    }
    Ok(())
}

fn entry_from(row: &Row) -> Result<HistoryEntry> {
    let c = &mut row.cols();
    Ok(HistoryEntry {
        id: c.parsed("history id")?,
        node: c.parsed("node id")?,
        created_at: c.time()?,
        severity: c.text()?,
        event: c.text()?,
        event_type: c.text()?,
        conductor: c.opt_text()?,
        user: c.opt_text()?,
        project: c.opt_text()?,
        state: c.opt_named("state", ProvisionState::parse)?,
        target_provision_state: c.opt_named("target_provision_state", ProvisionState::parse)?,
        duration_seconds: c.opt_float()?,
    })
}
