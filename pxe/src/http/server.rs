//! The TCP side: a listener per server address, bounded connections, time limits, orderly end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::routes::Connection;
use crate::net::SocketError;

/// How long a client may take for the head of a request; idle kept-alive connections end by it too.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what it asked for.
const STALL_PATIENCE: Duration = Duration::from_secs(300);
/// How long transfers may go on after the service was told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A bound HTTP service.
pub struct HttpService {
    listener: TcpListener,
    router: Router,
    connections: Arc<Semaphore>,
}

impl HttpService {
    /// Binds an address; port 0 takes any free one (tests). Needs a tokio runtime.
    pub fn bind(addr: Ipv4Addr, port: u16, router: Router, connections: Arc<Semaphore>) -> Result<Self, SocketError> {
        let listener =
            listen(SocketAddr::from((addr, port))).map_err(|error| SocketError::new(format!("TCP {addr}:{port} (HTTP boot)"), error))?;
        Ok(Self { listener, router, connections })
    }

    /// The address that is served.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until cancelled; connections under way get two seconds more.
    pub async fn run(self, cancel: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            // No permit, no accept: the kernel's queue holds what is too much.
            let next = async {
                let permit = Arc::clone(&self.connections).acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = cancel.cancelled() => break,
                Some(_) = tasks.join_next() => continue,
                next = next => next,
            };
            let (Ok(permit), accepted) = (permit, accepted) else {
                break;
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (router, cancel) = (self.router.clone(), cancel.clone());
                    tasks.spawn(async move {
                        connection(stream, peer, router, cancel).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors: they come back when a connection ends.
                    warn!(%error, "http: cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        let _ = tokio::time::timeout(STOP_PATIENCE, async { while tasks.join_next().await.is_some() {} }).await;
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, cancel: CancellationToken) {
    // Small answers must not wait for an ACK. A client that takes nothing for minutes is gone or hostile; an agent whose
    // disk stalls is neither. If an option cannot be set the connection works all the same.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(STALL_PATIENCE));
    let service = TowerToHyperService::new(router.layer(Extension(Connection { peer })));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%peer, %error, "http: connection ended");
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted daemon must not wait for old connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}
