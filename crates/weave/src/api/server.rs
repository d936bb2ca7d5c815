//! HTTP server of the admin API on a unix socket.
//!
//! The socket is for root alone (0600) and appears with those rights at once; so is a directory
//! made for it (0700).
//! A stale socket file is replaced; a live one means that a router runs.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path as UrlPath, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::UnixListener;

use super::types::{
    AttachRequest, BanAnswer, BanRequest, ConnectRequest, DetachRequest, ExposeRequest, Finding,
    ForgetRequest, HideRequest, NameRequest, PasswordChange, PingReport, PingRequest, ResetRequest,
    StandInRequest,
};
use super::{ApiError, ApiErrorKind, Router};

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ServeError {
    /// Somebody answers on the socket.
    #[error("a router is already running: it answers on {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ServeError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::AlreadyRunning(_) => Some("stop it with `weave stop`, or name another --socket"),
            Self::Listen { .. } => None,
        }
    }
}

/// Binds the admin socket, for root alone. Nothing was changed on error.
///
/// # Errors
/// When a router already answers there, or the file cannot be made.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, ServeError> {
    if StdUnixStream::connect(path).is_ok() {
        return Err(ServeError::AlreadyRunning(path.to_owned()));
    }
    bind_private(path).map_err(|source| ServeError::Listen {
        path: path.to_owned(),
        source,
    })
}

/// Binds under another name first: the socket never stands there with wider rights.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Serves the API until `stop` completes; requests under way are finished.
///
/// # Errors
/// When the listener fails for good.
pub(crate) async fn serve<R: Router>(
    listener: UnixListener,
    router: Arc<R>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, routes(router))
        .with_graceful_shutdown(stop)
        .await
}

fn routes<R: Router>(router: Arc<R>) -> axum::Router {
    axum::Router::new()
        .route("/status", get(report::<R>))
        .route("/report", get(report::<R>))
        .route("/status/{section}", get(section::<R>))
        .route("/connect", post(connect::<R>))
        .route("/forget", post(forget::<R>))
        .route("/rmpeer", post(rmpeer::<R>))
        .route("/attach", post(attach::<R>))
        .route("/detach", post(detach::<R>))
        .route("/expose", post(expose::<R>))
        .route("/hide", post(hide::<R>))
        .route("/ps", get(ps::<R>))
        .route("/prime", post(prime::<R>))
        .route("/dns-add", post(dns_add::<R>))
        .route("/dns-remove", post(dns_remove::<R>))
        .route("/name/{name}", get(dns_lookup::<R>))
        .route("/passwords", post(change_passwords::<R>))
        .route("/ping", post(ping::<R>))
        .route("/stand-in", post(stand_in::<R>))
        .route("/doctor", get(doctor::<R>))
        .route("/stop", post(stop::<R>))
        .route("/reset", post(reset::<R>))
        .fallback(unknown)
        .with_state(router)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match self.kind {
            ApiErrorKind::BadRequest => StatusCode::BAD_REQUEST,
            ApiErrorKind::NotFound => StatusCode::NOT_FOUND,
            ApiErrorKind::Conflict => StatusCode::CONFLICT,
            ApiErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ApiErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self)).into_response()
    }
}

type Answer<T> = Result<Json<T>, ApiError>;
type Body<T> = Result<Json<T>, JsonRejection>;

fn body<T>(body: Body<T>) -> Result<T, ApiError> {
    match body {
        Ok(Json(value)) => Ok(value),
        Err(rejection) => Err(ApiError::new(
            ApiErrorKind::BadRequest,
            format!("cannot read the request: {}", rejection.body_text()),
        )),
    }
}

async fn unknown(uri: axum::http::Uri) -> ApiError {
    ApiError::new(
        ApiErrorKind::NotFound,
        format!("there is nothing at {}", uri.path()),
    )
    .with_hint("the command line and the router may be of different versions: `weave version`")
}

async fn report<R: Router>(State(router): State<Arc<R>>) -> Result<Response, ApiError> {
    Ok(Json(router.status().await?).into_response())
}

