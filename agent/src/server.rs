//! The command API: HTTP/1.1 over TLS on port 9999.
//!
//! Every route but the discovery documents and the status wants the agent token. Bodies, connections and
//! waiting times are bounded. It never runs a command that [`crate::command::Table`] has not let through.

use crate::agent::Agent;
use crate::command::{Begun, Refusal};
use crate::commands::{self, Kind};
use bessemer_agent_types::command::{CommandList, CommandRequest, FaultBody};
use bessemer_agent_types::{FENCE_HEADER, MAX_COMMAND_BODY, STEP_HEADER, TOKEN_ARGUMENT};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

const MAX_CONNECTIONS: usize = 64;
const HANDSHAKE_TIME: Duration = Duration::from_secs(20);
const HEADER_TIME: Duration = Duration::from_secs(30);
const BODY_TIME: Duration = Duration::from_secs(300);
/// Longest a request with `wait=true` is held.
const WAIT_TIME: Duration = Duration::from_secs(3600);
const MEDIA_TYPE: &str = "application/vnd.openstack.ironic-python-agent.v1+json";

/// Opens the port; any free one when `port` is zero.
pub async fn listen(host: Option<&str>, port: u16) -> io::Result<TcpListener> {
    match host {
        Some(host) => TcpListener::bind((host.trim_matches(['[', ']']), port)).await,
        // IPv4 alone where the kernel has no IPv6.
        None => match TcpListener::bind(("::", port)).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
        },
    }
}

