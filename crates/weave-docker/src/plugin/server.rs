//! HTTP over the plugin socket.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::dispatch::{CONTENT_TYPE, Reply, dispatch};
use super::driver::Driver;
use super::socket::PluginSocket;
use crate::error::Error;

/// dockerd itself waits 30 s; an answer after that is read by nobody.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);
/// How long calls in progress may go on after shutdown began.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves dockerd until `shutdown` resolves, then lets calls in progress finish (up to 5 s) and
/// removes the socket.
///
/// # Errors
/// [`Error::Io`] when the socket cannot be handed to the runtime or accepting fails for good.
pub async fn serve<D: Driver>(
    socket: PluginSocket,
    driver: Arc<D>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let path = socket.path().to_owned();
    let failed = |source| Error::Io {
        what: "serve",
        path: path.clone(),
        source,
    };
    let listener = socket.listener().map_err(failed)?;
    let router = Router::new().fallback(answer::<D>).with_state(driver);
    let (begun, stopping) = tokio::sync::oneshot::channel();
    let signal = async move {
        shutdown.await;
        let _ = begun.send(());
    };
    let serving = axum::serve(listener, router)
        .with_graceful_shutdown(signal)
        .into_future();
    let drained = async move {
        let _ = stopping.await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = serving => result.map_err(failed),
        () = drained => Ok(()),
    }
}

async fn answer<D: Driver>(
    State(driver): State<Arc<D>>,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let path = uri.path().to_owned();
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return respond(Reply::failed(&path, &rejection.body_text())),
    };
    respond(run(driver, path, body).await)
}

/// Runs the call as a task of its own: when dockerd hangs up, the connection's future is dropped,
/// and a half-done allocation would be lost with it.
async fn run<D: Driver>(driver: Arc<D>, path: String, body: Bytes) -> Reply {
    tracing::trace!(path, body = %String::from_utf8_lossy(&body), "plugin request");
    let name = path.clone();
    let call = tokio::spawn(async move { dispatch(&*driver, &path, &body).await });
    let reply = match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => Reply::failed(&name, "weave: internal error; see the router's log"),
        Err(_) => Reply::failed(&name, "weave: the router took too long; see `weave status`"),
    };
    tracing::trace!(path = name, status = reply.status, body = %reply.body, "plugin answer");
    reply
}

fn respond(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(&reply.body).unwrap_or_else(|_| json!({}).to_string().into());
    (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response()
}
