//! The daemon with the real Keystone: its tokens, its roles, its absence. Keystone comes from PyPI (some minutes, once), so this test is
//! left to `cargo xtask test --all`.

use std::time::Duration;

use anyhow::{Result, ensure};
use bessemer_lab::{http, keystone::Keystone};
use bessemer_tests::rig::Daemon;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

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
    let dir = tempfile::tempdir()?;
    let mut keystone = Keystone::start(&dir.path().join("keystone"))?;
    let mut set = keystone.options();
    set.extend(["token_cache_time=1", "http_request_max_retries=0"].map(|o| format!("keystone_authtoken.{o}")));
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let daemon = Daemon::start(dir.path(), false, &set)?;
    let ask = Asked(&daemon);
    let system = keystone.token("system_admin")?;
    let project = |name: &str| keystone.project(name).clone();
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
    ensure!(challenge == format!("Keystone uri=\"{}\"", keystone.base()), "{challenge}");

    keystone.kill();
    std::thread::sleep(Duration::from_millis(1500));
    let gone = ask.send(&[("X-Auth-Token", &system)], "GET", "/v1/nodes", None)?;
    ensure!(gone.status == 503 && gone.text().contains("identity service"), "{} {}", gone.status, gone.text());
    ensure!(ask.send(&[], "GET", "/v1", None)?.status == 200, "public routes need no Keystone");
    Ok(())
}
