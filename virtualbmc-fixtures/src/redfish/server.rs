//! The HTTP side: connections, authentication, ETags, tasks, faults.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::answer::{Answer, Error};
use super::fault::{Fault, FaultRule};
use super::hardware::Hardware;
use super::line::{Breaker, Door};
use super::profile::{EtagHabit, ORDINARY, Profile, SessionHabit};
use super::read::{self, ROOT};
use super::write::{self, Effect};
use crate::machine::Machine;

/// Looks at a task before it is finished.
const TASK_POLLS: u32 = 2;

/// How a BMC is set up.
#[derive(Clone)]
pub struct RedfishConfig {
    /// Habits.
    pub profile: Profile,
    /// Machines by the last part of their path, with their parts.
    pub machines: Vec<(String, Machine, Hardware)>,
    /// User name and password; `None`: everybody may do everything.
    pub credentials: Option<(String, String)>,
    /// Most sessions at once.
    pub max_sessions: usize,
    /// TLS, if any.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Where to listen; a free port of 127.0.0.1 by default.
    pub listen: SocketAddr,
}

impl RedfishConfig {
    /// One machine at `/redfish/v1/Systems/1`, user `admin`, password `secret-password`, no TLS.
    #[must_use]
    pub fn new(machine: Machine) -> Self {
        Self {
            profile: ORDINARY,
            machines: vec![("1".to_owned(), machine, Hardware::default())],
            credentials: Some(("admin".to_owned(), "secret-password".to_owned())),
            max_sessions: 4,
            tls: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
    /// With these habits.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }
}

/// A request that arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `If-Match`.
    pub if_match: Option<String>,
    /// `token`, `basic` or `none`.
    pub auth: &'static str,
    /// Body.
    pub body: Option<Value>,
    /// Status answered; 0 when the connection was reset instead.
    pub status: u16,
}

pub(super) struct System {
    pub(super) uuid: String,
    pub(super) machine: Machine,
    pub(super) hardware: Hardware,
    pub(super) led: String,
    pub(super) secure_boot: bool,
    /// BIOS attributes in force, and those that the next start takes over.
    pub(super) bios: serde_json::Map<String, Value>,
    pub(super) bios_next: serde_json::Map<String, Value>,
    pub(super) stale_media: BTreeMap<String, String>,
    pub(super) on_conflicts: u32,
    pub(super) post_refusals: u32,
    pub(super) media_settling: u32,
}

pub(super) struct Session {
    pub(super) id: u32,
    token: String,
}

struct Task {
    polls_left: u32,
    effect: Option<Effect>,
}

/// Everything behind the HTTP side.
pub(super) struct Service {
    pub(super) profile: Profile,
    pub(super) systems: BTreeMap<String, System>,
    pub(super) sessions: Vec<Session>,
    /// Event subscriptions by their number.
    pub(super) subscriptions: BTreeMap<usize, Value>,
    credentials: Option<(String, String)>,
    max_sessions: usize,
    next_session: u32,
    tasks: BTreeMap<String, Task>,
    faults: Vec<FaultRule>,
    seen: Vec<Seen>,
    bad_logins: u32,
}

impl Service {
    /// Does it at once, or makes a task of it.
    pub(super) fn carry_out(&mut self, effect: Effect) -> Answer {
        if !self.profile.tasks {
            self.apply(&effect);
            return Answer::done();
        }
        let id = (self.tasks.len() + 1).to_string();
        let monitor = format!("{ROOT}/TaskService/TaskMonitors/{id}");
        self.tasks.insert(id.clone(), Task { polls_left: TASK_POLLS, effect: Some(effect) });
        let body = json!({"@odata.id": format!("{ROOT}/TaskService/Tasks/{id}"), "Id": id, "TaskState": "New", "TaskMonitor": monitor});
        Answer { status: 202, body: Some(body), ..Answer::default() }.with("location", monitor)
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Power(system, action) => {
                if let Some(s) = self.systems.get_mut(system) {
                    s.machine.act(*action);
                    let next = std::mem::take(&mut s.bios_next);
                    s.bios.extend(next);
                }
            }
            Effect::Insert(system, slot, image) => {
                if let Some(s) = self.systems.get_mut(system) {
                    s.machine.set_media(slot, Some(image));
                    s.stale_media.remove(slot);
                }
            }
        }
    }

    /// A look at a task monitor.
    pub(super) fn poll_task(&mut self, id: &str) -> Answer {
        let Some(task) = self.tasks.get_mut(id) else { return Answer::not_found(id) };
        let body =
            |state: &str| json!({"@odata.id": format!("{ROOT}/TaskService/Tasks/{id}"), "Id": id, "TaskState": state, "TaskStatus": "OK"});
        if task.polls_left > 0 {
            task.polls_left -= 1;
            let state = if task.polls_left > 0 { "New" } else { "Running" };
            return Answer { status: 202, body: Some(body(state)), ..Answer::default() };
        }
        if let Some(effect) = task.effect.take() {
            self.apply(&effect);
        }
        Answer::ok(body("Completed"))
    }

