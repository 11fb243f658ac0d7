//! The paths of the HTTP boot service and who is answered.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::routing::get;
use tracing::{debug, info, warn};

use super::access;
use super::content::{Content, ContentError};
use super::range::{self, Asked, ByteRange};
use crate::config::NetworkConfig;
use crate::mac::MacAddr;
use crate::plan::{BootPlan, FileRef, Nonce};
use crate::programs::{ProgramError, Programs};
use crate::script;
use crate::source::{BootSource, SourceError};

/// The two ends of the connection a request came by; the server puts it into every request.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// The client.
    pub peer: SocketAddr,
}

/// What the handlers need.
pub struct HttpState {
    /// Where plans and leases are.
    pub source: Arc<dyn BootSource>,
    /// The networks served.
    pub networks: Vec<NetworkConfig>,
    /// The boot programs.
    pub programs: Arc<Programs>,
    /// Port under which clients reach this service.
    pub http_port: u16,
    /// For files that a plan has at another server; without it such files can only be redirected to.
    pub client: Option<reqwest::Client>,
}

/// The routes. Requests need a [`Connection`] extension.
pub fn router(state: Arc<HttpState>) -> Router {
    // `get` answers HEAD too, by the GET handler without its body; the handlers see the method and skip the work.
    Router::new()
        .route("/boot/ipxe/{mac}", get(boot_script))
        .route("/boot/{nonce}/{name}", get(plan_file))
        .route("/files/{*name}", get(program))
        .with_state(state)
}

