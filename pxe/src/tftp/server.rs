//! The TFTP service of one interface: the well-known port and a socket per transfer.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::codec::{self, DATA_HEADER, ErrorCode, Incoming, MAX_REQUEST, ReadRequest};
use super::content::{Reader, TftpContent, TftpFileError, TftpFiles};
use super::transfer::{Limits, Step, Transfer};
use crate::net::{self, SocketError};

/// Most transfers of one client address that it has not acknowledged anything of yet. Firmware runs one or two; who asks
/// and never listens (or asks in another's name) must not take all places.
const UNANSWERED_PER_CLIENT: usize = 256;
/// Most bytes in one segmented send (a UDP datagram's own limit).
const SEGMENTED_MAX: usize = 60_000;
/// Most segments in one segmented send (kernel limit).
const SEGMENTS_MAX: usize = 64;

/// Settings of a TFTP service.
#[derive(Debug, Clone)]
pub struct TftpSettings {
    /// Interface to serve.
    pub interface: String,
    /// UDP port; 0 takes any free one (tests).
    pub port: u16,
    /// Address to answer from where a request came by broadcast.
    pub server: Ipv4Addr,
    /// Most transfers at once.
    pub transfers: usize,
    /// What is granted at most.
    pub limits: Limits,
}

/// A bound TFTP service.
pub struct TftpService {
    socket: UdpSocket,
    settings: TftpSettings,
    files: Arc<dyn TftpFiles>,
}

impl TftpService {
    /// Binds the port. Needs a tokio runtime.
    pub fn bind(settings: TftpSettings, files: Arc<dyn TftpFiles>) -> Result<Self, SocketError> {
        let socket = net::bind_udp(&settings.interface, settings.port)
            .map_err(|error| SocketError::new(format!("UDP port {} (TFTP) on interface {}", settings.port, settings.interface), error))?;
        Ok(Self { socket, settings, files })
    }

    /// The port that is served.
    pub fn port(&self) -> io::Result<u16> {
        self.socket.local_addr().map(|addr| addr.port())
    }

    /// Serves until cancelled; transfers under way end then too.
    pub async fn run(self, cancel: CancellationToken) {
        let mut transfers: JoinSet<SocketAddrV4> = JoinSet::new();
        // The request under way per client port: a client that repeats itself gets one transfer.
        let mut active: HashMap<SocketAddrV4, Active> = HashMap::new();
        let mut buffer = vec![0; MAX_REQUEST + 1];
        loop {
            let received = tokio::select! {
                () = cancel.cancelled() => return,
                Some(ended) = transfers.join_next() => {
                    if let Ok(peer) = ended {
                        active.remove(&peer);
                    }
                    continue;
                }
                received = net::recv(&self.socket, &mut buffer) => received,
            };
            let received = match received {
                Ok(received) => received,
                Err(error) => {
                    warn!(interface = self.settings.interface, %error, "tftp: cannot receive");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            let peer = received.from;
            let local = match received.to {
                to if to.is_broadcast() || to.is_multicast() || to.is_unspecified() => self.settings.server,
                to if to == received.local => to,
                // A directed broadcast: answered from the address the kernel has on this link.
                _ => received.local,
            };
            let request = match codec::decode(buffer.get(..received.len).unwrap_or_default()) {
                Ok(Incoming::Read(request)) => request,
                Ok(_) => continue,
                Err(reason) => {
                    debug!(%peer, %reason, "tftp: packet refused");
                    if let Some((code, text)) = reason.answer() {
                        self.refuse(local, peer, code, text).await;
                    }
                    continue;
                }
            };
            if active.get(&peer).is_some_and(|active| active.request == request) {
                continue;
            }
            let unanswered = |(other, active): &(&SocketAddrV4, &Active)| other.ip() == peer.ip() && !active.answered.load(Relaxed);
            if active.len() >= self.settings.transfers || active.iter().filter(unanswered).count() >= UNANSWERED_PER_CLIENT {
                debug!(%peer, "tftp: too many transfers, request dropped");
                continue;
            }
            let answered = Arc::new(AtomicBool::new(false));
            active.insert(peer, Active { request: request.clone(), answered: Arc::clone(&answered) });
            let files = Arc::clone(&self.files);
            let settings = self.settings.clone();
            transfers.spawn(async move {
                serve(&settings, files.as_ref(), local, peer, request, &answered).await;
                peer
            });
        }
    }

    /// Answers with an ERROR from a port of its own, as a transfer would.
    async fn refuse(&self, local: Ipv4Addr, peer: SocketAddrV4, code: ErrorCode, text: &str) {
        if let Ok(socket) = net::connect_udp(&self.settings.interface, local, peer) {
            // An error that is lost is asked for again.
            let packet = codec::encode_error(code, text);
            let _ = tokio::time::timeout(Duration::from_millis(100), socket.send(&packet)).await;
        }
    }
}

/// A transfer under way.
struct Active {
    request: ReadRequest,
    answered: Arc<AtomicBool>,
}

async fn serve(
    settings: &TftpSettings,
    files: &dyn TftpFiles,
    local: Ipv4Addr,
    peer: SocketAddrV4,
    request: ReadRequest,
    answered: &AtomicBool,
) {
    let name = request.name.escape_debug().to_string();
    let socket = match net::connect_udp(&settings.interface, local, peer) {
        Ok(socket) => socket,
        Err(error) => {
            warn!(%peer, %local, %error, "tftp: no socket for a transfer");
            return;
        }
    };
    let content = match files.open(&request.name, peer).await {
        Ok(content) => content,
        Err(error) => {
            info!(%peer, name, %error, "tftp: not served");
            let (code, text) = match error {
                TftpFileError::NotFound => (ErrorCode::NotFound, "file not found"),
                TftpFileError::Denied => (ErrorCode::Access, "file name not allowed"),
                TftpFileError::Io(_) => (ErrorCode::NotDefined, "cannot read the file"),
            };
            let _ = socket.send(&codec::encode_error(code, text)).await;
            return;
        }
    };
    let started = Instant::now();
    let mut transfer = Transfer::new(content.len(), request.options, settings.limits, started);
    let end = Sender::new(&socket, content).run(&mut transfer, answered).await;
    let millis = started.elapsed().as_millis();
    let bytes = transfer.confirmed();
    match end {
        Ok(End::Complete) => info!(%peer, name, bytes, millis, "tftp: sent"),
        Ok(End::Aborted { code, message }) => {
            // Firmware asks for the size first and ends that transfer like this.
            debug!(%peer, name, bytes, code, text = message, "tftp: ended by the client");
        }
        Ok(End::Silent) => info!(%peer, name, bytes, millis, "tftp: the client no longer answers"),
        // Its port is closed, or nobody answers for its address any more: what a machine that goes on booting leaves behind.
        Err(error) if is_gone(&error) => debug!(%peer, name, bytes, %error, "tftp: the client went away"),
        Err(error) => {
            warn!(%peer, name, bytes, %error, "tftp: transfer failed");
            let _ = socket.try_send(&codec::encode_error(ErrorCode::NotDefined, "cannot read the file"));
        }
    }
}

/// How a transfer ended.
enum End {
    Complete,
    Aborted { code: u16, message: String },
    Silent,
}

/// Sends the blocks of one content on one socket.
struct Sender<'a> {
    socket: &'a UdpSocket,
    reader: Reader,
    buffer: Vec<u8>,
    segmented: bool,
}

impl<'a> Sender<'a> {
    fn new(socket: &'a UdpSocket, content: TftpContent) -> Self {
        Self { socket, reader: Reader::new(content), buffer: Vec::new(), segmented: true }
    }

