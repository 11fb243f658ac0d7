//! The daemon with the real Keystone: its tokens, its roles, its absence. Keystone comes from PyPI (some minutes, once), so this test is
//! left to `cargo xtask test --all`.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use bessemer_lab::{
    http,
    peers::Peer,
    tool::{self, Guarded, command},
};
use bessemer_tests::rig::{Daemon, free_port};
use serde_json::{Value, json};

const KEYSTONE: Peer = Peer { name: "keystone", needs: &["keystone==30.0.0", "cheroot", "setuptools<81"] };
const PASSWORD: &str = "a-password-of-keystone";
const LIMIT: Duration = Duration::from_secs(30);

struct Keystone {
    process: Guarded,
    base: String,
    projects: Value,
}

impl Keystone {
    fn start(folder: &Path) -> Result<Self> {
        let port = free_port()?;
        std::fs::create_dir_all(folder)?;
        let mut python = command(&KEYSTONE.program("python").display().to_string());
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/keystone_server.py"));
        python.arg(folder).args([&port.to_string(), PASSWORD]);
        let log = folder.join("log");
        let mut process = Guarded::start(&mut python, &log)?;
        let ready = folder.join("ready");
        tool::until("Keystone serving", Duration::from_secs(300), || !process.alive() || ready.is_file())?;
        ensure!(process.alive(), "Keystone did not come up: {}", tool::log_tail(&log, 20));
        let projects = serde_json::from_str(&std::fs::read_to_string(ready)?)?;
        Ok(Self { process, base: format!("http://127.0.0.1:{port}/v3"), projects })
    }

    /// A token of a caller; without a scope for `unscoped`.
    fn token(&self, user: &str) -> Result<String> {
        let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": {
            "name": user, "domain": {"id": "default"}, "password": PASSWORD}}}});
        match user.split_once('_') {
            Some(("system", _)) => auth["scope"] = json!({"system": {"all": true}}),
            Some((project, _)) => auth["scope"] = json!({"project": {"id": self.projects[project]}}),
            None => auth["scope"] = json!({"project": {"id": self.projects["service"]}}),
        }
        let body = serde_json::to_vec(&json!({ "auth": auth }))?;
        let url = format!("{}/auth/tokens", self.base);
        let r = http::request("POST", &url, &[("Content-Type", "application/json")], Some(&body), LIMIT)?;
        ensure!(r.status == 201, "{user}: status {}: {}", r.status, r.text());
        Ok(r.header("x-subject-token").context("a token")?.to_owned())
    }

    fn revoke(&self, token: &str) -> Result<()> {
        let url = format!("{}/auth/tokens", self.base);
        let r = http::request("DELETE", &url, &[("X-Auth-Token", token), ("X-Subject-Token", token)], None, LIMIT)?;
        ensure!(r.status == 204, "status {}: {}", r.status, r.text());
        Ok(())
    }
}

struct Asked<'a>(&'a Daemon);

impl Asked<'_> {
    fn send(&self, headers: &[(&str, &str)], method: &str, path: &str, body: Option<&Value>) -> Result<http::Reply> {
        let mut all = vec![("X-OpenStack-Ironic-API-Version", "1.115"), ("Content-Type", "application/json")];
        all.extend(headers);
        let body = body.map(serde_json::to_vec).transpose()?;
        http::request(method, &format!("{}{path}", self.0.api().base()), &all, body.as_deref(), LIMIT)
    }
    fn status(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Result<u16> {
        Ok(self.send(&[("X-Auth-Token", token)], method, path, body)?.status)
    }
}

#[test]
#[ignore = "needs Keystone from PyPI; run by cargo xtask test --all"]
fn tokens_and_roles_of_the_real_keystone_decide() -> Result<()> {
    KEYSTONE.ensure()?;
    let dir = tempfile::tempdir()?;
    let mut keystone = Keystone::start(&dir.path().join("keystone"))?;
    let url = format!("keystone_authtoken.auth_url={}", keystone.base);
    let password = format!("keystone_authtoken.password={PASSWORD}");
    let set = [
        "DEFAULT.auth_strategy=keystone",
        &url,
        "keystone_authtoken.username=ironic",
        &password,
        "keystone_authtoken.token_cache_time=1",
        "keystone_authtoken.http_request_max_retries=0",
    ];
    let daemon = Daemon::start(dir.path(), false, &set)?;
    let ask = Asked(&daemon);
    let system = keystone.token("system_admin")?;
    let project = |name: &str| keystone.projects[name].clone();
    let node = json!({"driver": "fake-hardware", "name": "one", "owner": project("owner"), "lessee": project("lessee")});
    ensure!(ask.status(&system, "POST", "/v1/nodes", Some(&node))? == 201);

    let extra = json!([{"op": "add", "path": "/extra/a", "value": 1}]);
    let info = json!([{"op": "add", "path": "/driver_info/a", "value": 1}]);
    for (who, seen, extra_patched, info_patched) in [
        ("system_reader", 200, 403, 403),
        ("owner_member", 200, 200, 200),
        ("owner_reader", 200, 403, 403),
        ("lessee_member", 200, 200, 403),
        ("other_admin", 404, 404, 404),
        ("nova", 404, 404, 404),
    ] {
        let token = keystone.token(who)?;
        ensure!(ask.status(&token, "GET", "/v1/nodes/one", None)? == seen, "{who} sees");
        ensure!(ask.status(&token, "PATCH", "/v1/nodes/one", Some(&extra))? == extra_patched, "{who} patches extra");
        ensure!(ask.status(&token, "PATCH", "/v1/nodes/one", Some(&info))? == info_patched, "{who} patches driver_info");
    }

    let token = keystone.token("owner_admin")?;
    let own = ask.send(&[("X-Auth-Token", &token)], "POST", "/v1/nodes", Some(&json!({"driver": "fake-hardware", "name": "two"})))?;
    ensure!(own.status == 201 && own.json()?["owner"] == project("owner"), "{}", own.text());

    ensure!(ask.status(&token, "GET", "/v1/nodes", None)? == 200);
    keystone.revoke(&token)?;
    std::thread::sleep(Duration::from_millis(1500));
    let refused = ask.send(&[("X-Auth-Token", &token)], "GET", "/v1/nodes", None)?;
    ensure!(refused.status == 401, "a revoked token: {}", refused.status);
    let challenge = refused.header("www-authenticate").unwrap_or_default();
    ensure!(challenge == format!("Keystone uri=\"{}\"", keystone.base), "{challenge}");

    keystone.process.kill();
    std::thread::sleep(Duration::from_millis(1500));
    let gone = ask.send(&[("X-Auth-Token", &system)], "GET", "/v1/nodes", None)?;
    ensure!(gone.status == 503 && gone.text().contains("identity service"), "{} {}", gone.status, gone.text());
    ensure!(ask.send(&[], "GET", "/v1", None)?.status == 200, "public routes need no Keystone");
    Ok(())
}
