//! Two real daemons on one PostgreSQL database: what needs a controller now is done by the conductor that owns the node.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bessemer_lab::{
    http::{self, Reply},
    postgres::Postgres,
    tool::{self, command},
};
use bessemer_model::{
    clock::{Clock, SystemClock, Timestamp},
    ids::NodeId,
    secret::Secret,
};
use bessemer_rpc::{
    call::Call,
    signed::{Key, Message, PATH, SIGNATURE},
};
use bessemer_tests::rig::{Daemon, free_port};
use serde_json::{Value, json};

const KEY: &str = "the-key-that-these-daemons-share";
const OTHER_KEY: &str = "a-key-that-only-one-daemon-knows";
const LIMIT: Duration = Duration::from_secs(30);

struct Peer {
    daemon: Daemon,
    dir: PathBuf,
    rpc: String,
}

impl Peer {
    /// The daemon `host`, which seals with the key of the others.
    fn start(host: &str, home: &Path, database: &str, key: &str, more: &[&str]) -> Result<Self> {
        let dir = home.join(host);
        std::fs::create_dir_all(dir.join("state"))?;
        // Before its start: what one daemon sealed the others must open.
        let seal = home.join("seal.key");
        if seal.exists() {
            std::fs::copy(&seal, dir.join("state/seal.key"))?;
        }
        let port = free_port()?;
        let mut set = vec![
            format!("DEFAULT.host={host}"),
            format!("database.connection={database}"),
            format!("rpc.shared_key={key}"),
            "rpc.host_ip=127.0.0.1".to_owned(),
            format!("rpc.port={port}"),
        ];
        set.extend(more.iter().map(|s| (*s).to_owned()));
        let daemon = Daemon::start(&dir, false, &set.iter().map(String::as_str).collect::<Vec<_>>())?;
        if !seal.exists() {
            std::fs::copy(dir.join("state/seal.key"), &seal)?;
        }
        Ok(Self { daemon, dir, rpc: format!("http://127.0.0.1:{port}") })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default()
    }

    /// How many calls of others it did, by its own account.
    fn done_for_others(&self) -> usize {
        self.log().lines().filter(|l| l.contains("doing a call for another daemon")).count()
    }

    fn send(&self, method: &str, path: &str, body: Option<Value>) -> Result<Reply> {
        self.daemon.api().send(method, path, body.as_ref())
    }

    /// Status and text of an answer, links without the daemon's address.
    fn answer(&self, method: &str, path: &str, body: Option<Value>) -> Result<(u16, String)> {
        let reply = self.send(method, path, body)?;
        Ok((reply.status, reply.text().replace(self.daemon.api().base(), "")))
    }

    fn ok(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        self.daemon.api().call(method, path, body.as_ref())
    }

    /// Whether the machine, as this daemon's answer has it, boots so for ever.
    fn persistent(&self, node: &str) -> Result<bool> {
        self.ok("GET", &format!("/v1/nodes/{node}/management/boot_device"), None)?["persistent"].as_bool().context("persistent")
    }

    fn set_persistent(&self, node: &str) -> Result<Value> {
        self.ok("PUT", &format!("/v1/nodes/{node}/management/boot_device"), Some(json!({"boot_device": "pxe", "persistent": true})))
    }

    /// A call by another daemon, as seen on the wire.
    fn call(&self, body: &[u8], signature: &str) -> Result<Reply> {
        let headers = [("Content-Type", "application/json"), (SIGNATURE, signature)];
        http::request("POST", &format!("{}{PATH}", self.rpc), &headers, Some(body), LIMIT)
    }
}

/// A database and the daemons `a` and `b`.
struct Pair {
    a: Peer,
    b: Peer,
    postgres: Postgres,
    home: tempfile::TempDir,
}

impl Pair {
    fn start(key_of_b: &str, more: &[&str]) -> Result<Self> {
        let (postgres, home) = (Postgres::start()?, tempfile::tempdir()?);
        let a = Peer::start("a", home.path(), &postgres.url(), KEY, more)?;
        let b = Peer::start("b", home.path(), &postgres.url(), key_of_b, more)?;
        let pair = Self { a, b, postgres, home };
        // Until each has noticed the other.
        tool::until("both conductors known", LIMIT, || {
            pair.a.ok("GET", "/v1/conductors", None).is_ok_and(|c| c["conductors"].as_array().is_some_and(|c| c.len() == 2))
        })?;
        std::thread::sleep(Duration::from_millis(2100));
        Ok(pair)
    }

