//! `cargo xtask conformance`: the recorded conversations with a server, one line each.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use bessemer_lab::{conformance as talk, dev::DevServer};

/// Holds them with `url`, or, without it, each with a fresh `bessemer serve --dev`.
pub(crate) fn run(url: Option<&str>, only: &[String]) -> Result<()> {
    let files = chosen(only)?;
    let program = if url.is_none() { Some(built()?) } else { None };
    let (mut passed, mut failed) = (0, 0);
    for file in &files {
        let scenario = talk::read(file)?;
        let server = program.as_ref().map(|p| DevServer::start(p, &[])).transpose()?;
        let address = server.as_ref().map(DevServer::url).or_else(|| url.map(|u| u.trim_end_matches('/').to_owned())).unwrap_or_default();
        let verdict = talk::run(&address, &scenario)?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        println!("{name:<32} {:4} passed, {} failed", verdict.passed, verdict.failures.len());
        for line in &verdict.failures {
            println!("    {line}");
        }
        passed += verdict.passed;
        failed += verdict.failures.len();
    }
    println!("{passed} passed, {failed} failed");
    if failed > 0 { bail!("{failed} of {} answers are not as recorded", passed + failed) } else { Ok(()) }
}

fn chosen(only: &[String]) -> Result<Vec<PathBuf>> {
    let all = talk::recordings()?;
    if only.is_empty() {
        return Ok(all);
    }
    only.iter()
        .map(|name| {
            let stem = |p: &&PathBuf| p.file_stem().is_some_and(|s| s == name.trim_end_matches(".json"));
            let known = all.iter().find(stem).cloned();
            known.or_else(|| Some(PathBuf::from(name)).filter(|p| p.is_file())).ok_or_else(|| anyhow::anyhow!("no recording \"{name}\""))
        })
        .collect()
}

/// The daemon, built as this program is.
pub(crate) fn built() -> Result<PathBuf> {
    let status = Command::new("cargo").args(["build", "--workspace", "--bins", "--locked", "--quiet"]).status()?;
    ensure!(status.success(), "the daemon does not build");
    // The daemon is built into the folder that this program was built into.
    let program = std::env::current_exe()?.with_file_name("bessemer");
    ensure!(program.is_file(), "{} is missing", program.display());
    Ok(program)
}
