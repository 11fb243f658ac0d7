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
        routes.by_peer.entry(peer).or_default().push(Route { id, session: None, to });
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
        if session.is_none() || route.session == session {
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

    /// Says which console session this line is for; packets of others no longer arrive.
    pub fn set_session(&mut self, session: Option<u32>) {
        let mut table = lock(&self.routes);
        for route in table.by_peer.get_mut(&self.peer).into_iter().flatten() {
            if route.id == self.id {
                route.session = session;
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
