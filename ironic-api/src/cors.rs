//! Cross-origin resource sharing (the Fetch standard, section 3.2): which web pages a browser lets use the API (`[cors]`).

use http::{HeaderMap, HeaderValue, Method, header};

/// What the operator allows. Without an origin nothing is, and answers carry no headers about it.
#[derive(Clone, Debug)]
pub struct CorsConfig {
    /// Origins of pages, such as `https://dashboard.example`; `*` = any.
    pub allowed_origin: Vec<String>,
    /// Whether pages may send what the browser knows of the user.
    pub allow_credentials: bool,
    /// Headers of answers that pages may read.
    pub expose_headers: Vec<String>,
    /// How long browsers remember what is allowed, in seconds.
    pub max_age: u64,
    /// Methods that pages may use.
    pub allow_methods: Vec<String>,
    /// Headers that pages may send.
    pub allow_headers: Vec<String>,
}

impl Default for CorsConfig {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        const VERSIONS: &[&str] = &[
            "X-OpenStack-Ironic-API-Version",
            "X-OpenStack-Ironic-API-Minimum-Version",
            "X-OpenStack-Ironic-API-Maximum-Version",
            "OpenStack-Request-ID",
        ];
        Self {
            allowed_origin: vec![],
            allow_credentials: true,
            expose_headers: list(VERSIONS),
            max_age: 3600,
            allow_methods: list(&["GET", "PUT", "POST", "DELETE", "PATCH"]),
            allow_headers: list(&["X-Auth-Token", "Content-Type", "Accept", "OpenStack-API-Version", "X-OpenStack-Ironic-API-Version"]),
        }
    }
}

impl CorsConfig {
    /// The origin of the page that sent the request, when it is allowed; `*` when every page is.
    fn allowed<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let origin = headers.get(header::ORIGIN)?.to_str().ok()?;
        let has = |o: &str| self.allowed_origin.iter().any(|a| a.eq_ignore_ascii_case(o));
        if has(origin) { Some(origin) } else { has("*").then_some("*") }
    }

    /// The headers that the answer to this request gets.
    pub(crate) fn headers(&self, method: &Method, request: &HeaderMap) -> HeaderMap {
        let mut out = HeaderMap::new();
        if self.allowed_origin.is_empty() {
            return out;
        }
        let mut put = |name: header::HeaderName, value: &str| {
            if let Ok(v) = HeaderValue::from_str(value) {
                out.append(name, v);
            }
        };
        put(header::VARY, "Origin");
        let Some(origin) = self.allowed(request) else { return out };
        put(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        // What the browser knows of the user is for pages that the operator has named.
        if self.allow_credentials && origin != "*" {
            put(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        let asked = request.get(header::ACCESS_CONTROL_REQUEST_METHOD).and_then(|m| m.to_str().ok());
        if *method != Method::OPTIONS {
            put(header::ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose_headers.join(","));
        } else if asked.is_some_and(|m| self.allow_methods.iter().any(|a| a == m)) {
            put(header::ACCESS_CONTROL_MAX_AGE, &self.max_age.to_string());
            put(header::ACCESS_CONTROL_ALLOW_METHODS, &self.allow_methods.join(","));
            put(header::ACCESS_CONTROL_ALLOW_HEADERS, &self.allow_headers.join(","));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, pairs: &[(&'static str, &str)]) -> HeaderMap {
        let config = CorsConfig { allowed_origin: vec!["https://ui.example".into()], ..CorsConfig::default() };
        config.headers(&method, &pairs.iter().map(|(k, v)| (http::HeaderName::from_static(k), v.parse().expect("a value"))).collect())
    }

    #[test]
    fn allowed_pages_may_read_and_others_may_not() {
        let h = ask(Method::GET, &[("origin", "https://ui.example")]);
        assert_eq!(h["access-control-allow-origin"], "https://ui.example");
        assert_eq!(h["access-control-allow-credentials"], "true");
        assert!(h["access-control-expose-headers"].to_str().expect("text").contains("X-OpenStack-Ironic-API-Version"));
        for other in [ask(Method::GET, &[("origin", "https://evil.example")]), ask(Method::GET, &[])] {
            assert!(!other.contains_key("access-control-allow-origin"));
            assert_eq!(other["vary"], "Origin");
        }
        let any = CorsConfig { allowed_origin: vec!["*".into()], ..CorsConfig::default() };
        let h = any.headers(&Method::GET, &HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static("https://x"))]));
        assert_eq!(h["access-control-allow-origin"], "*");
        assert!(!h.contains_key("access-control-allow-credentials"));
        let off = CorsConfig::default().headers(&Method::GET, &HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static("x"))]));
        assert!(off.is_empty());
    }

    #[test]
    fn a_preflight_tells_methods_and_headers_unless_the_method_is_none_of_them() {
        let h = ask(Method::OPTIONS, &[("origin", "https://ui.example"), ("access-control-request-method", "PATCH")]);
        assert!(h["access-control-allow-methods"].to_str().expect("text").contains("PATCH"));
        assert!(h["access-control-allow-headers"].to_str().expect("text").contains("X-Auth-Token"));
        let h = ask(Method::OPTIONS, &[("origin", "https://ui.example"), ("access-control-request-method", "TRACE")]);
        assert!(!h.contains_key("access-control-allow-methods"));
    }
}
