//! Getting into a lab: the program starts itself again inside new network, mount and process
//! namespaces.
//!
//! Three processes, one binary, told apart by [`ROLE`]:
//! 1. *outside*: makes the state folder, starts `unshare`, waits, removes the folder;
//! 2. *first*: process 1 of the new process namespace; starts the third and reaps orphans (QEMU
//!    is orphaned by libvirtd; unreaped it would look alive for ever);
//! 3. *main*: builds the lab's network and mounts, then runs the body.
//!
//! When *first* ends, for whatever reason, the kernel kills every process of the lab, and the
//! namespaces (bridge, taps, mounts) vanish with the last one. *first* ends when *main* ends and
//! when *outside* ends, so neither Ctrl-C nor SIGKILL leaves anything but files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{netns, tool};

/// Environment variable that tells a process of a lab what it is.
pub const ROLE: &str = "BESSEMER_LAB_ROLE";
/// Environment variable with the lab's state folder.
pub const STATE: &str = "BESSEMER_LAB_STATE";
/// Environment variable: tests keep the state folder (disks, logs) after their end.
pub const KEEP: &str = "BESSEMER_LAB_KEEP";

const PREFIX: &str = "bessemer-lab-";

/// A lab, seen from inside.
#[derive(Debug, Clone)]
pub struct Lab {
    state: PathBuf,
}

impl Lab {
    /// A folder of this lab's state, created when absent.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.state.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir)
    }

    /// The lab's state folder. Everything in it is removed at the end of the lab.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Log file of that name (folder `log` is what is kept after a failure).
    pub fn log(&self, name: &str) -> Result<PathBuf> {
        Ok(self.dir("log")?.join(name))
    }
}

/// Runs `body` in a lab, from a program whose arguments lead it here again.
///
/// Outside a lab this starts the same program with the same arguments inside a new lab and
/// returns when that has ended. `body` therefore runs in another process: what it captured was
/// computed anew there. Slow preparation that needs the internet belongs before the call and
/// should be done only when [`outside`] is true. With `keep` the state folder (disks, logs) stays.
pub fn run(name: &str, keep: bool, body: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    run_with_args(name, &args, keep, body)
}

/// Runs the test `path` (as `cargo test` prints it, without the crate) in a lab: the test
/// binary is started again for this one test.
pub fn test(path: &str, body: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let args = ["--exact", path, "--include-ignored", "--nocapture", "--test-threads=1"];
    run_with_args(path, &args.map(OsString::from), std::env::var_os(KEEP).is_some(), body)
}

/// Whether this process is the *main* process of a lab.
#[must_use]
pub fn inside() -> bool {
    std::env::var_os(ROLE).is_some_and(|role| role == "main")
}

/// Whether this process is in no lab: the place for preparation and for tidying up.
#[must_use]
pub fn outside() -> bool {
    std::env::var_os(ROLE).is_none()
}

fn run_with_args(name: &str, args: &[OsString], keep: bool, body: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    match std::env::var(ROLE).as_deref() {
        Ok("first") => first(args),
        Ok("main") => {
            let state = std::env::var_os(STATE).context("a lab's process without its state folder")?;
            let lab = Lab { state: PathBuf::from(state) };
            netns::build(&lab)?;
            body(&lab)
        }
        _ => host(name, args, keep),
    }
}

/// Where labs keep their files while they run.
#[must_use]
pub fn root() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

fn host(name: &str, args: &[OsString], keep: bool) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "a lab needs root (namespaces, bridge, QEMU taps)");
    sweep();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let state = tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-{name}-", std::process::id()))
        .tempdir_in(root())
        .context("cannot make the lab's state folder")?;
    let mut command = namespaced(state.path(), args)?;
    if args.iter().any(|arg| arg == "--exact") {
        // A test binary inside a test: its own summary must not be taken for the run's.
        command.stdout(std::io::stderr());
    }
    catch_signals()?;
    let mut child = command.spawn().context("cannot start `setpriv unshare`")?;
    let status = wait_or_end(&mut child)?;
    let interrupted = TOLD_TO_END.load(Ordering::SeqCst) || status.code() == Some(130);
    let failed = !status.success();
    if failed {
        keep_logs(state.path(), &name);
    }
    if keep {
        let kept = state.keep();
        eprintln!("lab files kept in {}", kept.display());
    } else if let Err(error) = state.close() {
        eprintln!("could not remove the lab's files: {error}");
    }
    if interrupted {
        eprintln!("interrupted: the lab was ended and removed");
        std::process::exit(130);
    }
    if failed {
        bail!("the lab run failed (its logs: target/lab/{name})");
    }
    Ok(())
}

/// The command that starts this program as *first* in new namespaces. `setpriv` ends it when its
/// parent ends, `unshare` passes that on to the process namespace.
fn namespaced(state: &Path, args: &[OsString]) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc"])
        .args(["--propagation", "private", "--kill-child=SIGKILL"])
        .arg(tool::own_program()?)
        .args(args)
        .env(ROLE, "first")
        .env(STATE, state)
        .stdin(Stdio::null());
    Ok(command)
}

/// Set when this process was told to end.
static TOLD_TO_END: AtomicBool = AtomicBool::new(false);

extern "C" fn note_end(_signal: i32) {
    TOLD_TO_END.store(true, Ordering::SeqCst);
}

/// SIGINT, SIGTERM and SIGHUP end the lab instead of this process, which must live on to tidy up.
/// A handler, not a signal mask: in a test binary the main thread belongs to the test harness.
#[allow(unsafe_code)]
fn catch_signals() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note_end), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: sigaction(2); the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Waits for the lab's end; ends it at once when this process was told to end.
fn wait_or_end(child: &mut Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if TOLD_TO_END.load(Ordering::SeqCst) {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Process 1 of the lab: starts *main*, reaps everything, ends with *main*'s status.
fn first(args: &[OsString]) -> ! {
    let code = match Command::new("/proc/self/exe").args(args).env(ROLE, "main").spawn() {
        Ok(child) => reap_until(Pid::from_raw(i32::try_from(child.id()).unwrap_or(-1))),
        Err(error) => {
            eprintln!("cannot start the lab's main process: {error}");
            1
        }
    };
    std::process::exit(code)
}

fn reap_until(main: Pid) -> i32 {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => return code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => return 128 + signal as i32,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
}

/// Removes state folders whose maker no longer runs (it was ended with SIGKILL).
fn sweep() {
    for entry in std::fs::read_dir(root()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok())
        else {
            continue;
        };
        if !Path::new(&format!("/proc/{pid}")).exists() && !entry.path().join("keep").exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Saves the log folder of a failed lab under the build folder.
fn keep_logs(state: &Path, name: &str) {
    let to = PathBuf::from("target/lab").join(name);
    let _ = std::fs::remove_dir_all(&to);
    let _ = std::fs::create_dir_all(&to);
    let _ = tool::run(tool::command("cp").arg("-r").arg(state.join("log/.")).arg(&to), Duration::from_secs(60));
}