    /// A node that the ring gives to `host`.
    fn node_of(&self, host: &str) -> Result<String> {
        for _ in 0..100 {
            let node = self.a.ok("POST", "/v1/nodes", Some(json!({"driver": "fake-hardware"})))?;
            let uuid = node["uuid"].as_str().context("uuid")?.to_owned();
            if self.a.daemon.api().node(&uuid)?["conductor"] == host {
                return Ok(uuid);
            }
        }
        bail!("none of 100 nodes belongs to {host}");
    }

    fn message(&self, to: &str, node: &str) -> Result<Message> {
        let epoch = self.postgres.psql("bessemer", &format!("SELECT epoch FROM conductors WHERE hostname = '{to}'"))?;
        Ok(Message {
            from: "elsewhere".into(),
            to: to.into(),
            epoch: epoch.trim().parse()?,
            at: SystemClock.now(),
            nonce: NodeId::random().0,
            call: Call::BootDevice { node: node.parse()? },
        })
    }
}

fn sealed(message: &Message, key: &str) -> Result<(Vec<u8>, String)> {
    Ok(message.sealed(&Key::new(&Secret::new(key.into()))?)?)
}

/// What the fault of an answer says.
fn fault(reply: &Reply) -> String {
    let inner = reply.json().ok().and_then(|b| b["error_message"].as_str().map(str::to_owned)).unwrap_or_else(|| reply.text());
    serde_json::from_str::<Value>(&inner).ok().and_then(|v| v["faultstring"].as_str().map(str::to_owned)).unwrap_or(inner)
}

#[test]
fn a_call_at_the_wrong_daemon_is_done_by_the_owner_and_by_nobody_else() -> Result<()> {
    let pair = Pair::start(KEY, &[])?;
    let (a, b) = (&pair.a, &pair.b);
    let node = pair.node_of("b")?;
    // Fake machines live in the memory of one daemon: what `b` remembers, only `b` can have been told.
    a.set_persistent(&node)?;
    ensure!(b.done_for_others() == 1, "b did not do it: {}", b.log());
    ensure!(a.persistent(&node)? && b.persistent(&node)?, "the two daemons tell of two machines");
    ensure!(a.done_for_others() == 0, "a did a call for b, which owns the node: {}", a.log());

    // A call that was forwarded is done where it arrives, also where the ring names another: it makes no second hop.
    let before = b.done_for_others();
    let (body, signature) = sealed(&pair.message("a", &node)?, KEY)?;
    let reply = a.call(&body, &signature)?;
    ensure!(reply.status == 200, "{}", reply.text());
    ensure!(reply.json()?["done"]["persistent"] == false, "a asked b instead of its own machine: {}", reply.text());
    ensure!((a.done_for_others(), b.done_for_others()) == (1, before), "the call went on");

    // Whatever the owner says arrives as it said it.
    let path = |rest: &str| format!("/v1/nodes/{node}/{rest}");
    for (method, path, body) in [
        ("PUT", path("management/boot_device"), Some(json!({"boot_device": "floppy"}))),
        ("PUT", path("management/inject_nmi"), Some(json!({}))),
        ("GET", path("management/indicators"), None),
        ("GET", path("management/indicators/led@system"), None),
        ("GET", path("management/indicators/nothing@chassis"), None),
        ("PUT", path("management/indicators/led@system"), Some(json!({"state": "green"}))),
        ("GET", path("management/boot_device/supported"), None),
        ("GET", path("validate"), None),
        ("GET", path("states/console"), None),
        ("GET", path("vmedia"), None),
        ("GET", path("vendor_passthru/methods"), None),
        ("POST", path("vendor_passthru/third_method_sync"), Some(json!({"bar": "meow"}))),
        ("POST", path("vendor_passthru/third_method_sync"), Some(json!({}))),
        ("POST", path("vendor_passthru/nothing"), Some(json!({}))),
    ] {
        let before = b.done_for_others();
        let (there, here) = (a.answer(method, &path, body.clone())?, b.answer(method, &path, body)?);
        ensure!(there == here, "{method} {path}: {there:?} and {here:?}");
        ensure!(there.0 != 500, "{method} {path}: {there:?}");
        ensure!(b.done_for_others() == before + 1, "{method} {path} was not done by b: {}", b.log());
    }

    // Verbs and power stay where they came in; the owner does the work.
    a.daemon.api().provision(&node, "manage", &[])?;
    let end = a.daemon.reach(&node, &["manageable"], LIMIT)?;
    ensure!(end["last_error"].is_null(), "{end}");
    for (peer, log) in [("a", a.log()), ("b", b.log())] {
        ensure!(!log.contains(KEY), "the key stands in the log of {peer}");
    }
    Ok(())
}

