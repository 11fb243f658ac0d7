//! Connections that can be broken in the middle, with and without TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const WHOLE: u8 = 0;
const RESET: u8 = 1;
const TEAR: u8 = 2;

/// Tells a connection to break at its next write.
#[derive(Clone, Debug, Default)]
pub(super) struct Breaker(Arc<AtomicU8>);

impl Breaker {
    /// The connection is reset instead of the next write.
    pub(super) fn reset(&self) {
        self.0.store(RESET, Ordering::SeqCst);
    }
    /// Half of the next write arrives, then the connection is reset.
    pub(super) fn tear(&self) {
        self.0.store(TEAR, Ordering::SeqCst);
    }
}

impl Connected<IncomingStream<'_, Door>> for Breaker {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}

/// Accepts connections, with TLS where wanted.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<TlsAcceptor>,
}

impl Listener for Door {
    type Io = Line;
    type Addr = Breaker;

    async fn accept(&mut self) -> (Line, Breaker) {
        loop {
            let Ok((tcp, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let stream = match &self.tls {
                None => Stream::Plain(tcp),
                Some(tls) => match tokio::time::timeout(Duration::from_secs(5), tls.accept(tcp)).await {
                    Ok(Ok(s)) => Stream::Tls(Box::new(s)),
                    _ => continue,
                },
            };
            let breaker = Breaker::default();
            return (Line { stream, breaker: breaker.clone() }, breaker);
        }
    }

    fn local_addr(&self) -> io::Result<Breaker> {
        Ok(Breaker::default())
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// A connection that can be broken.
pub(super) struct Line {
    stream: Stream,
    breaker: Breaker,
}

impl Line {
    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(s) => s,
            Stream::Tls(s) => s.get_ref().0,
        }
    }

    fn cut(&self) -> io::Error {
        // No time to linger: the other side sees a reset instead of an orderly end.
        self.tcp().set_zero_linger().ok();
        io::ErrorKind::ConnectionReset.into()
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let state = self.breaker.0.load(Ordering::SeqCst);
        if state == RESET {
            return Poll::Ready(Err(self.cut()));
        }
        let part = if state == TEAR { buf.get(..buf.len() / 2).unwrap_or(buf) } else { buf };
        let written = match &mut self.stream {
            Stream::Plain(s) => ready!(Pin::new(s).poll_write(cx, part)),
            Stream::Tls(s) => ready!(Pin::new(s).poll_write(cx, part)),
        };
        if state != WHOLE {
            self.breaker.0.store(RESET, Ordering::SeqCst);
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