async fn section<R: Router>(
    State(router): State<Arc<R>>,
    UrlPath(section): UrlPath<String>,
) -> Result<Response, ApiError> {
    let status = router.status().await?;
    match section.as_str() {
        "targets" => Ok(Json(status.router.targets).into_response()),
        "connections" => Ok(Json(status.router.connections).into_response()),
        "peers" => Ok(Json(status.router.all_peers()).into_response()),
        "dns" => Ok(Json(status.dns).into_response()),
        "ipam" => Ok(Json(status.ipam).into_response()),
        other => Err(ApiError::new(
            ApiErrorKind::NotFound,
            format!("status has no section `{other}`"),
        )
        .with_hint("sections: targets, connections, peers, dns, ipam")),
    }
}

async fn connect<R: Router>(
    State(router): State<Arc<R>>,
    request: Body<ConnectRequest>,
) -> Answer<Vec<super::types::PeerResult>> {
    router.connect(body(request)?).await.map(Json)
}

async fn forget<R: Router>(
    State(router): State<Arc<R>>,
    request: Body<ForgetRequest>,
) -> Answer<Vec<super::types::PeerResult>> {
    router.forget(body(request)?).await.map(Json)
}

async fn rmpeer<R: Router>(
    State(router): State<Arc<R>>,
    request: Body<BanRequest>,
) -> Answer<BanAnswer> {
    router.rmpeer(body(request)?).await.map(Json)
}

async fn attach<R: Router>(
    State(router): State<Arc<R>>,
    request: Body<AttachRequest>,
) -> Answer<Vec<std::net::IpAddr>> {
    router.attach(body(request)?).await.map(Json)
}

async fn detach<R: Router>(
    State(router): State<Arc<R>>,
    request: Body<DetachRequest>,
) -> Answer<Vec<std::net::IpAddr>> {
    router.detach(body(request)?).await.map(Json)
}

async fn expose<R: Router>(
    State(router): State<Arc<R>>,
    request: Body<ExposeRequest>,
) -> Answer<Vec<std::net::IpAddr>> {
    router.expose(body(request)?).await.map(Json)
}

async fn hide<R: Router>(
    State(router): State<Arc<R>>,
    request: Body<HideRequest>,
) -> Answer<Vec<std::net::IpAddr>> {
    router.hide(body(request)?).await.map(Json)
}

/// `GET /ps?container=a&container=b`.
async fn ps<R: Router>(
    State(router): State<Arc<R>>,
    RawQuery(query): RawQuery,
) -> Answer<Vec<super::types::PsEntry>> {
    let containers = query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("container="))
        .map(super::client::unescape)
        .collect();
    router.ps(containers).await.map(Json)
}

async fn prime<R: Router>(State(router): State<Arc<R>>) -> Answer<Option<String>> {
    router.prime().await.map(Json)
}

async fn dns_add<R: Router>(
    State(router): State<Arc<R>>,
    request: Body<NameRequest>,
) -> Answer<()> {
    router.dns_add(body(request)?).await.map(Json)
}

async fn dns_remove<R: Router>(
    State(router): State<Arc<R>>,
    request: Body<NameRequest>,
) -> Answer<()> {
    router.dns_remove(body(request)?).await.map(Json)
}

async fn dns_lookup<R: Router>(
    State(router): State<Arc<R>>,
    UrlPath(name): UrlPath<String>,
) -> Answer<Vec<std::net::IpAddr>> {
    router.dns_lookup(name).await.map(Json)
}

async fn change_passwords<R: Router>(
    State(router): State<Arc<R>>,
    change: Body<PasswordChange>,
) -> Answer<u16> {
    router.change_passwords(body(change)?).await.map(Json)
}

async fn ping<R: Router>(
    State(router): State<Arc<R>>,
    request: Body<PingRequest>,
) -> Answer<PingReport> {
    router.ping(body(request)?).await.map(Json)
}

async fn stand_in<R: Router>(
    State(router): State<Arc<R>>,
    request: Body<StandInRequest>,
) -> Answer<std::net::IpAddr> {
    router.stand_in(body(request)?).await.map(Json)
}

async fn doctor<R: Router>(State(router): State<Arc<R>>) -> Answer<Vec<Finding>> {
    router.doctor().await.map(Json)
}

async fn stop<R: Router>(State(router): State<Arc<R>>) -> Answer<()> {
    router.stop().await.map(Json)
}

async fn reset<R: Router>(State(router): State<Arc<R>>, request: Body<ResetRequest>) -> Answer<()> {
    router.reset(body(request)?.force).await.map(Json)
}
