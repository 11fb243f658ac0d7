//! TLS of the API: certificate and key are files, read again when they change; handshakes happen beside the accepting of connections,
//! so that a client that says nothing holds up nobody.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A client has so long to finish its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// So many handshakes happen at a time; more wait in the kernel.
const HANDSHAKES: usize = 512;
/// The files are looked at this often.
const RECHECK: Duration = Duration::from_secs(5);

/// Certificate chain and key as files in PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate and those that vouch for it.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Files {
    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey> {
        let chain = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("certificate {}", self.cert.display()))?;
        if chain.is_empty() {
            return Err(anyhow!("{} holds no certificate in PEM", self.cert.display()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).with_context(|| format!("key {}", self.key.display()))?;
        CertifiedKey::from_der(chain, key, provider)
            .with_context(|| format!("certificate {} and key {} do not fit each other", self.cert.display(), self.key.display()))
    }

    fn stamp(&self) -> Option<[(SystemTime, u64); 2]> {
        let of = |p: &PathBuf| std::fs::metadata(p).and_then(|m| Ok((m.modified()?, m.len()))).ok();
        Some([of(&self.cert)?, of(&self.key)?])
    }
}

/// The certificate in force.
#[derive(Debug)]
struct Current {
    files: Files,
    provider: Arc<CryptoProvider>,
    pair: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pair.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Current {
    /// Takes new files into use. Half a pair, as while it is being replaced, leaves the old one in force.
    fn reload(&self) {
        match self.files.load(&self.provider) {
            Ok(pair) => {
                *self.pair.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
                tracing::info!(certificate = %self.files.cert.display(), "the certificate was read again");
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "the new certificate cannot be used; the old one stays"),
        }
    }

    async fn watch(self: Arc<Self>) {
        let mut seen = self.files.stamp();
        loop {
            tokio::time::sleep(RECHECK).await;
            let now = self.files.stamp();
            if now.is_some() && now != seen {
                self.reload();
            }
            seen = now.or(seen);
        }
    }
}

/// A listener whose connections speak TLS.
pub struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl TlsListener {
    /// Speaks TLS on `listener`; `minimum` is `1.2` or `1.3`.
    ///
    /// # Errors
    /// Files that make no pair, or another minimum.
    pub fn new(listener: TcpListener, files: Files, minimum: &str) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] = match minimum {
            "1.2" => &[&rustls::version::TLS13, &rustls::version::TLS12],
            "1.3" => &[&rustls::version::TLS13],
            other => return Err(anyhow!("[api] tls_minimum_version = '{other}': write 1.2 or 1.3")),
        };
        let pair = RwLock::new(Arc::new(files.load(&provider)?));
        let current = Arc::new(Current { files, provider: Arc::clone(&provider), pair });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .context("TLS cannot be set up")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let local = listener.local_addr()?;
        let (send, ready) = mpsc::channel(64);
        let accept = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), send));
        Ok(Self { ready, local, tasks: vec![accept, tokio::spawn(current.watch())] })
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let turns = Arc::new(Semaphore::new(HANDSHAKES));
    while let Ok(turn) = Arc::clone(&turns).acquire_owned().await {
        let (tcp, peer) = match listener.accept().await {
            Ok(c) => c,
            Err(error) => {
                // Most of all "too many open files": connections that end make room.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let _turn = turn;
            let _ = tcp.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await {
                Ok(Ok(stream)) => drop(ready.send((stream, peer)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
        });
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(c) => c,
            // The accepting task ends with this listener only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.local)
    }
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener as _;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair(files: &Files) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    fn files(dir: &std::path::Path) -> Files {
        Files { cert: dir.join("cert.pem"), key: dir.join("key.pem") }
    }

    /// The certificate that a client is shown, if the handshake works.
    async fn shown(
        at: SocketAddr,
        trusted: &CertificateDer<'static>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> std::io::Result<CertificateDer<'static>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let tcp = TcpStream::connect(at).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        tls.write_all(b"ping").await?;
        let mut back = [0; 4];
        tls.read_exact(&mut back).await?;
        assert_eq!(&back, b"ping");
        Ok(tls.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    }

    async fn echo(minimum: &str, files: Files) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut listener = TlsListener::new(tcp, files, minimum).unwrap();
        let at = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (mut io, _) = listener.accept().await;
                let mut buffer = [0; 4];
                if io.read_exact(&mut buffer).await.is_ok() {
                    let _ = io.write_all(&buffer).await;
                }
            }
        });
        (at, task)
    }

    #[tokio::test]
    async fn versions_below_the_minimum_are_refused_and_silence_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let cert = pair(&files(dir.path()));
        let (at, strict) = echo("1.3", files(dir.path())).await;
        let _silent: Vec<_> = futures::future::join_all((0..8).map(|_| TcpStream::connect(at))).await;
        assert_eq!(shown(at, &cert, &[&rustls::version::TLS13]).await.unwrap(), cert);
        assert!(shown(at, &cert, &[&rustls::version::TLS12]).await.is_err());
        strict.abort();
        let (at, task) = echo("1.2", files(dir.path())).await;
        assert_eq!(shown(at, &cert, &[&rustls::version::TLS12]).await.unwrap(), cert);
        task.abort();
    }

    #[tokio::test]
    async fn a_new_pair_is_taken_into_use_and_half_a_pair_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let f = files(dir.path());
        let old = pair(&f);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let current = Current { files: f.clone(), provider: provider.clone(), pair: RwLock::new(Arc::new(f.load(&provider).unwrap())) };
        let shows = || current.pair.read().unwrap().cert[0].clone();
        let key = std::fs::read(&f.key).unwrap();
        let new = pair(&f);
        let new_key = std::fs::read(&f.key).unwrap();
        std::fs::write(&f.key, key).unwrap();
        current.reload();
        assert_eq!(shows(), old);
        std::fs::write(&f.key, new_key).unwrap();
        current.reload();
        assert_eq!(shows(), new);
    }

    #[tokio::test]
    async fn what_makes_no_pair_is_refused_by_file() {
        let dir = tempfile::tempdir().unwrap();
        let f = files(dir.path());
        pair(&f);
        let start = async |f: Files, v: &str| {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            TlsListener::new(tcp, f, v).map(drop).map_err(|e| format!("{e:#}"))
        };
        assert!(start(f.clone(), "1.1").await.unwrap_err().contains("tls_minimum_version"));
        assert!(start(Files { cert: f.key.clone(), ..f.clone() }, "1.3").await.unwrap_err().contains("key.pem"));
        assert!(start(Files { key: dir.path().join("gone"), ..f }, "1.3").await.unwrap_err().contains("gone"));
    }
}
