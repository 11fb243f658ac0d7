//! One UDP socket per address family, shared by every BMC.
//!
//! A task reads the socket and hands each datagram to the lines that may want it: those registered for the sender's
//! address and, when the packet names a console session, for that session. It checks no codes; the session does.
//! Thousands of BMCs cost two descriptors and two tasks.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::codec::{self, Packet};

/// Datagrams kept per line while nobody reads; further ones are dropped, as a network would.
const QUEUE: usize = 32;
/// Receive buffer asked of the system: answers of thousands of BMCs may come at once.
const RECEIVE_BUFFER: usize = 4 << 20;

struct Route {
    id: u64,
    session: Option<u32>,
    /// Packets that name no session are wanted too: first contact, and refusals that are too short to name one.
    open: bool,
    to: mpsc::Sender<Vec<u8>>,
}

#[derive(Default)]
struct Routes {
    by_peer: HashMap<SocketAddr, Vec<Route>>,
    next: u64,
}

type SharedRoutes = Arc<Mutex<Routes>>;

fn lock(routes: &SharedRoutes) -> MutexGuard<'_, Routes> {
    // Each change is a single insertion or removal, so the table is whole even after a panic elsewhere.
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Shared {
    socket: Arc<UdpSocket>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The sockets and the table of who waits for what.
#[derive(Default)]
pub struct Transport {
    routes: SharedRoutes,
    v4: tokio::sync::OnceCell<Shared>,
    v6: tokio::sync::OnceCell<Shared>,
}

/// A registered line to one BMC. Dropping it ends the registration.
pub struct Line {
    routes: SharedRoutes,
    socket: Arc<UdpSocket>,
    peer: SocketAddr,
    id: u64,
    from: mpsc::Receiver<Vec<u8>>,
}

impl Transport {
    /// Opens a line to a BMC. The socket of the address family is made on first use.
    pub async fn line(&self, peer: SocketAddr) -> io::Result<Line> {
        let peer = canonical(peer);
        let cell = if peer.is_ipv4() { &self.v4 } else { &self.v6 };
        let shared = cell.get_or_try_init(|| async { open(peer.is_ipv4(), self.routes.clone()) }).await?;
        let (to, from) = mpsc::channel(QUEUE);
        let mut routes = lock(&self.routes);
        routes.next += 1;
        let id = routes.next;
        routes.by_peer.entry(peer).or_default().push(Route { id, session: None, open: true, to });
        drop(routes);
        Ok(Line { routes: self.routes.clone(), socket: shared.socket.clone(), peer, id, from })
    }

    /// Number of registered lines.
    #[must_use]
    pub fn lines(&self) -> usize {
        lock(&self.routes).by_peer.values().map(Vec::len).sum()
    }
}

/// Answers come back without flow information, so it must not be part of the key.
fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V6(mut a) => {
            a.set_flowinfo(0);
            match a.ip().to_ipv4_mapped() {
                Some(v4) => SocketAddr::from((v4, a.port())),
                None => a.into(),
            }
        }
        v4 => v4,
    }
}

fn open(v4: bool, routes: SharedRoutes) -> io::Result<Shared> {
    let (domain, any): (_, SocketAddr) =
        if v4 { (Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into()) } else { (Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into()) };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if !v4 {
        socket.set_only_v6(true)?;
    }
    // Best effort: the system may allow less.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&any.into())?;
    let socket = Arc::new(UdpSocket::from_std(socket.into())?);
    let reader = tokio::spawn(read(socket.clone(), routes));
    Ok(Shared { socket, reader })
}

