//! The [`Store`] handle: opening, migrating, and the running of reads and writes on either engine.

use std::{
    future::pending,
    str::FromStr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bessemer_model::{clock::Timestamp, ids::NodeId};
use sqlx::{
    ConnectOptions as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::mpsc;

use crate::{
    crash::{CommitAction, CommitHook, CommitPoint},
    engine::{
        Arg, BoxFuture, Build, Conn, Engine, Row, Sql,
        reader::{Limits, Readers},
        sql::{args, statements},
        writer::{Job, JobKind, QUEUE, Task, run_writer},
    },
    error::{DbError, Result},
    migrate::migrator,
    open::{OpenOptions, Synchronous},
    seal::SealKey,
    turn::{Queue, Turn, Turns},
};

/// How long a statement may wait for a lock, a connection or a place in the queue before the caller hears "not available".
const PATIENCE: Duration = Duration::from_secs(10);
/// How long SQLite itself tries to get a lock of the file.
const BUSY: Duration = Duration::from_secs(5);
/// Statements kept prepared per connection.
const PREPARED: usize = 512;

/// A handle to the database. Cheap to clone; every clone is the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("engine", &self.engine()).finish_non_exhaustive()
    }
}

struct Inner {
    backend: Backend,
    options: OpenOptions,
    fate: Arc<Fate>,
    turns: Arc<Turns>,
}

/// On which thread an SQLite file is read.
enum Where {
    Here,
    Aside,
}

enum Backend {
    /// `readers` is absent for a database in memory: everything goes through its one connection.
    Sqlite {
        writer: mpsc::Sender<Box<dyn Job>>,
        readers: Option<Arc<Readers>>,
    },
    Postgres(PgPool),
}

/// Counts commits and, with a hook, decides where the "process" ends.
#[derive(Default)]
pub(crate) struct Fate {
    commits: AtomicU64,
    dead: AtomicBool,
    hook: OnceLock<Arc<dyn CommitHook>>,
}

impl Fate {
    pub(crate) fn next_commit(&self) -> u64 {
        self.commits.fetch_add(1, Ordering::SeqCst) + 1
    }
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }
    /// Whether the process "dies" here.
    pub(crate) fn ask(&self, point: CommitPoint, number: u64) -> bool {
        if self.is_dead() {
            return true;
        }
        if let Some(h) = self.hook.get()
            && h.at(point, number) == CommitAction::Crash
        {
            self.dead.store(true, Ordering::SeqCst);
            return true;
        }
        false
    }
    /// Never returns once the process is "dead".
    async fn live(&self) {
        if self.is_dead() {
            pending::<()>().await;
        }
    }
}

statements! {
    PING = Sql::same("SELECT CAST(1 AS BIGINT)");
}

impl Store {
    /// Opens `sqlite:///path/to/file` (made when absent), `sqlite::memory:` or `postgresql://user@host/name`. Does not migrate.
    ///
    /// # Errors
    /// [`DbError::Url`] for another scheme; [`DbError::Open`] when the database cannot be reached.
    pub async fn open(url: &str, options: OpenOptions) -> Result<Self> {
        let fate = Arc::new(Fate::default());
        let backend = if url.starts_with("sqlite:") {
            open_sqlite(url, &options, &fate).await?
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            open_postgres(url, &options).await?
        } else {
            return Err(DbError::Url(url.split(':').next().unwrap_or_default().to_owned()));
        };
        Ok(Self { inner: Arc::new(Inner { backend, options, fate, turns: Arc::default() }) })
    }

    /// Brings the database to this program's schema.
    ///
    /// # Errors
    /// [`DbError::Migrate`], also when a newer release migrated it already.
    pub async fn migrate(&self) -> Result<()> {
        let m = migrator(self.engine());
        match &self.inner.backend {
            Backend::Sqlite { .. } => {
                self.write_kind(JobKind::Read, move |c| {
                    Box::pin(async move {
                        match c {
                            Conn::Writer(w) => m.run_direct(None, w, false).await.map_err(DbError::Migrate),
                            _ => Err(DbError::Unavailable(None)),
                        }
                    })
                })
                .await
            }
            Backend::Postgres(pool) => m.run(pool).await.map_err(DbError::Migrate),
        }
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when there is none.
    pub async fn ping(&self) -> Result<()> {
        self.fetch_one(PING, args![]).await.map(drop)
    }

    /// Sets the hook of every clone of this handle; the first one stays.
    #[must_use]
    pub fn with_commit_hook(self, hook: Arc<dyn CommitHook>) -> Self {
        let _ = self.inner.fate.hook.set(hook);
        self
    }

    /// How many COMMITs this handle family has made.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.inner.fate.commits.load(Ordering::SeqCst)
    }