#[test]
fn the_next_conductor_does_it_when_nobody_listens_at_the_owner_and_the_client_hears_whose_the_node_is() -> Result<()> {
    let mut pair = Pair::start(KEY, &[])?;
    let node = pair.node_of("b")?;
    pair.b.daemon.kill();
    let asked = Instant::now();
    // The lease of the dead one still holds: the ring names it.
    ensure!(pair.a.daemon.api().node(&node)?["conductor"] == "b", "b is gone from the ring already");
    pair.a.set_persistent(&node)?;
    ensure!(pair.a.persistent(&node)?, "a did not do it itself");
    ensure!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    ensure!(pair.a.log().contains("the conductor cannot be reached"), "{}", pair.a.log());

    // Two conductors whose daemons are not there serve a group of their own.
    let dead = |name: &str| {
        let columns = "hostname, conductor_group, drivers, epoch, expires_at, address, created_at, updated_at";
        let copied = format!("'{name}', 'ghosts', drivers, 1, 9000000000000000, 'http://127.0.0.1:{}', 0, 0", free_port()?);
        pair.postgres.psql("bessemer", &format!("INSERT INTO conductors ({columns}) SELECT {copied} FROM conductors WHERE hostname = 'a'"))
    };
    dead("ghost-1")?;
    dead("ghost-2")?;
    std::thread::sleep(Duration::from_millis(2100));
    let made = pair.a.ok("POST", "/v1/nodes", Some(json!({"driver": "fake-hardware", "conductor_group": "ghosts"})))?;
    let lost = made["uuid"].as_str().context("uuid")?.to_owned();
    let owner = pair.a.daemon.api().node(&lost)?["conductor"].as_str().context("no conductor")?.to_owned();
    let reply = pair.a.send("GET", &format!("/v1/nodes/{lost}/management/boot_device"), None)?;
    ensure!(reply.status == 503 && fault(&reply).contains(&format!("The conductor {owner} of node {lost}")), "{}", reply.text());
    Ok(())
}

#[test]
fn an_owner_that_dies_in_the_middle_of_a_call_is_named_and_nobody_does_it_in_its_place() -> Result<()> {
    let mut pair = Pair::start(KEY, &["fake.management_delay=20"])?;
    let node = pair.node_of("a")?;
    let path = format!("/v1/nodes/{node}/management/boot_device");
    let (a, b) = (&mut pair.a, &pair.b);
    let asked = Instant::now();
    let reply = std::thread::scope(|s| {
        let client = s.spawn(|| b.send("PUT", &path, Some(json!({"boot_device": "pxe", "persistent": true}))));
        let begun = tool::until("the owner at work", LIMIT, || a.done_for_others() == 1);
        a.daemon.kill();
        begun?;
        client.join().map_err(|_| anyhow::anyhow!("the client panicked"))?
    })?;
    let text = fault(&reply);
    ensure!(reply.status == 503 && text.contains(&format!("The conductor a of node {node}")) && text.contains("no answer"), "{text}");
    // Whoever had done it in the place of the dead one would have taken the delay for it.
    ensure!(asked.elapsed() < Duration::from_secs(15), "it took {:?}", asked.elapsed());
    Ok(())
}

