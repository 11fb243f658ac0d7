//! `cargo xtask check` and `cargo xtask test`: the steps, their times, and a true count.
//!
//! `test` is what continuous integration runs: it must stay below twenty minutes from cold on two
//! cores. `--all` adds the tests marked as ignored (every peer, every QEMU path).

use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bessemer_lab::{setup, tool};

use crate::{arrows, demo, ramdisk, tempest};

/// Passed, failed and skipped tests; a step without tests of its own counts as one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs steps one after another, also after a failure.
#[derive(Debug, Default)]
struct Steps {
    count: Count,
    lines: Vec<String>,
}

impl Steps {
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        self.counted(name, || work().map(|()| Count { passed: 1, ..Count::default() }));
    }

    fn counted(&mut self, name: &str, work: impl FnOnce() -> Result<Count>) {
        eprintln!("\n=== {name}");
        let start = Instant::now();
        let result = work();
        let seconds = start.elapsed().as_secs_f64();
        let (count, word) = match result {
            Ok(count) if count.failed == 0 => (count, "ok".to_owned()),
            Ok(count) => (count, format!("{} FAILED", count.failed)),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                (Count { failed: 1, ..Count::default() }, "FAILED".to_owned())
            }
        };
        self.count.passed += count.passed;
        self.count.failed += count.failed;
        self.count.skipped += count.skipped;
        self.lines.push(format!("{seconds:8.1} s  {name}: {word}"));
    }

    fn finish(self) -> Result<()> {
        println!();
        for line in &self.lines {
            println!("{line}");
        }
        let Count { passed, failed, skipped } = self.count;
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        if failed > 0 { bail!("not everything passed") } else { Ok(()) }
    }
}

/// Format, lints, arrows, licences.
pub(crate) fn check() -> Result<()> {
    let mut steps = Steps::default();
    lint(&mut steps, false);
    steps.finish()
}

/// Everything; `all` adds what is too slow for every change.
pub(crate) fn test(all: bool) -> Result<()> {
    let mut steps = Steps::default();
    steps.step("set-up", setup::all);
    lint(&mut steps, all);
    // Tests of whole programs start them as an operator does.
    steps.step("programs", || cargo(&["build", "--workspace", "--bins", "--locked", "--quiet"]));
    steps.counted("tests of all crates", || tests(all));
    steps.step("one life on two machines", || demo::as_child(&["--reuse-programs"]));
    if all {
        steps.step("unknown machines discovered", || demo::as_child(&["--reuse", "--discover"]));
        steps.counted("acceptance suite of the API", acceptance);
        steps.step("a life by virtual media", || demo::as_child(&["--reuse", "--only", "uefi", "--virtual-media"]));
        steps.step("the full ramdisk", || ramdisk::build(&ramdisk::Options::new(ramdisk::Set::Full)).map(drop));
        steps.step("the same with it, beside a foreign DHCP server", || {
            demo::as_child(&["--reuse", "--by", "api", "--full", "--foreign-dhcp"])
        });
        steps.step("the same by python-ironicclient", || demo::as_child(&["--reuse", "--by", "ironic-client"]));
        steps
            .step("the same on PostgreSQL, disks overwritten", || demo::as_child(&["--reuse", "--by", "api", "--postgres", "--overwrite"]));
    }
    steps.finish()
}

/// What may fail there counts as skipped.
fn acceptance() -> Result<Count> {
    let verdict = tempest::judged(None)?;
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Ok(Count { passed: number(verdict.passed), failed: number(verdict.wrong.len()), skipped: number(verdict.permitted) })
}

fn lint(steps: &mut Steps, install: bool) {
    steps.step("format", || cargo(&["fmt", "--all", "--", "--check"]));
    steps.step("arrows", arrows::check);
    steps.step("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"]));
    let has_deny = tool::find("cargo-deny").is_some() || cargo_home_has("cargo-deny");
    if install && !has_deny {
        steps.step("installing cargo-deny", || cargo(&["install", "cargo-deny", "--locked", "--quiet"]));
    }
    if install || has_deny {
        steps.step("licences and bans", || cargo(&["deny", "--log-level", "error", "check", "licenses", "bans", "sources"]));
    }
}

fn cargo_home_has(program: &str) -> bool {
    std::env::var_os("CARGO_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| std::path::PathBuf::from(home).join(".cargo")))
        .is_some_and(|home| home.join("bin").join(program).exists())
}

fn cargo(args: &[&str]) -> Result<()> {
    let status = Command::new("cargo").args(args).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`cargo {}` ended with {status}", args.join(" "));
    }
    Ok(())
}

