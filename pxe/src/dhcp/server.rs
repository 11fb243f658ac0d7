//! The DHCP service of one interface: sockets on ports 67 and 4011, one task per packet, at most [`IN_FLIGHT`] at once.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::codec::{self, MAX_PACKET, MessageType, Packet, code};
use super::decide::{self, Answer, Ask, CLIENT_PORT, Destination, PXE_PORT, Port, SERVER_PORT};
use crate::config::{DhcpMode, NetworkConfig};
use crate::mac::MacAddr;
use crate::net::{self, FrameSender, SocketError};
use crate::source::{BootSource, Machine, Pool, SourceError, Wish};

/// Packets that are being answered at once; more are dropped, the clients ask again.
pub const IN_FLIGHT: usize = 256;
/// How long the store may take for one question.
const SOURCE_PATIENCE: Duration = Duration::from_secs(5);

/// What an interface's packets are judged by; knows no sockets.
pub struct Responder {
    source: Arc<dyn BootSource>,
    networks: Vec<NetworkConfig>,
    http_port: u16,
}

/// An answer ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The packet.
    pub packet: Packet,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Our address in it.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub to: Destination,
}

impl Responder {
    /// Answers for these networks, all of one interface.
    pub fn new(source: Arc<dyn BootSource>, networks: Vec<NetworkConfig>, http_port: u16) -> Self {
        Self { source, networks, http_port }
    }

    /// The whole life of one datagram, sockets aside. `None`: no answer (hostile, stranger, not ours, store silent).
    pub async fn respond(&self, bytes: &[u8], from: SocketAddrV4, port: Port) -> Option<Outgoing> {
        let packet = match codec::decode(bytes) {
            Ok(packet) => packet,
            Err(reason) => {
                debug!(%from, %reason, "dhcp: datagram dropped");
                return None;
            }
        };
        let network = decide::network_of(&packet, self.networks.iter())?;
        let ask = decide::ask(&packet, network, port);
        if let Ask::Nothing(reason) = ask {
            debug!(%from, reason, network = network.name, "dhcp: packet ignored");
            return None;
        }
        let mac = packet.mac()?;
        match self.answer(&packet, mac, network, ask).await {
            Ok(Some((machine, answer))) => {
                let reply = decide::answer(&packet, mac, &machine, network, self.http_port, answer)?;
                let to = decide::destination(&packet, &reply, from, port)?;
                log_answer(mac, network, &packet, &reply);
                Some(Outgoing { bytes: reply.encode(packet.max_reply()), packet: reply, source: network.server, to })
            }
            Ok(None) => None,
            Err(error) => {
                warn!(%mac, network = network.name, %error, "dhcp: not answered");
                None
            }
        }
    }

    async fn answer(
        &self,
        packet: &Packet,
        mac: MacAddr,
        network: &NetworkConfig,
        ask: Ask,
    ) -> Result<Option<(Machine, Answer)>, SourceError> {
        let Some(machine) = patiently(self.source.machine(mac, packet.uuid())).await? else {
            debug!(%mac, network = network.name, "dhcp: stranger, not answered");
            return Ok(None);
        };
        let pool = Pool { network: network.name.clone(), range: network.range };
        let wish = |wanted: Option<Ipv4Addr>| match (machine.reserved, wanted) {
            (Some(reserved), _) => Wish::Exactly(reserved),
            (None, Some(addr)) => Wish::Prefer(addr),
            (None, None) => Wish::Any,
        };
        let answer = match ask {
            Ask::Nothing(_) => return Ok(None),
            Ask::Offer { wanted } => match patiently(self.source.offer(&pool, mac, wish(wanted), network.offer_secs)).await? {
                Some(addr) if network.subnet.is_host(addr) && addr != network.server => Answer::Offer(addr),
                Some(addr) => {
                    warn!(%mac, %addr, network = network.name, "dhcp: the reserved address is not one of this network");
                    return Ok(None);
                }
                None => {
                    warn!(%mac, network = network.name, "dhcp: no address left to offer (range used up or reservation taken)");
                    return Ok(None);
                }
            },
            Ask::Confirm { addr } => {
                let right_network = network.subnet.is_host(addr) && addr != network.server;
                let granted =
                    right_network && patiently(self.source.commit(&pool, mac, wish(Some(addr)), addr, network.lease_secs)).await?;
                if granted { Answer::Ack(addr) } else { Answer::Nak }
            }
            Ask::Release { addr } => {
                patiently(self.source.release(&network.name, mac, addr)).await?;
                info!(%mac, %addr, network = network.name, "dhcp: released");
                return Ok(None);
            }
            Ask::Decline { addr } => {
                patiently(self.source.decline(&network.name, mac, addr)).await?;
                warn!(%mac, %addr, network = network.name, "dhcp: declined by its client: another machine uses it");
                return Ok(None);
            }
            Ask::Inform => Answer::Inform,
            Ask::ProxyOffer => Answer::ProxyOffer,
            Ask::ProxyBoot => Answer::ProxyBoot,
        };
        Ok(Some((machine, answer)))
    }
}

