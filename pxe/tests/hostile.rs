//! Hostile and truncated packets: each by name with the reaction that is right, then arbitrary bytes without end.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bessemer_pxe::dhcp::codec::{self, MessageType, Options, Packet, code};
use bessemer_pxe::dhcp::decide::{Destination, Port};
use bessemer_pxe::dhcp::server::{Outgoing, Responder};
use bessemer_pxe::tftp::codec as tftp;
use bessemer_pxe::{BootSource, DhcpMode, MacAddr, MemorySource, NetworkConfig, ra};
use proptest::prelude::*;
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
struct Hostile {
    packets: Vec<HostilePacket>,
}

#[derive(Deserialize)]
struct HostilePacket {
    proto: String,
    what: String,
    hex: String,
}

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0xaa, 0, 1]);
const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0xaa, 0, 2]);
const OTHERS_ADDR: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 150);
const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(172, 30, 0, 100), 68);

fn packets(proto: &str) -> Vec<(String, Vec<u8>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/malformed.json");
    let hostile: Hostile = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let wanted = hostile.packets.into_iter().filter(|packet| packet.proto == proto);
    wanted.map(|packet| (packet.what, hex::decode(packet.hex).unwrap())).collect()
}

fn responder(mode: DhcpMode) -> (Responder, Arc<MemorySource>) {
    let mut network: NetworkConfig = serde_json::from_str(
        r#"{"name":"prov","interface":"br0","server":"172.30.0.1","subnet":"172.30.0.0/24","range":"172.30.0.100-172.30.0.199"}"#,
    )
    .unwrap();
    network.mode = mode;
    let source = Arc::new(MemorySource::new());
    source.add_node(MAC, Uuid::nil());
    source.set_lease("prov", OTHER, OTHERS_ADDR, Duration::from_secs(600));
    (Responder::new(Arc::clone(&source) as Arc<_>, vec![network], 8080), source)
}

async fn react(what: &str) -> Option<Outgoing> {
    let all = packets("dhcp");
    let (_, bytes) = all.iter().find(|(name, _)| name == what).unwrap_or_else(|| panic!("no packet {what:?}"));
    let (mode, port) = if what.starts_with("port 4011") { (DhcpMode::Proxy, Port::Pxe) } else { (DhcpMode::Full, Port::Dhcp) };
    let (responder, source) = responder(mode);
    let answer = responder.respond(bytes, FROM, port).await;
    assert_eq!(source.mac_of("prov", OTHERS_ADDR).await.unwrap(), Some(OTHER), "{what}: another's lease is untouched");
    answer
}

#[tokio::test]
async fn what_is_not_a_request_of_one_machine_is_dropped() {
    for what in [
        "empty datagram",
        "one byte",
        "cut inside the fixed header (43 bytes)",
        "fixed header without the magic cookie (236 bytes, plain BOOTP)",
        "wrong magic cookie",
        "magic cookie but no options, no end",
        "message type of length 0",
        "message type of length 2",
        "message type 0",
        "message type 255",
        "two message types: discover, then release",
        "hlen 255",
        "hlen 0, no client id",
        "op = BOOTREPLY sent to the server port",
        "relay: giaddr 255.255.255.255, hops 255",
        "relay: giaddr 127.0.0.1",
        "decline of an address that was never offered",
        "release with ciaddr of another client",
        "port 4011: request with option 43 sub-option 71 of 2 bytes",
        "port 4011: request whose server id is another server",
    ] {
        assert!(react(what).await.is_none(), "{what}");
    }
}

#[tokio::test]
async fn what_can_be_understood_is_answered() {
    for what in [
        "option code as last byte, no length byte",
        "no end option; options stop exactly at the packet end",
        "pad options between and 200 bytes of garbage after the end option",
        "architecture option of 1 byte",
        "architecture option of 5 bytes (two and a half values)",
        "UUID option of 16 bytes (type byte missing)",
        "vendor class of 255 bytes, not UTF-8, with NUL and newline (log injection)",
        "host name \"../../etc/passwd;$(reboot)\"",
        "encapsulated option 175 whose inner length overruns",
        "encapsulated option 43 without end, inner length 0 forever",
        "ParameterRequestList with options 0 and 255, all 255 entries",
        "maximum message size 0",
        "same option in 5 pieces (RFC 3396 concatenation), total 1000 bytes",
    ] {
        let answer = react(what).await.unwrap_or_else(|| panic!("{what}: not answered"));
        assert_eq!(answer.packet.message_type(), Some(MessageType::Offer), "{what}");
        assert!(answer.bytes.len() <= 1472, "{what}");
    }
}

