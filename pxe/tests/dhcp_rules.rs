//! The rules of RFC 2131 and of reservations, on packets made here.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use async_trait::async_trait;
use bessemer_pxe::dhcp::codec::{MessageType, Packet, code};
use bessemer_pxe::dhcp::decide::{Destination, Port};
use bessemer_pxe::dhcp::server::{Outgoing, Responder};
use bessemer_pxe::{BootPlan, BootSource, MacAddr, Machine, MachineKind, MemorySource, NetworkConfig, Pool, SourceError, Wish};
use uuid::Uuid;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0xaa, 0, 1]);
const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0xaa, 0, 2]);
const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);

fn addr(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, last)
}

fn networks() -> Vec<NetworkConfig> {
    serde_json::from_str(
        r#"[{"name":"near","interface":"br0","server":"172.30.0.1","subnet":"172.30.0.0/24","range":"172.30.0.100-172.30.0.199","router":"172.30.0.254","dns":["172.30.0.2","172.30.0.3"],"ntp":["172.30.0.4"],"mtu":1400,"domain":"lab.example"},
            {"name":"far","interface":"br0","relayed":true,"server":"172.30.0.1","subnet":"10.9.0.0/16","range":"10.9.1.1-10.9.1.9","router":"10.9.0.1"}]"#,
    )
    .unwrap()
}

fn responder() -> (Responder, Arc<MemorySource>) {
    let source = Arc::new(MemorySource::new());
    source.add_node(MAC, Uuid::nil());
    source.add_node(OTHER, Uuid::nil());
    (Responder::new(Arc::clone(&source) as Arc<_>, networks(), 8088), source)
}

fn packet(mac: MacAddr, message: MessageType) -> Packet {
    let mut packet = Packet::request(0xabcd, mac);
    packet.options.set(code::MESSAGE_TYPE, &[message as u8]);
    packet
}

fn request(mac: MacAddr, wanted: Option<Ipv4Addr>, server: Option<Ipv4Addr>) -> Packet {
    let mut packet = packet(mac, MessageType::Request);
    packet.options.set_addrs(code::REQUESTED_ADDRESS, wanted.as_slice());
    packet.options.set_addrs(code::SERVER_ID, server.as_slice());
    packet
}

async fn send(responder: &Responder, packet: &Packet) -> Option<Outgoing> {
    responder.respond(&packet.encode(1500), FROM, Port::Dhcp).await
}

async fn message(responder: &Responder, packet: &Packet) -> Option<MessageType> {
    send(responder, packet).await.map(|answer| answer.packet.message_type().unwrap())
}

#[tokio::test]
async fn an_offered_address_is_acknowledged_to_its_client_and_refused_to_others() {
    let (responder, _) = responder();
    let offer = send(&responder, &packet(MAC, MessageType::Discover)).await.unwrap();
    assert_eq!(offer.packet.yiaddr, addr(100));
    assert_eq!(offer.to, Destination::Hardware { mac: MAC, addr: addr(100) });
    let take = |mac| request(mac, Some(addr(100)), Some(addr(1)));
    assert_eq!(message(&responder, &take(OTHER)).await, Some(MessageType::Nak));
    assert_eq!(message(&responder, &take(MAC)).await, Some(MessageType::Ack));
}

#[tokio::test]
async fn another_server_s_business_is_left_to_it() {
    let (responder, _) = responder();
    let mut elsewhere = request(MAC, Some(addr(100)), Some(addr(2)));
    assert_eq!(message(&responder, &elsewhere).await, None);
    elsewhere.options.set(code::MESSAGE_TYPE, &[MessageType::Decline as u8]);
    assert_eq!(message(&responder, &elsewhere).await, None);
}

