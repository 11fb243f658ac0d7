//! The daemon under test, and our program beside it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use bessemer_lab::cli::Baremetal;
use bessemer_lab::tool::{self, Guarded, command};
use serde_json::Value;

/// Limit of one command.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A daemon with fake hardware, of its own state folder; stopped when dropped.
pub struct Service {
    daemon: Guarded,
    line: (PathBuf, Vec<String>),
    pub folder: tempfile::TempDir,
    pub url: String,
    pub ours: Baremetal,
}

/// The program that lies beside the test programs: `target/PROFILE/NAME`.
fn program(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("own path");
    me.ancestors().nth(2).expect("the profile's folder").join(name)
}

/// Starts the daemon; `None` when it does not come to listen.
fn start(daemon: &std::path::Path, args: &[String], log: &std::path::Path, port: u16) -> Option<Guarded> {
    let mut running = Guarded::start(command(&daemon.display().to_string()).args(args), log).expect("the daemon starts");
    let ready = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    let up = tool::until("the daemon listens", Duration::from_secs(30), || ready() || !running.alive());
    (up.is_ok() && running.alive() && ready()).then_some(running)
}

impl Service {
    /// Starts one; `set` are options for `--set`.
    pub fn start(set: &[&str]) -> Self {
        let daemon = program("bessemer");
        assert!(daemon.is_file(), "{} is missing; build it first: cargo build -p bessemer", daemon.display());
        let folder = tempfile::tempdir().expect("a folder");
        // Another program may take a port between looking and listening: three tries.
        for _ in 0..3 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
            let state = folder.path().join("state").display().to_string();
            let mut args: Vec<String> = ["serve", "--dev", "--listen"].map(String::from).to_vec();
            args.extend([format!("127.0.0.1:{port}"), "--state-dir".to_owned(), state]);
            args.extend(set.iter().flat_map(|option| ["--set".to_owned(), (*option).to_owned()]));
            let log = folder.path().join("daemon.log");
            if let Some(running) = start(&daemon, &args, &log, port) {
                let url = format!("http://127.0.0.1:{port}");
                let ours = Baremetal::ours(std::path::Path::new(env!("CARGO_BIN_EXE_baremetal")), &url);
                return Self { daemon: running, line: (daemon, args), folder, url, ours };
            }
            eprintln!("{}", tool::log_tail(&log, 20));
        }
        panic!("the daemon does not start; its last words are above");
    }

    /// SIGKILL; then nothing, for a while; then the same daemon again.
    pub fn kill_and_restart(&mut self, pause: Duration) {
        self.daemon.kill();
        std::thread::sleep(pause);
        let port = self.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let log = self.folder.path().join("daemon-again.log");
        self.daemon = start(&self.line.0, &self.line.1, &log, port).unwrap_or_else(|| panic!("{}", tool::log_tail(&log, 20)));
    }

    /// Runs our program; it must succeed. What it printed.
    pub fn ok(&self, words: &[&str]) -> String {
        let out = self.run(words);
        assert!(out.status.success(), "{words:?}: {}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout)
    }

    /// Runs our program for JSON.
    pub fn json(&self, words: &[&str]) -> Value {
        self.ours.json(words, LIMIT).expect("JSON")
    }

    /// Runs our program; it must fail. Exit code and what it said.
    pub fn refused(&self, words: &[&str]) -> (i32, String) {
        let out = self.run(words);
        assert!(!out.status.success(), "{words:?} did not fail: {}", text(&out.stdout));
        (out.status.code().unwrap_or(-1), text(&out.stderr))
    }

    /// Runs our program.
    pub fn run(&self, words: &[&str]) -> Output {
        self.ours.attempt(words, LIMIT).expect("it runs")
    }

    /// A field of a node.
    pub fn field(&self, node: &str, field: &str) -> Value {
        self.json(&["node", "show", node, "--fields", field])[field].clone()
    }

    /// Our program's command line, for tests that need more than its result.
    pub fn command(&self, words: &[&str]) -> Command {
        self.ours.command(words)
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
