//! A private PostgreSQL for one test run: its own data folder, a Unix socket, no TCP port.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

use crate::tool::{self, Guarded, command, run};
use crate::{enter, peers};

const PREFIX: &str = "bessemer-pg-";
const LIMIT: Duration = Duration::from_secs(60);

/// A running server; ended and removed on drop.
#[derive(Debug)]
pub struct Postgres {
    process: Guarded,
    programs: PathBuf,
    folder: TempDir,
    _stop: Sender<()>,
}

impl Postgres {
    /// Starts the newest installed PostgreSQL with settings for speed, not for safety. Root runs
    /// it as user `postgres`, as it refuses to run as root.
    pub fn start() -> Result<Self> {
        let programs = programs()?;
        sweep();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(enter::root())?;
        if let Some(user) = unprivileged()? {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700))?;
            nix::unistd::chown(folder.path(), Some(user.uid), Some(user.gid))?;
        }
        let data = folder.path().join("data");
        let mut copy = command("cp");
        copy.args(["-a", "--reflink=auto"]).arg(empty_cluster(&programs)?).arg(&data);
        run(&mut copy, LIMIT).context("copying an empty PostgreSQL data folder")?;
        let mut serve = as_user(&programs.join("postgres"))?;
        serve.arg("-D").arg(&data).arg("-k").arg(folder.path()).args(["-F", "-c", "listen_addresses="]);
        for setting in ["full_page_writes=off", "synchronous_commit=off", "max_connections=200"] {
            serve.args(["-c", setting]);
        }
        let log = folder.path().join("log");
        serve.current_dir(folder.path());
        let (process, stop) = spawn_bound(serve, log.clone())?;
        let server = Self { process, programs, folder, _stop: stop };
        let ready = || server.psql("template1", "SELECT 1").is_ok();
        tool::until("PostgreSQL answering", LIMIT, ready)
            .map_err(|error| anyhow!("{error}; its log ends: {}", tool::log_tail(&log, 10)))?;
        server.create("bessemer")?;
        Ok(server)
    }

    /// Address of the database `bessemer`, empty at first.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("bessemer")
    }

    /// Address of a database of that name.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("postgresql://bessemer@localhost/{database}?host={}", self.folder.path().display())
    }

    /// Makes another empty database.
    pub fn create(&self, database: &str) -> Result<()> {
        self.create_like(database, "template1")
    }

    /// Makes a database with the content of another one, which nobody may be connected to.
    pub fn create_like(&self, database: &str, pattern: &str) -> Result<()> {
        // From a third one: PostgreSQL does not copy a database that somebody uses, also not for this statement.
        let from = if pattern == "template1" { "postgres" } else { "template1" };
        self.psql(from, &format!("CREATE DATABASE \"{database}\" TEMPLATE \"{pattern}\"")).map(drop)
    }

    /// Runs one statement and returns the rows as text.
    pub fn psql(&self, database: &str, statement: &str) -> Result<String> {
        let mut psql = command(&self.programs.join("psql").display().to_string());
        psql.args(["-X", "-q", "-A", "-t", "-U", "bessemer", "-d", database, "-c", statement, "-h"]);
        run(psql.arg(self.folder.path()), LIMIT)
    }

    /// Process id of the server.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate stop: the data is thrown away. Its children end with it.
        if let Ok(pid) = i32::try_from(self.process.pid()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGQUIT);
        }
        let _ = tool::until("PostgreSQL's end", Duration::from_secs(5), || !self.process.alive());
    }
}

/// Starts the server from a thread of its own that lives as long as this process: `setpriv` binds
/// the server's life to the thread that started it, so that it ends with a test process that is
/// killed or that never drops its server (a static). Dropping the sender ends the thread.
fn spawn_bound(mut serve: Command, log: PathBuf) -> Result<(Guarded, Sender<()>)> {
    let (send_process, process) = channel();
    let (stop, stopped) = channel::<()>();
    std::thread::spawn(move || {
        let _ = send_process.send(Guarded::start(&mut serve, &log));
        let _ = stopped.recv();
    });
    let process = process.recv().context("the thread that starts PostgreSQL died")??;
    Ok((process, stop))
}

/// This process's own server: started at the first call, ends with the process.
pub fn own() -> Result<&'static Postgres> {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _only_one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = SERVER.get() {
        return Ok(server);
    }
    let started = Postgres::start().context("PostgreSQL (package postgresql) is needed here")?;
    Ok(SERVER.get_or_init(|| started))
}

/// Address of a new, empty database on [`own`].
pub fn database() -> Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let server = own()?;
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::SeqCst));
    server.create(&name)?;
    Ok(server.url_of(&name))
}

/// A data folder as `initdb` makes it, made once for each release of PostgreSQL and user: copying it takes a tenth of the time.
fn empty_cluster(programs: &Path) -> Result<PathBuf> {
    let user = unprivileged()?;
    let release = programs.parent().and_then(Path::file_name).unwrap_or_default().display().to_string();
    let cache = peers::cache();
    let made = cache.join(format!("postgresql-{release}-{}", nix::unistd::geteuid()));
    if made.exists() {
        return Ok(made);
    }
    std::fs::create_dir_all(&cache)?;
    let folder = tempfile::Builder::new().prefix("bessemer-initdb-").tempdir_in(enter::root())?;
    if let Some(user) = user {
        nix::unistd::chown(folder.path(), Some(user.uid), Some(user.gid))?;
    }
    let data = folder.path().join("data");
    let mut init = as_user(&programs.join("initdb"))?;
    init.args(["-U", "bessemer", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]).arg(&data);
    run(init.current_dir(folder.path()), LIMIT).context("making a PostgreSQL data folder")?;
    // Whole or not at all: under a name of its own first, as others may be at the same.
    let part = cache.join(format!("postgresql-part-{}", std::process::id()));
    let mut copy = command("cp");
    run(copy.arg("-a").arg(&data).arg(&part), LIMIT)?;
    if std::fs::rename(&part, &made).is_err() {
        std::fs::remove_dir_all(&part)?;
    }
    Ok(made)
}

/// Removes folders of servers whose maker no longer runs.
fn sweep() {
    for entry in std::fs::read_dir(enter::root()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn programs() -> Result<PathBuf> {
    let newest = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("bin/postgres").exists())
        .max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    newest.map(|entry| entry.path().join("bin")).context("PostgreSQL is not installed: run `cargo xtask setup`")
}

fn unprivileged() -> Result<Option<nix::unistd::User>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let user = nix::unistd::User::from_name("postgres")?.or(nix::unistd::User::from_name("nobody")?);
    user.map(Some).context("there is no user that PostgreSQL could run as")
}

fn as_user(program: &Path) -> Result<Command> {
    let mut wrapped = command("setpriv");
    if let Some(user) = unprivileged()? {
        wrapped.args(["--reuid", &user.uid.to_string(), "--regid", &user.gid.to_string(), "--clear-groups", "setpriv"]);
    }
    // Apart from the change of user, which would undo it.
    wrapped.args(["--pdeathsig", "QUIT"]).arg(program);
    Ok(wrapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_server_answers_and_leaves_nothing() {
        let Ok(server) = Postgres::start() else {
            assert!(programs().is_err(), "PostgreSQL is installed but does not start");
            return;
        };
        let folder = server.folder.path().to_path_buf();
        assert_eq!(server.psql("bessemer", "SELECT 6 * 7").unwrap().trim(), "42");
        drop(server);
        assert!(!folder.exists());
    }
}
