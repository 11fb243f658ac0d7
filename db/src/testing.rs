//! A private PostgreSQL server for tests of this and other crates; the program itself never calls it.
//!
//! Started once per test process from the machine's own binaries, on a Unix socket in a temporary folder, as a user that is not root.
//! It ends with the process that started it, also when that is killed: a shell keeps it only while its standard input stays open.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

const USER: &str = "bessemer";

struct Server {
    folder: PathBuf,
    bin: PathBuf,
    _keeper: Child,
}

/// The URL of a new, empty database on the private server.
///
/// # Errors
/// A text for a person, when PostgreSQL is not installed (with the package to install) or does not start.
pub fn postgres_url() -> Result<String, String> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let server = SERVER.get_or_init(start).as_ref().map_err(Clone::clone)?;
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::SeqCst));
    let socket = server.folder.display().to_string();
    let made = Command::new(server.bin.join("createdb"))
        .args(["-h", &socket, "-U", USER, &name])
        .output()
        .map_err(|e| format!("createdb: {e}"))?;
    if !made.status.success() {
        return Err(format!("createdb: {}", String::from_utf8_lossy(&made.stderr)));
    }
    Ok(format!("postgresql://{USER}@localhost/{name}?host={socket}"))
}

fn start() -> Result<Server, String> {
    let bin = binaries().ok_or("no PostgreSQL server found in /usr/lib/postgresql; install the package `postgresql` (15 or later)")?;
    let (folder, user) = prepare_folder().map_err(|e| format!("temporary folder for PostgreSQL: {e}"))?;
    let data = folder.join("data");
    let as_user = |program: &Path| match &user {
        Some(u) => {
            let mut c = Command::new("runuser");
            c.args(["-u", u, "--"]).arg(program);
            c
        }
        None => Command::new(program),
    };
    let init = as_user(&bin.join("initdb"))
        .arg("-D")
        .arg(&data)
        .args(["-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C", "--no-sync"])
        .current_dir(&folder)
        .output()
        .map_err(|e| format!("initdb: {e}"))?;
    if !init.status.success() {
        return Err(format!("initdb: {}", String::from_utf8_lossy(&init.stderr)));
    }
    let script = format!(
        "'{bin}/postgres' -D '{data}' -k '{folder}' -c listen_addresses= -c fsync=off -c max_connections=400 -c shared_buffers=64MB \
         >'{folder}/log' 2>&1 </dev/null & p=$!; cat >/dev/null; kill -QUIT $p; wait $p; cd /; rm -rf '{folder}'",
        bin = bin.display(),
        data = data.display(),
        folder = folder.display(),
    );
    let keeper = as_user(Path::new("/bin/sh"))
        .args(["-c", &script])
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("starting PostgreSQL: {e}"))?;
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let ready = Command::new(bin.join("pg_isready")).arg("-q").arg("-h").arg(&folder).status();
        if ready.is_ok_and(|s| s.success()) {
            return Ok(Server { folder, bin, _keeper: keeper });
        }
        if Instant::now() > until {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            return Err(format!("PostgreSQL did not start within a minute: {log}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The newest server's folder of programs.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .filter(|(_, p)| p.join("postgres").exists() && p.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, p)| p)
}

/// A folder that the server's user owns, and that user where it is not us: the server refuses to run as root.
fn prepare_folder() -> io::Result<(PathBuf, Option<String>)> {
    let folder = std::env::temp_dir().join(format!("bessemer-pg-{}", uuid::Uuid::new_v4().simple()));
    fs::create_dir(&folder)?;
    if number(&["-u"])? != 0 {
        return Ok((folder, None));
    }
    for user in ["postgres", "nobody"] {
        if let (Ok(uid), Ok(gid)) = (number(&["-u", user]), number(&["-g", user])) {
            chown(&folder, Some(uid), Some(gid))?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
            return Ok((folder, Some(user.to_owned())));
        }
    }
    Err(io::Error::other("running as root, and neither a user `postgres` nor `nobody` exists"))
}

fn number(args: &[&str]) -> io::Result<u32> {
    let out = Command::new("id").args(args).output()?;
    String::from_utf8_lossy(&out.stdout).trim().parse().map_err(io::Error::other)
}
