//! The `api-call` action: a GET of another server, made after everything that the rules did is written, at least once.

use std::time::Duration;

use bessemer_model::{Json, JsonMap};
use serde::{Deserialize, Serialize};

use super::format::plain;

/// Longest time for one answer.
const MAX_TIMEOUT: f64 = 60.0;
/// Most further tries.
const MAX_RETRIES: u32 = 10;
/// Longest pause between tries.
const MAX_PAUSE: f64 = 30.0;
/// Answers that are worth another try.
const TRY_AGAIN: &[u16] = &[429, 500, 502, 503, 504];

/// A call to make.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Where.
    pub url: String,
    /// Sent with it; may hold secrets.
    pub headers: Vec<(String, String)>,
    /// Proxy by scheme (`http`, `https`).
    pub proxies: Vec<(String, String)>,
    /// For one answer, in seconds.
    pub timeout: f64,
    /// Further tries.
    pub retries: u32,
    /// The pause before try `n + 1` is this times 2^(n-1) seconds; there is none before the second.
    pub backoff: f64,
}

fn number(args: &JsonMap, name: &str, usual: f64) -> Result<f64, String> {
    match args.get(name) {
        None | Some(Json::Null) => Ok(usual),
        Some(Json::Number(n)) => n.as_f64().ok_or_else(|| format!("\"{name}\" must be a number")),
        Some(Json::String(s)) => s.trim().parse().map_err(|_| format!("\"{name}\" must be a number")),
        Some(_) => Err(format!("\"{name}\" must be a number")),
    }
}

fn pairs(args: &JsonMap, name: &str) -> Result<Vec<(String, String)>, String> {
    match args.get(name) {
        None | Some(Json::Null) => Ok(vec![]),
        Some(Json::Object(m)) => Ok(m.iter().map(|(k, v)| (k.clone(), plain(v))).collect()),
        Some(_) => Err(format!("\"{name}\" must be an object")),
    }
}

impl Call {
    /// Reads the arguments.
    ///
    /// # Errors
    /// Which of them cannot be used.
    pub fn read(args: &JsonMap) -> Result<Self, String> {
        let url = args.get("url").map(plain).unwrap_or_default();
        let parsed = url::Url::parse(&url).map_err(|e| format!("\"url\": {e}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err("\"url\" must be http or https".into());
        }
        let timeout = number(args, "timeout", 5.0)?;
        if timeout.is_nan() || timeout <= 0.0 {
            return Err("\"timeout\" must be greater than zero".into());
        }
        let retries = number(args, "retries", 3.0)?;
        let backoff = number(args, "backoff_factor", 0.3)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let retries = retries.clamp(0.0, f64::from(MAX_RETRIES)) as u32;
        Ok(Self {
            url,
            headers: pairs(args, "headers")?,
            proxies: pairs(args, "proxies")?,
            timeout: timeout.min(MAX_TIMEOUT),
            retries,
            backoff: backoff.max(0.0),
        })
    }

    fn pause(&self, tries: u32) -> Duration {
        let seconds = if tries <= 1 { 0.0 } else { self.backoff * f64::from(1u32 << (tries - 1).min(16)) };
        Duration::from_secs_f64(seconds.min(MAX_PAUSE))
    }
}

fn with_proxies(call: &Call) -> Result<reqwest::Client, String> {
    let mut b = reqwest::Client::builder();
    for (scheme, address) in &call.proxies {
        let proxy = match scheme.as_str() {
            "http" => reqwest::Proxy::http(address),
            "https" => reqwest::Proxy::https(address),
            other => return Err(format!("\"proxies\" knows http and https, not \"{other}\"")),
        };
        b = b.proxy(proxy.map_err(|_| format!("the proxy of {scheme} is not an address"))?);
    }
    b.build().map_err(|e| e.without_url().to_string())
}

/// Makes the call.
///
/// # Errors
/// No answer, or one that is not a success, after the last try. Says the server, not the path: it may hold what should stay private.
pub async fn make(http: &reqwest::Client, call: &Call) -> Result<(), String> {
    let http = if call.proxies.is_empty() { http.clone() } else { with_proxies(call)? };
    let host = url::Url::parse(&call.url).ok().and_then(|u| u.host_str().map(str::to_owned)).unwrap_or_default();
    let mut tries = 0;
    loop {
        tries += 1;
        let mut request = http.get(&call.url).timeout(Duration::from_secs_f64(call.timeout));
        for (k, v) in &call.headers {
            request = request.header(k, v);
        }
        let problem = match request.send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let status = answer.status().as_u16();
                let text = format!("the server {host} answered {status}");
                if !TRY_AGAIN.contains(&status) {
                    return Err(text);
                }
                text
            }
            Err(e) if e.is_builder() => return Err(format!("the call to {host} cannot be made: {}", e.without_url())),
            Err(e) => format!("no answer from {host}: {}", e.without_url()),
        };
        if tries > call.retries {
            return Err(problem);
        }
        tokio::time::sleep(call.pause(tries)).await;
    }
}