    /// Closes the connections after what is running. The handle is useless afterwards.
    pub async fn close(&self) {
        match &self.inner.backend {
            Backend::Sqlite { readers: Some(r), .. } => r.close().await,
            Backend::Sqlite { readers: None, .. } => {}
            Backend::Postgres(p) => p.close().await,
        }
    }

    /// Waits in line with the other requests of this process for a turn at a node; `None` when it did not come within `patience`.
    pub async fn turn(&self, node: NodeId, queue: Queue, patience: Duration) -> Option<Turn> {
        self.inner.turns.wait(node, queue, patience).await
    }

    pub(crate) fn engine(&self) -> Engine {
        match self.inner.backend {
            Backend::Sqlite { .. } => Engine::Sqlite,
            Backend::Postgres(_) => Engine::Postgres,
        }
    }

    /// How connections to PostgreSQL are made; `None` on SQLite.
    pub(crate) fn postgres_options(&self) -> Option<PgConnectOptions> {
        match &self.inner.backend {
            Backend::Sqlite { .. } => None,
            Backend::Postgres(pool) => Some(PgConnectOptions::clone(&pool.connect_options())),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.options.clock.now()
    }

    pub(crate) fn key(&self) -> SealKey {
        self.inner.options.key.clone()
    }

    /// Starts a built statement.
    pub(crate) fn build(&self, start: &'static str) -> Build {
        Build::new(self.engine(), start)
    }

    /// Runs `body` in a transaction: all of it or nothing, also when the caller goes away meanwhile.
    pub(crate) async fn write<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.write_kind(JobKind::Transaction, body).await
    }

    /// Runs one writing statement; gives the number of rows touched.
    pub(crate) async fn execute(&self, sql: Sql, args: Vec<Arg>) -> Result<u64> {
        self.write_kind(JobKind::Statement, move |c| Box::pin(c.execute(sql, args))).await
    }

    /// Runs one writing statement that gives rows.
    pub(crate) async fn execute_returning(&self, sql: Sql, args: Vec<Arg>) -> Result<Option<Row>> {
        self.write_kind(JobKind::Statement, move |c| Box::pin(c.row(sql, args))).await
    }

    async fn write_kind<T, F>(&self, kind: JobKind, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.inner.fate.live().await;
        let r = match &self.inner.backend {
            Backend::Sqlite { writer, .. } => self.queue(writer, kind, body).await,
            Backend::Postgres(pool) => {
                // A task of its own: a caller that is cancelled must not leave a transaction half way on a pooled connection.
                let (pool, fate) = (pool.clone(), Arc::clone(&self.inner.fate));
                let task = tokio::spawn(postgres_write(pool, fate, kind, body));
                task.await.unwrap_or(Err(DbError::Unavailable(None)))
            }
        };
        self.inner.fate.live().await;
        r
    }

    async fn queue<T, F>(&self, writer: &mpsc::Sender<Box<dyn Job>>, kind: JobKind, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let (job, answer) = Task::job(kind, body);
        let sent = writer.send_timeout(job, PATIENCE).await;
        if sent.is_err() {
            self.inner.fate.live().await;
            return Err(DbError::Unavailable(None));
        }
        match answer.await {
            Ok(r) => r,
            Err(_) => {
                self.inner.fate.live().await;
                Err(DbError::Unavailable(None))
            }
        }
    }

    /// Runs short reads on one connection. An SQLite file is read on this very thread.
    pub(crate) async fn read<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.read_on(Where::Here, body).await
    }

    /// Runs reads that may go through many rows on one connection, not on the threads that serve requests.
    pub(crate) async fn read_many<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.read_on(Where::Aside, body).await
    }

    async fn read_on<T, F>(&self, place: Where, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.inner.fate.live().await;
        let r = match &self.inner.backend {
            Backend::Sqlite { writer, readers: None } => self.queue(writer, JobKind::Read, body).await,
            Backend::Sqlite { readers: Some(all), .. } => {
                let mut reader = Conn::Reader(all.take().await?);
                match place {
                    Where::Here => body(&mut reader).await,
                    Where::Aside => {
                        let here = tokio::runtime::Handle::current();
                        let read = tokio::task::spawn_blocking(move || here.block_on(body(&mut reader)));
                        read.await.unwrap_or(Err(DbError::Unavailable(None)))
                    }
                }
            }
            Backend::Postgres(pool) => body(&mut Conn::Postgres(pool.acquire().await?)).await,
        };
        self.inner.fate.live().await;
        r
    }

    /// Reads rows.
    pub(crate) async fn fetch(&self, sql: Sql, args: Vec<Arg>) -> Result<Vec<Row>> {
        self.read(move |c| Box::pin(c.rows(sql, args))).await
    }

    /// Reads at most one row.
    pub(crate) async fn fetch_one(&self, sql: Sql, args: Vec<Arg>) -> Result<Option<Row>> {
        self.read(move |c| Box::pin(c.row(sql, args))).await
    }
}

