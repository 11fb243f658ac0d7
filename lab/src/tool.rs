//! Running other programs: always with captured output, a time limit, and an error that shows
//! what the program said. Never through a shell.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a waiting loop looks again.
pub const POLL: Duration = Duration::from_millis(50);

/// A command whose program is also looked for in the system folders that a plain user's `PATH`
/// lacks (`/usr/sbin`, `/sbin`).
#[must_use]
pub fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| PathBuf::from(program)));
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// Where a program is, or `None` when it is not installed.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).exists().then(|| PathBuf::from(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The running program's own file. A test run may have built it anew meanwhile: then the new one.
pub fn own_program() -> Result<PathBuf> {
    let path = std::env::current_exe().context("cannot find the running program")?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or(path.clone(), PathBuf::from))
}

/// Runs to the end and returns standard output as text; a non-zero end is an error that carries
/// the last lines of what the program printed.
pub fn run(command: &mut Command, limit: Duration) -> Result<String> {
    let shown = show(command);
    let output = output(command, limit)?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}: {}", output.status, tail(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs to the end and returns status and output, whatever the status; exceeding `limit` kills
/// the program and is an error.
pub fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    let shown = show(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}` (is it installed? try `cargo xtask setup`)"))?;
    let readers = (drain(child.stdout.take()), drain(child.stderr.take()));
    let status = wait(&mut child, limit).with_context(|| format!("running `{shown}`"));
    if status.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(Output { status: status?, stdout: readers.0.join().unwrap_or_default(), stderr: readers.1.join().unwrap_or_default() })
}

/// Waits for a child at most `limit`; the child goes on when the time is over.
pub fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= end {
            bail!("no end after {} s", limit.as_secs());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(POLL);
    }
}

/// Calls `ready` until it is true; `what` names the awaited thing in the error.
pub fn until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !ready() {
        if begin.elapsed() >= limit {
            bail!("{what}: not after {} s", limit.as_secs());
        }
        // Looks often at first: the daemon's start is measured with this.
        std::thread::sleep((begin.elapsed() / 50).clamp(Duration::from_millis(1), POLL));
    }
    Ok(())
}

/// The command as one line, for messages.
#[must_use]
pub fn show(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    if line.len() > 300 {
        let cut = (0..=300).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// The last lines of a log file, for messages.
#[must_use]
pub fn log_tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn tail(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// A child process that is ended when it goes out of scope.
#[derive(Debug)]
pub struct Guarded(Child);

impl Guarded {
    /// Starts a program with its output in `log` (appended).
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let shown = show(command);
        let out =
            std::fs::File::options().create(true).append(true).open(log).with_context(|| format!("cannot open log {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start `{shown}` (is it installed? try `cargo xtask setup`)"))?;
        Ok(Self(child))
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// SIGTERM; SIGKILL when it has not ended after `patience`.
    pub fn stop(&mut self, patience: Duration) {
        if let Ok(pid) = i32::try_from(self.0.id())
            && self.alive()
        {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM);
            if wait(&mut self.0, patience).is_ok() {
                return;
            }
        }
        self.kill();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(3));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_an_error_that_shows_its_words() {
        let error = run(command("ls").arg("/no/such/place"), Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("/no/such/place"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_killed_at_its_limit() {
        let start = Instant::now();
        let error = run(command("sleep").arg("60"), Duration::from_millis(200)).unwrap_err();
        assert!(format!("{error:#}").contains("no end after"), "{error:#}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_guarded_child_ends_with_its_guard() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let guard = Guarded::start(command("sleep").arg("60"), log.path()).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", guard.pid()));
        assert!(proc.exists());
        drop(guard);
        assert!(!proc.exists());
    }
}