/// Serves until the agent leaves the network.
pub async fn serve(agent: Arc<Agent>, listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>) {
    let acceptor = tls.map(TlsAcceptor::from);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut left = agent.left.subscribe();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The port closes with the agent's departure.
            _ = left.wait_for(|left| *left) => return,
        };
        let (stream, _) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!("accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let agent = Arc::clone(&agent);
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let _slot = slot;
            drop(stream.set_nodelay(true));
            match acceptor {
                None => connection(agent, stream).await,
                Some(acceptor) => match timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => connection(agent, stream).await,
                    Ok(Err(e)) => tracing::debug!("TLS handshake: {e}"),
                    Err(_) => tracing::debug!("TLS handshake timed out"),
                },
            }
        });
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(agent: Arc<Agent>, stream: S) {
    let mut left = agent.left.subscribe();
    let service = service_fn(move |request| {
        let agent = Arc::clone(&agent);
        async move { Ok::<_, Infallible>(answer(agent, request).await.unwrap_or_else(Fault::into_response)) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = served => {
            if let Err(e) = served {
                tracing::debug!("connection: {e}");
            }
        }
        _ = left.wait_for(|left| *left) => {}
    }
}

/// An error answer.
struct Fault(StatusCode, String);

impl Fault {
    fn into_response(self) -> Response<Full<Bytes>> {
        let faultcode = if self.0.is_server_error() { "Server" } else { "Client" };
        json_response(self.0, &FaultBody { faultcode: faultcode.into(), faultstring: self.1 })
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self(StatusCode::CONFLICT, refusal.to_string())
    }
}

fn json_response(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    // Wire types hold no maps with keys other than text, so they always serialise.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn ok(body: &impl Serialize) -> Result<Response<Full<Bytes>>, Fault> {
    Ok(json_response(StatusCode::OK, body))
}

async fn answer(agent: Arc<Agent>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Fault> {
    let path = request.uri().path().trim_matches('/').to_owned();
    let versioned = path == "v1" || path.starts_with("v1/");
    let route = path.strip_prefix("v1").unwrap_or(&path).trim_matches('/');
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let known = ["", "status", "commands", "progress"].contains(&route) || route.starts_with("commands/");
    if !known {
        return Err(Fault(StatusCode::NOT_FOUND, format!("there is nothing at /{path}")));
    }
    match (request.method().clone(), route) {
        (Method::GET, "") if versioned => ok(&v1_document()),
        (Method::GET, "") => ok(&root_document()),
        (Method::GET, "status") => ok(&agent.status()),
        (Method::GET, "commands") => {
            authorise(&agent, &query)?;
            ok(&CommandList { commands: agent.table.list() })
        }
        (Method::GET, "progress") => {
            authorise(&agent, &query)?;
            ok(&agent.table.progress())
        }
        (Method::GET, _) => {
            authorise(&agent, &query)?;
            let id = route.strip_prefix("commands/").unwrap_or_default();
            let found = if query.wait { timeout(WAIT_TIME, agent.table.wait(id)).await.unwrap_or_default() } else { agent.table.get(id) };
            match found {
                Some(result) => ok(&result),
                None => Err(Fault(StatusCode::NOT_FOUND, format!("no command with id {id} in this boot"))),
            }
        }
        (Method::POST, "commands") => {
            authorise(&agent, &query)?;
            post_command(agent, request, query.wait).await
        }
        (method, _) => Err(Fault(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible at /{path}"))),
    }
}

async fn post_command(agent: Arc<Agent>, request: Request<Incoming>, wait: bool) -> Result<Response<Full<Bytes>>, Fault> {
    let bad = |text: String| Fault(StatusCode::BAD_REQUEST, text);
    let fence = match request.headers().get(FENCE_HEADER) {
        None => None,
        Some(value) => {
            let number = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
            Some(number.ok_or_else(|| bad(format!("{FENCE_HEADER} is no number")))?)
        }
    };
    let step = match request.headers().get(STEP_HEADER).map(|value| value.to_str()) {
        None => None,
        Some(Ok(text)) if (1..=128).contains(&text.len()) => Some(text.to_owned()),
        Some(_) => return Err(bad(format!("{STEP_HEADER} must have 1 to 128 visible ASCII characters"))),
    };
    let too_large = || Fault(StatusCode::PAYLOAD_TOO_LARGE, format!("a command has at most {MAX_COMMAND_BODY} bytes"));
    if request.body().size_hint().lower() > MAX_COMMAND_BODY as u64 {
        return Err(too_large()); // said before it is sent in vain
    }
    let limited = Limited::new(request.into_body(), MAX_COMMAND_BODY).collect();
    let body = match timeout(BODY_TIME, limited).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            return Err(too_large());
        }
        Ok(Err(e)) => return Err(bad(format!("the body broke off: {e}"))),
        Err(_) => return Err(Fault(StatusCode::REQUEST_TIMEOUT, "the body took too long".into())),
    };
    let request: CommandRequest =
        serde_json::from_slice(&body).map_err(|e| bad(format!("a command is {{\"name\": \"ext.cmd\", \"params\": {{}}}}: {e}")))?;
    drop(body);
    let Some(kind) = commands::kind(&request.name) else {
        return Err(Fault(StatusCode::NOT_FOUND, format!("no command {:?} in this agent", short(&request.name))));
    };
    let name = commands::short_name(&request.name).to_owned();
    let ticket = match agent.table.begin(&name, fence, step.as_deref())? {
        Begun::Known(result) => {
            let result =
                if wait { timeout(WAIT_TIME, agent.table.wait(&result.id)).await.ok().flatten().unwrap_or(result) } else { result };
            return ok(&result);
        }
        Begun::New(ticket) => ticket,
    };
    let id = ticket.id().to_owned();
    // The command goes on in its own task whatever becomes of this connection.
    let work = tokio::spawn({
        let agent = Arc::clone(&agent);
        async move {
            let progress = Arc::clone(&ticket.progress);
            let outcome = commands::run(&agent, &request.name, request.params, &progress).await;
            let code = outcome.as_ref().err().map(|e| (e.code, e.details.clone()));
            if let Err(e) = &outcome {
                tracing::warn!("{}: {}", request.name, e.details);
            }
            ticket.finish(outcome);
            if kind == Kind::Async {
                agent.beat.notify_one();
            }
            code
        }
    });
    let id_missing = || Fault(StatusCode::INTERNAL_SERVER_ERROR, "the command is lost".into());
    if kind == Kind::Sync {
        // Wrong arguments of a direct command are an HTTP error, other failures a failed command.
        if let Ok(Some((400, details))) = work.await {
            return Err(bad(details));
        }
    } else if wait {
        drop(timeout(WAIT_TIME, agent.table.wait(&id)).await);
    }
    ok(&agent.table.get(&id).ok_or_else(id_missing)?)
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn authorise(agent: &Agent, query: &Query) -> Result<(), Fault> {
    let offered = query.token.as_deref().unwrap_or_default();
    match agent.token() {
        Some(token) if token.matches(offered) => Ok(()),
        Some(_) => Err(Fault(StatusCode::UNAUTHORIZED, "Token invalid.".into())),
        None => Err(Fault(StatusCode::UNAUTHORIZED, "Token required.".into())),
    }
}

#[derive(Default)]
struct Query {
    token: Option<String>,
    wait: bool,
}

impl Query {
    fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                TOKEN_ARGUMENT => query.token = Some(value.into_owned()),
                "wait" => query.wait = value.eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        query
    }
}

fn v1_document() -> Value {
    json!({
        "commands": [link("/v1/commands/", "self"), link("/commands/", "bookmark")],
        "status": [link("/v1/status/", "self"), link("/status/", "bookmark")],
        "id": "v1",
        "links": [link("/v1", "self")],
        "media_types": [{"base": "application/json", "type": MEDIA_TYPE}],
    })
}

fn root_document() -> Value {
    let version = json!({"id": "v1", "links": [link("/v1/", "self")]});
    json!({
        "name": "OpenStack Ironic Python Agent API",
        "description": "Command API of the Bessemer ramdisk agent.",
        "versions": [version.clone()],
        "default_version": version,
    })
}

fn link(href: &str, rel: &str) -> Value {
    json!({"href": href, "rel": rel})
}

/// The URL under which the agent is reached.
pub fn callback_url(protocol: &str, address: SocketAddr) -> String {
    format!("{protocol}://{address}") // SocketAddr brackets IPv6
}
