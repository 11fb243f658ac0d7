//! Reads of an SQLite file on the thread that asks for them.
//!
//! A driver that gives each connection a thread of its own costs every small read two changes of threads, and every value of a row a copy that
//! is made on one thread and dropped on the other: a read of one node took twice as long, a page of a thousand nodes three times.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, types::ValueRef};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Arg;
use crate::error::{DbError, Result};

/// How a file is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections.
    pub most: u32,
    /// How long a read may wait for one.
    pub patience: Duration,
    /// How long a statement may wait for a lock. Readers do not wait for the writer, only for a recovery of the file.
    pub busy: Duration,
    /// Statements kept prepared per connection.
    pub prepared: usize,
}

/// The connections that read one file; opened when they are needed.
pub(crate) struct Readers {
    file: PathBuf,
    limits: Limits,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(file: &Path, limits: Limits) -> Result<Arc<Self>> {
        let places = Arc::new(Semaphore::new(limits.most.max(1) as usize));
        let all = Self { file: file.to_owned(), limits, places, idle: Mutex::default() };
        let first = all.connect()?;
        all.idle.lock().unwrap_or_else(PoisonError::into_inner).push(first);
        Ok(Arc::new(all))
    }

    fn connect(&self) -> Result<Connection> {
        let c = Connection::open_with_flags(&self.file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        c.busy_timeout(self.limits.busy)?;
        c.set_prepared_statement_cache_capacity(self.limits.prepared);
        Ok(c)
    }

    /// A connection, as soon as one is free.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when none becomes free in time, or after [`Readers::close`].
    pub(crate) async fn take(self: &Arc<Self>) -> Result<Reader> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => tokio::time::timeout(self.limits.patience, Arc::clone(&self.places).acquire_owned())
                .await
                .ok()
                .and_then(Result::ok)
                .ok_or(DbError::Unavailable(None))?,
        };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(c) => c,
            None => self.connect()?,
        };
        Ok(Reader { connection: Some(connection), of: Arc::clone(self), _place: place })
    }

    /// Lets go of the file after what is being read, if that ends in time.
    pub(crate) async fn close(&self) {
        let all = self.places.acquire_many(self.limits.most.max(1));
        if tokio::time::timeout(self.limits.patience, all).await.is_err() {
            tracing::warn!("reads of the database had not ended when it was closed");
        }
        self.places.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection for the time of some reads.
pub(crate) struct Reader {
    connection: Option<Connection>,
    of: Arc<Readers>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(c) = self.connection.take().filter(|_| !self.of.places.is_closed()) {
            self.of.idle.lock().unwrap_or_else(PoisonError::into_inner).push(c);
        }
    }
}

impl Reader {
    fn connection(&self) -> Result<&Connection> {
        self.connection.as_ref().ok_or(DbError::Unavailable(None))
    }

    /// Runs a statement; gives its rows.
    pub(crate) fn rows(&self, sql: &str, args: &[Arg]) -> Result<Vec<Cells>> {
        let mut statement = self.connection()?.prepare_cached(sql)?;
        let columns = statement.column_count();
        for i in 1..=statement.parameter_count() {
            // `$2` may stand before `$1`: the number in its name counts, not its place.
            let name = statement.parameter_name(i).and_then(|n| n.strip_prefix('$'));
            let at = name.and_then(|n| n.parse::<usize>().ok()).and_then(|n| n.checked_sub(1)).unwrap_or(i - 1);
            match args.get(at) {
                Some(Arg::Text(v)) => statement.raw_bind_parameter(i, v)?,
                Some(Arg::Int(v)) => statement.raw_bind_parameter(i, v)?,
                Some(Arg::Bool(v)) => statement.raw_bind_parameter(i, v)?,
                Some(Arg::Float(v)) => statement.raw_bind_parameter(i, v)?,
                Some(Arg::Bytes(v)) => statement.raw_bind_parameter(i, v)?,
                None => return Err(DbError::corrupt("statement", format!("it has no argument {}", at + 1))),
            }
        }
        let mut rows = statement.raw_query();
        let mut out: Vec<Cells> = Vec::new();
        while let Some(row) = rows.next()? {
            // Rows of a list are about as long as each other.
            let mut cells = Cells::with_capacity(columns, out.last().map_or(0, |c| c.text.len() + c.text.len() / 8));
            for i in 0..columns {
                cells.push(row.get_ref(i)?)?;
            }
            out.push(cells);
        }
        Ok(out)
    }

    /// Prepares a statement without running it.
    #[cfg(test)]
    pub(crate) fn prepare(&self, sql: &str) -> Result<()> {
        self.connection()?.prepare(sql)?;
        Ok(())
    }
}

#[derive(Debug)]
enum Cell {
    Null,
    Int(i64),
    Float(f64),
    /// From here to there in the row's text.
    Text(usize, usize),
    Bytes(Vec<u8>),
}

/// The values of a row, all its texts in one piece.
#[derive(Debug)]
pub struct Cells {
    text: String,
    cells: Vec<Cell>,
}