#[tokio::test]
async fn a_client_that_moved_here_with_an_old_address_is_told_to_start_again() {
    let (responder, _) = responder();
    // INIT-REBOOT from another network, then from this one with a free address, then renewing.
    let moved = send(&responder, &request(MAC, Some(Ipv4Addr::new(192, 168, 1, 9)), None)).await.unwrap();
    assert_eq!(moved.packet.message_type(), Some(MessageType::Nak));
    assert_eq!(moved.to, Destination::Broadcast);
    assert_eq!(message(&responder, &request(MAC, Some(addr(130)), None)).await, Some(MessageType::Ack));
    let mut renew = request(MAC, None, None);
    renew.ciaddr = addr(130);
    let renewed = send(&responder, &renew).await.unwrap();
    assert_eq!(renewed.packet.message_type(), Some(MessageType::Ack));
    assert_eq!(renewed.to, Destination::Address(SocketAddrV4::new(addr(130), 68)));
    let mut steal = request(OTHER, None, None);
    steal.ciaddr = addr(130);
    let refused = send(&responder, &steal).await.unwrap();
    assert_eq!((refused.packet.message_type(), refused.to), (Some(MessageType::Nak), Destination::Broadcast));
}

#[tokio::test]
async fn a_reservation_beats_the_pool_and_what_the_client_remembers() {
    let (responder, source) = responder();
    let kind = MachineKind::Known { node: Uuid::nil(), hostname: Some("node-1".into()) };
    source.set_machine(MAC, Machine { kind, netboot: true, reserved: Some(addr(20)) });
    let mut discover = packet(MAC, MessageType::Discover);
    discover.options.set_addrs(code::REQUESTED_ADDRESS, &[addr(150)]);
    let offer = send(&responder, &discover).await.unwrap().packet;
    assert_eq!(offer.yiaddr, addr(20));
    assert_eq!(offer.options.get(code::HOST_NAME), Some(&b"node-1"[..]));
    assert_eq!(message(&responder, &request(MAC, Some(addr(150)), None)).await, Some(MessageType::Nak));
    assert_eq!(message(&responder, &request(MAC, Some(addr(20)), None)).await, Some(MessageType::Ack));
    let kind = MachineKind::Discoverable;
    source.set_machine(OTHER, Machine { kind, netboot: true, reserved: Some(Ipv4Addr::new(10, 0, 0, 5)) });
    assert_eq!(message(&responder, &packet(OTHER, MessageType::Discover)).await, None, "no address of another network");
}

#[tokio::test]
async fn the_network_s_settings_are_told_and_inform_gets_them_without_a_lease() {
    let (responder, _) = responder();
    let mut inform = packet(MAC, MessageType::Inform);
    inform.ciaddr = addr(77);
    let answer = send(&responder, &inform).await.unwrap();
    assert_eq!(answer.to, Destination::Address(SocketAddrV4::new(addr(77), 68)));
    let options = &answer.packet.options;
    assert_eq!(options.addr(code::ROUTER), Some(addr(254)));
    assert_eq!(options.get(code::DNS), Some(&[172, 30, 0, 2, 172, 30, 0, 3][..]));
    assert_eq!(options.addr(code::NTP), Some(addr(4)));
    assert_eq!(options.get(code::INTERFACE_MTU), Some(&1400u16.to_be_bytes()[..]));
    assert_eq!(options.get(code::DOMAIN_NAME), Some(&b"lab.example"[..]));
    assert_eq!(options.get(code::LEASE_SECS), None);
    assert!(answer.packet.yiaddr.is_unspecified());
}

