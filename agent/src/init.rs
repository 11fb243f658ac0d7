//! Process 1: mounts, loads drivers, starts the agent as its child, restarts it when it dies, powers off.
//!
//! It is small on purpose: what can fail is in the child. It never talks to the network and never
//! touches a disk. Other programs ask it with signals: `SIGUSR2` powers off, `SIGTERM` reboots.

use crate::{log::uptime, modules::Modules};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// State that the agent keeps across its own crashes.
pub const STATE_DIR: &str = "/run/bessemer";
/// File in the state folder: what the last agent printed before it died; the next one reports it.
pub const LAST_WORDS: &str = "last-words";

const MAX_CRASHES: u32 = 3;
/// An agent that lived this long begins the count anew.
const LONG_LIFE: Duration = Duration::from_secs(600);
const LAST_WORDS_LEN: usize = 4096;

/// Modules that no device alias asks for.
const ALWAYS: [&str; 4] = ["efivarfs", "efi_pstore", "ipmi_devintf", "af_packet"];

fn say(text: &str) {
    // The console may be absent; there is nobody else to tell.
    drop(writeln!(std::io::stderr(), "bessemer: {} {text}", uptime()));
}

/// Runs as process 1. Ends only by power-off or reboot.
pub fn run() -> ! {
    mount_all();
    settle_kernel();
    say("init");
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGUSR2, Signal::SIGINT] {
        signals.add(signal);
    }
    if let Err(e) = signals.thread_block() {
        say(&format!("cannot block signals: {e}"));
    }
    thread::spawn(drivers);
    // A machine without a hardware source of randomness takes a second to gather it, and begins only when asked.
    // The agent's key needs it: ask now, use it when the network is up.
    thread::spawn(|| drop(fs::File::open("/dev/random").and_then(|mut file| file.read_exact(&mut [0]))));
    let words = Arc::new(Mutex::new(VecDeque::new()));
    let mut crashes = 0;
    let mut started = Instant::now();
    let mut child = start_agent(&words);
    loop {
        match signals.wait() {
            Ok(Signal::SIGUSR2) => end(RebootMode::RB_POWER_OFF),
            Ok(Signal::SIGTERM | Signal::SIGINT) => end(RebootMode::RB_AUTOBOOT),
            Ok(_) => {}
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let ended = match status {
                WaitStatus::Exited(pid, code) => (pid, format!("exit code {code}")),
                WaitStatus::Signaled(pid, signal, _) => (pid, signal.to_string()),
                WaitStatus::StillAlive => break,
                _ => continue,
            };
            if Some(ended.0) == child {
                // Three in a row mean that another start will not help; one a day does not.
                crashes = if started.elapsed() > LONG_LIFE { 1 } else { crashes + 1 };
                bury(&words, crashes, &ended.1);
                started = Instant::now();
                child = start_agent(&words);
            }
        }
    }
}

fn mount_all() {
    let mounts: [(&str, &str, &str, MsFlags, &str); 7] = [
        ("proc", "/proc", "proc", MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, ""),
        ("sysfs", "/sys", "sysfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, ""),
        ("devtmpfs", "/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755"),
        ("tmpfs", "/run", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=0755"),
        ("tmpfs", "/tmp", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777"),
        ("pstore", "/sys/fs/pstore", "pstore", MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, ""),
        ("debugfs", "/sys/kernel/debug", "debugfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, ""),
    ];
    for (source, target, kind, flags, data) in mounts {
        if !target.starts_with("/sys/") {
            drop(fs::DirBuilder::new().recursive(true).create(target));
        }
        if let Err(e) = mount(Some(source), target, Some(kind), flags, Some(data))
            && !target.starts_with("/sys/")
        {
            say(&format!("cannot mount {target}: {e}"));
        }
    }
    if let Err(e) = fs::DirBuilder::new().recursive(true).mode(0o700).create(STATE_DIR) {
        say(&format!("cannot make {STATE_DIR}: {e}"));
    }
}

fn settle_kernel() {
    // Each is a convenience; a kernel without the switch works too.
    drop(fs::write("/proc/sys/kernel/panic", "10"));
    drop(fs::write("/proc/sys/kernel/sysrq", "1"));
    drop(fs::write("/proc/sys/kernel/printk", "4"));
    drop(fs::write("/proc/sys/kernel/hostname", "bessemer"));
}

/// Loads drivers: network cards first (the agent waits for nothing else), then all other devices that are
/// there, then those that appear.
fn drivers() {
    let uevents = uevent_socket();
    let modules = Modules::read(&crate::modules::running_dir());
    let mut aliases = device_aliases();
    aliases.sort_by_key(|alias| !is_network(alias));
    let mut count = 0;
    for alias in &aliases {
        let loaded = modules.load_alias(alias);
        count += loaded;
        if let Some(socket) = uevents.as_ref().filter(|_| loaded > 0) {
            // What a driver brought to light (the card behind a virtio bus) comes before the next device.
            count += drain_uevents(socket, &modules, MsgFlags::MSG_DONTWAIT);
        }
    }
    for name in ALWAYS {
        count += modules.load(name);
    }
    if Path::new("/sys/firmware/efi/efivars").exists() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        if let Err(e) = mount(Some("efivarfs"), "/sys/firmware/efi/efivars", Some("efivarfs"), flags, None::<&str>) {
            say(&format!("cannot mount efivarfs, boot entries cannot be set: {e}"));
        }
    }
    say(&format!("{count} driver modules loaded for {} devices", aliases.len()));
    drop(fs::write(Path::new(STATE_DIR).join("drivers-loaded"), ""));
    if let Some(socket) = &uevents {
        drain_uevents(socket, &modules, MsgFlags::empty());
    }
}

/// PCI class 02 is a network controller; virtio device 1 is a network card.
fn is_network(alias: &str) -> bool {
    alias.contains("bc02sc") || alias.starts_with("virtio:d00000001v")
}

fn device_aliases() -> Vec<String> {
    let mut aliases = Vec::new();
    for bus in fs::read_dir("/sys/bus").into_iter().flatten().flatten() {
        for device in fs::read_dir(bus.path().join("devices")).into_iter().flatten().flatten() {
            if let Ok(alias) = fs::read_to_string(device.path().join("modalias")) {
                let alias = alias.trim().to_owned();
                if !alias.is_empty() && !aliases.contains(&alias) {
                    aliases.push(alias);
                }
            }
        }
    }
    aliases
}

fn uevent_socket() -> Option<OwnedFd> {
    let opened = socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkKObjectUEvent)
        .and_then(|fd| bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1)).map(|()| fd));
    opened.inspect_err(|e| say(&format!("devices that appear later get no driver: {e}"))).ok()
}