impl Cells {
    fn with_capacity(columns: usize, text: usize) -> Self {
        Self { text: String::with_capacity(text), cells: Vec::with_capacity(columns) }
    }

    fn push(&mut self, value: ValueRef<'_>) -> Result<()> {
        self.cells.push(match value {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(i) => Cell::Int(i),
            ValueRef::Real(f) => Cell::Float(f),
            ValueRef::Text(t) => {
                let start = self.text.len();
                self.text.push_str(std::str::from_utf8(t).map_err(|e| DbError::corrupt("text", e))?);
                Cell::Text(start, self.text.len())
            }
            ValueRef::Blob(b) => Cell::Bytes(b.to_vec()),
        });
        Ok(())
    }

    pub(crate) fn get<'r, T: FromCell<'r>>(&'r self, at: usize) -> Result<T> {
        let cell = self.cells.get(at).ok_or_else(|| DbError::corrupt("row", format!("it has no column {at}")))?;
        T::from_cell(cell, &self.text).ok_or_else(|| DbError::corrupt("row", format!("column {at} holds another type")))
    }
}

/// What can be read from a column; `None` where it holds another type.
pub(crate) trait FromCell<'r>: Sized {
    #[allow(private_interfaces, reason = "only this module implements it")]
    fn from_cell(cell: &'r Cell, text: &'r str) -> Option<Self>;
}

macro_rules! from_cell {
    ($($t:ty: $pattern:pat => $value:expr, $text:ident;)*) => {$(
        impl<'r> FromCell<'r> for $t {
            #[allow(private_interfaces, reason = "only this module implements it")]
            fn from_cell(cell: &'r Cell, $text: &'r str) -> Option<Self> {
                match cell {
                    $pattern => $value,
                    _ => None,
                }
            }
        }
    )*};
}

from_cell! {
    &'r str: Cell::Text(start, end) => text.get(*start..*end), text;
    String: Cell::Text(start, end) => text.get(*start..*end).map(str::to_owned), text;
    i64: Cell::Int(i) => Some(*i), _text;
    bool: Cell::Int(i) => Some(*i != 0), _text;
    f64: Cell::Float(f) => Some(*f), _text;
    Vec<u8>: Cell::Bytes(b) => Some(b.clone()), _text;
}

impl<'r, T: FromCell<'r>> FromCell<'r> for Option<T> {
    #[allow(private_interfaces, reason = "only this module implements it")]
    fn from_cell(cell: &'r Cell, text: &'r str) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            c => T::from_cell(c, text).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers(most: u32) -> Result<(tempfile::TempDir, Arc<Readers>), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("t.db");
        Connection::open(&file)?
            .execute_batch("CREATE TABLE t (a TEXT, b INTEGER, c REAL, d BLOB); INSERT INTO t VALUES ('é', 7, 0.5, x'00ff')")?;
        let limits = Limits { most, patience: Duration::from_millis(500), busy: Duration::from_secs(1), prepared: 4 };
        Ok((dir, Readers::open(&file, limits)?))
    }

    #[tokio::test]
    async fn values_come_as_they_are_stored_and_arguments_go_by_their_numbers() -> Result<(), Box<dyn std::error::Error>> {
        let (_dir, readers) = readers(1)?;
        let reader = readers.take().await?;
        let args = [Arg::Int(Some(7)), Arg::Text(Some("é".into()))];
        let rows = reader.rows("SELECT a, b, c, d, NULL FROM t WHERE a = $2 AND b = $1", &args)?;
        let row = &rows[0];
        assert_eq!((row.get::<&str>(0)?, row.get::<i64>(1)?, row.get::<bool>(1)?, row.get::<f64>(2)?), ("é", 7, true, 0.5));
        assert_eq!(
            (row.get::<Vec<u8>>(3)?, row.get::<Option<i64>>(4)?, row.get::<Option<String>>(0)?),
            (vec![0, 255], None, Some("é".into()))
        );
        assert!(row.get::<i64>(0).is_err() && row.get::<String>(4).is_err() && row.get::<i64>(5).is_err());
        assert!(reader.rows("SELECT a FROM t WHERE b = $3", &args).is_err(), "an argument that was not given");
        assert!(reader.rows("DELETE FROM t", &[]).is_err(), "a reader does not write");
        Ok(())
    }

    #[tokio::test]
    async fn a_read_waits_for_a_connection_no_longer_than_told_and_finds_none_after_the_end() -> Result<(), Box<dyn std::error::Error>> {
        let (_dir, readers) = readers(1)?;
        let first = readers.take().await?;
        assert!(matches!(readers.take().await, Err(DbError::Unavailable(None))));
        drop(first);
        let held = readers.take().await?;
        let mut closing = std::pin::pin!(readers.close());
        assert!(tokio::time::timeout(Duration::from_millis(10), &mut closing).await.is_err(), "somebody reads");
        drop(held);
        closing.await;
        assert!(matches!(readers.take().await, Err(DbError::Unavailable(None))));
        Ok(())
    }
}
