//! The whole service in a network of its own: real sockets on the well-known ports, a real DHCP client, a real neighbour.
//!
//! Needs root, `ip`, `unshare`, `nsenter`, `busybox` and `curl`; skipped aloud without them. Each test has its own
//! network namespace, which ends with its thread and its child processes.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bessemer_pxe::{BootConfig, BootPlan, BootServices, BootSource, BootWhat, FileRef, MacAddr, MemorySource, Nonce};
use bytes::Bytes;
use nix::sched::{CloneFlags, unshare};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0xaa, 0, 1]);
const NEIGHBOUR: MacAddr = MacAddr([0x52, 0x54, 0, 0xaa, 0, 2]);

/// Runs the test in a thread with a network namespace of its own.
fn in_own_network(test: impl FnOnce() + Send + 'static) {
    let missing = ["ip", "unshare", "nsenter", "busybox", "curl"]
        .into_iter()
        .find(|program| !Command::new("which").arg(program).output().is_ok_and(|found| found.status.success()));
    if let Some(program) = missing {
        eprintln!("skipped: {program} is not installed");
        return;
    }
    // One at a time: a child of the other test holds copies of our sockets between its fork and its exec, and a port just
    // closed would still be taken.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = std::thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("skipped: no network namespace of our own ({error}); run as root");
            return;
        }
        ip("link set lo up");
        ip("link add br0 type bridge forward_delay 0");
        ip("addr add 172.30.9.1/24 dev br0");
        ip("link set br0 up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A machine on the bridge: a network namespace held by a sleeping child.
struct Host {
    holder: Child,
}

impl Host {
    fn new(name: &str, mac: MacAddr) -> Self {
        let holder = Command::new("unshare").args(["-n", "sleep", "120"]).stdin(Stdio::null()).spawn().unwrap();
        // Until the child has its own namespace, the interface would come back to ours.
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while std::fs::read_link(format!("/proc/{}/ns/net", holder.id())).is_ok_and(|link| link == own) {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
        ip(&format!("link add {name} type veth peer name eth0 netns {}", holder.id()));
        ip(&format!("link set {name} master br0 up"));
        let host = Self { holder };
        assert!(host.run(&format!("ip link set eth0 address {mac} up && ip link set lo up")).status.success());
        host
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-n", "sh", "-c", script]).stdin(Stdio::null());
        command
    }

    fn run(&self, script: &str) -> Output {
        self.command(script).output().unwrap()
    }

    fn status_of(&self, url: &str) -> String {
        let output = self.run(&format!("curl -s -o /dev/null -m 5 -w '%{{http_code}}' {url}"));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn config() -> BootConfig {
    serde_json::from_str(
        r#"{"networks":[{"name":"prov","interface":"br0","server":"172.30.9.1","subnet":"172.30.9.0/24","range":"172.30.9.100-172.30.9.110"}]}"#,
    )
    .unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    // Its threads are made by this one and so live in this namespace.
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn wait_for(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !check() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_real_client_leases_renews_and_releases_and_a_neighbour_gets_404_even_with_its_address() {
    in_own_network(|| {
        let runtime = runtime();
        let _guard = runtime.enter();
        let source = Arc::new(MemorySource::new());
        source.add_node(MAC, Uuid::from_u128(1));
        let plan = BootPlan {
            node: Some(Uuid::from_u128(1)),
            what: BootWhat::Ramdisk,
            kernel: Some(FileRef::Bytes(Bytes::from_static(b"kernel"))),
            layers: vec![],
            params: vec![],
            nonce: Nonce::random(),
            files: [("configdrive".to_owned(), FileRef::Bytes(Bytes::from_static(b"secret")))].into(),
            macs: vec![MAC],
        };
        source.set_plan(MAC, plan.clone());
        let services = BootServices::start(config(), Arc::clone(&source) as Arc<_>, CancellationToken::new()).unwrap();
        assert_eq!(services.tftp_ports(), [69]);

        let machine = Host::new("m1", MAC);
        let dir = tempfile::tempdir().unwrap();
        let (script, log) = (dir.path().join("script"), dir.path().join("log"));
        std::fs::write(
            &script,
            format!(
                "#!/bin/sh\ncase $1 in bound|renew) ip addr replace $ip/$mask dev eth0;; esac\necho \"$1 $ip $mask $serverid $lease\" >> {}\n",
                log.display()
            ),
        )
        .unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut udhcpc = machine
            .command(&format!("exec busybox udhcpc -f -i eth0 -s {}", script.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let events = || std::fs::read_to_string(&log).unwrap_or_default();
        wait_for("a lease", || events().contains("bound 172.30.9.100 24 172.30.9.1 600"));
        let addr = Ipv4Addr::new(172, 30, 9, 100);
        assert_eq!(runtime.block_on(source.mac_of("prov", addr)).unwrap(), Some(MAC));

        let files = format!("http://172.30.9.1:8088/boot/{}", plan.nonce.reveal());
        let entry = format!("http://172.30.9.1:8088/boot/ipxe/{MAC}");
        let (kernel, drive) = (format!("{files}/kernel"), format!("{files}/configdrive"));
        for url in [&entry, &kernel, &drive] {
            assert_eq!(machine.status_of(url), "200", "{url}");
        }

        // SIGUSR1 renews by unicast from the leased address, SIGUSR2 releases.
        let signal = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(udhcpc.id().cast_signed()), signal).unwrap();
        signal(nix::sys::signal::Signal::SIGUSR1);
        wait_for("a renewed lease", || events().contains("renew 172.30.9.100"));
        signal(nix::sys::signal::Signal::SIGUSR2);
        wait_for("an ended lease", || events().lines().filter(|line| line.starts_with("deconfig")).count() >= 2);
        udhcpc.kill().unwrap();
        udhcpc.wait().unwrap();
        assert_eq!(runtime.block_on(source.mac_of("prov", addr)).unwrap(), Some(MAC), "firmware goes on using it");

        // The neighbour has no lease; then it takes the machine's address by hand.
        let neighbour = Host::new("m2", NEIGHBOUR);
        neighbour.run("ip addr add 172.30.9.50/24 dev eth0");
        assert_eq!(neighbour.status_of(&entry), "404");
        machine.run("ip link set eth0 down");
        neighbour.run("ip addr flush dev eth0; ip addr add 172.30.9.100/24 dev eth0");
        // A gratuitous ARP, as any system sends; else the old entry would be asked for some seconds.
        neighbour.run("busybox arping -c 1 -U -I eth0 172.30.9.100");
        for url in [&entry, &kernel, &drive] {
            assert_eq!(neighbour.status_of(url), "404", "{url}");
        }
        runtime.block_on(services.stop());
    });
}

#[test]
fn a_taken_port_and_a_missing_interface_are_named_with_their_remedy() {
    in_own_network(|| {
        let runtime = runtime();
        let _guard = runtime.enter();
        let start = |config| BootServices::start(config, Arc::new(MemorySource::new()), CancellationToken::new());
        let first = start(config()).unwrap();
        let error = start(config()).unwrap_err().to_string();
        assert!(error.contains("UDP port 67 (DHCP) on interface br0") && error.contains("another program has it"), "{error}");
        let mut elsewhere = config();
        elsewhere.networks[0].interface = "absent0".into();
        let error = start(elsewhere).unwrap_err().to_string();
        assert!(error.contains("absent0") && error.contains("ip link"), "{error}");
        runtime.block_on(first.stop());
        let mut address = config();
        address.networks[0].server = Ipv4Addr::new(172, 30, 9, 2);
        let error = start(address).unwrap_err().to_string();
        assert!(error.contains("172.30.9.2:8088") && error.contains("on no interface"), "{error}");
        // All ports of the failed attempts are free again.
        let again = start(config()).unwrap();
        runtime.block_on(again.stop());
    });
}