/// Runs all tests, by nextest where it is installed, and returns the count that the runner
/// itself printed.
fn tests(all: bool) -> Result<Count> {
    let nextest = tool::find("cargo-nextest").is_some() || cargo_home_has("cargo-nextest");
    let mut command = Command::new("cargo");
    if nextest {
        // Many tests wait for a machine, a timer or a peer: half as many more than there are cores keep these busy.
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        command.args(["nextest", "run", "--workspace", "--locked", "--test-threads", &(cores + cores / 2).to_string()]);
        if all {
            command.args(["--run-ignored", "all"]);
        }
    } else {
        command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
        if all {
            command.args(["--", "--include-ignored"]);
        }
    }
    if all {
        command.env("BESSEMER_TEST", "all");
    }
    let runner = if nextest { Runner::Nextest } else { Runner::Cargo };
    let (count, ended_well) = counted(&mut command, runner)?;
    let count = verdict(count, ended_well)?;
    // Examples in documentation: nextest cannot run them, and building them takes a minute.
    if !nextest || !all {
        return Ok(count);
    }
    let (docs, ended_well) = counted(Command::new("cargo").args(["test", "--workspace", "--locked", "--doc", "--quiet"]), Runner::Cargo)?;
    let docs = if docs == Count::default() && ended_well { docs } else { verdict(docs, ended_well)? };
    Ok(Count { passed: count.passed + docs.passed, failed: count.failed + docs.failed, skipped: count.skipped + docs.skipped })
}

/// A runner that failed without a failed test did not get to them (a crate does not compile).
fn verdict(count: Count, ended_well: bool) -> Result<Count> {
    if !ended_well && count.failed == 0 {
        bail!("the test runner failed before its tests ({} passed)", count.passed);
    }
    Ok(count)
}

/// Who runs the tests; each has its own form of summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner {
    /// `cargo test`: a line for each test binary, on standard output.
    Cargo,
    /// `cargo nextest`: one line at the end, on standard error.
    Nextest,
}

/// Runs a test runner, shows what it prints, and adds up its summaries. Lines of the other runner's
/// form come from tests that start tests, and do not count.
fn counted(command: &mut Command, runner: Runner) -> Result<(Count, bool)> {
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<Box<dyn std::io::Read + Send>>, counts: bool| {
        std::thread::spawn(move || {
            let mut count = Count::default();
            for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()).map_while(Result::ok) {
                eprintln!("{line}");
                if counts {
                    add(&mut count, &line, runner);
                }
            }
            count
        })
    };
    let readers = [
        read(out.map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>), runner == Runner::Cargo),
        read(err.map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>), runner == Runner::Nextest),
    ];
    let status = tool::wait(&mut child, Duration::from_secs(80 * 60))?;
    let mut total = Count::default();
    for reader in readers {
        let count = reader.join().unwrap_or_default();
        total.passed += count.passed;
        total.failed += count.failed;
        total.skipped += count.skipped;
    }
    Ok((total, status.success()))
}

/// Adds a runner's summary line: `test result: ok. 3 passed; 0 failed; 1 ignored; …` or
/// `Summary [ 1.2s] 4 tests run: 3 passed (1 slow), 1 failed, 2 skipped`.
fn add(count: &mut Count, line: &str, runner: Runner) {
    let plain: String = strip_colours(line);
    let plain = plain.trim();
    let numbers = match runner {
        Runner::Cargo => plain.strip_prefix("test result:"),
        Runner::Nextest => plain
            .strip_prefix("Summary [")
            .and_then(|rest| rest.split_once("tests run:").or(rest.split_once("test run:")))
            .map(|(_, rest)| rest),
    };
    let Some(numbers) = numbers else { return };
    for part in numbers.split([';', ',', '.']) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match what {
            "passed" => count.passed += number,
            "failed" | "timed" | "exec" => count.failed += number,
            "ignored" | "skipped" => count.skipped += number,
            _ => {}
        }
    }
}

fn strip_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(line: &str, runner: Runner) -> (u64, u64, u64) {
        let mut count = Count::default();
        add(&mut count, line, runner);
        (count.passed, count.failed, count.skipped)
    }

    #[test]
    fn each_runner_is_counted_by_its_own_summary_only() {
        let cargo = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out";
        assert_eq!(count(cargo, Runner::Cargo), (12, 0, 3));
        assert_eq!(count(cargo, Runner::Nextest), (0, 0, 0));
        let nextest = "\u{1b}[32m     Summary\u{1b}[0m [   4.5s] \u{1b}[1m36\u{1b}[0m tests run: \
                       33 passed (1 slow), 2 failed, 1 timed out, 7 skipped";
        assert_eq!(count(nextest, Runner::Nextest), (33, 3, 7));
        assert_eq!(count("12 passed, 3 failed", Runner::Nextest), (0, 0, 0));
    }
}