#[tokio::test]
async fn a_relay_s_machines_get_addresses_of_their_own_network() {
    let (responder, _) = responder();
    let mut discover = packet(MAC, MessageType::Discover);
    discover.giaddr = Ipv4Addr::new(10, 9, 0, 1);
    discover.hops = 1;
    discover.options.set(code::RELAY_INFO, b"\x01\x04port");
    let offer = send(&responder, &discover).await.unwrap();
    assert_eq!(offer.packet.yiaddr, Ipv4Addr::new(10, 9, 1, 1));
    assert_eq!(offer.packet.giaddr, discover.giaddr);
    assert_eq!(offer.packet.options.addr(code::ROUTER), Some(Ipv4Addr::new(10, 9, 0, 1)));
    assert_eq!(offer.packet.options.get(code::RELAY_INFO), Some(&b"\x01\x04port"[..]));
    assert_eq!(offer.to, Destination::Address(SocketAddrV4::new(discover.giaddr, 67)));
    let mut wrong = request(MAC, Some(addr(100)), None);
    wrong.giaddr = discover.giaddr;
    let nak = send(&responder, &wrong).await.unwrap();
    assert_eq!(nak.to, Destination::Address(SocketAddrV4::new(discover.giaddr, 67)));
    assert!(nak.packet.wants_broadcast(), "the relay must broadcast a NAK");
    discover.giaddr = Ipv4Addr::new(10, 8, 0, 1);
    assert_eq!(message(&responder, &discover).await, None, "a network that nobody configured");
}

#[tokio::test]
async fn a_used_up_pool_is_silence_and_a_returned_address_serves_again() {
    let (_, source) = responder();
    source.set_discovery(true);
    let mut networks = networks();
    networks[0].range = Some("172.30.0.100-172.30.0.100".parse().unwrap());
    let responder = Responder::new(Arc::clone(&source) as Arc<_>, networks, 8088);
    assert_eq!(message(&responder, &packet(MAC, MessageType::Discover)).await, Some(MessageType::Offer));
    assert_eq!(message(&responder, &packet(OTHER, MessageType::Discover)).await, None);
    assert_eq!(message(&responder, &packet(MAC, MessageType::Discover)).await, Some(MessageType::Offer));
}

/// A store that is down.
struct Down;

#[async_trait]
impl BootSource for Down {
    async fn machine(&self, _: MacAddr, _: Option<Uuid>) -> Result<Option<Machine>, SourceError> {
        Err(SourceError::new("connection refused"))
    }
    async fn offer(&self, _: &Pool, _: MacAddr, _: Wish, _: u32) -> Result<Option<Ipv4Addr>, SourceError> {
        Err(SourceError::new("connection refused"))
    }
    async fn commit(&self, _: &Pool, _: MacAddr, _: Wish, _: Ipv4Addr, _: u32) -> Result<bool, SourceError> {
        Err(SourceError::new("connection refused"))
    }
    async fn release(&self, _: &str, _: MacAddr, _: Ipv4Addr) -> Result<(), SourceError> {
        Err(SourceError::new("connection refused"))
    }
    async fn decline(&self, _: &str, _: MacAddr, _: Ipv4Addr) -> Result<(), SourceError> {
        Err(SourceError::new("connection refused"))
    }
    async fn mac_of(&self, _: &str, _: Ipv4Addr) -> Result<Option<MacAddr>, SourceError> {
        Err(SourceError::new("connection refused"))
    }
    async fn plan_for(&self, _: MacAddr) -> Result<Option<BootPlan>, SourceError> {
        Err(SourceError::new("connection refused"))
    }
    async fn plan_by_nonce(&self, _: &str) -> Result<Option<BootPlan>, SourceError> {
        Err(SourceError::new("connection refused"))
    }
}

#[tokio::test]
async fn a_store_that_is_down_refuses_nobody_it_only_keeps_silent() {
    // A NAK would take a running machine's address away because a database restarted.
    let responder = Responder::new(Arc::new(Down), networks(), 8088);
    for asked in [packet(MAC, MessageType::Discover), request(MAC, Some(addr(100)), None)] {
        assert_eq!(message(&responder, &asked).await, None);
    }
}

#[tokio::test]
async fn two_daemons_on_one_store_give_one_answer() {
    let (first, source) = responder();
    let second = Responder::new(source, networks(), 8088);
    let discover = packet(MAC, MessageType::Discover);
    let (one, two) = tokio::join!(send(&first, &discover), send(&second, &discover));
    assert_eq!(one.unwrap().packet, two.unwrap().packet);
    assert_eq!(message(&second, &request(MAC, Some(addr(100)), Some(addr(1)))).await, Some(MessageType::Ack));
}
