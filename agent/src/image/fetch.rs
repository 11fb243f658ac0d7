//! Fetching over HTTP: one sequential stream that survives lost connections, and reads of single ranges.
//!
//! A lost connection is resumed by a Range request from the first byte that was not yet received, guarded by
//! If-Range or by comparing ETag, Last-Modified and length, so that no byte is sent twice and no two images
//! are mixed (RFC 9110 sections 13 and 14). A server without ranges is read again from the start and the bytes
//! already held are dropped. Answers of the 4xx class are final. Never follows to other schemes than http(s),
//! and shows URLs without user, query and fragment.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header;
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use super::client::{HttpOptions, client};

/// Why a fetch was given up.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// URL, CA or proxy cannot be used.
    #[error("cannot fetch {url}: {reason}")]
    Setup {
        /// Shown form of the URL.
        url: String,
        /// Cause and remedy.
        reason: String,
    },
    /// The server answered with a final error.
    #[error("image server answered {status} for {url}: check that the URL is right and readable from the machine")]
    Status {
        /// Shown form of the URL.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// No connection, or no data, for longer than the limit.
    #[error(
        "gave up on {url} after {attempts} attempts in {seconds} s at byte {offset}: {last}. \
         Check the image server and the path to it"
    )]
    Outage {
        /// Shown form of the URL.
        url: String,
        /// Attempts since the last received byte.
        attempts: u32,
        /// Seconds since the last received byte.
        seconds: u64,
        /// Bytes received before.
        offset: u64,
        /// Last error.
        last: String,
    },
    /// The whole download takes too long.
    #[error("the download of {url} took longer than {seconds} s (ipa-image-download-max-duration): {last}")]
    TooSlow {
        /// Shown form of the URL.
        url: String,
        /// The limit.
        seconds: u64,
        /// What went on when the time was over.
        last: String,
    },
    /// The server sent something other than asked for.
    #[error("image server of {url} is not usable: {reason}")]
    Protocol {
        /// Shown form of the URL.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The image on the server is not the one whose first bytes were received.
    #[error("the image at {url} changed during the download")]
    Changed {
        /// Shown form of the URL.
        url: String,
    },
}

/// Patience with an image server.
#[derive(Clone, Debug)]
pub struct FetchPolicy {
    /// For a connection and its first answer, and for a pause between two bytes (`ipa-image-download-connection-timeout`).
    pub timeout: Duration,
    /// Further attempts without a new byte (`ipa-image-download-connection-retries`).
    pub retries: u32,
    /// Longest pause between attempts (`ipa-image-download-connection-retry-interval`).
    pub interval: Duration,
    /// No giving up before this long without a new byte: a server that restarts is waited for.
    pub outage: Duration,
    /// Limit for the whole download, none by default (`ipa-image-download-max-duration` 0).
    pub max_duration: Option<Duration>,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            retries: 9,
            interval: Duration::from_secs(10),
            outage: Duration::from_secs(600),
            max_duration: None,
        }
    }
}

/// What identifies the bytes behind a URL.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    len: Option<u64>,
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

impl Identity {
    pub(crate) fn of_headers(headers: &HeaderMap, len: Option<u64>) -> Self {
        Self { len, etag: headers.get(header::ETAG).cloned(), last_modified: headers.get(header::LAST_MODIFIED).cloned() }
    }

    /// Bytes of the whole file.
    pub(crate) fn len(&self) -> Option<u64> {
        self.len
    }

    fn is_weak(etag: &HeaderValue) -> bool {
        etag.as_bytes().starts_with(b"W/")
    }

    /// Validator that If-Range accepts: a strong ETag, else a date (RFC 9110 section 13.1.5).
    pub(crate) fn if_range(&self) -> Option<&HeaderValue> {
        self.etag.as_ref().filter(|etag| !Self::is_weak(etag)).or(self.last_modified.as_ref())
    }

    /// Whether the answer is about the same bytes as far as its headers tell.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        fn differ<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            matches!((a, b), (Some(a), Some(b)) if a != b)
        }
        !differ(self.etag.as_ref(), other.etag.as_ref())
            && !differ(self.last_modified.as_ref(), other.last_modified.as_ref())
            && !differ(self.len.as_ref(), other.len.as_ref())
    }

    /// Whether anything but the length says which bytes these are.
    fn is_known(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

/// What happened on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchStats {
    /// Connections lost and taken up again.
    pub reconnects: u32,
    /// Bytes received a second time because the server has no ranges.
    pub repeated_bytes: u64,
}

