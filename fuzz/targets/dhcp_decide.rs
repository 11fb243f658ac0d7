//! What the DHCP server makes of a packet: every answer that it could give is a packet that is read back, within the
//! size that the client takes, and never aimed at an address that the client made up.
#![no_main]

use libfuzzer_sys::fuzz_target;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::LazyLock;

use bessemer_pxe::dhcp::codec;
use bessemer_pxe::dhcp::decide::{self, Answer, Ask, Destination, Port};
use bessemer_pxe::source::{Machine, MachineKind};
use bessemer_pxe::{DhcpMode, NetworkConfig};

static NETWORKS: LazyLock<Vec<NetworkConfig>> = LazyLock::new(|| {
    let text = r#"{"name":"prov","interface":"br0","server":"172.30.0.1","subnet":"172.30.0.0/24","range":"172.30.0.100-172.30.0.199"}"#;
    let network: NetworkConfig = serde_json::from_str(text).expect("a good configuration");
    [DhcpMode::Full, DhcpMode::Proxy, DhcpMode::Off].map(|mode| NetworkConfig { mode, ..network.clone() }).to_vec()
});

fuzz_target!(|data: &[u8]| {
    let Ok(packet) = codec::decode(data) else { return };
    let Some(mac) = packet.mac() else { return };
    let given = Ipv4Addr::new(172, 30, 0, 150);
    let from = SocketAddrV4::new(Ipv4Addr::new(172, 30, 0, 100), 68);
    for network in NETWORKS.iter() {
        for port in [Port::Dhcp, Port::Pxe] {
            let answers: &[Answer] = match decide::ask(&packet, network, port) {
                Ask::Nothing(_) | Ask::Release { .. } | Ask::Decline { .. } => &[],
                Ask::Offer { .. } => &[Answer::Offer(given)],
                Ask::Confirm { .. } => &[Answer::Ack(given), Answer::Nak],
                Ask::Inform => &[Answer::Inform],
                Ask::ProxyOffer => &[Answer::ProxyOffer],
                Ask::ProxyBoot => &[Answer::ProxyBoot],
            };
            for (answer, netboot) in answers.iter().flat_map(|answer| [(*answer, true), (*answer, false)]) {
                let machine = Machine { kind: MachineKind::Discoverable, netboot, reserved: None };
                let Some(reply) = decide::answer(&packet, mac, &machine, network, 8088, answer) else { continue };
                let limit = packet.max_reply();
                let bytes = reply.encode(limit);
                assert!(bytes.len() <= limit.max(548));
                codec::decode(&bytes).expect("an answer is a packet");
                if let Some(Destination::Address(to)) = decide::destination(&packet, &reply, from, port) {
                    let known = [*from.ip(), packet.giaddr, reply.yiaddr, packet.ciaddr];
                    assert!(known.contains(to.ip()), "{to}");
                }
            }
        }
    }
});
