//! A connection to either engine and the running of one statement on it.

use std::{future::Future, pin::Pin};

use sqlx::{AssertSqlSafe, PgConnection, Postgres, SqlStr, Sqlite, SqliteConnection, pool::PoolConnection};

use super::{Arg, Build, Engine, Row, Sql, reader::Reader};
use crate::error::{DbError, Result};

/// A boxed future, as jobs give.
pub(crate) type BoxFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// A connection. Statements run one at a time.
pub(crate) enum Conn {
    /// The one writer of an SQLite file.
    Writer(SqliteConnection),
    /// One of its readers.
    Reader(Reader),
    Postgres(PoolConnection<Postgres>),
}

enum Raw<'c> {
    Sqlite(&'c mut SqliteConnection),
    Reader(&'c Reader),
    Postgres(&'c mut PgConnection),
}

macro_rules! bind_all {
    ($q:ident, $args:ident) => {
        for a in $args {
            $q = match a {
                Arg::Text(v) => $q.bind(v),
                Arg::Int(v) => $q.bind(v),
                Arg::Bool(v) => $q.bind(v),
                Arg::Float(v) => $q.bind(v),
                Arg::Bytes(v) => $q.bind(v),
            };
        }
    };
}

impl Conn {
    pub(crate) fn engine(&self) -> Engine {
        match self {
            Self::Writer(_) | Self::Reader(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }

    fn raw(&mut self) -> Raw<'_> {
        match self {
            Self::Writer(c) => Raw::Sqlite(c),
            Self::Reader(c) => Raw::Reader(c),
            Self::Postgres(c) => Raw::Postgres(c),
        }
    }

    fn text(&self, sql: Sql) -> SqlStr {
        SqlStr::from_static(sql.of(self.engine()))
    }

    /// Runs a statement; gives the number of rows that it touched.
    pub(crate) async fn execute(&mut self, sql: Sql, args: Vec<Arg>) -> Result<u64> {
        let text = self.text(sql);
        self.execute_str(text, args).await
    }

    /// [`Conn::execute`] for a built statement.
    pub(crate) async fn execute_built(&mut self, b: Build) -> Result<u64> {
        let (text, args) = b.finish();
        self.execute_str(sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(text)), args).await
    }

    /// Runs a statement; gives its rows.
    pub(crate) async fn rows(&mut self, sql: Sql, args: Vec<Arg>) -> Result<Vec<Row>> {
        let text = self.text(sql);
        self.rows_str(text, args).await
    }

    /// [`Conn::rows`] for a built statement.
    pub(crate) async fn rows_built(&mut self, b: Build) -> Result<Vec<Row>> {
        let (text, args) = b.finish();
        self.rows_str(sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(text)), args).await
    }

    /// Runs a statement; gives its first row.
    pub(crate) async fn row(&mut self, sql: Sql, args: Vec<Arg>) -> Result<Option<Row>> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// [`Conn::row`] for a built statement.
    pub(crate) async fn row_built(&mut self, b: Build) -> Result<Option<Row>> {
        Ok(self.rows_built(b).await?.into_iter().next())
    }

    async fn execute_str(&mut self, text: SqlStr, args: Vec<Arg>) -> Result<u64> {
        refuse_nul(&args)?;
        match self.raw() {
            Raw::Sqlite(c) => {
                let mut q = sqlx::query::<Sqlite>(text);
                bind_all!(q, args);
                Ok(q.execute(c).await?.rows_affected())
            }
            // It is open for reading only, so that it touches none.
            Raw::Reader(c) => c.rows(text.as_str(), &args).map(|_| 0),
            Raw::Postgres(c) => {
                let mut q = sqlx::query::<Postgres>(text);
                bind_all!(q, args);
                Ok(q.execute(c).await?.rows_affected())
            }
        }
    }

    async fn rows_str(&mut self, text: SqlStr, args: Vec<Arg>) -> Result<Vec<Row>> {
        refuse_nul(&args)?;
        match self.raw() {
            Raw::Sqlite(c) => {
                let mut q = sqlx::query::<Sqlite>(text);
                bind_all!(q, args);
                Ok(q.fetch_all(c).await?.into_iter().map(Row::Sqlite).collect())
            }
            Raw::Reader(c) => Ok(c.rows(text.as_str(), &args)?.into_iter().map(Row::Read).collect()),
            Raw::Postgres(c) => {
                let mut q = sqlx::query::<Postgres>(text);
                bind_all!(q, args);
                Ok(q.fetch_all(c).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Runs words of transaction control.
    pub(crate) async fn control(&mut self, text: &'static str) -> Result<()> {
        self.execute_str(SqlStr::from_static(text), Vec::new()).await.map(drop)
    }

    /// Prepares a statement without running it.
    #[cfg(test)]
    pub(crate) async fn prepare(&mut self, sql: Sql) -> Result<()> {
        use sqlx::Executor as _;
        let text = self.text(sql);
        match self.raw() {
            Raw::Sqlite(c) => c.prepare(text).await.map(drop)?,
            Raw::Reader(c) => c.prepare(text.as_str())?,
            Raw::Postgres(c) => c.prepare(text).await.map(drop)?,
        }
        Ok(())
    }
}

fn refuse_nul(args: &[Arg]) -> Result<()> {
    if args.iter().any(|a| matches!(a, Arg::Text(Some(s)) if s.contains('\0'))) { Err(DbError::NulCharacter) } else { Ok(()) }
}
