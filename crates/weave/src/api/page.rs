//! The state of the router by HTTP, to read only: on a loopback address unless somebody chose
//! another.
//!
//! Any user of the host may ask. Few are served at a time and each but for a while, so that nobody
//! takes away the files that the router needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::types::StatusReport;
use super::{ApiError, Router};

/// Connections at a time; others wait.
const SEATS: usize = 16;
/// Whoever has not asked, or not read the answer, by then is cut off.
const WITHIN: Duration = Duration::from_secs(10);
/// Pause after a connection that could not be taken.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens and serves in the background. A router is as good without: failure is a warning.
pub(crate) async fn open<R: Router>(address: SocketAddr, router: &Arc<R>) {
    match TcpListener::bind(address).await {
        Ok(listener) => {
            tokio::spawn(serve(listener, Arc::clone(router)));
        }
        Err(error) => tracing::warn!(
            %address, %error, hint = "choose another --status-addr, or `off`",
            "no status by HTTP"
        ),
    }
}

/// Serves for ever.
pub(super) async fn serve<R: Router>(listener: TcpListener, router: Arc<R>) {
    let service = TowerToHyperService::new(routes(router));
    let seats = Arc::new(Semaphore::new(SEATS));
    while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let connection = http1::Builder::new()
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(async move {
            // a caller that went away, or is cut off, is none of our business
            let _ = tokio::time::timeout(WITHIN, connection).await;
            drop(seat);
        });
    }
}

fn routes<R: Router>(router: Arc<R>) -> axum::Router {
    axum::Router::new()
        .route("/status", get(status::<R>))
        .route("/report", get(report::<R>))
        .fallback(async || (StatusCode::NOT_FOUND, "there are /status and /report\n"))
        .with_state(router)
}

/// As `weave status` prints it.
async fn status<R: Router>(State(router): State<Arc<R>>) -> Result<String, ApiError> {
    Ok(crate::cli::view::status(&router.status().await?))
}

/// As `weave report` prints it.
async fn report<R: Router>(State(router): State<Arc<R>>) -> Result<Json<StatusReport>, ApiError> {
    router.status().await.map(Json)
}
