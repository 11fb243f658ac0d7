//! Requests to the API: version negotiation, repeated tries, and errors in the service's words.
//!
//! Never shows credentials or bodies, also not with `--debug`: bodies carry passwords.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;
use url::Url;

use crate::connection::Settings;
use crate::error::{ApiError, CliError};
use crate::record::Record;

/// Newest minor version that this program knows.
pub const NEWEST: u16 = 115;
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;
const VERSION: &str = "X-OpenStack-Ironic-API-Version";
const MAX_VERSION: &str = "X-OpenStack-Ironic-API-Maximum-Version";
const MIN_VERSION: &str = "X-OpenStack-Ironic-API-Minimum-Version";

/// A connection to a service.
pub struct Client {
    http: reqwest::Client,
    settings: Settings,
    minor: AtomicU16,
}

/// What to ask.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// Segments below /v1.
    pub path: Vec<&'a str>,
    /// Query.
    pub query: Vec<(&'a str, String)>,
    /// Body.
    pub body: Option<&'a Value>,
}

impl<'a> Request<'a> {
    /// For that path below /v1.
    pub fn to(path: &[&'a str]) -> Self {
        Self { path: path.to_vec(), ..Self::default() }
    }

    /// With this body.
    pub fn body(mut self, body: &'a Value) -> Self {
        self.body = Some(body);
        self
    }

    /// With this in the query.
    pub fn query(mut self, name: &'a str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// With the choice of fields, when there is one.
    pub fn fields(self, fields: &[String]) -> Self {
        if fields.is_empty() { self } else { self.query("fields", fields.join(",")) }
    }
}

/// One answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Client {
    /// Makes the connection; nothing is sent yet.
    pub fn new(settings: Settings) -> Result<Self, CliError> {
        let http = settings.http_client()?;
        let minor = AtomicU16::new(settings.version.unwrap_or(NEWEST));
        Ok(Self { http, settings, minor })
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// GET of one thing, its members in the service's order.
    pub async fn get(&self, request: Request<'_>) -> Result<Record, CliError> {
        let url = self.url(&request)?;
        let bytes = self.call(Method::GET, request).await?;
        serde_json::from_slice(&bytes).map_err(|e| CliError::NotTheApi { url: url.to_string(), why: e.to_string() })
    }

    /// GET of a list: the member `name` of the answer. With `limit` 0, pages are followed to the end, else up to that many.
    pub async fn list(&self, request: Request<'_>, name: &str, limit: Option<u32>) -> Result<Vec<Record>, CliError> {
        let mut found: Vec<Record> = Vec::new();
        let mut request = request;
        if let Some(limit) = limit.filter(|limit| *limit > 0) {
            request = request.query("limit", limit);
        }
        loop {
            let page = self.get(request.clone()).await?;
            let url = self.url(&request)?.to_string();
            let strange = |why: String| CliError::NotTheApi { url: url.clone(), why };
            let items = page.get(name).cloned().ok_or_else(|| strange(format!("no `{name}` in the answer")))?;
            let items: Vec<Record> = serde_json::from_value(items).map_err(|e| strange(e.to_string()))?;
            let (before, more) = (found.len(), !items.is_empty());
            found.extend(items);
            let Some(limit) = limit else { return Ok(found) };
            if limit > 0 && found.len() >= limit as usize {
                found.truncate(limit as usize);
                return Ok(found);
            }
            let next = page.text("next").filter(|_| more && found.len() > before).and_then(|next| Url::parse(next).ok());
            let Some(marker) = next.and_then(|next| next.query_pairs().find(|(name, _)| name == "marker").map(|(_, v)| v.into_owned()))
            else {
                return Ok(found);
            };
            request.query.retain(|(name, _)| *name != "marker");
            request.query.push(("marker", marker));
        }
    }

    /// POST; the thing that was made.
    pub async fn post(&self, path: &[&str], body: &Value) -> Result<Record, CliError> {
        let request = Request::to(path).body(body);
        let url = self.url(&request)?;
        let bytes = self.call(Method::POST, request).await?;
        if bytes.is_empty() {
            return Ok(Record::default());
        }
        serde_json::from_slice(&bytes).map_err(|e| CliError::NotTheApi { url: url.to_string(), why: e.to_string() })
    }

    /// PUT without an answer of interest.
    pub async fn put(&self, path: &[&str], body: &Value) -> Result<(), CliError> {
        self.call(Method::PUT, Request::to(path).body(body)).await.map(drop)
    }

    /// PUT without a body.
    pub async fn put_empty(&self, path: &[&str]) -> Result<(), CliError> {
        self.call(Method::PUT, Request::to(path)).await.map(drop)
    }

    /// PATCH.
    pub async fn patch(&self, request: Request<'_>) -> Result<(), CliError> {
        self.call(Method::PATCH, request).await.map(drop)
    }

    /// DELETE.
    pub async fn delete(&self, path: &[&str]) -> Result<(), CliError> {
        self.call(Method::DELETE, Request::to(path)).await.map(drop)
    }

    /// Any method; the bytes of the answer.
    ///
    /// Repeated while nobody listens, while the service says that it is busy, and while another operation holds the node;
    /// each of these means that the request was not begun.
    pub async fn call(&self, method: Method, request: Request<'_>) -> Result<Vec<u8>, CliError> {
        let patience = self.settings.retry_interval.saturating_mul(self.settings.max_retries);
        let end = Instant::now() + patience;
        let mut pause = Duration::from_millis(200).min(self.settings.retry_interval);
        loop {
            let error = match self.once(&method, &request).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            let again = match &error {
                CliError::Unreachable { .. } => true,
                CliError::Api(error) => error.status == 503 || error.is_locked(),
                _ => false,
            };
            if !again || Instant::now() + pause > end {
                return Err(error);
            }
            if self.settings.verbose {
                eprintln!("again in {} ms: {error}", pause.as_millis());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.settings.retry_interval);
        }
    }

    /// One try, and one more in an older version if the service is older than this program.
    async fn once(&self, method: &Method, request: &Request<'_>) -> Result<Vec<u8>, CliError> {
        let url = self.url(request)?;
        let mut negotiated = false;
        loop {
            let minor = self.minor.load(Ordering::Relaxed);
            let answer = self.send(method, &url, request, minor).await?;
            if answer.status.is_success() {
                return Ok(answer.bytes);
            }
            let newest = minor_of(&answer.headers, MAX_VERSION);
            if answer.status == StatusCode::NOT_ACCEPTABLE
                && self.settings.version.is_none()
                && !negotiated
                && let Some(newest) = newest.filter(|newest| *newest < minor)
            {
                self.minor.store(newest, Ordering::Relaxed);
                negotiated = true;
                continue;
            }
            return Err(refusal(&answer, request));
        }
    }

    async fn send(&self, method: &Method, url: &Url, request: &Request<'_>, minor: u16) -> Result<Answer, CliError> {
        let unreachable = |error: reqwest::Error| {
            let why = innermost(&error);
            if error.is_connect() {
                CliError::Unreachable { url: self.settings.endpoint.to_string(), why }
            } else if error.is_timeout() {
                CliError::NotTheApi {
                    url: url.to_string(),
                    why: format!("no answer within {} s (--timeout)", self.settings.timeout.as_secs()),
                }
            } else {
                CliError::NotTheApi { url: url.to_string(), why }
            }
        };
        let mut send =
            self.http.request(method.clone(), url.clone()).header(VERSION, format!("1.{minor}")).header("Accept", "application/json");
        if let Some((user, password)) = &self.settings.basic {
            send = send.basic_auth(user, Some(password.reveal()));
        }
        if let Some(body) = request.body {
            send = send.json(body);
        }
        let begin = Instant::now();
        let mut answer = send.send().await.map_err(unreachable)?;
        if self.settings.debug {
            eprintln!("{method} {url} 1.{minor}: {} in {} ms", answer.status(), begin.elapsed().as_millis());
        }
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(CliError::NotTheApi { url: url.to_string(), why: format!("its answer has more than {MAX_ANSWER} bytes") });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, bytes })
    }

