//! `cargo xtask tempest`: the acceptance suite of Ironic's API with our daemon and a real Keystone.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bessemer_lab::tempest::{self, Verdict};

use crate::conformance::built;

/// Runs the tests that match `filter`, all without it, and tells what should not be.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    let verdict = judged(filter)?;
    println!("{} passed, {} failed as they may, {} wrong", verdict.passed, verdict.permitted, verdict.wrong.len());
    if verdict.wrong.is_empty() { Ok(()) } else { bail!("not what tests/tempest/permitted.txt expects") }
}

/// The same for the whole suite without the last word.
pub(crate) fn judged(filter: Option<&str>) -> Result<Verdict> {
    let folder = folder()?;
    let verdict = tempest::run(&built()?, &folder, filter.unwrap_or(tempest::API_TESTS))?;
    for line in &verdict.wrong {
        println!("{line}");
    }
    println!("what the suite said is in {}", folder.join("run.log").display());
    Ok(verdict)
}

/// `target/tempest`, whatever the profile.
fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).context("the folder of this program")?.join("tempest"))
}
