//! From a [`Fault`] to a status and a body: the only table of statuses and the only place that shapes error bodies (`api.md` sections
//! 1.4 and 1.5). Nothing else in this crate names a status for an error.

use bessemer_model::fault::{Fault, FaultKind};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    auth::Denied,
    reply::json_response,
    version::{Refused, range_headers},
};

/// The status of a kind of fault. Total: a new kind without a line here does not compile.
#[must_use]
pub const fn status(kind: FaultKind) -> StatusCode {
    use FaultKind as K;
    match kind {
        K::InvalidParameterValue
        | K::MissingParameterValue
        | K::Invalid
        | K::PatchError
        | K::InvalidStateRequested
        | K::NodeInMaintenance
        | K::NodeIsRetired
        | K::NodeConsoleNotEnabled
        | K::UnsupportedDriverExtension
        | K::DriverNotFoundInEntrypoint
        | K::InterfaceNotFoundInEntrypoint
        | K::NoValidDefaultForInterface
        | K::ImageUnacceptable
        | K::NotEmpty => StatusCode::BAD_REQUEST,
        K::Unauthorized => StatusCode::UNAUTHORIZED,
        K::Forbidden | K::OperationNotPermitted | K::NodeProtected => StatusCode::FORBIDDEN,
        K::NotFound | K::NodeNotFound | K::PortNotFound | K::DriverNotFound | K::ConductorNotFound | K::NoValidHost => {
            StatusCode::NOT_FOUND
        }
        K::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        K::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        K::InvalidState
        | K::NodeLocked
        | K::NodeAssociated
        | K::InstanceAssociated
        | K::DuplicateName
        | K::AlreadyExists
        | K::MacAlreadyExists
        | K::Conflict
        | K::PowerStateFailure => StatusCode::CONFLICT,
        K::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        K::NotBuilt => StatusCode::NOT_IMPLEMENTED,
        K::TemporaryFailure | K::ConcurrentActionLimit | K::NoFreeConductorWorker => StatusCode::SERVICE_UNAVAILABLE,
        K::DriverFailure | K::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn side(status: StatusCode) -> &'static str {
    if status.is_client_error() { "Client" } else { "Server" }
}

/// An `error_message` whose text is itself a JSON document: clients parse it twice.
fn doubly_encoded(status: StatusCode, inner: &Value) -> Response<Bytes> {
    json_response(status, &json!({ "error_message": inner.to_string() }))
}

/// The answer to a fault raised by a handler. What went wrong inside goes to the log; the client gets the request id to ask about.
#[must_use]
pub fn fault_response(fault: &Fault, request_id: &str) -> Response<Bytes> {
    let status = status(fault.kind);
    let text = if fault.kind == FaultKind::Internal {
        tracing::error!(request_id, kind = fault.kind.name(), detail = %fault.detail, "request failed");
        format!("Internal error; see the server's log at request {request_id}.")
    } else if status.is_server_error() {
        tracing::warn!(request_id, kind = fault.kind.name(), detail = %fault.detail, "request refused");
        fault.detail.clone()
    } else {
        tracing::debug!(request_id, kind = fault.kind.name(), detail = %fault.detail, "request refused");
        fault.detail.clone()
    };
    doubly_encoded(status, &json!({ "faultcode": side(status), "faultstring": text, "debuginfo": null }))
}

/// What the framework refuses before a handler runs. These bodies have another shape and carry no version headers.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// No such path.
    Unrouted,
    /// The path came with a later microversion.
    Hidden,
    /// The path does not take the method; these it takes.
    Method(&'static str),
    /// The path takes the method only from a later microversion on.
    HiddenMethod,
    /// The microversion cannot be served.
    Version(Refused),
    /// The client takes no JSON.
    Accept,
    /// The path names something by what is neither a UUID nor a name.
    Ident,
    /// The path is not UTF-8.
    PathEncoding,
    /// The path holds a character that no name has.
    PathCharacter,
    /// The body is larger than allowed (bytes).
    BodySize(usize),
    /// The body did not come in time.
    BodyLate,
    /// The body is nested deeper than allowed.
    BodyDepth(usize),
}

/// The answer to a [`Refusal`].
#[must_use]
pub fn refusal_response(refusal: &Refusal) -> Response<Bytes> {
    let framework = |status: StatusCode, description: &str| {
        let inner = json!({
            "code": status.as_u16(),
            "title": status.canonical_reason().map_or("Error", |r| if r == "Method Not Allowed" { "The method is not allowed" } else { r }),
            "description": description,
        });
        doubly_encoded(status, &inner)
    };
    let unwrapped = |status: StatusCode, text: String| json_response(status, &json!({ "faultcode": side(status), "faultstring": text }));
    match refusal {
        Refusal::Unrouted => framework(StatusCode::NOT_FOUND, ""),
        Refusal::Hidden => framework(StatusCode::NOT_FOUND, "The API version is too old for this resource."),
        Refusal::Method(allow) => {
            let mut r = framework(StatusCode::METHOD_NOT_ALLOWED, "");
            r.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
            r
        }
        Refusal::HiddenMethod => framework(StatusCode::METHOD_NOT_ALLOWED, "The API version is too old for this request."),
        Refusal::Version(v) => {
            let mut r = framework(StatusCode::NOT_ACCEPTABLE, &v.message());
            if v.tells_range() {
                range_headers(r.headers_mut());
            }
            r
        }
        Refusal::Accept => {
            json_response(StatusCode::NOT_ACCEPTABLE, &json!({ "error_message": "This API answers with application/json only." }))
        }
        Refusal::Ident => framework(StatusCode::BAD_REQUEST, "The path names something by what is neither a UUID nor a name."),
        Refusal::PathEncoding => framework(StatusCode::BAD_REQUEST, ""),
        Refusal::PathCharacter => framework(StatusCode::BAD_REQUEST, "The path holds a NUL character."),
        Refusal::BodySize(max) => unwrapped(StatusCode::PAYLOAD_TOO_LARGE, format!("The body is larger than {max} bytes.")),
        Refusal::BodyLate => unwrapped(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time.".to_owned()),
        Refusal::BodyDepth(max) => unwrapped(StatusCode::BAD_REQUEST, format!("The JSON body is nested deeper than {max} levels.")),
    }
}

/// A refused version at `/`, which answers in the shape of handlers.
#[must_use]
pub fn root_version_response(refused: &Refused) -> Response<Bytes> {
    let status = StatusCode::NOT_ACCEPTABLE;
    let mut r = doubly_encoded(status, &json!({ "faultcode": side(status), "faultstring": refused.message(), "debuginfo": null }));
    if refused.tells_range() {
        range_headers(r.headers_mut());
    }
    r
}

/// A failed authentication (`api.md` section 1.4).
pub(crate) fn denied_response(denied: &Denied) -> Response<Bytes> {
    let (status, challenge, error) = match denied {
        Denied::Basic { message, parsable } => {
            let status = if *parsable { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
            let challenge = parsable.then(|| "Basic realm=\"Baremetal API\"".to_owned());
            (status, challenge, json!({ "message": message, "code": status.as_u16() }))
        }
        Denied::Token { authenticate_at } => {
            let status = StatusCode::UNAUTHORIZED;
            let text = "The request you have made requires authentication.";
            let challenge = Some(format!("Keystone uri=\"{authenticate_at}\""));
            (status, challenge, json!({ "code": status.as_u16(), "title": "Unauthorized", "message": text }))
        }
        Denied::Unavailable => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let text = "The identity service cannot be asked who you are; try again later.";
            (status, None, json!({ "code": status.as_u16(), "title": "Service Unavailable", "message": text }))
        }
    };
    let mut r = json_response(status, &json!({ "error": error }));
    if let Some(Ok(c)) = challenge.map(HeaderValue::try_from) {
        r.headers_mut().insert(header::WWW_AUTHENTICATE, c);
    }
    r
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_answers_with_an_error_and_a_body_that_parses_twice() {
        for kind in FaultKind::ALL {
            let s = status(*kind);
            assert!(s.is_client_error() || s.is_server_error(), "{}", kind.name());
            let r = fault_response(&Fault::new(*kind, "what failed"), "req-1");
            let outer: Value = serde_json::from_slice(r.body()).expect("outer");
            let inner: Value = serde_json::from_str(outer["error_message"].as_str().expect("text")).expect("inner");
            assert_eq!(inner["faultcode"], if s.is_client_error() { "Client" } else { "Server" });
            assert!(inner["debuginfo"].is_null());
            assert!(!inner["faultstring"].as_str().expect("text").is_empty());
        }
    }

    #[test]
    fn the_statuses_of_all_kinds_are_these() {
        let lines: Vec<_> = FaultKind::ALL.iter().map(|k| format!("{} {}", status(*k).as_u16(), k.name())).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn internal_details_stay_in_the_log() {
        let r = fault_response(&Fault::internal("SELECT * FROM node_secrets"), "req-1");
        assert!(!String::from_utf8_lossy(r.body()).contains("node_secrets"));
    }
}
