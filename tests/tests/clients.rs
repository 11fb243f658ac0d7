//! What operators and Nova already have works with our API: python-ironicclient, openstacksdk and Nova's ironic driver, unmodified.
//!
//! Each script in `tests/clients` calls every command or method that its client has, and expects what Ironic 39 answers with the same fake
//! hardware. The clients come from PyPI (some minutes, once), so these tests are left to `cargo xtask test --all`.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use bessemer_lab::{
    dev::DevServer,
    peers::{self, Peer},
    tool::{self, command},
};
use bessemer_tests::rig::program;

/// For one script, on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);

/// Runs a script against a server of its own that has nothing yet.
fn every_call(peer: &Peer, script: &str) -> Result<()> {
    peer.ensure()?;
    let server = DevServer::start(&program("bessemer")?, &["conductor.automated_clean=false"])?;
    let mut python = command(&peer.program("python").display().to_string());
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(script)).arg(server.url());
    // Neither settings of this computer's user nor compiled files beside the scripts.
    python.env("OS_CLIENT_CONFIG_FILE", "/dev/null").env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore");
    let out = tool::output(&mut python, LIMIT)?;
    let said = String::from_utf8_lossy(&out.stdout);
    print!("{said}");
    let failed: Vec<_> = said.lines().filter(|l| l.starts_with("FAIL")).collect();
    ensure!(out.status.success(), "{}\n{}\n{}", failed.join("\n"), String::from_utf8_lossy(&out.stderr), tool::log_tail(&server.log(), 20));
    // Success needs calls: a script that found no commands would have nothing to complain about.
    let calls = said.lines().filter(|l| l.starts_with("ok ")).count();
    ensure!(calls >= 30, "only {calls} commands or methods were tried: {said}");
    Ok(())
}

#[test]
#[ignore = "needs python-ironicclient from PyPI; run by cargo xtask test --all"]
fn every_command_of_the_baremetal_program_works() -> Result<()> {
    every_call(&peers::IRONIC_CLIENT, "baremetal.py")
}

#[test]
#[ignore = "needs openstacksdk from PyPI; run by cargo xtask test --all"]
fn every_method_of_the_sdk_works() -> Result<()> {
    every_call(&peers::SDK, "sdk.py")
}

#[test]
#[ignore = "needs Nova from PyPI; run by cargo xtask test --all"]
fn novas_driver_spawns_powers_rescues_rebuilds_and_destroys() -> Result<()> {
    every_call(&peers::NOVA, "nova_driver.py")
}