/// An answer that is an error; the reason is for the log, the client learns the status.
enum Refusal {
    NotFound(&'static str),
    Unavailable(String),
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<ContentError> for Refusal {
    fn from(error: ContentError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

async fn boot_script(
    State(state): State<Arc<HttpState>>,
    Extension(connection): Extension<Connection>,
    Path(mac): Path<String>,
) -> Response<Body> {
    let peer = connection.peer;
    match script_for(&state, peer, &mac).await {
        Ok((mac, text)) => {
            info!(%peer, %mac, "http: boot script");
            let mut response = Response::new(Body::from(text));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(refusal) => refused(peer, "boot script", refusal),
    }
}

async fn script_for(state: &HttpState, peer: SocketAddr, mac: &str) -> Result<(MacAddr, String), Refusal> {
    let mac: MacAddr = mac.parse().map_err(|_| Refusal::NotFound("not a MAC address"))?;
    let (network, addr) = access::network_of(&state.networks, peer.ip()).ok_or(Refusal::NotFound("not on a network served here"))?;
    if access::machine_at(state.source.as_ref(), network, addr).await? != Some(mac) {
        return Err(Refusal::NotFound("the address is not leased to this MAC"));
    }
    let plan = state.source.plan_for(mac).await?.ok_or(Refusal::NotFound("no boot plan"))?;
    let base = format!("http://{}:{}", network.server, state.http_port);
    let text = script::render(&plan, mac, &base).map_err(|error| Refusal::Unavailable(error.to_string()))?;
    Ok((mac, text))
}

async fn plan_file(
    State(state): State<Arc<HttpState>>,
    Extension(connection): Extension<Connection>,
    Path((nonce, name)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let peer = connection.peer;
    match open_plan_file(&state, peer, &nonce, &name, &headers).await {
        Ok(PlanFile::Content(content)) => {
            info!(%peer, file = %name.escape_debug(), bytes = content.len(), "http: boot file");
            answer(content, &method, &headers)
        }
        Ok(PlanFile::Elsewhere(url)) => {
            let mut response = status(StatusCode::FOUND);
            response.headers_mut().insert(header::LOCATION, url);
            response
        }
        Err(refusal) => refused(peer, "boot file", refusal),
    }
}

enum PlanFile {
    Content(Content),
    Elsewhere(HeaderValue),
}

async fn open_plan_file(state: &HttpState, peer: SocketAddr, nonce: &str, name: &str, headers: &HeaderMap) -> Result<PlanFile, Refusal> {
    if !Nonce::is_well_formed(nonce) {
        return Err(Refusal::NotFound("not a nonce"));
    }
    let plan = state.source.plan_by_nonce(nonce).await?.ok_or(Refusal::NotFound("no current plan has this nonce"))?;
    if !plan.macs.is_empty()
        && let Some((network, addr)) = access::network_of(&state.networks, peer.ip())
        && let Some(other) = access::machine_at(state.source.as_ref(), network, addr).await?
        && !plan.macs.contains(&other)
    {
        return Err(Refusal::NotFound("the address is another machine's"));
    }
    let files = files_named(&plan, name).ok_or(Refusal::NotFound("the plan has no such file"))?;
    if let [FileRef::Url(url)] = files
        && (state.client.is_none() || follows_redirects(headers, url))
        && let Ok(url) = HeaderValue::from_str(url)
    {
        return Ok(PlanFile::Elsewhere(url));
    }
    Ok(PlanFile::Content(Content::open(files, name == "ramdisk", state.client.as_ref()).await?))
}

fn files_named<'a>(plan: &'a BootPlan, name: &str) -> Option<&'a [FileRef]> {
    match name {
        "kernel" => plan.kernel.as_ref().map(std::slice::from_ref),
        "ramdisk" if !plan.layers.is_empty() => Some(&plan.layers),
        "ramdisk" => None,
        other => plan.files.get(other).map(std::slice::from_ref),
    }
}

/// iPXE follows a redirection to plain HTTP; its TLS knows no private authorities.
fn follows_redirects(headers: &HeaderMap, url: &str) -> bool {
    url.starts_with("http://") && headers.get(header::USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"iPXE/"))
}

async fn program(
    State(state): State<Arc<HttpState>>,
    Extension(connection): Extension<Connection>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let peer = connection.peer;
    let programs = Arc::clone(&state.programs);
    let wanted = name.clone();
    let opened = tokio::task::spawn_blocking(move || programs.open(&wanted)).await;
    match opened {
        Ok(Ok(program)) => {
            let content = Content::of_program(program);
            info!(%peer, file = %name.escape_debug(), bytes = content.len(), "http: boot program");
            answer(content, &method, &headers)
        }
        Ok(Err(ProgramError::Io(error))) => refused(peer, "boot program", Refusal::Unavailable(error.to_string())),
        Ok(Err(_)) => refused(peer, "boot program", Refusal::NotFound("no such program")),
        Err(error) => refused(peer, "boot program", Refusal::Unavailable(error.to_string())),
    }
}

fn refused(peer: SocketAddr, what: &str, refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::NotFound(reason) => {
            debug!(%peer, what, reason, "http: not found");
            status(StatusCode::NOT_FOUND)
        }
        Refusal::Unavailable(reason) => {
            warn!(%peer, what, reason, "http: cannot serve");
            let mut response = status(StatusCode::SERVICE_UNAVAILABLE);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

/// The answer with conditions and range applied (RFC 9110 sections 13 and 14).
fn answer(content: Content, method: &Method, headers: &HeaderMap) -> Response<Body> {
    let len = content.len();
    let etag = content.etag().and_then(|tag| HeaderValue::from_str(tag).ok());
    let matches = |value: &HeaderValue| etag.as_ref() == Some(value);
    if let (Some(wanted), Some(tag)) = (headers.get(header::IF_NONE_MATCH), &etag)
        && is_listed(wanted, tag)
    {
        let mut response = status(StatusCode::NOT_MODIFIED);
        response.headers_mut().insert(header::ETAG, tag.clone());
        return response;
    }
    // If-Range: a changed file is sent whole. A date never matches, as no date is sent.
    let range_holds = headers.get(header::IF_RANGE).is_none_or(matches);
    let asked = match headers.get(header::RANGE) {
        Some(value) if range_holds && method == Method::GET => range::parse(value.as_bytes(), len),
        _ => Asked::Whole,
    };
    let (code, part) = match asked {
        Asked::Whole => (StatusCode::OK, ByteRange { start: 0, end: len }),
        Asked::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Asked::Unsatisfiable => {
            let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
            if let Ok(value) = HeaderValue::from_str(&format!("bytes */{len}")) {
                response.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            return response;
        }
    };
    let body = if method == Method::HEAD { Body::empty() } else { content.into_body(part) };
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(tag) = etag {
        headers.insert(header::ETAG, tag);
    }
    if code == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = HeaderValue::from_str(&format!("bytes {}-{}/{len}", part.start, part.end - 1))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    response
}

/// `If-None-Match`: a list of validators or `*`; compared weakly.
fn is_listed(list: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(list), Ok(tag)) = (list.to_str(), tag.to_str()) else {
        return false;
    };
    list.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}