/// One remote file.
#[derive(Clone, Debug)]
pub struct Remote {
    client: reqwest::Client,
    url: Url,
    shown: String,
    authorization: Option<HeaderValue>,
    policy: FetchPolicy,
    deadline: Option<Instant>,
}

/// Form of a URL for people: no user, query or fragment, which may hold credentials.
pub fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    // Both only fail for URLs that cannot have a user at all.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

impl Remote {
    /// Prepares access to `url`; nothing is sent yet.
    ///
    /// # Errors
    /// When the URL is not http(s), or CA, proxy or authorization cannot be used.
    pub fn new(url: &str, options: &HttpOptions, policy: &FetchPolicy) -> Result<Self, FetchError> {
        let parsed = Url::parse(url)
            .map_err(|error| FetchError::Setup { url: url.chars().take(60).collect(), reason: format!("not a URL: {error}") })?;
        let shown = shown_url(&parsed);
        let setup = |reason: String| FetchError::Setup { url: shown.clone(), reason };
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(setup(format!("scheme {:?} is not served: use http or https", parsed.scheme())));
        }
        let client = client(options, policy).map_err(setup)?;
        let authorization = match &options.authorization {
            Some(value) => {
                let mut value =
                    HeaderValue::from_str(value.reveal()).map_err(|_| setup("the authorization value cannot stand in a header".into()))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self {
            client,
            url: parsed,
            shown,
            authorization,
            policy: policy.clone(),
            deadline: policy.max_duration.map(|limit| Instant::now() + limit),
        })
    }

    /// URL without user, query and fragment.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Patience for one answer or one pause.
    pub(crate) fn timeout(&self) -> Duration {
        self.policy.timeout
    }

    /// Last part of the URL's path.
    pub fn file_name(&self) -> String {
        self.url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned()
    }

