//! What a handler answers with, and how it becomes a response.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use bessemer_model::fault::Fault;

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    body: Option<Bytes>,
    location: Option<String>,
}

/// Bytes of an answer, if it is not a list: a node has some 2,500.
const USUAL: usize = 4096;

impl Reply {
    /// A body of about `length` bytes: a large one that grows by and by is copied several times.
    fn with(status: StatusCode, length: usize, body: &impl Serialize) -> Result<Self, Fault> {
        let mut bytes = Vec::with_capacity(length);
        serde_json::to_writer(&mut bytes, body).map_err(|e| Fault::internal(format!("the answer could not be rendered: {e}")))?;
        Ok(Self { status, body: Some(bytes.into()), location: None })
    }
    /// 200 with a body of about so many bytes.
    pub fn ok_of_about(length: usize, body: &impl Serialize) -> Result<Self, Fault> {
        Self::with(StatusCode::OK, length, body)
    }
    /// 200.
    pub fn ok(body: &impl Serialize) -> Result<Self, Fault> {
        Self::with(StatusCode::OK, USUAL, body)
    }
    /// 201 with the address of what was created.
    pub fn created(body: &impl Serialize, location: String) -> Result<Self, Fault> {
        Ok(Self { location: Some(location), ..Self::with(StatusCode::CREATED, USUAL, body)? })
    }
    /// 202 without a body.
    pub const fn accepted() -> Self {
        Self { status: StatusCode::ACCEPTED, body: None, location: None }
    }
    /// 202 with a body.
    pub fn accepted_with(body: &impl Serialize) -> Result<Self, Fault> {
        Self::with(StatusCode::ACCEPTED, USUAL, body)
    }
    /// 204.
    pub const fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None, location: None }
    }
    /// Where to look for what becomes of it.
    pub fn at(self, location: String) -> Self {
        Self { location: Some(location), ..self }
    }

    /// The response, without the headers that every response has.
    pub fn into_response(self) -> Response<Bytes> {
        let has_body = self.body.is_some();
        let mut r = Response::new(self.body.unwrap_or_default());
        *r.status_mut() = self.status;
        if has_body {
            r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(Ok(l)) = self.location.map(HeaderValue::try_from) {
            r.headers_mut().insert(header::LOCATION, l);
        }
        r
    }
}

/// A response with a small JSON body.
pub(crate) fn json_response(status: StatusCode, body: &serde_json::Value) -> Response<Bytes> {
    let mut r = Response::new(Bytes::from(body.to_string()));
    *r.status_mut() = status;
    r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    r
}