#[test]
fn a_daemon_with_another_key_is_refused_and_no_log_tells_a_key() -> Result<()> {
    let pair = Pair::start(OTHER_KEY, &[])?;
    let node = pair.node_of("b")?;
    let reply = pair.a.send("PUT", &format!("/v1/nodes/{node}/management/inject_nmi"), Some(json!({})))?;
    ensure!(reply.status == 503 && fault(&reply).contains("The conductor b"), "{}", reply.text());
    ensure!(pair.b.done_for_others() == 0 && pair.b.log().contains("a call of another daemon was refused"), "{}", pair.b.log());
    ensure!(pair.a.log().contains("status 401"), "{}", pair.a.log());
    let (body, signature) = sealed(&pair.message("b", &node)?, KEY)?;
    let refused = pair.b.call(&body, &signature)?;
    ensure!(refused.status == 401, "{}", refused.text());
    ensure!(pair.b.call(&body, "")?.status == 401, "no signature at all was taken");
    for text in [pair.a.log(), pair.b.log(), refused.text(), reply.text()] {
        ensure!(!text.contains(KEY) && !text.contains(OTHER_KEY), "a key stands in {text}");
    }
    Ok(())
}

#[test]
fn a_call_is_taken_once_by_the_one_process_that_it_is_for() -> Result<()> {
    let mut pair = Pair::start(KEY, &[])?;
    let node = pair.node_of("b")?;
    let (body, signature) = sealed(&pair.message("b", &node)?, KEY)?;
    let first = pair.b.call(&body, &signature)?;
    ensure!(first.status == 200, "{}", first.text());
    let again = pair.b.call(&body, &signature)?;
    ensure!(again.status == 403 && again.text().contains("sent before"), "a replay was taken: {}", again.text());
    ensure!(pair.a.call(&body, &signature)?.status == 403, "a took a call for b");
    let late = Message { at: Timestamp(SystemClock.now().0 - 61_000_000), ..pair.message("b", &node)? };
    let (late, of_late) = sealed(&late, KEY)?;
    ensure!(pair.b.call(&late, &of_late)?.status == 403, "an old call was taken");
    // A new process has forgotten what its former self took, and takes none of it all the same.
    pair.b.daemon.restart()?;
    let after = pair.b.call(&body, &signature)?;
    ensure!(after.status == 403 && after.text().contains("epoch"), "a replay to the next process was taken: {}", after.text());
    ensure!(pair.b.done_for_others() == 1, "{}", pair.b.log());
    Ok(())
}

#[test]
fn calls_between_daemons_can_speak_tls() -> Result<()> {
    let certs = tempfile::tempdir()?;
    let (cert, key) = (certs.path().join("cert.pem"), certs.path().join("key.pem"));
    // A certificate that vouches for itself alone; the usual configuration would make it an authority.
    let (config, mut make) = (certs.path().join("config"), command("openssl"));
    std::fs::write(&config, "[req]\ndistinguished_name = name\n[name]\n")?;
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    make.args(["-addext", "subjectAltName=IP:127.0.0.1", "-config"]).arg(&config).arg("-out").arg(&cert).arg("-keyout").arg(&key);
    tool::run(&mut make, LIMIT)?;
    let files = [("cert_file", &cert), ("key_file", &key), ("cafile", &cert)].map(|(k, f)| format!("rpc.{k}={}", f.display()));
    let mut set = vec!["rpc.use_ssl=true"];
    set.extend(files.iter().map(String::as_str));
    let pair = Pair::start(KEY, &set)?;
    let node = pair.node_of("b")?;
    pair.a.set_persistent(&node)?;
    ensure!(pair.b.done_for_others() == 1 && pair.b.persistent(&node)?, "{} {}", pair.a.log(), pair.b.log());
    drop(pair.home);
    Ok(())
}

#[test]
fn work_goes_on_when_hints_are_lost() -> Result<()> {
    let pair = Pair::start(KEY, &[])?;
    let node = pair.node_of("b")?;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = 'bessemer'";
    ensure!(pair.postgres.psql("bessemer", kill)?.trim() == "2", "not every daemon listens");
    pair.a.daemon.api().provision(&node, "manage", &[])?;
    pair.a.daemon.reach(&node, &["manageable"], LIMIT)?;
    tool::until("both listen again", LIMIT, || {
        pair.postgres.psql("bessemer", &kill.replace("pg_terminate_backend(pid)", "pid")).is_ok_and(|n| n.trim() == "2")
    })?;
    Ok(())
}
