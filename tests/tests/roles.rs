//! Every policy by every kind of caller with the real daemon: the rows of `ironic-api/tests/recordings/policies.json`, with the tokens of
//! the real Keystone (from PyPI, so left to `cargo xtask test --all`), with a users file, and with nobody asked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bessemer_lab::{dev::DevServer, http, keystone::Keystone};
use bessemer_tests::rig::program;
use replay::{Answer, Server, World, table};
use serde_json::{Map, Value};

#[path = "../../ironic-api/tests/replay/mod.rs"]
mod replay;

const LIMIT: Duration = Duration::from_secs(60);

/// A daemon, and the headers by which each caller is known.
struct Served {
    root: &'static str,
    daemon: DevServer,
    callers: BTreeMap<String, Vec<(&'static str, String)>>,
    policy_file: PathBuf,
}

impl Served {
    /// A daemon with these settings, whose policy file is in `folder`.
    fn start(root: &'static str, folder: &Path, set: &[String], callers: BTreeMap<String, Vec<(&'static str, String)>>) -> Result<Self> {
        let policy_file = folder.join("policy.json");
        std::fs::write(&policy_file, "{}")?;
        let at = folder.display();
        let mut set = set.to_vec();
        // One node of the table is inspected by a ramdisk, which nobody boots.
        for name in ["kernel", "ramdisk"] {
            std::fs::write(folder.join(name), name)?;
            set.push(format!("conductor.deploy_{name}=file://{at}/{name}"));
        }
        set.extend([format!("conductor.file_url_allowed_paths={at}"), format!("oslo_policy.policy_file={}", policy_file.display())]);
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let daemon = DevServer::start(&program("bessemer")?, &set)?;
        Ok(Self { root, daemon, callers, policy_file })
    }

    /// Sends every row as all these callers.
    fn all_rows(&self, projects: BTreeMap<String, String>, callers: &[&str]) -> Result<()> {
        let wrong = tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
            let world = World::make(self, projects).await;
            let mut wrong = Vec::new();
            for row in table()["rows"].as_array().into_iter().flatten() {
                wrong.extend(world.row(row, callers).await);
            }
            wrong
        });
        if !wrong.is_empty() {
            bail!("{} differences:\n{}", wrong.len(), wrong.join("\n"));
        }
        Ok(())
    }

    fn send(&self, who: &str, line: &str, body: Option<&Value>) -> Result<Answer> {
        let (method, path) = line.split_once(' ').context("METHOD PATH")?;
        let mut headers = vec![("X-OpenStack-Ironic-API-Version", "latest"), ("Content-Type", "application/json")];
        headers.extend(self.callers.get(who).into_iter().flatten().map(|(k, v)| (*k, v.as_str())));
        let body = body.map(serde_json::to_vec).transpose()?;
        let r = http::request(method, &format!("{}{path}", self.daemon.url()), &headers, body.as_deref(), LIMIT)?;
        let challenge = r.header("www-authenticate").map(str::to_owned);
        Ok(Answer { status: r.status, challenge, body: r.json().unwrap_or_default() })
    }
}

impl Server for Served {
    fn root(&self) -> &'static str {
        self.root
    }

    async fn ask(&self, who: &str, line: &str, body: Option<&Value>) -> Answer {
        self.send(who, line, body).unwrap_or_else(|e| panic!("{who}: {line}: {e:#}"))
    }

    async fn rules(&self, rules: &Map<String, Value>) {
        // No reader sees half a file. The daemon looks at it once a second.
        let new = self.policy_file.with_extension("new");
        std::fs::write(&new, Value::Object(rules.clone()).to_string()).expect("write");
        std::fs::rename(new, &self.policy_file).expect("rename");
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }

    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn made_up_projects() -> BTreeMap<String, String> {
    ["owner", "lessee", "other", "service"].map(|p| (p.to_owned(), p.to_owned())).into()
}

#[test]
fn with_nobody_asked_everybody_may() -> Result<()> {
    let dir = tempfile::tempdir()?;
    Served::start("noauth", dir.path(), &["DEFAULT.auth_strategy=noauth".into()], BTreeMap::new())?
        .all_rows(made_up_projects(), &["noauth"])
}

#[test]
fn with_a_users_file_its_users_may_and_others_may_not() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let users = dir.path().join("htpasswd");
    // The password is `pass`.
    std::fs::write(&users, "admin:$2b$04$npqU7yPW5/lgXRbFgMd1H.wwo8nrx7ySfjjAT75m6ZjwnzP4aVksO\n")?;
    let set = ["DEFAULT.auth_strategy=http_basic".into(), format!("DEFAULT.http_basic_auth_user_file={}", users.display())];
    let callers = [("basic", "Basic YWRtaW46cGFzcw=="), ("basic_wrong", "Basic YWRtaW46d3Jvbmc=")]
        .map(|(who, header)| (who.to_owned(), vec![("Authorization", header.to_owned())]));
    Served::start("basic", dir.path(), &set, callers.into())?.all_rows(made_up_projects(), &["basic", "basic_wrong", "basic_none"])
}

#[test]
#[ignore = "needs Keystone from PyPI; run by cargo xtask test --all"]
fn with_the_real_keystone_each_caller_may_what_its_roles_allow() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let keystone = Keystone::start(&dir.path().join("keystone"))?;
    let table = table();
    let names = table["callers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let with_token: Vec<&str> = names.filter(|c| !c.starts_with("basic") && !["noauth", "nobody", "nova_elevated"].contains(c)).collect();
    let mut callers = BTreeMap::new();
    for who in &with_token {
        let token = if *who == "gone" { "gone".to_owned() } else { keystone.token(who)? };
        callers.insert((*who).to_owned(), vec![("X-Auth-Token", token)]);
    }
    callers.insert("nova_elevated".to_owned(), vec![("X-Auth-Token", keystone.token("nova")?)]);
    let project = |name: &str| (name.to_owned(), keystone.project(name).as_str().unwrap_or_default().to_owned());
    let projects: BTreeMap<String, String> = ["owner", "lessee", "other", "service"].map(project).into();

    let mut set = keystone.options();
    set.push("keystone_authtoken.token_cache_time=300".into());
    let all: Vec<&str> = with_token.iter().copied().chain(["nobody"]).collect();
    Served::start("system_admin", dir.path(), &set, callers.clone())?.all_rows(projects.clone(), &all)?;
    set.push("DEFAULT.rbac_service_role_elevated_access=true".into());
    Served::start("system_admin", dir.path(), &set, callers)?.all_rows(projects, &["nova_elevated"])
}
