//! Wake-up hints between the daemons of one PostgreSQL database (`NOTIFY` and `LISTEN`). A hint that is lost costs time only: whoever has work
//! finds it by [`Store::claims_due`]. SQLite serves one daemon, which needs none.

use std::{collections::BTreeSet, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};

use crate::{
    engine::{
        Sql,
        sql::{args, statements},
    },
    error::{DbError, Result},
    store::Store,
};

/// The channel that the statement below writes to.
const CHANNEL: &str = "bessemer_work";
/// PostgreSQL takes less than 8000 bytes with a hint.
const LONGEST: usize = 7900;
/// How long making the connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

statements! {
    SEND = Sql { sqlite: "SELECT CAST($1 AS TEXT)", postgres: "SELECT CAST(pg_notify('bessemer_work', $1) AS TEXT)" };
}

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Conductors of these host names have work.
    Work(BTreeSet<String>),
    /// Hints may have been missed: the connection was made, or a hint names nobody.
    Gap,
}

/// Hears the hints of all daemons, those of this one too. Has a connection of its own, which is made again when it is lost.
pub struct Hints {
    pool: PgPool,
    listener: Option<PgListener>,
}

impl Hints {
    /// Waits for the next hint. May be cancelled.
    ///
    /// # Errors
    /// When there is no connection; the next call makes one, so that callers should pause first.
    pub async fn next(&mut self) -> Result<Heard> {
        let Some(listener) = self.listener.as_mut() else {
            let mut listener = PgListener::connect_with(&self.pool).await?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            self.listener = Some(listener);
            return Ok(Heard::Gap);
        };
        match listener.try_recv().await {
            Ok(Some(hint)) => Ok(serde_json::from_str(hint.payload()).map_or(Heard::Gap, Heard::Work)),
            Ok(None) => {
                self.listener = None;
                Err(DbError::Unavailable(None))
            }
            Err(e) => {
                self.listener = None;
                Err(e.into())
            }
        }
    }
}

impl Store {
    /// What hears hints; `None` where there are no other daemons (SQLite). Connects at its first use.
    #[must_use]
    pub fn hints(&self) -> Option<Hints> {
        let options = self.postgres_options()?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(options);
        Some(Hints { pool, listener: None })
    }

    /// Tells the conductors of these host names that they have work. In no transaction: call it after the commit.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn hint_send(&self, hosts: &BTreeSet<String>) -> Result<()> {
        let text = serde_json::to_string(hosts).unwrap_or_default();
        // A text that nobody can read wakes everybody.
        let text = if text.len() > LONGEST { String::new() } else { text };
        self.fetch_one(SEND, args![text]).await.map(drop)
    }
}