async fn read(socket: Arc<UdpSocket>, routes: SharedRoutes) {
    // One byte more than is ever used, to tell a datagram that was cut.
    let mut buf = vec![0u8; codec::MAX_DATAGRAM + 1];
    loop {
        match socket.recv_from(&mut buf).await {
            Ok((n, peer)) if n <= codec::MAX_DATAGRAM => {
                deliver(&routes, peer, buf.get(..n).unwrap_or_default());
            }
            Ok(_) => {}
            Err(error) => {
                // Errors of single datagrams (ICMP) may surface here; the pause keeps a lasting one from spinning.
                tracing::debug!(%error, "reading the IPMI socket failed");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
}

fn deliver(routes: &SharedRoutes, peer: SocketAddr, datagram: &[u8]) {
    let session = match codec::parse(datagram) {
        Ok(Packet::Plus(p)) => p.console_session(),
        Ok(Packet::Sessionless(_)) => None,
        Err(error) => {
            tracing::trace!(%peer, %error, "dropped a packet on the IPMI socket");
            return;
        }
    };
    let table = lock(routes);
    for route in table.by_peer.get(&peer).into_iter().flatten() {
        let wanted = if session.is_none() { route.open } else { route.session == session };
        if wanted {
            // A full queue means that nobody reads: drop.
            let _ = route.to.try_send(datagram.to_vec());
        }
    }
}

impl Line {
    /// Address of the BMC.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Packets that name no session, and those of the session being opened (if any), arrive from now on.
    pub fn opening(&mut self, session: Option<u32>) {
        self.want(session, true);
    }

    /// Only packets of this session arrive from now on: a stranger's cannot crowd them out.
    pub fn established(&mut self, session: u32) {
        self.want(Some(session), false);
    }

    fn want(&mut self, session: Option<u32>, open: bool) {
        let mut table = lock(&self.routes);
        for route in table.by_peer.get_mut(&self.peer).into_iter().flatten() {
            if route.id == self.id {
                route.session = session;
                route.open = open;
            }
        }
    }

    /// Sends a datagram.
    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, self.peer).await.map(|_| ())
    }

    /// The next datagram, or `None` when `until` comes first.
    pub async fn receive(&mut self, until: tokio::time::Instant) -> Option<Vec<u8>> {
        // The sender lives in the route table as long as this line, so the channel cannot be closed.
        tokio::time::timeout_at(until, self.from.recv()).await.ok().flatten()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut table = lock(&self.routes);
        if let Some(routes) = table.by_peer.get_mut(&self.peer) {
            routes.retain(|r| r.id != self.id);
            if routes.is_empty() {
                table.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::ipmi::codec::PayloadType;

    async fn soon(line: &mut Line) -> Option<Vec<u8>> {
        line.receive(Instant::now() + Duration::from_millis(200)).await
    }

    #[tokio::test]
    async fn an_established_line_gets_its_own_session_only_whatever_else_comes_from_the_bmc() {
        let bmc = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let transport = Transport::default();
        let mut ours = transport.line(bmc.local_addr().unwrap()).await.unwrap();
        let mut theirs = transport.line(bmc.local_addr().unwrap()).await.unwrap();
        ours.send(b"hello").await.unwrap();
        let (_, console) = bmc.recv_from(&mut [0; 16]).await.unwrap();
        let in_session = |sid| codec::plus_packet(PayloadType::Ipmi, false, false, sid, 1, &[1, 2, 3]);
        let short_refusal = codec::plus_packet(PayloadType::OpenResponse, false, false, 0, 0, &[0, 4]);
        ours.established(7);
        theirs.opening(Some(8));
        // More strangers' packets than a queue holds, then ours.
        for _ in 0..2 * QUEUE {
            bmc.send_to(&short_refusal, console).await.unwrap();
            bmc.send_to(&in_session(9), console).await.unwrap();
        }
        bmc.send_to(&in_session(7), console).await.unwrap();
        assert_eq!(soon(&mut ours).await, Some(in_session(7)));
        assert_eq!(soon(&mut ours).await, None);
        assert_eq!(soon(&mut theirs).await, Some(short_refusal));
        drop((ours, theirs));
        assert_eq!(transport.lines(), 0);
    }

    #[tokio::test]
    async fn packets_of_other_addresses_and_oversized_ones_are_dropped() {
        let bmc = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let transport = Transport::default();
        let mut line = transport.line(bmc.local_addr().unwrap()).await.unwrap();
        line.send(b"hello").await.unwrap();
        let (_, console) = bmc.recv_from(&mut [0; 16]).await.unwrap();
        let packet = |n| codec::plus_packet(PayloadType::OpenResponse, false, false, 0, 0, &vec![0; n]);
        stranger.send_to(&packet(2), console).await.unwrap();
        bmc.send_to(&packet(codec::MAX_DATAGRAM), console).await.unwrap();
        bmc.send_to(b"\x06\x00\xff\x06", console).await.unwrap();
        assert_eq!(soon(&mut line).await, None);
    }
}
