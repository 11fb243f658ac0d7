//! The one writer of an SQLite file: takes jobs from a queue, runs all that wait in one transaction, commits once, then answers each.
//!
//! A job that fails is undone alone (savepoint). Nobody hears of success before the COMMIT, which `synchronous=FULL` makes durable;
//! sharing it is what makes durable writes fast. While one COMMIT waits for the disk, the next jobs gather.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{BoxFuture, Conn};
use crate::{
    crash::CommitPoint,
    error::{DbError, Result},
    store::Fate,
};

/// A transaction is kept open for new jobs no longer than this.
const WINDOW: Duration = Duration::from_millis(2);
/// Nor for more jobs than this.
const MOST: usize = 256;
/// How many jobs may wait before callers do.
pub(crate) const QUEUE: usize = 1024;

/// What a job needs of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// Only reads (databases in memory, which have no second connection).
    Read,
    /// One statement, which undoes itself when it fails.
    Statement,
    /// Several statements: all or none.
    Transaction,
}

/// A queued job.
pub(crate) trait Job: Send {
    fn kind(&self) -> JobKind;
    /// Runs it; gives whether it succeeded. Called once.
    fn run<'a>(&'a mut self, conn: &'a mut Conn) -> BoxFuture<'a, bool>;
    /// Answers the caller: with the error, or else with what `run` found.
    fn answer(self: Box<Self>, error: Option<DbError>);
}

/// A job made of a closure.
pub(crate) struct Task<T, F> {
    kind: JobKind,
    body: Option<F>,
    result: Option<Result<T>>,
    to: oneshot::Sender<Result<T>>,
}

impl<T, F> Task<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T>> + Send + 'static,
{
    pub(crate) fn job(kind: JobKind, body: F) -> (Box<dyn Job>, oneshot::Receiver<Result<T>>) {
        let (to, from) = oneshot::channel();
        (Box::new(Self { kind, body: Some(body), result: None, to }), from)
    }
}

impl<T, F> Job for Task<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T>> + Send + 'static,
{
    fn kind(&self) -> JobKind {
        self.kind
    }
    fn run<'a>(&'a mut self, conn: &'a mut Conn) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let Some(body) = self.body.take() else { return false };
            let r = body(conn).await;
            let ok = r.is_ok();
            self.result = Some(r);
            ok
        })
    }
    fn answer(self: Box<Self>, error: Option<DbError>) {
        let r = match error {
            Some(e) => Err(e),
            None => self.result.unwrap_or(Err(DbError::Unavailable(None))),
        };
        // A caller that went away does not want to know.
        let _ = self.to.send(r);
    }
}

/// Runs until every sender is gone, or until the hook lets the process "die".
pub(crate) async fn run_writer(mut conn: Conn, mut queue: mpsc::Receiver<Box<dyn Job>>, fate: Arc<Fate>) {
    while let Some(mut job) = queue.recv().await {
        if job.kind() == JobKind::Read {
            job.run(&mut conn).await;
            job.answer(None);
            continue;
        }
        run_batch(&mut conn, job, &mut queue, &fate).await;
        if fate.is_dead() {
            // Dropping the connection undoes what was not committed, as the death of a process does.
            return;
        }
    }
}

async fn run_batch(conn: &mut Conn, mut first: Box<dyn Job>, queue: &mut mpsc::Receiver<Box<dyn Job>>, fate: &Fate) {
    let began = Instant::now();
    if let Err(e) = conn.control("BEGIN IMMEDIATE").await {
        return first.answer(Some(e));
    }
    // The first needs no savepoint: until it has succeeded there is nothing else to keep.
    if !first.run(conn).await {
        if let Err(e) = conn.control("ROLLBACK").await {
            tracing::warn!(error = %e, "undoing a failed write");
        }
        return first.answer(None);
    }
    let mut done = vec![first];
    while done.len() < MOST && began.elapsed() < WINDOW {
        let Ok(mut job) = queue.try_recv() else { break };
        let outcome = run_in_batch(conn, &mut job).await;
        done.push(job);
        if let Err(e) = outcome {
            // The engine gave up the whole transaction (disk full, I/O error): nothing of the batch is stored.
            tracing::error!(error = %e, "a transaction was lost");
            let _ = conn.control("ROLLBACK").await;
            return done.into_iter().for_each(|j| j.answer(Some(DbError::Unavailable(None))));
        }
    }
    let number = fate.next_commit();
    if fate.ask(CommitPoint::Before, number) {
        return;
    }
    let committed = conn.control("COMMIT").await;
    if committed.is_err() {
        let _ = conn.control("ROLLBACK").await;
    }
    if fate.ask(CommitPoint::After, number) {
        return;
    }
    match committed {
        Ok(()) => done.into_iter().for_each(|j| j.answer(None)),
        Err(e) => {
            tracing::error!(error = %e, "commit failed");
            done.into_iter().for_each(|j| j.answer(Some(DbError::Unavailable(None))));
        }
    }
}

async fn run_in_batch(conn: &mut Conn, job: &mut Box<dyn Job>) -> Result<()> {
    if job.kind() != JobKind::Transaction {
        job.run(conn).await;
        return Ok(());
    }
    conn.control("SAVEPOINT caller").await?;
    if !job.run(conn).await {
        conn.control("ROLLBACK TO caller").await?;
    }
    conn.control("RELEASE caller").await
}