/// Only bytes that are safe in a log leave here: the file is ours, the class is not shown.
fn log_answer(mac: MacAddr, network: &NetworkConfig, packet: &Packet, reply: &Packet) {
    let kind = match reply.message_type() {
        Some(MessageType::Offer) => "offer",
        Some(MessageType::Ack) => "ack",
        Some(MessageType::Nak) => "nak",
        _ => "answer",
    };
    let file = reply.options.get(code::BOOT_FILE).unwrap_or(&reply.file);
    info!(
        %mac,
        network = network.name,
        addr = %reply.yiaddr,
        archs = ?packet.architectures(),
        file = %String::from_utf8_lossy(file),
        "dhcp: {kind}"
    );
}

async fn patiently<T>(question: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    tokio::time::timeout(SOURCE_PATIENCE, question).await.unwrap_or_else(|_| Err(SourceError::new("no answer within 5 s")))
}

/// The sockets of one interface, bound but not yet served.
pub struct DhcpService {
    interface: String,
    index: u32,
    dhcp: UdpSocket,
    pxe: Option<UdpSocket>,
    frames: Option<FrameSender>,
    responder: Arc<Responder>,
}

impl DhcpService {
    /// Binds port 67, and 4011 if one of the networks is a proxy one. Needs a tokio runtime.
    pub fn bind(interface: &str, networks: Vec<NetworkConfig>, http_port: u16, source: Arc<dyn BootSource>) -> Result<Self, SocketError> {
        let open = |port: u16| {
            net::bind_udp(interface, port)
                .map_err(|error| SocketError::new(format!("UDP port {port} (DHCP) on interface {interface}"), error))
        };
        let index = net::interface_index(interface).map_err(|error| SocketError::new(format!("DHCP on interface {interface}"), error))?;
        let proxy = networks.iter().any(|network| network.mode == DhcpMode::Proxy);
        let frames = FrameSender::open(index)
            .inspect_err(|error| {
                warn!(interface, %error, "dhcp: no packet socket (CAP_NET_RAW); clients without an address are answered by broadcast");
            })
            .ok();
        Ok(Self {
            interface: interface.to_owned(),
            index,
            dhcp: open(SERVER_PORT)?,
            pxe: if proxy { Some(open(PXE_PORT)?) } else { None },
            frames,
            responder: Arc::new(Responder::new(source, networks, http_port)),
        })
    }

    /// Serves until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let service = Arc::new(self);
        let mut answers = JoinSet::new();
        let mut dhcp_buffer = vec![0; MAX_PACKET];
        let mut pxe_buffer = vec![0; MAX_PACKET];
        loop {
            let (port, received) = tokio::select! {
                () = cancel.cancelled() => return,
                Some(_) = answers.join_next() => continue,
                received = net::recv(&service.dhcp, &mut dhcp_buffer) => (Port::Dhcp, received),
                received = service.recv_pxe(&mut pxe_buffer) => (Port::Pxe, received),
            };
            let received = match received {
                Ok(received) => received,
                Err(error) => {
                    // The interface may be down for a moment; without a pause this would spin.
                    warn!(interface = service.interface, %error, "dhcp: cannot receive");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            if answers.len() >= IN_FLIGHT {
                debug!(interface = service.interface, "dhcp: busy, packet dropped");
                continue;
            }
            let buffer = match port {
                Port::Dhcp => &dhcp_buffer,
                Port::Pxe => &pxe_buffer,
            };
            let bytes = buffer.get(..received.len).unwrap_or_default().to_vec();
            let service = Arc::clone(&service);
            answers.spawn(async move {
                if let Some(outgoing) = service.responder.respond(&bytes, received.from, port).await
                    && let Err(error) = service.send(&outgoing, port).await
                {
                    warn!(interface = service.interface, to = ?outgoing.to, %error, "dhcp: cannot send");
                }
            });
        }
    }

    async fn recv_pxe(&self, buffer: &mut [u8]) -> std::io::Result<net::Received> {
        match &self.pxe {
            Some(socket) => net::recv(socket, buffer).await,
            None => std::future::pending().await,
        }
    }

    async fn send(&self, outgoing: &Outgoing, port: Port) -> std::io::Result<()> {
        let socket = match (port, &self.pxe) {
            (Port::Pxe, Some(pxe)) => pxe,
            _ => &self.dhcp,
        };
        let to = match outgoing.to {
            Destination::Address(to) => to,
            Destination::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
            Destination::Hardware { mac, addr } => {
                let from = SocketAddrV4::new(outgoing.source, SERVER_PORT);
                let to = SocketAddrV4::new(addr, CLIENT_PORT);
                if let Some(frames) = &self.frames {
                    match frames.send(mac, from, to, &outgoing.bytes) {
                        Ok(()) => return Ok(()),
                        Err(error) => debug!(%error, "dhcp: frame not sent, broadcast instead"),
                    }
                }
                SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
            }
        };
        let wait = net::send_from(socket, &outgoing.bytes, outgoing.source, self.index, to);
        tokio::time::timeout(SOURCE_PATIENCE, wait).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }
}
