//! A small HTTP/1.1 client over a plain socket: enough to ask our daemon and the emulators.
//!
//! One connection per request, no TLS, no redirects; bodies are read whole up to [`MAX_BODY`].

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Longest body that is read, in bytes.
pub const MAX_BODY: u64 = 64 << 20;

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Header names in lower case, with their values, in the order received.
    pub headers: Vec<(String, String)>,
    /// The body, transfer coding removed.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; an empty body is `null`.
    pub fn json(&self) -> Result<Value> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// First header of that name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Sends one request. `url` is `http://HOST:PORT/PATH`.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&[u8]>, limit: Duration) -> Result<Reply> {
    let rest = url.strip_prefix("http://").with_context(|| format!("not an http URL: {url}"))?;
    let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(a, p)| (a, p.to_owned()));
    let host = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let address = host.to_socket_addrs()?.next().with_context(|| format!("no address for {host}"))?;
    let mut stream = TcpStream::connect_timeout(&address, limit).with_context(|| format!("{method} {url}"))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut head = format!("{method} /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if let Some(body) = body {
        stream.write_all(body)?;
    }
    read_reply(&mut BufReader::new(stream), method == "HEAD").with_context(|| format!("{method} {url}"))
}

/// A connection that is kept open between requests, for load.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    authority: String,
}

impl Connection {
    /// Connects to `http://HOST:PORT`.
    pub fn open(url: &str, limit: Duration) -> Result<Self> {
        let authority = url.strip_prefix("http://").with_context(|| format!("not an http URL: {url}"))?.trim_end_matches('/').to_owned();
        let address = authority.to_socket_addrs()?.next().with_context(|| format!("no address for {authority}"))?;
        let stream = TcpStream::connect_timeout(&address, limit).with_context(|| format!("connecting to {url}"))?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(1 << 16, stream), authority })
    }

    /// One request and its answer. After an error the connection is of no further use.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Result<Reply> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.authority);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        self.stream.get_mut().write_all(&bytes)?;
        read_reply(&mut self.stream, method == "HEAD").with_context(|| format!("{method} {path}"))
    }
}

fn read_reply(stream: &mut impl BufRead, head_only: bool) -> Result<Reply> {
    let line = read_line(stream)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).with_context(|| format!("not an HTTP answer: {line:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let find = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let mut body = Vec::new();
    if head_only || status == 204 || status == 304 {
    } else if find("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(stream)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).with_context(|| format!("bad chunk size {line:?}"))?;
            ensure!(size + body.len() as u64 <= MAX_BODY, "answer too long");
            let got = stream.take(size).read_to_end(&mut body)?;
            ensure!(got as u64 == size, "answer cut short");
            read_line(stream)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = find("content-length") {
        let length: u64 = length.parse()?;
        ensure!(length <= MAX_BODY, "answer too long");
        let got = stream.take(length).read_to_end(&mut body)?;
        ensure!(got as u64 == length, "answer cut short");
    } else {
        stream.take(MAX_BODY).read_to_end(&mut body)?;
    }
    Ok(Reply { status, headers, body })
}

fn read_line(stream: &mut impl BufRead) -> Result<String> {
    let mut line = Vec::new();
    stream.take(65536).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        bail!("connection closed in the middle of an answer");
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// `GET`, expecting a 2xx answer.
pub fn get(url: &str, limit: Duration) -> Result<Reply> {
    let reply = request("GET", url, &[], None, limit)?;
    ensure!((200..300).contains(&reply.status), "GET {url}: status {}: {}", reply.status, reply.text());
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Reply> {
        read_reply(&mut text.as_bytes(), false)
    }

    #[test]
    fn chunked_bodies_are_joined() {
        let reply = parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "abcde"));
    }

    #[test]
    fn a_body_cut_short_is_an_error() {
        assert!(parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc").is_err());
    }
}
