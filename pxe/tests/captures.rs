//! Real firmware's recorded packets, replayed against the responder: the fields of our answers must be those that booted
//! it. The recordings' other side was dnsmasq or a small script at 172.30.0.1.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use bessemer_pxe::dhcp::codec::{self, MessageType, Packet, code};
use bessemer_pxe::dhcp::decide::{self, Destination, Port};
use bessemer_pxe::dhcp::server::{Outgoing, Responder};
use bessemer_pxe::{DhcpMode, MacAddr, Machine, MachineKind, MemorySource, NetworkConfig};
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
struct Capture {
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    dir: String,
    proto: String,
    src: SocketAddrV4,
    dst: SocketAddrV4,
    l2_dst: Option<String>,
    hex: String,
}

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);

fn network(mode: DhcpMode) -> NetworkConfig {
    let mut network: NetworkConfig =
        serde_json::from_str(r#"{"name":"prov","interface":"br0","server":"172.30.0.1","subnet":"172.30.0.0/24"}"#).unwrap();
    network.mode = mode;
    network
}

fn load(name: &str) -> Vec<Frame> {
    let path = format!("{}/tests/data/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let capture: Capture = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    capture.frames.into_iter().filter(|frame| frame.proto == "dhcp").collect()
}

/// A responder that knows the recorded client and reserves the address that it had in the recording.
fn responder(frames: &[Frame], mode: DhcpMode) -> Responder {
    let source = MemorySource::new();
    for frame in frames {
        let packet = codec::decode(&hex::decode(&frame.hex).unwrap()).unwrap();
        let reserved = Some(packet.yiaddr).filter(|addr| !addr.is_unspecified());
        if frame.dir == "server"
            && let Some(mac) = packet.mac()
        {
            let kind = MachineKind::Known { node: Uuid::nil(), hostname: None };
            source.set_machine(mac, Machine { kind, netboot: true, reserved });
        }
    }
    Responder::new(Arc::new(source), vec![network(mode)], 8080)
}

/// A client's packet, our answer, and the recorded answer with its frame.
type Exchange = (Packet, Option<Outgoing>, Option<(Packet, Frame)>);

/// Replays the client's frames and pairs each with our answer and the recorded one.
async fn replay(name: &str, mode: DhcpMode) -> Vec<Exchange> {
    let frames = load(name);
    let responder = responder(&frames, mode);
    let mut pairs: Vec<Exchange> = Vec::new();
    for frame in frames {
        let bytes = hex::decode(&frame.hex).unwrap();
        let packet = codec::decode(&bytes).unwrap();
        if frame.dir == "client" {
            let port = if frame.dst.port() == 4011 { Port::Pxe } else { Port::Dhcp };
            let answer = responder.respond(&bytes, frame.src, port).await;
            pairs.push((packet, answer, None));
        } else if let Some((_, _, recorded)) = pairs.last_mut() {
            *recorded = Some((packet, frame));
        }
    }
    pairs
}

/// Where the recorded server sent its answer, in our words.
fn recorded_destination(frame: &Frame, packet: &Packet) -> Destination {
    let to_link = frame.l2_dst.as_deref() == Some("broadcast");
    match (to_link, packet.ciaddr.is_unspecified() && frame.dst.port() == 68) {
        (true, _) => Destination::Broadcast,
        (false, true) => Destination::Hardware { mac: packet.mac().unwrap(), addr: packet.yiaddr },
        (false, false) => Destination::Address(frame.dst),
    }
}

fn file_of(packet: &Packet) -> String {
    let raw = packet.options.get(code::BOOT_FILE).unwrap_or(&packet.file);
    String::from_utf8(raw.strip_suffix(&[0]).unwrap_or(raw).to_vec()).unwrap()
}

/// The recorded boot file in our names: our script, our path for programs by HTTP, our arm64 program.
fn expected_file(asked: &Packet, recorded: &Packet) -> String {
    let file = file_of(recorded);
    if file.is_empty() || !asked.vendor_class().starts_with(b"HTTPClient") && !asked.vendor_class().starts_with(b"PXEClient") {
        return String::new();
    }
    let program = match asked.architectures().first() {
        Some(0) => "undionly.kpxe",
        Some(11 | 19) => "snponly-arm64.efi",
        _ => "snponly.efi",
    };
    if asked.is_ipxe() {
        format!("http://172.30.0.1:8080/boot/ipxe/{}", asked.mac().unwrap())
    } else if file.starts_with("http://") {
        format!("http://172.30.0.1:8080/files/{program}")
    } else {
        program.to_owned()
    }
}

#[tokio::test]
async fn full_service_answers_recorded_clients_as_the_server_that_booted_them_did() {
    let names = [
        "dhcp4-bios-virtio-ipxe-rom",
        "dhcp4-bios-undionly-chain",
        "dhcp4-uefi-virtio-ipxe-rom",
        "dhcp4-ovmf-pxe-snponly",
        "dhcp4-ovmf-http-snponly",
        "dhcp4-aarch64-pxe-grub",
        "dhcp4-aarch64-http-grub",
        "dhcp4-ovmf-shim-grub",
        "dhcp4-os-dhclient",
        "dhcp4-os-udhcpc",
        "os-systemd-networkd",
    ];
    for name in names {
        let mut compared = 0;
        for (asked, answer, recorded) in replay(name, DhcpMode::Full).await {
            let what = format!("{name}, {:?}", asked.message_type());
            let Some((recorded, frame)) = recorded else {
                assert!(answer.is_none(), "{what}: the recorded server was silent");
                continue;
            };
            let answer = answer.unwrap_or_else(|| panic!("{what}: not answered"));
            let reply = codec::decode(&answer.bytes).unwrap();
            assert_eq!(reply, answer.packet, "{what}: nothing was lost for want of room");
            assert_eq!(reply.message_type(), recorded.message_type(), "{what}");
            assert_eq!(reply.xid, recorded.xid, "{what}");
            assert_eq!(reply.yiaddr, recorded.yiaddr, "{what}");
            assert_eq!(reply.ciaddr, recorded.ciaddr, "{what}");
            assert_eq!(reply.wants_broadcast(), recorded.wants_broadcast(), "{what}");
            assert_eq!(answer.to, recorded_destination(&frame, &recorded), "{what}");
            assert_eq!(reply.options.addr(code::SERVER_ID), Some(SERVER), "{what}");
            assert_eq!(reply.options.get(code::SUBNET_MASK), recorded.options.get(code::SUBNET_MASK), "{what}");
            assert_eq!(reply.options.get(code::BROADCAST), recorded.options.get(code::BROADCAST), "{what}");
            assert_eq!(reply.options.get(code::LEASE_SECS), Some(&600u32.to_be_bytes()[..]), "{what}");
            assert_eq!(reply.vendor_class(), recorded.vendor_class(), "{what}");
            let file = expected_file(&asked, &recorded);
            // Where the recording gave shim or GRUB, or undionly.kpxe to a ROM that is iPXE already, only the name differs.
            if !asked.is_ipxe() && !name.contains("-grub") {
                assert_eq!(file.rsplit('/').next(), file_of(&recorded).rsplit('/').next(), "{what}");
            }
            assert_eq!(file_of(&reply), file, "{what}");
            if !file.is_empty() {
                assert_eq!(reply.siaddr, SERVER, "{what}");
            }
            if asked.is_ipxe() {
                assert_eq!(reply.options.get(code::IPXE), Some(&[0xb0, 1, 1][..]), "{what}");
            }
            compared += 1;
        }
        assert!(compared >= 2, "{name}: only {compared} answers compared");
    }
}

#[tokio::test]
async fn proxy_service_answers_recorded_clients_with_boot_information_only() {
    let names = ["proxy-plain-bios-ipxe-rom", "proxy-plain-ovmf-pxe", "proxy-plain-ovmf-http", "proxy-plain-aarch64-http"];
    for name in names {
        let mut compared = 0;
        for (asked, answer, recorded) in replay(name, DhcpMode::Proxy).await {
            let what = format!("{name}, {:?}", asked.message_type());
            let Some((recorded, _)) = recorded else {
                assert!(answer.is_none(), "{what}: the other server's business");
                continue;
            };
            let answer = answer.unwrap_or_else(|| panic!("{what}: not answered"));
            let reply = answer.packet;
            assert_eq!(reply.message_type(), Some(MessageType::Offer), "{what}");
            assert_eq!(answer.to, Destination::Broadcast, "{what}: nobody knows the client's address yet");
            assert!(reply.yiaddr.is_unspecified(), "{what}");
            assert_eq!(reply.options.get(code::LEASE_SECS), None, "{what}");
            assert_eq!(reply.siaddr, recorded.siaddr, "{what}");
            assert_eq!(reply.vendor_class(), recorded.vendor_class(), "{what}");
            let http = asked.vendor_class().starts_with(b"HTTPClient");
            let expected = if http { None } else { Some(&[6, 1, 8, 255][..]) };
            assert_eq!(reply.options.get(code::VENDOR_OPTIONS), expected, "{what}");
            assert_eq!(file_of(&reply), expected_file(&asked, &recorded), "{what}");
            assert_eq!(reply.options.get(code::MACHINE_ID), asked.options.get(code::MACHINE_ID), "{what}");
            compared += 1;
        }
        assert!(compared >= 1, "{name}");
    }
}

#[tokio::test]
async fn port_4011_answers_the_port_that_asked() {
    for (name, port) in [("proxy-no43nofile-ovmf-pxe", 4011), ("proxy-no43nofile-bios-ipxe-rom", 68), ("proxy-4011menu-bios-ipxe-rom", 68)]
    {
        let mut asked_4011 = 0;
        for (asked, answer, recorded) in replay(name, DhcpMode::Proxy).await {
            let Some((recorded, frame)) = recorded else { continue };
            if recorded.message_type() != Some(MessageType::Ack) {
                continue;
            }
            asked_4011 += 1;
            let answer = answer.unwrap_or_else(|| panic!("{name}: not answered"));
            assert_eq!(answer.to, Destination::Address(frame.dst), "{name}");
            if asked_4011 == 1 {
                assert_eq!(frame.dst.port(), port, "{name}");
            }
            assert_eq!(answer.packet.message_type(), Some(MessageType::Ack), "{name}");
            assert_eq!(answer.packet.ciaddr, asked.ciaddr, "{name}");
            assert_eq!(answer.packet.siaddr, SERVER, "{name}");
            assert_eq!(answer.packet.vendor_class(), b"PXEClient", "{name}");
            // Firmware that was given a menu says PXEClient and no more: the architecture option decides.
            assert_eq!(file_of(&answer.packet), expected_file(&asked, &recorded), "{name}");
        }
        assert!(asked_4011 >= 1, "{name}");
    }
}

#[tokio::test]
async fn strangers_get_no_answer_and_machines_that_may_not_boot_are_sent_on_to_their_disk() {
    let frames = load("dhcp4-ovmf-pxe-snponly");
    let discover = hex::decode(&frames[0].hex).unwrap();
    let mac: MacAddr = codec::decode(&discover).unwrap().mac().unwrap();
    for mode in [DhcpMode::Full, DhcpMode::Proxy] {
        let source = Arc::new(MemorySource::new());
        let mut network = network(mode);
        network.range = Some("172.30.0.100-172.30.0.199".parse().unwrap());
        let responder = Responder::new(Arc::clone(&source) as Arc<_>, vec![network], 8080);
        assert!(responder.respond(&discover, frames[0].src, Port::Dhcp).await.is_none());
        let kind = MachineKind::Known { node: Uuid::nil(), hostname: Some("node-1".into()) };
        source.set_machine(mac, Machine { kind, netboot: false, reserved: None });
        let answer = responder.respond(&discover, frames[0].src, Port::Dhcp).await;
        if mode == DhcpMode::Proxy {
            assert!(answer.is_none());
            continue;
        }
        let reply = answer.unwrap().packet;
        assert_eq!(reply.yiaddr, Ipv4Addr::new(172, 30, 0, 100));
        assert_eq!(file_of(&reply), decide::NO_BOOT_FILE, "without any file EDK2 would ask on for 60 s");
        assert_eq!(reply.options.get(code::HOST_NAME), Some(&b"node-1"[..]));
    }
}

#[tokio::test]
async fn the_same_node_keeps_its_address_through_firmware_loader_and_system() {
    // OVMF, iPXE and udhcpc name themselves differently (no client id, MAC, nothing); the hardware address is the key.
    let source = Arc::new(MemorySource::new());
    source.set_discovery(true);
    let mut network = network(DhcpMode::Full);
    network.range = Some("172.30.0.100-172.30.0.199".parse().unwrap());
    let responder = Responder::new(source, vec![network], 8080);
    let mac = MacAddr([0x52, 0x54, 0, 0xaa, 0, 1]);
    let mut addrs = Vec::new();
    for client in [None, Some(&[1, 0x52, 0x54, 0, 0xaa, 0, 1][..]), Some(&[0xff, 1, 2, 3, 4, 0, 1, 2][..])] {
        let mut packet = Packet::request(addrs.len() as u32, mac);
        packet.options.set(code::MESSAGE_TYPE, &[1]);
        if let Some(id) = client {
            packet.options.set(code::CLIENT_ID, id);
        }
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let answer = responder.respond(&packet.encode(1500), from, Port::Dhcp).await.unwrap().packet;
        assert_eq!(answer.options.get(code::CLIENT_ID), client, "RFC 6842: returned as it was");
        addrs.push(answer.yiaddr);
    }
    assert!(addrs.iter().all(|addr| *addr == addrs[0]), "{addrs:?}");
}