    fn login(&mut self, body: Option<&Value>) -> Answer {
        let text = |key: &str| body.and_then(|b| b.get(key)).and_then(Value::as_str).unwrap_or_default();
        let given = (text("UserName").to_owned(), text("Password").to_owned());
        match self.profile.sessions {
            SessionHabit::Absent => return Answer::not_found("/redfish/v1/SessionService/Sessions"),
            SessionHabit::Full => {
                let text = "Unable to create a session because the maximum number of user sessions is reached.";
                return Error::new(503, "RAC0218", text).render(self.profile.info_is_object);
            }
            SessionHabit::Ordinary | SessionHabit::OnlyLinked => {}
        }
        if self.credentials.as_ref().is_some_and(|c| *c != given) {
            self.bad_logins += 1;
            return Error::new(401, "NoValidSession", format!("Login as {} with {} failed.", given.0, given.1)).list();
        }
        if self.sessions.len() >= self.max_sessions {
            return Error::new(503, "SessionLimitExceeded", "The session establishment failed due to the number of sessions.").list();
        }
        self.next_session += 1;
        let id = self.next_session;
        let token = format!("token-{id}-{:016x}", rand::random::<u64>());
        self.sessions.push(Session { id, token: token.clone() });
        let uri = format!("{ROOT}/SessionService/Sessions/{id}");
        Answer { status: 201, body: Some(json!({"@odata.id": uri, "Id": id.to_string(), "UserName": given.0})), ..Answer::default() }
            // The host in it is wrong on purpose, as with BMCs behind a translated address.
            .with("location", format!("https://bmc.invalid{uri}"))
            .with("x-auth-token", token)
    }

    pub(super) fn end_session(&mut self, id: &str) -> Answer {
        let before = self.sessions.len();
        self.sessions.retain(|s| s.id.to_string() != id);
        if self.sessions.len() < before { Answer::done() } else { Answer::not_found(id) }
    }

    fn allowed(&mut self, token: Option<&str>, basic: Option<&str>) -> bool {
        let Some((user, password)) = &self.credentials else { return true };
        if let Some(t) = token {
            return self.sessions.iter().any(|s| s.token == t);
        }
        let Some(b) = basic else { return false };
        let wanted = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let good = b.strip_prefix("Basic ").is_some_and(|b| b == wanted);
        self.bad_logins += u32::from(!good);
        good
    }

    fn answer(&mut self, method: &str, path: &str, headers: &Given<'_>, body: Option<&Value>) -> Answer {
        let below = path.strip_prefix(ROOT).unwrap_or("/?").trim_end_matches('/');
        let parts: Vec<&str> = below.split('/').filter(|p| !p.is_empty()).collect();
        if parts.first() == Some(&"?") {
            return Answer::not_found(path);
        }
        if method == "POST" && parts == ["SessionService", "Sessions"] {
            return self.login(body);
        }
        // The service root is open to everybody (DSP0266 clause 13.3.1).
        if !parts.is_empty() && !self.allowed(headers.token, headers.basic) {
            return Error::new(401, "NoValidSession", "There is no valid session established with the implementation.").list();
        }
        match method {
            "GET" => {
                let found = read::resource(self, &parts);
                self.with_etag(found)
            }
            _ => write::change(self, method, &parts, body, headers.if_match),
        }
    }

    fn with_etag(&self, mut answer: Answer) -> Answer {
        let Some(body) = answer.body.as_mut().filter(|b| answer.status == 200 && b.get("Members").is_none()) else { return answer };
        let etag = etag_of(body);
        let header = match self.profile.etag {
            EtagHabit::Refused | EtagHabit::Ignored => return answer,
            EtagHabit::Required => {
                body["@odata.etag"] = format!("\"{etag}\"").into();
                return answer;
            }
            EtagHabit::Strong => format!("\"{etag}\""),
            EtagHabit::Weak | EtagHabit::WeakWantsStrong => format!("W/\"{etag}\""),
            EtagHabit::Empty => "\"\"".to_owned(),
        };
        answer.with("etag", header)
    }
}

/// Opaque part of the ETag of a resource.
pub(super) fn etag_of(body: &Value) -> String {
    hex::encode(&Sha256::digest(body.to_string())[..6])
}

struct Given<'a> {
    token: Option<&'a str>,
    basic: Option<&'a str>,
    if_match: Option<&'a str>,
}

/// A running BMC.
pub struct RedfishBmc {
    service: Arc<Mutex<Service>>,
    address: SocketAddr,
    tls: bool,
    _stop: DropGuard,
}

impl std::fmt::Debug for RedfishBmc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedfishBmc").field("address", &self.address).finish_non_exhaustive()
    }
}

