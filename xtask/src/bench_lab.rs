//! `cargo xtask lab up | down | exec | list`: a test bench that stays, for manual work.
//!
//! The bench belongs to a background process (`lab hold`); ending that process ends it all.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bessemer_lab::machines::{Firmware, MachineSpec};
use bessemer_lab::{Bench, enter, tool};
use clap::Subcommand;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum LabTask {
    /// Start machines and their BMCs in the background and print how to reach them
    Up {
        /// Name of the lab; several may run side by side
        #[arg(default_value = "lab0")]
        name: String,
        /// How many machines: BIOS, UEFI, BIOS, …
        #[arg(long, default_value_t = 2)]
        count: u8,
    },
    /// End a lab and remove all its files
    Down {
        #[arg(default_value = "lab0")]
        name: String,
    },
    /// Run a command inside a lab's network (it sees the machines and their BMCs)
    Exec {
        #[arg(default_value = "lab0", long)]
        name: String,
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
    /// The background process of `up`
    #[command(hide = true)]
    Hold { name: String, count: u8 },
}

pub(crate) fn run(task: LabTask) -> Result<()> {
    match task {
        LabTask::Up { name, count } => up(&name, count),
        LabTask::Down { name } => down(&name),
        LabTask::Exec { name, command } => exec(&name, &command),
        LabTask::Hold { name, count } => hold(&name, count),
    }
}

/// Where a lab of that name tells what it is.
fn card(name: &str) -> PathBuf {
    enter::root().join(format!("bessemer-{name}.json"))
}

fn up(name: &str, count: u8) -> Result<()> {
    ensure!(holder(name).is_err(), "a lab {name} runs already: cargo xtask lab down {name}");
    let card = card(name);
    let _ = std::fs::remove_file(&card);
    let log = std::fs::File::create(card.with_extension("log"))?;
    let mut holder = Command::new("setsid")
        .arg(tool::own_program()?)
        .args(["lab", "hold", name, &count.to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let mut failed = false;
    tool::until("the lab", Duration::from_secs(180), || {
        failed = matches!(holder.try_wait(), Ok(Some(_)));
        failed || card.exists()
    })?;
    if failed {
        bail!("the lab did not start: {}", tool::log_tail(&card.with_extension("log"), 20));
    }
    println!("{}", std::fs::read_to_string(card)?);
    Ok(())
}

fn hold(name: &str, count: u8) -> Result<()> {
    let card = card(name);
    if enter::outside() {
        std::fs::write(card.with_extension("pid"), std::process::id().to_string())?;
    }
    let result = enter::run(name, false, |lab| {
        let specs: Vec<MachineSpec> = (0..count)
            .map(|index| {
                let firmware = if index % 2 == 0 { Firmware::Bios } else { Firmware::Uefi };
                MachineSpec::usual(&format!("node-{index}"), index, firmware)
            })
            .collect();
        let bench = Bench::start(lab, &specs)?;
        let mut about = bench.describe();
        if let Value::Object(about) = &mut about {
            about.insert("state".into(), json!(lab.state()));
        }
        let partial = card.with_extension("partial");
        std::fs::write(&partial, serde_json::to_string_pretty(&about)?)?;
        std::fs::rename(partial, &card)?;
        loop {
            std::thread::park();
        }
    });
    if enter::outside() {
        let _ = std::fs::remove_file(&card);
        let _ = std::fs::remove_file(card.with_extension("pid"));
    }
    result
}

/// Process id of a running lab's background process.
fn holder(name: &str) -> Result<Pid> {
    let file = card(name).with_extension("pid");
    let pid: i32 =
        std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).with_context(|| format!("no lab {name} runs"))?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    ensure!(String::from_utf8_lossy(&line).contains("hold"), "no lab {name} runs");
    Ok(Pid::from_raw(pid))
}

fn down(name: &str) -> Result<()> {
    let pid = holder(name)?;
    kill(pid, Signal::SIGTERM)?;
    let proc = PathBuf::from(format!("/proc/{pid}"));
    tool::until("the lab's end", Duration::from_secs(30), || !proc.exists())?;
    for extension in ["json", "pid", "log"] {
        let _ = std::fs::remove_file(card(name).with_extension(extension));
    }
    Ok(())
}

fn exec(name: &str, words: &[OsString]) -> Result<()> {
    let child = |pid: &str| -> Result<String> {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        list.split_whitespace().next().map(str::to_owned).context("the lab is just ending")
    };
    let unshare = child(&holder(name)?.to_string())?;
    let first = child(&unshare)?;
    let error = Command::new("nsenter")
        .args(["--target", &first, "--net", "--mount", "--pid"])
        .arg(format!("--wdns={}", std::env::current_dir()?.display()))
        .args(words)
        .exec();
    Err(error).context("cannot start nsenter")
}
