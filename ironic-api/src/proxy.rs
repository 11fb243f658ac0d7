//! Where the client believes the API to be: by the request itself, or, behind a proxy that is trusted to say so, by the headers
//! `Forwarded` (RFC 7239) and `X-Forwarded-Proto`, `-Host`, `-Port`, `-Prefix` (`[oslo_middleware] enable_proxy_headers_parsing`).

use std::net::IpAddr;

use http::{HeaderMap, Uri, header};

/// Scheme, host and path prefix of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: String,
    prefix: String,
}

fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.split(',').next().unwrap_or_default().trim()).filter(|v| !v.is_empty())
}

fn scheme(s: &str) -> Option<String> {
    let s = s.to_ascii_lowercase();
    matches!(s.as_str(), "http" | "https").then_some(s)
}

/// A host name or address, perhaps with a port: what may stand in a link.
fn host(s: &str) -> Option<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    ((1..=255).contains(&s.len()) && s.bytes().all(good)).then(|| s.to_owned())
}

fn prefix(s: &str) -> Option<String> {
    let s = s.trim_end_matches('/');
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/' | b'%');
    (s.len() <= 255 && s.starts_with('/') && !s.starts_with("//") && s.bytes().all(good)).then(|| s.to_owned())
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, p)| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// A parameter of the first element of `Forwarded`.
fn forwarded(headers: &HeaderMap, name: &str) -> Option<String> {
    let element = first(headers, "forwarded")?;
    let pairs = element.split(';').filter_map(|p| p.trim().split_once('='));
    let value = pairs.filter(|(k, _)| k.trim().eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().trim_matches('"')).next()?;
    Some(value.to_owned())
}

impl Origin {
    /// That of a request. `tls`: whether the API itself speaks it. `trusted`: whether the proxy's headers count.
    pub fn of(uri: &Uri, headers: &HeaderMap, tls: bool, trusted: bool) -> Self {
        let plain = headers.get(header::HOST).and_then(|h| h.to_str().ok()).filter(|h| h.len() <= 255);
        let plain = plain.or_else(|| uri.authority().map(http::uri::Authority::as_str)).unwrap_or("localhost");
        let own = uri.scheme_str().unwrap_or(if tls { "https" } else { "http" });
        let mut o = Self { scheme: own.to_owned(), host: plain.to_owned(), prefix: String::new() };
        if trusted {
            o.believe(headers);
        }
        o
    }

    fn believe(&mut self, headers: &HeaderMap) {
        let (proto, named) = if headers.contains_key("forwarded") {
            (forwarded(headers, "proto"), forwarded(headers, "host"))
        } else {
            let text = |name| first(headers, name).map(str::to_owned);
            (text("x-forwarded-proto"), text("x-forwarded-host"))
        };
        if let Some(s) = proto.as_deref().and_then(scheme) {
            self.scheme = s;
        }
        if let Some(h) = named.as_deref().and_then(host) {
            self.host = h;
        }
        let port = first(headers, "x-forwarded-port").and_then(|p| p.parse::<u16>().ok());
        let usual = if self.scheme == "https" { 443 } else { 80 };
        if let Some(p) = port.filter(|p| *p != usual && !has_port(&self.host)) {
            self.host = format!("{}:{p}", self.host);
        }
        self.prefix = first(headers, "x-forwarded-prefix").and_then(prefix).unwrap_or_default();
    }

    /// The base of links, without a trailing slash.
    pub fn base(&self) -> String {
        format!("{}://{}{}", self.scheme, self.host, self.prefix)
    }
}

/// The client's address: the first that the proxy names, else the one that is connected.
pub(crate) fn client(headers: &HeaderMap, peer: Option<IpAddr>, trusted: bool) -> Option<IpAddr> {
    let named = || {
        let text = match forwarded(headers, "for") {
            Some(f) => f,
            None => first(headers, "x-forwarded-for").or(first(headers, "x-real-ip"))?.to_owned(),
        };
        let bare = match text.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None if text.matches(':').count() == 1 => text.split(':').next().unwrap_or_default(),
            None => &text,
        };
        bare.parse().ok()
    };
    trusted.then(named).flatten().or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (http::HeaderName::from_static(k), v.parse().expect("a value"))).collect()
    }

    fn base(pairs: &[(&'static str, &str)], trusted: bool) -> String {
        Origin::of(&Uri::from_static("/v1"), &headers(pairs), false, trusted).base()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let h = [("host", "api:6385"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "bm.example, inner")];
        assert_eq!(base(&h, false), "http://api:6385");
        assert_eq!(base(&h, true), "https://bm.example");
        assert_eq!(base(&[], true), "http://localhost");
    }

    #[test]
    fn forwarded_wins_and_ports_and_prefixes_join() {
        let f = ("forwarded", "for=192.0.2.1;Proto=HTTPS;host=\"a.example:8443\", for=10.0.0.1;host=b");
        assert_eq!(base(&[f, ("x-forwarded-host", "c")], true), "https://a.example:8443");
        let h = [("host", "api"), ("x-forwarded-proto", "https"), ("x-forwarded-port", "8443"), ("x-forwarded-prefix", "/baremetal/")];
        assert_eq!(base(&h, true), "https://api:8443/baremetal");
        let h = [("host", "api:1"), ("x-forwarded-proto", "https"), ("x-forwarded-port", "443")];
        assert_eq!(base(&h, true), "https://api:1");
    }

    #[test]
    fn what_cannot_stand_in_a_link_is_passed_over() {
        let h = [("host", "api"), ("x-forwarded-host", "a/b\"><x"), ("x-forwarded-proto", "file"), ("x-forwarded-prefix", "//evil")];
        assert_eq!(base(&h, true), "http://api");
    }

    #[test]
    fn the_client_is_who_the_trusted_proxy_says() {
        let peer = Some("10.0.0.9".parse().expect("an address"));
        let ask = |pairs: &[(&'static str, &str)], trusted| client(&headers(pairs), peer, trusted).map(|a| a.to_string());
        assert_eq!(ask(&[("x-forwarded-for", "192.0.2.7, 10.0.0.1")], true).as_deref(), Some("192.0.2.7"));
        assert_eq!(ask(&[("x-forwarded-for", "192.0.2.7")], false).as_deref(), Some("10.0.0.9"));
        assert_eq!(ask(&[("forwarded", "for=\"[2001:db8::1]:4711\"")], true).as_deref(), Some("2001:db8::1"));
        assert_eq!(ask(&[("x-real-ip", "192.0.2.8:99")], true).as_deref(), Some("192.0.2.8"));
        assert_eq!(ask(&[("x-forwarded-for", "unknown")], true).as_deref(), Some("10.0.0.9"));
    }
}
