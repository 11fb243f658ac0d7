//! Every recorded conversation with the reference implementation, held with the real daemon.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bessemer_lab::{conformance, dev::DevServer};

fn program() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    Ok(me.ancestors().nth(2).context("the profile's folder")?.join("bessemer"))
}

#[test]
fn every_recorded_conversation_is_answered_as_recorded() -> Result<()> {
    let files = conformance::recordings()?;
    let failed: Vec<String> = std::thread::scope(|s| {
        // Two at a time: a conversation waits more than it works.
        let halves: Vec<_> = files.chunks(files.len().div_ceil(2).max(1)).map(|part| s.spawn(|| hold(part))).collect();
        halves.into_iter().map(|h| h.join().unwrap_or_else(|_| Ok(vec!["a check panicked".into()]))).collect::<Result<Vec<_>>>()
    })?
    .concat();
    if !failed.is_empty() {
        bail!("{} differences:\n{}", failed.len(), failed.join("\n"));
    }
    Ok(())
}

/// Each conversation with a daemon of its own: none sees what another left.
fn hold(files: &[PathBuf]) -> Result<Vec<String>> {
    let program = program()?;
    let mut failures = Vec::new();
    for file in files {
        let server = DevServer::start(&program, &[])?;
        let verdict = conformance::run(&server.url(), &conformance::read(file)?)?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        failures.extend(verdict.failures.into_iter().map(|f| format!("{name} {f}")));
    }
    Ok(failures)
}
