//! The TFTP service against real clients (tftp-hpa, curl) and against a client of our own that loses packets.
//! Programs that are not installed are skipped aloud; `cargo xtask` installs them.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bessemer_pxe::programs::Programs;
use bessemer_pxe::tftp::server::{TftpService, TftpSettings};
use bessemer_pxe::tftp::transfer::Limits;
use tokio_util::sync::CancellationToken;

struct Server {
    port: u16,
    cancel: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Server {
    fn start(transfers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        let cancel = CancellationToken::new();
        let (send, receive) = std::sync::mpsc::channel();
        let stop = cancel.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let settings = TftpSettings {
                    interface: "lo".into(),
                    port: 0,
                    server: Ipv4Addr::LOCALHOST,
                    transfers,
                    limits: Limits { block: 1468, window: 64 },
                };
                let service = TftpService::bind(settings, Arc::new(Programs::new(vec![root]))).unwrap();
                send.send(service.port().unwrap()).unwrap();
                service.run(stop).await;
            });
        });
        Self { port: receive.recv().unwrap(), cancel, thread: Some(thread), dir }
    }

    fn put(&self, name: &str, len: usize) -> Vec<u8> {
        // Not periodic in any block size, so that a misplaced block is seen.
        let mut state = 1u32;
        let content: Vec<u8> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        std::fs::write(self.root().join(name), &content).unwrap();
        content
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }

    fn client(&self) -> Client {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        Client { socket, server: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

struct Client {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Client {
    fn request(&self, text: &str) {
        let mut packet = vec![0, 1];
        packet.extend(text.bytes());
        self.socket.send_to(&packet, self.server).unwrap();
    }

    fn receive(&self) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; 70_000];
        let (len, from) = self.socket.recv_from(&mut buffer).ok()?;
        buffer.truncate(len);
        Some((buffer, from))
    }

    fn ack(&self, to: SocketAddr, block: u16) {
        let [high, low] = block.to_be_bytes();
        self.socket.send_to(&[0, 4, high, low], to).unwrap();
    }

    /// Loads a file with this window, losing the packets whose running number `lose` names.
    fn load(&self, request: &str, block_len: usize, window: u16, mut lose: impl FnMut(u32) -> bool) -> Vec<u8> {
        self.request(request);
        let (first, peer) = self.receive().expect("an OACK");
        assert_eq!(first[..2], [0, 6], "{}", String::from_utf8_lossy(&first));
        self.ack(peer, 0);
        let mut content = Vec::new();
        let (mut expected, mut since_ack, mut number) = (1u16, 0, 0);
        loop {
            let (packet, _) = self.receive().expect("data before the client's patience ends");
            assert_eq!(packet[..2], [0, 3], "{}", String::from_utf8_lossy(&packet));
            number += 1;
            if lose(number) {
                continue;
            }
            let block = u16::from_be_bytes([packet[2], packet[3]]);
            if block != expected {
                self.ack(peer, expected.wrapping_sub(1));
                since_ack = 0;
                continue;
            }
            content.extend(&packet[4..]);
            since_ack += 1;
            let last = packet.len() < 4 + block_len;
            if since_ack == window || last {
                self.ack(peer, block);
                since_ack = 0;
            }
            if last {
                return content;
            }
            expected = expected.wrapping_add(1);
        }
    }
}

fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok() || Path::new("/usr/bin").join(program).exists();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

#[test]
fn tftp_hpa_loads_files_of_every_length() {
    if !installed("tftp") {
        return;
    }
    let server = Server::start(100);
    for len in [0, 1, 511, 512, 513, 1024, 100_000, 5_000_000] {
        let content = server.put("f", len);
        let got = server.dir.path().join("got");
        let _ = std::fs::remove_file(&got);
        let status = Command::new("tftp")
            .args(["-m", "binary", "127.0.0.1", &server.port.to_string(), "-c", "get", "f"])
            .arg(&got)
            .status()
            .unwrap();
        assert!(status.success(), "{len}");
        assert!(std::fs::read(&got).unwrap() == content, "{len} bytes differ");
    }
}

#[test]
fn curl_loads_with_large_blocks_and_without_options() {
    if !installed("curl") {
        return;
    }
    let server = Server::start(100);
    let content = server.put("f", 300_001);
    let url = format!("tftp://127.0.0.1:{}/f", server.port);
    for options in [&["--tftp-blksize", "1468"][..], &["--tftp-blksize", "65464"], &["--tftp-no-options"]] {
        let output = Command::new("curl").arg("-s").args(options).args(["--max-time", "20"]).arg(&url).output().unwrap();
        assert!(output.status.success() && output.stdout == content, "{options:?}: {}", output.status);
    }
}

#[test]
fn nothing_outside_the_folder_is_served_and_refusals_say_why() {
    let server = Server::start(100);
    let client = server.client();
    for (request, code) in [("../secret\0octet\0", 2), ("absent\0octet\0", 1), ("a\x1bb\0octet\0", 2), ("f\0mail\0", 4), ("f\0", 4)] {
        client.request(request);
        let (packet, _) = client.receive().unwrap_or_else(|| panic!("{request:?} is answered"));
        assert_eq!(packet[..4], [0, 5, 0, code], "{request:?}");
    }
    client.socket.send_to(b"\0\x02f\0octet\0", client.server).unwrap();
    assert_eq!(client.receive().unwrap().0[..4], [0, 5, 0, 2], "write requests are refused");
}

#[test]
fn options_of_firmware_are_granted_as_asked() {
    let server = Server::start(100);
    let content = server.put("snponly.efi", 173_792);
    let client = server.client();
    client.request("snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0");
    let (oack, peer) = client.receive().unwrap();
    assert_eq!(oack, b"\0\x06blksize\x001468\0tsize\x00173792\0windowsize\x004\0");
    assert_ne!(peer.port(), server.port, "a transfer has its own port");
    // OVMF ends its size probe like this; the transfer is over then.
    client.socket.send_to(b"\0\x05\0\x08User aborted the transfer\0", peer).unwrap();
    client.socket.set_read_timeout(Some(Duration::from_millis(900))).unwrap();
    assert!(client.receive().is_none(), "nothing follows an ERROR");
    client.socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let request = "snponly.efi\0octet\0blksize\x001468\0windowsize\x004\0";
    assert!(client.load(request, 1468, 4, |_| false) == content);
}

#[test]
fn lost_packets_cost_time_but_no_bytes() {
    let server = Server::start(100);
    let content = server.put("f", 400_000);
    let started = Instant::now();
    for (window, every) in [(1u16, 60), (16, 23), (64, 97)] {
        let request = format!("f\0octet\0blksize\x001024\0windowsize\x00{window}\0");
        let got = server.client().load(&request, 1024, window, |number| number % every == 0);
        assert!(got == content, "window {window}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_file_of_more_than_65535_blocks_is_served_whole() {
    let server = Server::start(100);
    let content = server.put("f", 65_600 * 512 + 3);
    let got = server.client().load("f\0octet\0blksize\x00512\0windowsize\x0032\0", 512, 32, |_| false);
    assert!(got == content);
}

#[test]
fn a_repeated_request_gets_one_transfer() {
    let server = Server::start(100);
    server.put("f", 10);
    let client = server.client();
    for _ in 0..3 {
        client.request("f\0octet\0");
    }
    client.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(client.receive().is_some());
    assert!(client.receive().is_none(), "only the retransmission after half a second");
}

#[test]
fn transfers_are_bounded_and_the_bound_frees_itself() {
    let server = Server::start(2);
    server.put("f", 10_000);
    let clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for client in &clients {
        client.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        client.request("f\0octet\0");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (_, first) = clients[0].receive().unwrap();
    assert!(clients[1].receive().is_some());
    assert!(clients[2].receive().is_none(), "a third transfer must wait");
    clients[0].socket.send_to(b"\0\x05\0\0end\0", first).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    clients[2].request("f\0octet\0");
    assert!(clients[2].receive().is_some());
}

#[test]
fn stray_and_hostile_packets_do_not_disturb_a_transfer() {
    let server = Server::start(100);
    let content = server.put("f", 100_000);
    let client = server.client();
    client.request("f\0octet\0blksize\x001000\0windowsize\x004\0");
    let (_, peer) = client.receive().unwrap();
    for stray in [&b"\0\x04\xff\xff"[..], b"\0\x04\0", b"", b"\x01\0", b"\0\x03\0\x01abc", b"\0\x06x\0y\0"] {
        client.socket.send_to(stray, peer).unwrap();
        client.socket.send_to(stray, client.server).unwrap();
    }
    let stranger = server.client();
    stranger.ack(peer, 0);
    client.ack(peer, 0);
    let mut got: Vec<u8> = Vec::new();
    while got.len() < content.len() {
        let (packet, _) = client.receive().unwrap();
        if packet[..2] != [0, 3] {
            continue;
        }
        let block = u16::from_be_bytes([packet[2], packet[3]]);
        if usize::from(block) == got.len() / 1000 + 1 {
            got.extend(&packet[4..]);
            client.ack(peer, block);
        }
    }
    assert!(got == content);
}