#[tokio::test]
async fn a_relay_gets_its_information_back_unchanged() {
    let answer = react("relay agent information (82) that overruns its sub-option").await.unwrap();
    let all = packets("dhcp");
    let (_, bytes) = all.iter().find(|(what, _)| what.starts_with("relay agent")).unwrap();
    let asked = codec::decode(bytes).unwrap();
    let reply = codec::decode(&answer.bytes).unwrap();
    assert_eq!(reply.options.get(code::RELAY_INFO), asked.options.get(code::RELAY_INFO));
    assert_eq!(answer.to, Destination::Address(SocketAddrV4::new(asked.giaddr, 67)));
}

#[tokio::test]
async fn an_address_outside_every_range_is_refused_aloud() {
    let answer = react("request for an address outside every range").await.unwrap();
    assert_eq!(answer.packet.message_type(), Some(MessageType::Nak));
    assert_eq!(answer.to, Destination::Broadcast);
}

#[tokio::test]
async fn every_hostile_packet_is_survived_in_every_mode_and_on_every_port() {
    let mut all = packets("dhcp");
    assert!(all.len() >= 35);
    let mut giant = all[9].1.clone();
    giant.resize(9000, 0);
    all.push(("9000 bytes".into(), giant));
    for (_, bytes) in all {
        for mode in [DhcpMode::Full, DhcpMode::Proxy, DhcpMode::Off] {
            let (responder, _) = responder(mode);
            for port in [Port::Dhcp, Port::Pxe] {
                let _ = responder.respond(&bytes, FROM, port).await;
            }
        }
    }
}

#[tokio::test]
async fn an_answer_cannot_be_aimed_at_a_third_party() {
    let (responder, _) = responder(DhcpMode::Full);
    let victim = Ipv4Addr::new(198, 51, 100, 7);
    for message in [1, 3, 8] {
        let mut packet = Packet::request(7, MAC);
        packet.ciaddr = victim;
        packet.options.set(code::MESSAGE_TYPE, &[message]);
        if let Some(answer) = responder.respond(&packet.encode(1500), FROM, Port::Dhcp).await {
            assert!(!matches!(answer.to, Destination::Address(_)), "{message}: {:?}", answer.to);
        }
        packet.options.set(code::REQUESTED_ADDRESS, &[172, 30, 0, 101]);
        if let Some(answer) = responder.respond(&packet.encode(1500), FROM, Port::Dhcp).await {
            assert!(!matches!(answer.to, Destination::Address(_)), "{message}: {:?}", answer.to);
        }
    }
}

#[test]
fn hostile_tftp_packets_are_decoded_or_refused() {
    let mut all = packets("tftp");
    assert!(all.len() >= 22);
    let mut long_name = b"\0\x01".to_vec();
    long_name.extend([b'A'; 8192]);
    long_name.extend(b"\0octet\0");
    let mut many_options = b"\0\x01f\0octet\0".to_vec();
    for number in 0..300 {
        many_options.extend(format!("x{number}\0{number}\0").bytes());
    }
    all.extend([("file name of 8 KiB".into(), long_name), ("300 unknown options".into(), many_options)]);
    for (what, bytes) in all {
        match (what.as_str(), tftp::decode(&bytes)) {
            ("write request to a read-only server", got) => assert_eq!(got, Err(tftp::DecodeError::Write)),
            ("mode mail", got) => assert_eq!(got, Err(tftp::DecodeError::Mode)),
            ("mode OCTET in mixed case", got) => assert!(got.is_ok()),
            ("file name of 8 KiB" | "300 unknown options", got) => assert!(got.is_err(), "{what}"),
            ("windowsize 65535 with blksize 65464", Ok(tftp::Incoming::Read(request))) => {
                assert_eq!(request.options.window, Some(65535), "clamped by the transfer");
            }
            (_, _) => {}
        }
    }
}

fn arb_options() -> impl Strategy<Value = Options> {
    prop::collection::btree_map(1u8..255, prop::collection::vec(any::<u8>(), 0..400), 0..8).prop_map(|map| {
        let mut options = Options::default();
        for (code, value) in map {
            // Overload is for reading only.
            if code != code::OVERLOAD {
                options.set(code, &value);
            }
        }
        options
    })
}