async fn postgres_write<T, F>(pool: PgPool, fate: Arc<Fate>, kind: JobKind, body: F) -> Result<T>
where
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T>> + Send,
{
    let mut conn = Conn::Postgres(pool.acquire().await?);
    if kind == JobKind::Read {
        return body(&mut conn).await;
    }
    // A single statement is its own transaction; only a hook needs to stand between it and its commit.
    let explicit = kind == JobKind::Transaction || fate.hook.get().is_some();
    if explicit {
        conn.control("BEGIN").await?;
    }
    let r = body(&mut conn).await;
    if r.is_err() {
        if explicit {
            conn.control("ROLLBACK").await?;
        }
        return r;
    }
    let number = fate.next_commit();
    if fate.ask(CommitPoint::Before, number) {
        if explicit {
            conn.control("ROLLBACK").await?;
        }
        return r;
    }
    if explicit {
        conn.control("COMMIT").await?;
    }
    fate.ask(CommitPoint::After, number);
    r
}

async fn open_sqlite(url: &str, options: &OpenOptions, fate: &Arc<Fate>) -> Result<Backend> {
    let memory = url.starts_with("sqlite::memory:");
    let bad = |e: sqlx::Error| DbError::Url(e.to_string());
    let base = SqliteConnectOptions::from_str(url)
        .map_err(bad)?
        .create_if_missing(true)
        .busy_timeout(BUSY)
        .foreign_keys(true)
        .statement_cache_capacity(PREPARED)
        .disable_statement_logging();
    let base = if memory {
        base
    } else {
        base.journal_mode(SqliteJournalMode::Wal).synchronous(match options.synchronous {
            Synchronous::Full => SqliteSynchronous::Full,
            Synchronous::Normal => SqliteSynchronous::Normal,
        })
    };
    let fail = |e: sqlx::Error| DbError::Open {
        what: base.get_filename().display().to_string(),
        remedy: "its folder must exist and be writable, and the file must be an SQLite database",
        source: Box::new(e),
    };
    if !memory {
        make_private(base.get_filename()).map_err(|e| fail(sqlx::Error::Io(e)))?;
    }
    // The writer first: it turns the journal on.
    let writer = base.connect().await.map_err(fail)?;
    let readers = if memory {
        None
    } else {
        let limits = Limits { most: options.connections, patience: PATIENCE, busy: BUSY, prepared: PREPARED };
        Some(Readers::open(base.get_filename(), limits)?)
    };
    let (tx, rx) = mpsc::channel(QUEUE);
    // Ends by itself when the last handle is dropped.
    tokio::spawn(run_writer(Conn::Writer(writer), rx, Arc::clone(fate)));
    Ok(Backend::Sqlite { writer: tx, readers })
}

/// Makes the file before SQLite does, so that others cannot read it; its journal takes over the mode.
fn make_private(file: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file).map(drop)
}

async fn open_postgres(url: &str, options: &OpenOptions) -> Result<Backend> {
    let connect = PgConnectOptions::from_str(url).map_err(|e| DbError::Url(e.to_string()))?;
    let what = format!("{} at {}:{}", connect.get_database().unwrap_or_default(), connect.get_host(), connect.get_port());
    let connect = connect
        .application_name("bessemer")
        .statement_cache_capacity(PREPARED)
        .options([("statement_timeout", "30s"), ("lock_timeout", "10s"), ("idle_in_transaction_session_timeout", "60s")])
        .disable_statement_logging();
    let pool = PgPoolOptions::new()
        .max_connections(options.connections.max(2))
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .connect_with(connect)
        .await
        .map_err(|e| DbError::Open {
            what,
            remedy: "PostgreSQL must run there, know the user and hold the database",
            source: Box::new(e),
        })?;
    Ok(Backend::Postgres(pool))
}