    fn url(&self, request: &Request<'_>) -> Result<Url, CliError> {
        // Segments that would change the path instead of naming something in it.
        if let Some(strange) = request.path.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(CliError::Usage(format!("`{strange}` is no name")));
        }
        let mut url = self.settings.endpoint.clone();
        url.path_segments_mut()
            .map_err(|()| CliError::Usage(format!("`{}` is no address that has paths", self.settings.endpoint)))?
            .pop_if_empty()
            .push("v1")
            .extend(&request.path);
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(request.query.iter().map(|(name, value)| (*name, value.as_str())));
        }
        Ok(url)
    }
}

fn minor_of(headers: &HeaderMap, name: &str) -> Option<u16> {
    headers.get(name)?.to_str().ok()?.strip_prefix("1.")?.parse().ok()
}

/// The last cause, which is what the network said.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn refusal(answer: &Answer, request: &Request<'_>) -> CliError {
    let mut message = words(&answer.bytes);
    if message.trim().is_empty() {
        message = answer.status.canonical_reason().unwrap_or("refused without a reason").to_owned();
    }
    if answer.status == StatusCode::NOT_ACCEPTABLE
        && let (Some(oldest), Some(newest)) = (minor_of(&answer.headers, MIN_VERSION), minor_of(&answer.headers, MAX_VERSION))
    {
        message = format!("{} (the service speaks 1.{oldest} to 1.{newest})", message.trim_end());
    }
    let request_id = ["openstack-request-id", "x-openstack-request-id"]
        .iter()
        .find_map(|name| answer.headers.get(*name)?.to_str().ok())
        .map(str::to_owned);
    let segment = |at: usize| request.path.get(at).copied().unwrap_or_default().to_owned();
    CliError::Api(Box::new(ApiError {
        status: answer.status.as_u16(),
        message,
        request_id,
        kind: segment(0),
        ident: segment(1),
        hint: None,
    }))
}