fn arb_packet() -> impl Strategy<Value = Packet> {
    (any::<[u8; 6]>(), any::<u32>(), any::<[u32; 4]>(), any::<(u8, u16, u16)>(), "[a-z/.:]{0,127}", arb_options()).prop_map(
        |(mac, xid, addrs, (hops, secs, flags), file, options)| {
            let mut packet = Packet::request(xid, MacAddr(mac));
            [packet.ciaddr, packet.yiaddr, packet.siaddr, packet.giaddr] = addrs.map(Ipv4Addr::from);
            (packet.hops, packet.secs, packet.flags) = (hops, secs, flags);
            packet.file = file.into_bytes();
            packet.options = options;
            packet
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_dhcp_packet_survives_encoding(packet in arb_packet()) {
        prop_assert_eq!(codec::decode(&packet.encode(codec::MAX_PACKET)).unwrap(), packet);
    }

    #[test]
    fn an_independent_decoder_reads_our_packets(packet in arb_packet(), message in 1u8..=8) {
        use dhcproto::{Decodable, Decoder, v4};
        let mut packet = packet;
        packet.options = Options::default();
        packet.options.set(code::MESSAGE_TYPE, &[message]);
        packet.options.set(code::SUBNET_MASK, &[255, 255, 255, 0]);
        let peer = v4::Message::decode(&mut Decoder::new(&packet.encode(1500))).unwrap();
        prop_assert_eq!((peer.xid(), peer.yiaddr(), peer.siaddr()), (packet.xid, packet.yiaddr, packet.siaddr));
        let file = peer.fname().unwrap_or_default();
        prop_assert_eq!(file.strip_suffix(&[0]).unwrap_or(file), packet.file.as_slice());
        prop_assert!(peer.opts().get(v4::OptionCode::SubnetMask).is_some());
    }

    #[test]
    fn an_encoded_packet_keeps_to_its_size_and_keeps_what_matters(packet in arb_packet(), limit in 0usize..2000) {
        let mut packet = packet;
        packet.options.set(code::MESSAGE_TYPE, &[5]);
        packet.options.set(code::RELAY_INFO, &[1; 40]);
        let bytes = packet.encode(limit);
        prop_assert!(bytes.len() <= limit.max(548));
        let decoded = codec::decode(&bytes).unwrap();
        prop_assert_eq!(decoded.message_type(), Some(MessageType::Ack));
        prop_assert_eq!(decoded.options.get(code::RELAY_INFO), Some(&[1u8; 40][..]));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = codec::decode(&bytes);
        let _ = tftp::decode(&bytes);
        let _ = ra::decode_solicitation(&bytes);
        let _ = bessemer_pxe::http::range::parse(&bytes, 1000);
    }

    #[test]
    fn arbitrary_options_behind_a_valid_header_are_answered_or_dropped(
        tail in prop::collection::vec(any::<u8>(), 0..600),
        message in 1u8..=8,
    ) {
        let mut bytes = Packet::request(1, MAC).encode(1500);
        bytes.truncate(240);
        bytes.extend([53, 1, message]);
        bytes.extend(tail);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for (mode, port) in [(DhcpMode::Full, Port::Dhcp), (DhcpMode::Proxy, Port::Dhcp), (DhcpMode::Proxy, Port::Pxe)] {
            let (responder, _) = responder(mode);
            if let Some(answer) = runtime.block_on(responder.respond(&bytes, FROM, port)) {
                prop_assert!(codec::decode(&answer.bytes).is_ok());
                prop_assert!(answer.bytes.len() <= 1472);
            }
        }
    }

    #[test]
    fn a_tftp_request_is_understood_whatever_its_options(name in "[a-zA-Z0-9._/-]{1,60}", block in 8u16..=65464, window in 1u16.., secs in 1u8..) {
        let mut bytes = vec![0, 1];
        bytes.extend(format!("{name}\0octet\0blksize\0{block}\0x\0y\0windowsize\0{window}\0TIMEOUT\0{secs}\0tsize\x000\0").bytes());
        let tftp::Incoming::Read(request) = tftp::decode(&bytes).unwrap() else { panic!("a read request") };
        prop_assert_eq!(request.name, name);
        prop_assert_eq!(request.options.block, Some(block));
        prop_assert_eq!(request.options.window, Some(window));
        prop_assert_eq!(request.options.timeout_secs, Some(secs));
        prop_assert!(request.options.size);
    }
}