/// Loads drivers for devices that the kernel announces. Returns when there is no more to read, which
/// without `MSG_DONTWAIT` is never.
fn drain_uevents(socket: &OwnedFd, modules: &Modules, flags: MsgFlags) -> usize {
    let mut buffer = [0; 8192];
    let mut count = 0;
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, flags) {
            Ok(length) => {
                let event = buffer.get(..length).unwrap_or_default();
                let mut words = event.split(|b| *b == 0).filter_map(|word| std::str::from_utf8(word).ok());
                if words.next().is_some_and(|head| head.starts_with("add@"))
                    && let Some(alias) = words.find_map(|word| word.strip_prefix("MODALIAS="))
                {
                    count += modules.load_alias(alias);
                }
            }
            Err(nix::Error::EINTR | nix::Error::ENOBUFS) => {}
            Err(_) => return count,
        }
    }
}

fn start_agent(words: &Arc<Mutex<VecDeque<u8>>>) -> Option<Pid> {
    let started = Command::new("/proc/self/exe").arg("agent").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(e) => {
            say(&format!("cannot start the agent: {e}; rebooting"));
            thread::sleep(Duration::from_secs(10));
            end(RebootMode::RB_AUTOBOOT);
        }
    };
    if let Some(mut output) = child.stderr.take() {
        let words = Arc::clone(words);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                let text = buffer.get(..length).unwrap_or_default();
                drop(std::io::stderr().write_all(text));
                let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
                words.extend(text);
                let excess = words.len().saturating_sub(LAST_WORDS_LEN);
                words.drain(..excess);
            }
        });
    }
    i32::try_from(child.id()).ok().map(Pid::from_raw)
}

/// Notes the death of an agent; the third one reboots the machine.
fn bury(words: &Mutex<VecDeque<u8>>, crashes: u32, how: &str) {
    // The reader thread may still be copying the last line.
    thread::sleep(Duration::from_millis(100));
    let tail: Vec<u8> = words.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
    let text = format!("agent died (crash {crashes}, {how}): {}", String::from_utf8_lossy(&tail));
    say(&format!("agent died ({how}), crash {crashes} of {MAX_CRASHES}"));
    drop(fs::write(Path::new(STATE_DIR).join(LAST_WORDS), text));
    if crashes >= MAX_CRASHES {
        say("rebooting in 10 s");
        thread::sleep(Duration::from_secs(10));
        end(RebootMode::RB_AUTOBOOT);
    }
}

/// Ends the machine. Falls back to the magic system request when the call fails.
fn end(mode: RebootMode) -> ! {
    let off = mode == RebootMode::RB_POWER_OFF;
    say(if off { "power off" } else { "reboot" });
    nix::unistd::sync();
    let Err::<Infallible, _>(e) = reboot(mode);
    say(&format!("{e}; trying the magic system request"));
    drop(fs::write("/proc/sysrq-trigger", if off { "o" } else { "b" }));
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}
