//! OpenStack Keystone as a peer: the real one, on SQLite, with callers of every kind (`tests/peers/keystone_server.py`).

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    dev::free_port,
    http,
    peers::{self, PROGRAMS},
    tool::{self, Guarded, command},
};

/// Password of every caller.
pub const PASSWORD: &str = "a-password-of-keystone";
/// Region of every endpoint.
pub const REGION: &str = "one";
const START: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(30);

/// A running Keystone; ended when it goes out of scope.
#[derive(Debug)]
pub struct Keystone {
    process: Guarded,
    port: u16,
    projects: Value,
}

impl Keystone {
    /// Installs it when it is not there (minutes) and starts it with its state in `folder` (seconds).
    ///
    /// # Errors
    /// It cannot be installed or does not come up; with the end of its log.
    pub fn start(folder: &Path) -> Result<Self> {
        peers::KEYSTONE.ensure()?;
        let port = free_port()?;
        std::fs::create_dir_all(folder)?;
        let mut python = command(&peers::KEYSTONE.program("python").display().to_string());
        python.env("PYTHONDONTWRITEBYTECODE", "1").arg(Path::new(PROGRAMS).join("keystone_server.py"));
        python.arg(folder).args([&port.to_string(), PASSWORD]);
        let log = folder.join("log");
        let mut process = Guarded::start(&mut python, &log)?;
        let ready = folder.join("ready");
        tool::until("Keystone serving", START, || !process.alive() || ready.is_file())?;
        ensure!(process.alive(), "Keystone did not come up: {}", tool::log_tail(&log, 20));
        let projects = serde_json::from_str(&std::fs::read_to_string(ready)?)?;
        Ok(Self { process, port, projects })
    }

    /// Address of its API, with the version.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}/v3", self.port)
    }

    /// Address of a stand-in for the network service that runs beside it (`tests/peers/network_service.py`).
    #[must_use]
    pub fn network(&self) -> String {
        format!("http://127.0.0.1:{}/network", self.port)
    }

    /// Id of a project: `service`, `owner`, `lessee` or `other`.
    #[must_use]
    pub fn project(&self, name: &str) -> &Value {
        &self.projects[name]
    }

    /// Options of our daemon for this Keystone, as `SECTION.KEY=VALUE`.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        vec![
            "DEFAULT.auth_strategy=keystone".to_owned(),
            format!("keystone_authtoken.auth_url={}", self.base()),
            "keystone_authtoken.username=ironic".to_owned(),
            format!("keystone_authtoken.password={PASSWORD}"),
        ]
    }

    /// A token of a caller: PROJECT_ROLE, `system_ROLE`, `domain_ROLE`, a service, or `unscoped`.
    ///
    /// # Errors
    /// Keystone refuses.
    pub fn token(&self, user: &str) -> Result<String> {
        let scope = match user.split_once('_') {
            Some(("system", _)) => json!({"system": {"all": true}}),
            Some(("domain", _)) => json!({"domain": {"id": "default"}}),
            None if user == "unscoped" => return self.authenticate("nova", &json!("unscoped")),
            Some((project, _)) => json!({"project": {"id": self.projects[project]}}),
            None => json!({"project": {"id": self.projects["service"]}}),
        };
        self.authenticate(user, &scope)
    }

    fn authenticate(&self, user: &str, scope: &Value) -> Result<String> {
        let user = json!({"name": user, "domain": {"id": "default"}, "password": PASSWORD});
        let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}});
        let r = self.send("POST", "/auth/tokens", &[], Some(&body))?;
        Ok(r.header("x-subject-token").context("a token")?.to_owned())
    }

    /// Makes a token void.
    ///
    /// # Errors
    /// Keystone refuses.
    pub fn revoke(&self, token: &str) -> Result<()> {
        self.send("DELETE", "/auth/tokens", &[("X-Auth-Token", token), ("X-Subject-Token", token)], None).map(drop)
    }

    /// Adds a service to the catalogue.
    ///
    /// # Errors
    /// Keystone refuses.
    pub fn offer(&self, kind: &str, url: &str) -> Result<()> {
        let token = self.authenticate("admin", &json!({"project": {"name": "admin", "domain": {"id": "default"}}}))?;
        let headers = [("X-Auth-Token", token.as_str())];
        let made = self.send("POST", "/services", &headers, Some(&json!({"service": {"type": kind, "name": kind}})))?.json()?;
        for interface in ["public", "internal", "admin"] {
            let endpoint = json!({"service_id": made["service"]["id"], "interface": interface, "url": url, "region_id": REGION});
            self.send("POST", "/endpoints", &headers, Some(&json!({ "endpoint": endpoint })))?;
        }
        Ok(())
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Result<http::Reply> {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(headers);
        let body = body.map(serde_json::to_vec).transpose()?;
        let r = http::request(method, &format!("{}{path}", self.base()), &all, body.as_deref(), LIMIT)?;
        ensure!((200..300).contains(&r.status), "Keystone answers {method} {path} with {}: {}", r.status, r.text());
        Ok(r)
    }
}
