//! Brings the machine onto the network: every card with carrier is asked for by DHCP at the same time,
//! the lease is kept alive, and others can wait for the first address.
//!
//! There is no fixed sleep: link changes wake this module. IPv6 link-local addresses are left to the kernel.
//! It never takes a card down except in a lockdown.

use crate::dhcp::{self, Ask, Lease, Reply};
use crate::jitter;
use crate::netlink::{LinkEvents, Netlink};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

/// First answer time-out; doubles up to [`MAX_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(400);
const MAX_WAIT: Duration = Duration::from_secs(16);
/// Wait for the confirmation of an offer.
const ACK_WAIT: Duration = Duration::from_secs(1);
/// Pause after a failure that is not silence (no socket, refused address).
const PAUSE: Duration = Duration::from_secs(2);

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Kernel name.
    pub name: String,
    /// Kernel index.
    pub index: u32,
    /// MAC as text, lower case with colons.
    pub mac: String,
}

/// A card with its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Online {
    /// The card.
    pub card: Card,
    /// What DHCP gave.
    pub lease: Lease,
}

/// The network as it comes up. Dropping it stops DHCP; addresses stay.
pub struct Network {
    online: watch::Receiver<Vec<Online>>,
    boot_mac: Option<String>,
    _tasks: JoinSet<()>,
}

impl Network {
    /// Starts bringing up all cards, now and as they appear.
    pub fn start(boot_mac: Option<String>) -> Self {
        let (send, online) = watch::channel(Vec::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(run_cards(boot_mac.clone(), send));
        Self { online, boot_mac, _tasks: tasks }
    }

    /// Waits until the boot interface has an address (any card's when the boot interface is not known, or has
    /// none after `patience`). Gives the cards that are online then.
    pub async fn wait_online(&self, patience: Duration) -> Vec<Online> {
        let mut online = self.online.clone();
        let boot = self.boot_mac.as_deref();
        let wanted = |cards: &Vec<Online>| cards.iter().any(|o| boot.is_none_or(|mac| o.card.mac == mac));
        if let Ok(Ok(cards)) = timeout(patience, online.wait_for(wanted)).await {
            return cards.clone();
        }
        tracing::warn!("no address on the boot interface after {} s, taking any", patience.as_secs());
        match online.wait_for(|cards| !cards.is_empty()).await {
            Ok(cards) => cards.clone(),
            Err(_) => Vec::new(), // DHCP has ended, which it does not before we are dropped
        }
    }

    /// Waits until each card with carrier has an address, at most `patience`.
    pub async fn wait_all(&self, patience: Duration) {
        let mut online = self.online.clone();
        let complete = |have: &Vec<Online>| {
            let all = cards(Path::new("/sys"));
            all.iter().filter(|c| has_carrier(Path::new("/sys"), &c.name)).all(|c| have.iter().any(|o| o.card == *c))
        };
        if timeout(patience, online.wait_for(complete)).await.is_err() {
            tracing::warn!("not every card with carrier has an address after {} s", patience.as_secs());
        }
    }
}

/// The machine's real cards (those with a device behind them), by index. `sys` is `/sys` or a recording of it.
pub fn cards(sys: &Path) -> Vec<Card> {
    let mut cards = Vec::new();
    for entry in fs::read_dir(sys.join("class/net")).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else { continue };
        let read = |file: &str| fs::read_to_string(path.join(file)).map(|t| t.trim().to_owned()).unwrap_or_default();
        // Bridges, VLANs, tunnels and the loopback have no device of their own.
        if !path.join("device").exists() || !matches!(read("type").as_str(), "1" | "32") {
            continue;
        }
        if let Ok(index) = read("ifindex").parse() {
            cards.push(Card { name, index, mac: read("address").to_ascii_lowercase() });
        }
    }
    cards.sort_by_key(|card| card.index);
    cards
}

/// Whether a cable is seen. A card that is down cannot tell and says no.
pub fn has_carrier(sys: &Path, name: &str) -> bool {
    fs::read_to_string(sys.join("class/net").join(name).join("carrier")).is_ok_and(|text| text.trim() == "1")
}

/// The local address from which `host:port` is reached. No packet is sent.
pub fn route_source(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    (!ip.is_unspecified() && !link_local).then_some(ip)
}

