//! Connections of the HTTP servers: how many, how long, and how much they may send.
//!
//! Owns no route. Whoever connects holds a seat for one request; who is slow, or sends too much,
//! is cut off, so that nobody takes the files or the memory that the router needs.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};

use super::{ApiError, ApiErrorKind};

/// Whoever has not sent the head of the request by then is cut off; the same for the body.
pub(super) const READ_WITHIN: Duration = Duration::from_secs(5);
/// The same for all of it, the answer included.
const WITHIN: Duration = Duration::from_secs(30);
/// Bytes of the request line and the headers.
pub(super) const MOST_HEAD: usize = 16 * 1024;
/// Bytes of the body.
pub(super) const MOST_BODY: usize = 64 * 1024;

/// Serves `seats` connections at a time, others wait; until `stop` completes and the requests
/// under way are answered.
pub(super) async fn serve<L: Listener>(
    mut listener: L,
    routes: axum::Router,
    seats: u16,
    stop: impl Future<Output = ()>,
) {
    let service = TowerToHyperService::new(routes.layer(from_fn(read_whole)));
    let free = Arc::new(Semaphore::new(seats.into()));
    let (ending, ended) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let next = async {
            let seat = Arc::clone(&free).acquire_owned().await;
            (seat, listener.accept().await.0)
        };
        let (seat, stream) = tokio::select! {
            biased;
            () = &mut stop => break,
            next = next => next,
        };
        let (service, mut ended) = (service.clone(), ended.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ_WITHIN)
                .max_buf_size(MOST_HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            let whole = async {
                tokio::select! {
                    // a caller that went away, or is cut off, is none of our business
                    _ = connection.as_mut() => {}
                    _ = ended.changed() => {
                        connection.as_mut().graceful_shutdown();
                        let _ = connection.await;
                    }
                }
            };
            let _ = tokio::time::timeout(WITHIN, whole).await;
            drop(seat);
        });
    }
    drop(listener);
    drop(ending);
    let _ = free.acquire_many(seats.into()).await;
}

/// The whole request is here before anything is done about it.
async fn read_whole(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let refused = match tokio::time::timeout(READ_WITHIN, to_bytes(body, MOST_BODY)).await {
        Ok(Ok(bytes)) => return next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(_)) => format!(
            "the body of the request broke off, or is longer than {} KiB",
            MOST_BODY / 1024
        ),
        Err(_) => format!(
            "the body of the request did not come within {} s",
            READ_WITHIN.as_secs()
        ),
    };
    ApiError::new(ApiErrorKind::BadRequest, refused).into_response()
}
