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
use axum::extract::{FromRequest, Path as UrlPath, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;

use super::form::Form;
use super::routes::Routes;
use super::types::{
    AttachRequest, BanAnswer, BanRequest, DetachRequest, ExposeRequest, Finding, HideRequest,
    NameRequest, PasswordChange, PingReport, PingRequest, ResetRequest, StandInRequest,
};
use super::{ApiError, ApiErrorKind, Router, compat, connection, read};

/// Connections at a time; others wait. All of them are root's.
const SEATS: u16 = 64;

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
pub(crate) async fn serve<R: Router>(
    listener: UnixListener,
    router: Arc<R>,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    connection::serve(listener, routes().serve_with(router), SEATS, stop).await;
}

/// What is served: our own paths, and those of Weave Net.
pub(super) fn routes<R: Router>() -> Routes<Arc<R>> {
    let routes = Routes::new()
        .post("/connect", connect::<R>)
        .post("/forget", forget::<R>)
        .post("/rmpeer", rmpeer::<R>)
        .post("/attach", attach::<R>)
        .post("/detach", detach::<R>)
        .post("/expose", expose::<R>)
        .post("/hide", hide::<R>)
        .get("/ps", ps::<R>)
        .post("/prime", prime::<R>)
        .post("/dns-add", dns_add::<R>)
        .post("/dns-remove", dns_remove::<R>)
        .get("/name/{owner}", dns_lookup::<R>)
        .post("/passwords", change_passwords::<R>)
        .post("/ping", ping::<R>)
        .post("/stand-in", stand_in::<R>)
        .get("/doctor", doctor::<R>)
        .post("/stop", stop::<R>)
        .post("/reset", reset::<R>);
    compat::add(read::add(routes))
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.kind.status(), Json(self)).into_response()
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

async fn connect<R: Router>(State(router): State<Arc<R>>, request: Request) -> Response {
    match JsonOrForm::read(request).await {
        Ok(JsonOrForm::Json(request)) => router.connect(request).await.map(Json).into_response(),
        Ok(JsonOrForm::Form(form)) => compat::connect(router.as_ref(), &form).await,
        Err(error) => error.into_response(),
    }
}

async fn forget<R: Router>(State(router): State<Arc<R>>, request: Request) -> Response {
    match JsonOrForm::read(request).await {
        Ok(JsonOrForm::Json(request)) => router.forget(request).await.map(Json).into_response(),
        Ok(JsonOrForm::Form(form)) => compat::forget(router.as_ref(), &form).await,
        Err(error) => error.into_response(),
    }
}

/// A request of ours, or one of Weave Net at the same path.
enum JsonOrForm<T> {
    Json(T),
    Form(Form),
}

impl<T: DeserializeOwned> JsonOrForm<T> {
    async fn read(request: Request) -> Result<Self, ApiError> {
        let (head, content) = request.into_parts();
        if !compat::is_form(&head) {
            let request = Request::from_parts(head, content);
            return body(Json::from_request(request, &()).await).map(Self::Json);
        }
        let query = Form::parse(head.uri.query().unwrap_or_default());
        let content = String::from_request(Request::from_parts(head, content), &()).await;
        let content = content.map_err(|rejection| {
            let message = format!("cannot read the request: {}", rejection.body_text());
            ApiError::new(ApiErrorKind::BadRequest, message)
        })?;
        Ok(Self::Form(query.and(Form::parse(&content))))
    }
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
    let query = Form::parse(query.as_deref().unwrap_or_default());
    router.ps(query.values("container")).await.map(Json)
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