impl RedfishBmc {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start(config: RedfishConfig) -> io::Result<Self> {
        let system = |n: usize, machine, hardware| System {
            uuid: format!("00000000-0000-4000-8000-{n:012}"),
            machine,
            hardware,
            led: "Off".to_owned(),
            secure_boot: false,
            bios: json!({"Virtualization": "Enabled", "Cores": 8, "QuietBoot": true}).as_object().cloned().unwrap_or_default(),
            bios_next: serde_json::Map::new(),
            stale_media: BTreeMap::new(),
            on_conflicts: 0,
            post_refusals: 0,
            media_settling: 0,
        };
        let service = Service {
            profile: config.profile,
            systems: config.machines.into_iter().enumerate().map(|(n, (id, m, h))| (id, system(n + 1, m, h))).collect(),
            sessions: Vec::new(),
            subscriptions: BTreeMap::new(),
            credentials: config.credentials,
            max_sessions: config.max_sessions,
            next_session: 0,
            tasks: BTreeMap::new(),
            faults: Vec::new(),
            seen: Vec::new(),
            bad_logins: 0,
        };
        let service = Arc::new(Mutex::new(service));
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let tls = config.tls.is_some();
        let listener = Door { listener, tls: config.tls.map(TlsAcceptor::from) };
        let app = Router::new().fallback(handle).with_state(service.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let serve = axum::serve(listener, app.into_make_service_with_connect_info::<Breaker>());
            tokio::select! {
                _ = serve.into_future() => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self { service, address, tls, _stop: stop.drop_guard() })
    }

    fn service(&self) -> MutexGuard<'_, Service> {
        lock(&self.service)
    }

    /// Address for `redfish_address`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// Port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Adds a fault; the first matching one is used.
    pub fn inject(&self, rule: FaultRule) {
        self.service().faults.push(rule);
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.service().faults.clear();
    }

    /// Requests so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        self.service().seen.clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.service().seen.clear();
    }

    /// Sessions open now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.service().sessions.len()
    }

    /// Ends all sessions without telling anybody, as a restart of the BMC does.
    pub fn lose_sessions(&self) {
        self.service().sessions.clear();
    }

    /// How often a wrong password was given.
    #[must_use]
    pub fn bad_logins(&self) -> u32 {
        self.service().bad_logins
    }

    /// Changes the password.
    pub fn set_password(&self, password: &str) {
        if let Some(c) = &mut self.service().credentials {
            password.clone_into(&mut c.1);
        }
    }
}

fn lock(service: &Mutex<Service>) -> MutexGuard<'_, Service> {
    // A panic in a handler fails the test that caused it; the state is whole enough to look at.
    service.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn handle(State(service): State<Arc<Mutex<Service>>>, ConnectInfo(breaker): ConnectInfo<Breaker>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let method = parts.method.as_str().to_owned();
    let path = parts.uri.path().to_owned();
    let bytes = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let body: Option<Value> = serde_json::from_slice(&bytes).ok();
    let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok());
    let given = Given { token: header("x-auth-token"), basic: header("authorization"), if_match: header("if-match") };
    let fault = {
        let mut s = lock(&service);
        let rule = s.faults.iter_mut().find(|r| r.hits(&method, &path));
        rule.map(|r| {
            r.times = r.times.saturating_sub(1);
            r.fault.clone()
        })
    };
    if let Some(Fault::Slow(time)) = &fault {
        tokio::time::sleep(*time).await;
    }
    let answer = {
        let mut s = lock(&service);
        if fault == Some(Fault::SessionsLost) {
            s.sessions.clear();
        }
        let answer = match &fault {
            Some(Fault::Status(status, after)) => {
                let a = Error::new(*status, "ServiceTemporarilyUnavailable", "The service is temporarily unavailable.").list();
                after.iter().fold(a, |a, secs| a.with("retry-after", secs.to_string()))
            }
            Some(Fault::Redirect(status, to)) => Answer { status: *status, ..Answer::default() }.with("location", to.clone()),
            Some(Fault::Reset) => Answer::default(),
            Some(Fault::Body(text)) => Answer { status: 200, text: Some(text.clone()), ..Answer::default() },
            _ => s.answer(&method, &path, &given, body.as_ref()),
        };
        let lost = matches!(fault, Some(Fault::Reset | Fault::LostReply));
        s.seen.push(Seen {
            method,
            path: parts.uri.path_and_query().map_or(path, ToString::to_string),
            if_match: given.if_match.map(str::to_owned),
            auth: match (given.token, given.basic) {
                (Some(_), _) => "token",
                (None, Some(_)) => "basic",
                (None, None) => "none",
            },
            body,
            status: if lost { 0 } else { answer.status },
        });
        answer
    };
    match fault {
        Some(Fault::Reset | Fault::LostReply) => breaker.reset(),
        Some(Fault::TornReply) => breaker.tear(),
        _ => {}
    }
    render(answer)
}

fn render(answer: Answer) -> Response {
    let mut response = Response::builder().status(if answer.status == 0 { 500 } else { answer.status });
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    let body = match (answer.body, answer.text) {
        (Some(b), _) => {
            response = response.header("content-type", "application/json");
            Body::from(b.to_string())
        }
        (None, Some(t)) => Body::from(t),
        (None, None) => Body::empty(),
    };
    // Only a rule of a test can name a status or header that is not one.
    response.body(body).unwrap_or_else(|e| Response::new(Body::from(e.to_string())))
}