    /// A GET with everything that every request has.
    pub(crate) fn request(&self) -> reqwest::RequestBuilder {
        let request = self.client.get(self.url.clone()).header(header::ACCEPT_ENCODING, "identity");
        match &self.authorization {
            Some(value) => request.header(header::AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn answer(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Trouble> {
        let response = match tokio::time::timeout(self.policy.timeout, request.send()).await {
            Err(_) => return Err(Trouble::Passing(format!("no answer within {} s", self.policy.timeout.as_secs()))),
            Ok(Err(error)) => return Err(self.trouble(&error)),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            Ok(response)
        } else if status.is_server_error()
            || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS].contains(&status)
        {
            Err(Trouble::Passing(format!("answer {status}")))
        } else {
            Err(Trouble::Final(FetchError::Status { url: self.shown.clone(), status: status.as_u16() }))
        }
    }

    fn trouble(&self, error: &reqwest::Error) -> Trouble {
        let text = chain(error);
        if error.is_builder() || error.is_redirect() || text.contains("invalid peer certificate") {
            let reason = if text.contains("certificate") {
                format!("{text}; give the CA of the image server to the ramdisk, or set ipa-insecure=1")
            } else {
                text
            };
            Trouble::Final(FetchError::Setup { url: self.shown.clone(), reason })
        } else {
            Trouble::Passing(text)
        }
    }

    /// Opens the sequential stream and reads the head of the first answer.
    ///
    /// # Errors
    /// As [`ImageStream::next`].
    pub async fn open(&self) -> Result<ImageStream, FetchError> {
        let mut stream = ImageStream {
            remote: self.clone(),
            identity: None,
            position: 0,
            body: None,
            drop_bytes: 0,
            outage: Outage::default(),
            stats: FetchStats::default(),
        };
        stream.connect().await?;
        Ok(stream)
    }

    /// Reads a small file whole.
    ///
    /// # Errors
    /// As [`ImageStream::next`], and when the file is larger than `limit`.
    pub async fn read_small(&self, limit: usize) -> Result<Bytes, FetchError> {
        let mut stream = self.open().await?;
        let mut all = BytesMut::new();
        loop {
            match stream.next().await {
                Ok(Some(chunk)) if all.len() + chunk.len() > limit => {
                    return Err(FetchError::Protocol { url: self.shown.clone(), reason: format!("the file is larger than {limit} bytes") });
                }
                Ok(Some(chunk)) => all.extend_from_slice(&chunk),
                Ok(None) => return Ok(all.freeze()),
                Err(error) => return Err(error),
            }
        }
    }

    fn check_deadline(&self, last: &str) -> Result<(), FetchError> {
        match (self.deadline, self.policy.max_duration) {
            (Some(deadline), Some(limit)) if Instant::now() >= deadline => {
                Err(FetchError::TooSlow { url: self.shown.clone(), seconds: limit.as_secs(), last: last.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

/// How an attempt failed.
pub(crate) enum Trouble {
    /// Worth another attempt.
    Passing(String),
    Final(FetchError),
}

/// Attempts since the last byte came.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
    attempts: u32,
}

impl Outage {
    /// A byte came.
    pub(crate) fn over(&mut self) {
        *self = Self::default();
    }

    /// Notes a failure; waits, or gives up.
    pub(crate) async fn failed(&mut self, remote: &Remote, offset: u64, last: String) -> Result<(), FetchError> {
        remote.check_deadline(&last)?;
        let policy = &remote.policy;
        let since = *self.since.get_or_insert_with(Instant::now);
        self.attempts = self.attempts.saturating_add(1);
        let waited = since.elapsed();
        if self.attempts > policy.retries && waited >= policy.outage {
            return Err(FetchError::Outage { url: remote.shown.clone(), attempts: self.attempts, seconds: waited.as_secs(), offset, last });
        }
        tracing::warn!(url = %remote.shown, offset, attempt = self.attempts, "image download interrupted: {last}");
        let step = Duration::from_millis(250).saturating_mul(1 << self.attempts.saturating_sub(1).min(10));
        tokio::time::sleep(step.min(policy.interval)).await;
        Ok(())
    }
}

/// The bytes of a remote file in order.
#[derive(Debug)]
pub struct ImageStream {
    remote: Remote,
    identity: Option<Identity>,
    position: u64,
    body: Option<reqwest::Response>,
    /// Bytes to drop before `position` is reached: the server began again at 0.
    drop_bytes: u64,
    outage: Outage,
    stats: FetchStats,
}

impl ImageStream {
    /// Bytes of the whole file when the server told.
    pub fn total(&self) -> Option<u64> {
        self.identity.as_ref().and_then(|identity| identity.len)
    }

    /// What other readers of the same file need.
    pub(crate) fn origin(&self) -> (Remote, Option<Identity>) {
        (self.remote.clone(), self.identity.clone())
    }

    /// What happened so far.
    pub fn stats(&self) -> FetchStats {
        self.stats.clone()
    }

    /// The next bytes, `None` at the end of the file.
    ///
    /// # Errors
    /// When the server answers with a final error, stays away longer than the policy allows, or has another
    /// image by now ([`FetchError::Changed`]).
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            if self.total().is_some_and(|total| self.position >= total) {
                return Ok(None);
            }
            let timeout = self.remote.policy.timeout;
            let Some(body) = self.body.as_mut() else {
                self.connect().await?;
                continue;
            };
            let lost = match tokio::time::timeout(timeout, body.chunk()).await {
                Ok(Ok(Some(chunk))) => match self.accept(chunk)? {
                    Some(bytes) => return Ok(Some(bytes)),
                    None => continue,
                },
                Ok(Ok(None)) if self.total().is_none() && self.drop_bytes == 0 => return Ok(None),
                Ok(Ok(None)) => "the connection ended before the file did".to_owned(),
                Ok(Err(error)) => chain(&error),
                Err(_) => format!("no data for {} s", timeout.as_secs()),
            };
            self.body = None;
            self.stats.reconnects += 1;
            self.outage.failed(&self.remote, self.position, lost).await?;
        }
    }

    /// Takes a chunk: drops what is held already, refuses what is too much.
    fn accept(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, FetchError> {
        if self.drop_bytes > 0 {
            let dropped = self.drop_bytes.min(chunk.len() as u64);
            self.drop_bytes -= dropped;
            self.stats.repeated_bytes += dropped;
            // The value is at most the chunk's length.
            let _ = chunk.split_to(usize::try_from(dropped).unwrap_or(chunk.len()));
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        self.remote.check_deadline("data still came")?;
        self.outage.over();
        self.position += chunk.len() as u64;
        if self.total().is_some_and(|total| self.position > total) {
            return Err(FetchError::Protocol { url: self.remote.shown.clone(), reason: "it sends more bytes than it announced".into() });
        }
        Ok(Some(chunk))
    }

    /// Connects until an answer comes whose body continues at `position`.
    async fn connect(&mut self) -> Result<(), FetchError> {
        loop {
            self.remote.check_deadline("connecting")?;
            let mut request = self.remote.request();
            if self.position > 0 {
                request = request.header(header::RANGE, format!("bytes={}-", self.position));
                if let Some(validator) = self.identity.as_ref().and_then(Identity::if_range) {
                    request = request.header(header::IF_RANGE, validator.clone());
                }
            }
            match self.remote.answer(request).await {
                Ok(response) => return self.begin(response),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(last)) => self.outage.failed(&self.remote, self.position, last).await?,
            }
        }
    }

    fn begin(&mut self, response: reqwest::Response) -> Result<(), FetchError> {
        let changed = || FetchError::Changed { url: self.remote.shown.clone() };
        let odd = |reason: &str| FetchError::Protocol { url: self.remote.shown.clone(), reason: reason.into() };
        self.drop_bytes = 0;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let (start, total) = content_range(response.headers()).ok_or_else(|| odd("answer 206 without a usable Content-Range"))?;
                if start != self.position {
                    return Err(odd("the range it sent is not the range asked for"));
                }
                let now = Identity::of_headers(response.headers(), total);
                if self.identity.as_ref().is_some_and(|before| !before.agrees(&now)) {
                    return Err(changed());
                }
                self.identity.get_or_insert(now);
            }
            StatusCode::OK => {
                let now = Identity::of_headers(response.headers(), content_length(&response));
                match &self.identity {
                    // Nothing was received yet: whatever is there now is the image.
                    _ if self.position == 0 => self.identity = Some(now.clone()),
                    Some(before) if before.agrees(&now) && before.is_known() => self.drop_bytes = self.position,
                    _ => return Err(changed()),
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(changed()),
            other => return Err(odd(&format!("unexpected answer {other}"))),
        }
        self.body = Some(response);
        Ok(())
    }
}

/// Content-Length as the header tells it.
pub(crate) fn content_length(response: &reqwest::Response) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Start and, when known, total of `Content-Range: bytes a-b/total`.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let total = total.trim();
    let total = if total == "*" { None } else { Some(total.parse::<u64>().ok()?) };
    (start <= end && total.is_none_or(|total| end < total)).then_some((start, total))
}

/// An error with all its causes; URLs are not repeated.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
        next = cause.source();
    }
    if parts.is_empty() { if error.is_timeout() { "timed out".into() } else { "request failed".into() } } else { parts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bessemer_model::secret::Secret;

    #[test]
    fn a_shown_url_has_no_credentials() {
        let url = Url::parse("https://user:pw@host:8/a/b.img?sig=secret#x").unwrap();
        assert_eq!(shown_url(&url), "https://host:8/a/b.img");
    }

    #[test]
    fn only_a_content_range_that_makes_sense_is_taken() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(text).unwrap());
            content_range(&headers)
        };
        assert_eq!(parse("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse("bytes 5-9/*"), Some((5, None)));
        for bad in ["bytes 9-5/10", "bytes 5-10/10", "bytes */10", "5-9/10", "bytes -9/10", ""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn schemes_other_than_http_are_refused_before_anything_is_sent() {
        for url in ["file:///etc/shadow", "ftp://x/y", "nonsense"] {
            assert!(Remote::new(url, &HttpOptions::default(), &FetchPolicy::default()).is_err(), "{url}");
        }
    }

    #[test]
    fn the_debug_form_of_options_has_no_secret() {
        let options = HttpOptions { authorization: Some(Secret::new("Basic abc".into())), ..HttpOptions::default() };
        assert!(!format!("{options:?}").contains("abc"));
    }
}
