//! A lab leaves nothing behind, however it ends. Needs root (namespaces), no QEMU.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bessemer_lab::{enter, tool};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Names the file in which the sleeping lab tells where its state is and who runs in it.
const CARD: &str = "BESSEMER_LAB_TEST_CARD";

/// Not a test of its own: a lab that sleeps until it is ended, started by the tests below.
#[test]
#[ignore = "started by the other tests"]
fn sleeper() {
    if std::env::var_os(CARD).is_none() {
        return;
    }
    enter::test("sleeper", |lab| {
        let card = PathBuf::from(std::env::var_os(CARD).expect("checked by the caller"));
        // An orphan as QEMU is one: its parent ends at once.
        let marker = lab.state().join("marker");
        let mut orphan = tool::command("setsid");
        orphan.args(["--fork", "tail", "--follow=name", "--retry"]).arg(&marker);
        orphan.stdout(Stdio::null()).stderr(Stdio::null());
        orphan.spawn()?.wait()?;
        std::fs::write(card.with_extension("tmp"), lab.state().display().to_string())?;
        std::fs::rename(card.with_extension("tmp"), &card)?;
        loop {
            std::thread::park();
        }
    })
    .unwrap();
}

/// Starts the sleeping lab; returns it, its state folder and the text that its orphan carries.
fn asleep(folder: &Path) -> (Child, PathBuf) {
    let card = folder.join("card");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sleeper", "--ignored"])
        .env(CARD, &card)
        .env_remove(enter::ROLE)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    tool::until("the lab", Duration::from_secs(20), || card.exists()).unwrap();
    let state = PathBuf::from(std::fs::read_to_string(card).unwrap());
    tool::until("its orphan", Duration::from_secs(20), || runs_with(&state)).unwrap();
    (child, state)
}

/// Whether any process names the state folder in its arguments.
fn runs_with(state: &Path) -> bool {
    let wanted = state.display().to_string();
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&wanted)
    })
}

fn ended_by(signal: Signal) -> (PathBuf, Child) {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, state) = asleep(folder.path());
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    tool::wait(&mut child, Duration::from_secs(20)).unwrap();
    tool::until("the end of all its processes", Duration::from_secs(10), || !runs_with(&state)).unwrap();
    (state, child)
}

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn an_interrupted_lab_ends_its_orphans_and_removes_its_files() {
    if !root() {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (state, mut child) = ended_by(signal);
        assert!(!state.exists(), "{} is left", state.display());
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
}

#[test]
fn a_killed_lab_ends_its_orphans_and_the_next_lab_removes_its_files() {
    if !root() {
        return;
    }
    let (state, _child) = ended_by(Signal::SIGKILL);
    assert!(state.exists(), "nobody could have removed them");
    ended_by(Signal::SIGTERM);
    assert!(!state.exists(), "{} is left", state.display());
}