    async fn run(&mut self, transfer: &mut Transfer, answered: &AtomicBool) -> io::Result<End> {
        let mut step = transfer.start(Instant::now());
        // Larger than any ACK; an ERROR text beyond it is cut.
        let mut incoming = [0; 256];
        loop {
            match step {
                Step::SendOack => self.send_one(&transfer.granted().encode()).await?,
                Step::SendBlocks { first, count } => self.send_blocks(transfer, first, count).await?,
                Step::Wait => {}
                Step::Done => return Ok(End::Complete),
                Step::GiveUp => return Ok(End::Silent),
            }
            let wait = tokio::time::timeout_at(transfer.deadline().into(), self.socket.recv(&mut incoming));
            step = match wait.await {
                Err(_) => transfer.on_timeout(Instant::now()),
                Ok(Ok(len)) => match codec::decode(incoming.get(..len).unwrap_or_default()) {
                    Ok(Incoming::Ack(number)) => {
                        answered.store(true, Relaxed);
                        transfer.on_ack(number, Instant::now())
                    }
                    Ok(Incoming::Error { code, message }) => return Ok(End::Aborted { code, message }),
                    Ok(Incoming::Read(_)) | Err(_) => Step::Wait,
                },
                // Also "refused": the client closed its port, it has the file or gave up, and says no more.
                Ok(Err(error)) => return Err(error),
            };
        }
    }

    async fn send_blocks(&mut self, transfer: &Transfer, first: u64, count: u16) -> io::Result<()> {
        let block_len = usize::from(transfer.block_len());
        let packet_len = block_len + DATA_HEADER;
        let per_send = (SEGMENTED_MAX / packet_len).clamp(1, SEGMENTS_MAX);
        let last = first + u64::from(count);
        let mut block = first;
        while block < last {
            let blocks = u64::try_from(per_send).unwrap_or(1).min(last - block);
            self.buffer.clear();
            for number in block..block + blocks {
                let (offset, len) = transfer.span(number);
                self.reader.prepare(offset, len).await?;
                // The 16 bits that travel; the roll-over is the truncation.
                self.buffer.extend(codec::data_header(number as u16));
                self.buffer.extend_from_slice(self.reader.slice(offset, len));
            }
            self.send_packets(packet_len).await?;
            block += blocks;
        }
        Ok(())
    }

    /// Sends the buffer as packets of `packet_len` bytes, the last one shorter.
    async fn send_packets(&mut self, packet_len: usize) -> io::Result<()> {
        if self.buffer.len() <= packet_len {
            let buffer = std::mem::take(&mut self.buffer);
            let sent = self.send_one(&buffer).await;
            self.buffer = buffer;
            return sent;
        }
        if self.segmented {
            let segment = u16::try_from(packet_len).map_err(|_| io::ErrorKind::InvalidInput)?;
            loop {
                match net::try_send_segments(self.socket, &self.buffer, segment) {
                    Ok(()) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.socket.writable().await?,
                    Err(error) if is_gone(&error) => return Err(error),
                    Err(error) => {
                        // Old kernel, or a device or block size for which it does not work: one by one from now on.
                        debug!(%error, "tftp: no segmentation offload");
                        self.segmented = false;
                        break;
                    }
                }
            }
        }
        let buffer = std::mem::take(&mut self.buffer);
        for packet in buffer.chunks(packet_len) {
            self.send_one(packet).await?;
        }
        self.buffer = buffer;
        Ok(())
    }

    async fn send_one(&self, packet: &[u8]) -> io::Result<()> {
        match self.socket.send(packet).await {
            Ok(_) => Ok(()),
            // Full device queue: lost like any packet, and sent again after the wait.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}