/// The words of an error body: `error_message` holds text, or JSON as text; some errors come without that wrapping.
fn words(bytes: &[u8]) -> String {
    fn of(value: &Value, depth: u8) -> Option<String> {
        match value {
            Value::String(text) if depth > 0 => match serde_json::from_str::<Value>(text) {
                Ok(inner @ (Value::Object(_) | Value::String(_))) => of(&inner, depth - 1).or_else(|| Some(text.clone())),
                _ => Some(text.clone()),
            },
            Value::String(text) => Some(text.clone()),
            Value::Object(members) if depth > 0 => {
                ["error_message", "faultstring", "message", "error", "title"].iter().find_map(|name| of(members.get(*name)?, depth - 1))
            }
            _ => None,
        }
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => of(&value, 4).unwrap_or_default(),
        Err(_) => {
            let text = String::from_utf8_lossy(bytes.get(..500).unwrap_or(bytes));
            text.chars().filter(|c| !c.is_control()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_an_error_are_found_in_every_wrapping() {
        for body in [
            r#"{"error_message": "{\"faultcode\": \"Client\", \"faultstring\": \"no such node\", \"debuginfo\": null}"}"#,
            r#"{"error_message": {"faultstring": "no such node"}}"#,
            r#"{"faultcode": "Client", "faultstring": "no such node"}"#,
            r#"{"error": {"message": "no such node", "code": 401}}"#,
            r#"{"error_message": "no such node"}"#,
            "no such node",
        ] {
            assert_eq!(words(body.as_bytes()), "no such node", "{body}");
        }
        assert_eq!(words(b""), "");
        assert_eq!(words(b"[1]"), "");
    }
}