/// Takes all cards down: the answer to a suspicion that somebody else has taken over this machine's place.
pub fn lockdown() {
    match Netlink::open() {
        Ok(mut netlink) => {
            for card in cards(Path::new("/sys")) {
                if let Err(e) = netlink.set_link(card.index, false) {
                    tracing::error!("cannot take {} down: {e}", card.name);
                }
            }
        }
        Err(e) => tracing::error!("cannot take the cards down: {e}"),
    }
}

async fn run_cards(boot_mac: Option<String>, send: watch::Sender<Vec<Online>>) {
    let (changes_send, mut changes) = mpsc::channel::<()>(1);
    std::thread::spawn(move || match LinkEvents::open() {
        // A full channel already says "look again"; a closed one ends the thread.
        Ok(events) => {
            while events.wait().is_ok() {
                if matches!(changes_send.try_send(()), Err(mpsc::error::TrySendError::Closed(()))) {
                    break;
                }
            }
        }
        Err(e) => tracing::error!("link changes are not heard, looking each second instead: {e}"),
    });
    if let Err(e) = Netlink::open().and_then(|mut netlink| netlink.set_link(1, true)) {
        tracing::warn!("loopback: {e}");
    }
    let mut up: HashMap<String, bool> = HashMap::new(); // name → DHCP started
    let mut clients = JoinSet::new();
    loop {
        for card in cards(Path::new("/sys")) {
            let started = up.entry(card.name.clone()).or_insert_with(|| {
                tracing::info!("{} {}", card.name, card.mac);
                match Netlink::open().and_then(|mut netlink| netlink.set_link(card.index, true)) {
                    Ok(()) => tracing::debug!("{} is up", card.name),
                    Err(e) => tracing::error!("cannot bring {} up: {e}", card.name),
                }
                false
            });
            if !*started && has_carrier(Path::new("/sys"), &card.name) {
                *started = true;
                tracing::debug!("{} has carrier", card.name);
                let boot = boot_mac.as_deref() == Some(card.mac.as_str());
                clients.spawn(run_client(card, boot, send.clone()));
            }
        }
        // The fall-back look costs nothing and covers a lost notice.
        if let Ok(None) = timeout(Duration::from_secs(1), changes.recv()).await {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Keeps one card's address for ever.
async fn run_client(card: Card, boot: bool, send: watch::Sender<Vec<Online>>) {
    let Some(mac) = mac_bytes(&card.mac) else {
        tracing::warn!("{}: {} is no Ethernet address, no DHCP here", card.name, card.mac);
        return;
    };
    // The boot interface's default route wins over all others.
    let metric = if boot { 100 } else { 200 + card.index };
    loop {
        match acquire(&card, mac).await {
            Ok(lease) => {
                if let Err(e) = apply(&card, &lease, metric) {
                    tracing::error!("{}: cannot set {}: {e}", card.name, lease.address);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                tracing::info!("{}: address {}/{} from {}", card.name, lease.address, lease.prefix, lease.server);
                let online = Online { card: card.clone(), lease: lease.clone() };
                send.send_modify(|cards| {
                    cards.retain(|o| o.card != online.card);
                    cards.push(online);
                });
                keep(&card, mac, metric, lease).await;
                send.send_modify(|cards| cards.retain(|o| o.card != card));
            }
            Err(e) => {
                tracing::warn!("{}: DHCP: {e}", card.name);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn mac_bytes(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text.split(':').map(|o| u8::from_str_radix(o, 16)).collect::<Result<_, _>>().ok()?;
    bytes.try_into().ok()
}

fn client_socket(card: &Card) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(card.name.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)).into())?;
    UdpSocket::from_std(socket.into())
}

/// Discover, offer, request, acknowledge; asks for ever.
async fn acquire(card: &Card, mac: [u8; 6]) -> io::Result<Lease> {
    let socket = client_socket(card)?;
    let broadcast = SocketAddr::from((Ipv4Addr::BROADCAST, 67));
    let begin = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        let xid = jitter::word();
        let secs = u16::try_from(begin.elapsed().as_secs()).unwrap_or(u16::MAX);
        let offer = exchange(&socket, broadcast, &dhcp::encode(Ask::Discover, xid, secs, mac), xid, mac, wait, |r| r == Reply::Offer).await;
        if let Some((_, offer)) = offer {
            let request = dhcp::encode(Ask::Request(&offer), xid, secs, mac);
            for _ in 0..3 {
                match exchange(&socket, broadcast, &request, xid, mac, ACK_WAIT, |r| r != Reply::Offer).await {
                    Some((Reply::Ack, lease)) => return Ok(lease),
                    Some(_) => break, // refused: begin again
                    None => {}
                }
            }
        }
        wait = (wait * 2).min(MAX_WAIT);
    }
}

/// Sends one message and waits for its answer. Failure to send is silence: the link may be coming up still.
async fn exchange(
    socket: &UdpSocket,
    to: SocketAddr,
    message: &[u8],
    xid: u32,
    mac: [u8; 6],
    wait: Duration,
    wanted: impl Fn(Reply) -> bool,
) -> Option<(Reply, Lease)> {
    // A tenth up or down, so that a rack powered on at once does not ask in step.
    tracing::debug!("DHCP message to {to}");
    let deadline = Instant::now() + wait.mul_f64(jitter::between(0.9, 1.1));
    if let Err(e) = socket.send_to(message, to).await {
        tracing::debug!("DHCP message not sent: {e}");
    }
    let mut buffer = [0; 1500];
    loop {
        match timeout_at(deadline, socket.recv_from(&mut buffer)).await {
            Err(_) => return None,
            Ok(Err(e)) => {
                tracing::debug!("DHCP socket: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(Ok((length, _))) => {
                let answer = dhcp::decode(buffer.get(..length).unwrap_or_default(), xid, mac);
                if let Some(answer) = answer.filter(|(kind, _)| wanted(*kind)) {
                    return Some(answer);
                }
            }
        }
    }
}

/// Renews until the lease is lost, then takes the address away.
async fn keep(card: &Card, mac: [u8; 6], metric: u32, mut lease: Lease) {
    let mut since = Instant::now();
    loop {
        tokio::time::sleep_until(since + lease.renew).await;
        let expires = since + lease.lease;
        let renewed = loop {
            let now = Instant::now();
            if now >= expires {
                break None;
            }
            let unicast = now < since + lease.rebind && !lease.server.is_unspecified();
            let to = SocketAddr::from((if unicast { lease.server } else { Ipv4Addr::BROADCAST }, 67));
            if let Ok(socket) = client_socket(card) {
                let xid = jitter::word();
                let message = dhcp::encode(Ask::Renew(&lease), xid, 0, mac);
                match exchange(&socket, to, &message, xid, mac, Duration::from_secs(5), |r| r != Reply::Offer).await {
                    Some((Reply::Ack, new)) => break Some(new),
                    Some(_) => break None,
                    None => {}
                }
            }
            let pause = ((expires - now) / 4).clamp(Duration::from_secs(5), Duration::from_secs(60));
            tokio::time::sleep(pause).await;
        };
        match renewed {
            Some(new) if new.address == lease.address => {
                since = Instant::now();
                if new != lease
                    && let Err(e) = apply(card, &new, metric)
                {
                    tracing::warn!("{}: cannot apply the renewed lease: {e}", card.name);
                }
                lease = new;
            }
            _ => {
                tracing::warn!("{}: lost address {}", card.name, lease.address);
                let removed = Netlink::open().and_then(|mut n| n.remove_address(card.index, lease.address, lease.prefix));
                if let Err(e) = removed {
                    tracing::warn!("{}: cannot remove {}: {e}", card.name, lease.address);
                }
                return;
            }
        }
    }
}

fn apply(card: &Card, lease: &Lease, metric: u32) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    if let Some(mtu) = lease.mtu
        && let Err(e) = netlink.set_mtu(card.index, mtu.into())
    {
        tracing::warn!("{}: MTU {mtu} refused: {e}", card.name);
    }
    netlink.add_address(card.index, lease.address, lease.prefix)?;
    let default = lease.router.map(|router| (Ipv4Addr::UNSPECIFIED, 0, router));
    for (to, prefix, gateway) in lease.routes.iter().copied().chain(default) {
        let gateway = Some(gateway).filter(|g| !g.is_unspecified());
        if let Err(e) = netlink.add_route(card.index, (to, prefix), gateway, metric) {
            tracing::warn!("{}: route to {to}/{prefix} refused: {e}", card.name);
        }
    }
    if !lease.dns.is_empty() && (metric == 100 || !Path::new("/etc/resolv.conf").exists()) {
        let mut text = lease.domain.as_ref().map(|d| format!("search {d}\n")).unwrap_or_default();
        for server in &lease.dns {
            text.push_str(&format!("nameserver {server}\n"));
        }
        fs::create_dir_all("/etc")?;
        fs::write("/etc/resolv.conf", text)?;
    }
    Ok(())
}
