//! The outbox: events are written in the transaction that they tell of and read in the order of its commits.
//!
//! On PostgreSQL `seq` is given out before the commit, so a smaller number may appear later. Readers therefore go by (transaction id,
//! seq) and see a row only when every transaction that began before its own has ended.

use bessemer_model::event::OutboxEvent;

use crate::{
    engine::{
        Conn, Sql,
        sql::{args, statements},
    },
    error::Result,
    store::Store,
    types::EventCursor,
};

statements! {
    INSERT = Sql::same("INSERT INTO events (at, node, kind, data) VALUES ($1, $2, $3, $4)");
    AFTER = Sql {
        sqlite: "SELECT xid, seq, at, node, kind, data FROM events WHERE xid = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        postgres: "SELECT CAST(CAST(xid AS TEXT) AS BIGINT), seq, at, node, kind, data FROM events \
                   WHERE (xid, seq) > (CAST(CAST(CAST($1 AS BIGINT) AS TEXT) AS xid8), $2) \
                   AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, seq LIMIT $3",
    };
    LAST = Sql {
        sqlite: "SELECT xid, seq FROM events ORDER BY seq DESC LIMIT 1",
        postgres: "SELECT CAST(CAST(xid AS TEXT) AS BIGINT), seq FROM events \
                   WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid DESC, seq DESC LIMIT 1",
    };
    PURGE = Sql::same("DELETE FROM events WHERE at < $1");
}

impl Store {
    /// The events after a position, oldest first.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn events_after(&self, after: EventCursor, limit: u32) -> Result<Vec<(EventCursor, OutboxEvent)>> {
        let rows = self.fetch(AFTER, args![after.xid, after.seq, limit]).await?;
        rows.iter()
            .map(|r| {
                let c = &mut r.cols();
                let (xid, seq) = (c.int()?, c.int()?);
                let e = OutboxEvent { seq, at: c.time()?, node: c.opt_parsed("node id")?, kind: c.text()?, data: c.json("event")? };
                Ok((EventCursor { xid, seq }, e))
            })
            .collect()
    }

    /// The position of the newest event that readers may see.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn events_last(&self) -> Result<EventCursor> {
        let row = self.fetch_one(LAST, args![]).await?;
        row.map_or(Ok(EventCursor::default()), |r| {
            let c = &mut r.cols();
            Ok(EventCursor { xid: c.int()?, seq: c.int()? })
        })
    }

    /// Forgets events from before a time; gives how many went.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn events_purge(&self, before: bessemer_model::clock::Timestamp) -> Result<u64> {
        self.execute(PURGE, args![before]).await
    }
}

pub(crate) async fn add_all(c: &mut Conn, events: &[OutboxEvent]) -> Result<()> {
    for e in events {
        c.execute(INSERT, args![e.at, e.node, e.kind.as_str(), e.data.to_string()]).await?;
    }
    Ok(())
}
