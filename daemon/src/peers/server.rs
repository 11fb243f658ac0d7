//! Does the calls of other daemons, in this process and nowhere else.

use std::{future::IntoFuture, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    response::Response,
    routing::post,
    serve::ListenerExt,
};
use bessemer_conductor::{Core, api::LocalConductor};
use bessemer_rpc::{
    call::{Outcome, Subject},
    signed::{PATH, Receiver, Refused, SIGNATURE},
};
use tokio::{net::TcpListener, task::JoinHandle};

use super::MAX_BODY;
use crate::tls::{Files, TlsListener};

/// A call arrives whole in this time or not at all.
const BODY_TIME: Duration = Duration::from_secs(10);

struct Server {
    receiver: Receiver,
    core: Arc<Core>,
    local: Arc<LocalConductor>,
}

/// Starts answering; ends when the handle is aborted.
pub(super) fn start(
    receiver: Receiver,
    core: Arc<Core>,
    local: Arc<LocalConductor>,
    listener: TcpListener,
    tls: Option<Files>,
    tls_minimum: &str,
) -> Result<JoinHandle<()>> {
    let state = Arc::new(Server { receiver, core, local });
    let app = Router::new().route(PATH, post(answer)).with_state(state).into_make_service_with_connect_info::<SocketAddr>();
    Ok(match tls {
        None => {
            let served = axum::serve(listener, app).into_future();
            tokio::spawn(async move { ended(served.await) })
        }
        Some(files) => {
            let listener = TlsListener::new(listener, files, tls_minimum)?;
            let served = axum::serve(listener.tap_io(|_| {}), app).into_future();
            tokio::spawn(async move { ended(served.await) })
        }
    })
}

fn ended(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "calls of other daemons are answered no longer");
    }
}

const fn status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Signature => StatusCode::UNAUTHORIZED,
        Refused::Unknown(_) => StatusCode::BAD_REQUEST,
        Refused::Receiver(_) | Refused::Epoch { .. } | Refused::Time { .. } | Refused::Replayed => StatusCode::FORBIDDEN,
        Refused::Flooded => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    let mut r = Response::new(Body::from(text.into()));
    *r.status_mut() = status;
    r
}

async fn answer(State(s): State<Arc<Server>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> Response {
    let signature = request.headers().get(SIGNATURE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let body = match tokio::time::timeout(BODY_TIME, to_bytes(request.into_body(), MAX_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "the call is too large or broke off"),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the call did not arrive in time"),
    };
    let message = match s.receiver.take(&body, &signature, s.core.epoch(), s.core.now()) {
        Ok(message) => message,
        Err(refused) => {
            tracing::warn!(%peer, reason = %refused, "a call of another daemon was refused");
            return plain(status(&refused), refused.to_string());
        }
    };
    let (call, from) = (message.call.name(), message.from);
    match message.call.subject() {
        Subject::Node(node) => tracing::info!(%node, call, from, "doing a call for another daemon"),
        Subject::Driver(driver) => tracing::info!(driver, call, from, "doing a call for another daemon"),
    }
    let outcome = Outcome::from(message.call.run(&*s.local).await);
    let Ok(text) = serde_json::to_vec(&outcome) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written");
    };
    let signature = s.receiver.sign_answer(message.nonce, &text);
    let built = Response::builder().header("content-type", "application/json").header(SIGNATURE, signature).body(Body::from(text));
    built.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be sent"))
}
