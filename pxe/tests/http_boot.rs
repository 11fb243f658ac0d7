//! The HTTP boot service on loopback: scripts by lease, files by nonce, ranges, conditions, other servers' files.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bessemer_pxe::http::routes::{self, HttpState};
use bessemer_pxe::http::server::HttpService;
use bessemer_pxe::programs::Programs;
use bessemer_pxe::{BootPlan, BootWhat, FileRef, MacAddr, MemorySource, NetworkConfig, Nonce};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0xaa, 0, 1]);
const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0xaa, 0, 2]);
const ADDR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);
const OTHERS_ADDR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

struct Server {
    addr: SocketAddr,
    source: Arc<MemorySource>,
    dir: tempfile::TempDir,
    cancel: CancellationToken,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(None).await
    }

    async fn start_with(client: Option<reqwest::Client>) -> Self {
        let network: NetworkConfig = serde_json::from_str(
            r#"{"name":"prov","interface":"lo","server":"127.0.0.1","subnet":"127.0.0.0/24","range":"127.0.0.10-127.0.0.99"}"#,
        )
        .unwrap();
        let source = Arc::new(MemorySource::new());
        source.set_lease("prov", MAC, ADDR, Duration::from_secs(600));
        source.set_lease("prov", OTHER, OTHERS_ADDR, Duration::from_secs(600));
        let dir = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let router = routes::router(Arc::new(HttpState {
            source: Arc::clone(&source) as Arc<_>,
            networks: vec![network],
            programs: Arc::new(Programs::new(vec![dir.path().to_owned()])),
            http_port: 8088,
            client,
        }));
        let service = HttpService::bind(Ipv4Addr::LOCALHOST, 0, router, Arc::new(Semaphore::new(64))).unwrap();
        let addr = service.local_addr().unwrap();
        tokio::spawn(service.run(cancel.clone()));
        Self { addr, source, dir, cancel }
    }

    /// One request on a connection of its own from a client address.
    async fn ask(&self, from: Ipv4Addr, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut stream = self.connect(from).await;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: wrong.example\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut raw)).await.unwrap().unwrap();
        Reply::parse(&raw)
    }

    async fn connect(&self, from: Ipv4Addr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(self.addr).await.unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask(ADDR, "GET", path, headers).await
    }

    fn path(&self, name: &str, content: &[u8]) -> FileRef {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        FileRef::Path(path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn parse(raw: &[u8]) -> Self {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&raw[..end]).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        Self { status, headers, body: raw[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

fn plan(kernel: FileRef, layers: Vec<FileRef>) -> BootPlan {
    BootPlan {
        node: None,
        what: BootWhat::Ramdisk,
        kernel: Some(kernel),
        layers,
        params: vec!["quiet".into()],
        nonce: Nonce::random(),
        files: BTreeMap::new(),
        macs: vec![MAC],
    }
}

fn small_plan() -> BootPlan {
    let mut plan = plan(FileRef::Bytes(Bytes::from_static(b"kernel")), vec![FileRef::Bytes(Bytes::from_static(b"ramdisk"))]);
    plan.files.insert("configdrive".into(), FileRef::Bytes(Bytes::from_static(b"drive")));
    plan
}

#[tokio::test]
async fn a_neighbour_with_another_mac_gets_404_for_script_and_files() {
    let server = Server::start().await;
    let plan = small_plan();
    server.source.set_plan(MAC, plan.clone());
    let script = format!("/boot/ipxe/{MAC}");
    let files = ["kernel", "ramdisk", "configdrive"].map(|name| format!("/boot/{}/{name}", plan.nonce.reveal()));
    assert_eq!(server.ask(ADDR, "GET", &script, &[]).await.status, StatusCode::OK);
    for file in &files {
        assert_eq!(server.ask(ADDR, "GET", file, &[]).await.status, StatusCode::OK, "{file}");
    }
    for method in ["GET", "HEAD"] {
        for path in files.iter().chain([&script]) {
            let reply = server.ask(OTHERS_ADDR, method, path, &[]).await;
            assert_eq!((reply.status, reply.body.len()), (StatusCode::NOT_FOUND, 0), "{method} {path}");
        }
    }
    // An address without a lease is nobody, and says nothing about a plan's existence either.
    let nobody = Ipv4Addr::new(127, 0, 0, 77);
    assert_eq!(server.ask(nobody, "GET", &script, &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_script_names_the_network_s_server_and_never_the_host_header() {
    let server = Server::start().await;
    let plan = small_plan();
    server.source.set_plan(MAC, plan.clone());
    for mac in ["52:54:00:aa:00:01", "52-54-00-AA-00-01", "52%3A54%3A00%3Aaa%3A00%3A01"] {
        let reply = server.get(&format!("/boot/ipxe/{mac}"), &[]).await;
        assert_eq!(reply.status, StatusCode::OK, "{mac}");
        assert!(reply.text().contains(&format!("http://127.0.0.1:8088/boot/{}/kernel", plan.nonce.reveal())));
        assert!(!reply.text().contains("wrong.example"));
        assert_eq!(reply.header("cache-control"), "no-store");
    }
    for path in ["/boot/ipxe/nonsense", "/boot/ipxe/52:54:00:aa:00:03", "/boot/ipxe/", "/", "/boot/x/kernel", "/boot/../etc/passwd"] {
        assert_eq!(server.get(path, &[]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let post = server.ask(ADDR, "POST", &format!("/boot/ipxe/{MAC}"), &[]).await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_files_of_a_plan_are_void_at_the_next_plan() {
    let server = Server::start().await;
    let old = small_plan();
    server.source.set_plan(MAC, old.clone());
    let path = format!("/boot/{}/kernel", old.nonce.reveal());
    assert_eq!(server.get(&path, &[]).await.text(), "kernel");
    server.source.set_plan(MAC, small_plan());
    assert_eq!(server.get(&path, &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn layers_are_joined_on_four_byte_boundaries_and_any_range_of_them_can_be_had() {
    let server = Server::start().await;
    // Longer than a chunk, odd, in memory and in files.
    let first: Vec<u8> = (0..700_001u32).map(|n| (n % 251) as u8).collect();
    let second = b"second".to_vec();
    let third: Vec<u8> = (0..300_000u32).map(|n| (n % 241) as u8).collect();
    let layers = vec![server.path("1", &first), FileRef::Bytes(Bytes::from(second.clone())), server.path("3", &third)];
    let plan = plan(FileRef::Bytes(Bytes::new()), layers);
    server.source.set_plan(MAC, plan.clone());
    let path = format!("/boot/{}/ramdisk", plan.nonce.reveal());
    let whole = [&first[..], &[0, 0, 0], &second, &[0, 0], &third].concat();

    let reply = server.get(&path, &[]).await;
    assert_eq!(reply.header("content-length"), whole.len().to_string());
    assert!(reply.body == whole);
    let head = server.ask(ADDR, "HEAD", &path, &[]).await;
    assert_eq!((head.header("content-length"), head.body.len()), (reply.header("content-length"), 0));

    let len = whole.len();
    for (start, end) in [(0, 1), (699_990, 700_020), (1, len), (262_144, 524_288), (700_001, 700_004), (len - 1, len)] {
        let part = server.get(&path, &[("Range", &format!("bytes={start}-{}", end - 1))]).await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.header("content-range"), format!("bytes {start}-{}/{len}", end - 1));
        assert!(part.body == whole[start..end], "{start}..{end}");
    }
    let tail = server.get(&path, &[("Range", "bytes=-10")]).await;
    assert!(tail.body == whole[len - 10..]);
}

#[tokio::test]
async fn ranges_and_conditions_keep_to_the_standard() {
    let server = Server::start().await;
    std::fs::write(server.dir.path().join("snponly.efi"), b"0123456789").unwrap();
    let path = "/files/snponly.efi";
    let whole = server.get(path, &[]).await;
    assert_eq!((whole.status, whole.text().as_str(), whole.header("accept-ranges")), (StatusCode::OK, "0123456789", "bytes"));
    let tag = whole.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() > 4, "{tag}");

    let beyond = server.get(path, &[("Range", "bytes=10-")]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */10"));
    let several = server.get(path, &[("Range", "bytes=0-1,4-5")]).await;
    assert_eq!((several.status, several.body.len()), (StatusCode::OK, 10));
    let same = server.get(path, &[("Range", "bytes=2-3"), ("If-Range", &tag)]).await;
    assert_eq!((same.status, same.text().as_str()), (StatusCode::PARTIAL_CONTENT, "23"));
    let changed = server.get(path, &[("Range", "bytes=2-3"), ("If-Range", "\"other\"")]).await;
    assert_eq!((changed.status, changed.body.len()), (StatusCode::OK, 10));
    let dated = server.get(path, &[("Range", "bytes=2-3"), ("If-Range", "Sat, 29 Oct 1994 19:43:31 GMT")]).await;
    assert_eq!(dated.status, StatusCode::OK);
    let known = server.get(path, &[("If-None-Match", &format!("\"x\", {tag}"))]).await;
    assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0));
    let head = server.ask(ADDR, "HEAD", path, &[("Range", "bytes=2-3")]).await;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "10"));

    std::fs::write(server.dir.path().join("snponly.efi"), b"9876543210").unwrap();
    let stale = server.get(path, &[("Range", "bytes=2-3"), ("If-Range", &tag)]).await;
    assert_eq!((stale.status, stale.text().as_str()), (StatusCode::OK, "9876543210"));
}

#[tokio::test]
async fn boot_programs_do_not_leave_their_folder() {
    let server = Server::start().await;
    std::fs::create_dir(server.dir.path().join("sub")).unwrap();
    std::fs::write(server.dir.path().join("sub/p"), b"p").unwrap();
    assert_eq!(server.get("/files/sub/p", &[]).await.text(), "p");
    for path in ["/files/../../etc/passwd", "/files/..%2f..%2fetc%2fpasswd", "/files/%2e%2e/x", "/files/sub", "/files/a%00b", "/files//"] {
        assert_eq!(server.get(path, &[]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_missing_file_is_503_and_one_that_shrinks_ends_the_connection() {
    let server = Server::start().await;
    let plan_with = |file: FileRef| plan(file, vec![]);
    let absent = plan_with(FileRef::Path("/nonexistent/kernel".into()));
    server.source.set_plan(MAC, absent.clone());
    let reply = server.get(&format!("/boot/{}/kernel", absent.nonce.reveal()), &[]).await;
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "5"));

    let big = server.path("big", &vec![7; 64 << 20]);
    let plan = plan_with(big);
    server.source.set_plan(MAC, plan.clone());
    let mut stream = server.connect(ADDR).await;
    let request = format!("GET /boot/{}/kernel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", plan.nonce.reveal());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut start = [0; 1000];
    stream.read_exact(&mut start).await.unwrap();
    std::fs::OpenOptions::new().write(true).open(server.dir.path().join("big")).unwrap().set_len(1 << 20).unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.expect("the connection ends");
    assert!(rest.len() < 64 << 20);
}

#[tokio::test]
async fn files_at_other_servers_are_passed_on_and_ipxe_is_sent_there() {
    let content: Vec<u8> = (0..100_000u32).map(|n| (n % 199) as u8).collect();
    let origin = origin(content.clone()).await;
    let url = format!("http://{origin}/vmlinuz");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::start_with(Some(reqwest::Client::new())).await;
    let mut plan = plan(FileRef::Url(url.clone()), vec![FileRef::Bytes(Bytes::from_static(b"rd")), FileRef::Url(url.clone())]);
    plan.files.insert("image".into(), FileRef::Url(format!("http://{origin}/gone")));
    server.source.set_plan(MAC, plan.clone());
    let path = |name: &str| format!("/boot/{}/{name}", plan.nonce.reveal());

    let reply = server.get(&path("kernel"), &[("User-Agent", "iPXE/1.0.0+git-20190125")]).await;
    assert_eq!((reply.status, reply.header("location")), (StatusCode::FOUND, url.as_str()));
    let reply = server.get(&path("kernel"), &[("User-Agent", "bessemer-agent")]).await;
    assert!(reply.status == StatusCode::OK && reply.body == content);
    let reply = server.get(&path("kernel"), &[("Range", "bytes=500-999")]).await;
    assert!(reply.status == StatusCode::PARTIAL_CONTENT && reply.body == content[500..1000]);
    let joined = server.get(&path("ramdisk"), &[("User-Agent", "iPXE/1.0.0+git-20190125")]).await;
    assert!(joined.body == [b"rd\0\0", &content[..]].concat());
    assert_eq!(server.get(&path("image"), &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

/// A small HTTP server that knows HEAD, GET and one range.
async fn origin(content: Vec<u8>) -> SocketAddr {
    use axum::response::IntoResponse;
    let app = axum::Router::new().route(
        "/vmlinuz",
        axum::routing::get(move |headers: HeaderMap| async move {
            let Some(range) = headers.get("range").map(|value| value.to_str().unwrap().to_owned()) else {
                return content.into_response();
            };
            let (start, end) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
            (StatusCode::PARTIAL_CONTENT, content[start..=end].to_vec()).into_response()
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    addr
}

#[tokio::test]
async fn many_clients_load_at_once_and_connections_are_kept_alive() {
    let server = Arc::new(Server::start().await);
    let content: Vec<u8> = (0..2_000_000u32).map(|n| (n % 253) as u8).collect();
    let plan = plan(server.path("k", &content), vec![]);
    server.source.set_plan(MAC, plan.clone());
    let path = format!("/boot/{}/kernel", plan.nonce.reveal());
    let mut loads = tokio::task::JoinSet::new();
    // More than the 64 connections that are served at once.
    for _ in 0..100 {
        let (server, path, content) = (Arc::clone(&server), path.clone(), content.clone());
        loads.spawn(async move { assert!(server.get(&path, &[]).await.body == content) });
    }
    while let Some(done) = loads.join_next().await {
        done.unwrap();
    }
    // HEAD then GET on one connection, as UEFI firmware does.
    let mut stream = server.connect(ADDR).await;
    let request = |method: &str| format!("{method} {path} HTTP/1.1\r\nHost: 172.30.0.1\r\n\r\n").into_bytes();
    stream.write_all(&request("HEAD")).await.unwrap();
    let mut head = vec![0; 4096];
    let len = stream.read(&mut head).await.unwrap();
    assert!(String::from_utf8_lossy(&head[..len]).contains("content-length: 2000000"));
    stream.write_all(&request("GET")).await.unwrap();
    let mut got = 0;
    while got < content.len() {
        got += tokio::time::timeout(Duration::from_secs(5), stream.read(&mut head)).await.unwrap().unwrap();
    }
}
