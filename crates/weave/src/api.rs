//! The admin API: what the command line asks a running router.
//!
//! Owns the shapes on the wire ([`types`]), the HTTP server on a unix socket
//! ([`server`]) and its client ([`client`]), and the state to be read on loopback ([`page`]).
//! `docs/openapi.json` lists all of it. Decides nothing: every request is
//! handed to a [`Router`], which the daemon implements.

pub(crate) mod client;
mod compat;
mod connection;
mod form;
pub(crate) mod format;
pub(crate) mod page;
mod read;
mod routes;
pub(crate) mod server;
pub(crate) mod types;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use types::{
    AttachRequest, BanAnswer, BanRequest, ConnectRequest, DetachRequest, ExposeRequest, Finding,
    ForgetRequest, HideRequest, NameRequest, PasswordChange, PeerResult, PingReport, PingRequest,
    PsEntry, StandInRequest, StatusReport,
};

/// What a running router can be asked. Every answer comes within five seconds
/// or is an error that says what is waited for.
pub(crate) trait Router: Send + Sync + 'static {
    /// The whole state, for every `status` view and for `report`.
    fn status(&self) -> impl Future<Output = Result<StatusReport, ApiError>> + Send;

    /// Adds targets; with `replace` the former ones are dropped. One result
    /// per peer, in the order given.
    fn connect(
        &self,
        request: ConnectRequest,
    ) -> impl Future<Output = Result<Vec<PeerResult>, ApiError>> + Send;

    /// Drops targets, as they were typed. An unknown one is an error in its result.
    fn forget(
        &self,
        request: ForgetRequest,
    ) -> impl Future<Output = Result<Vec<PeerResult>, ApiError>> + Send;

    /// Bans a peer from the mesh for ever. Nobody is banned where the text means several peers,
    /// none, or this one.
    fn rmpeer(
        &self,
        request: BanRequest,
    ) -> impl Future<Output = Result<BanAnswer, ApiError>> + Send;

    /// Joins a network namespace; the addresses in the order of the request.
    fn attach(
        &self,
        request: AttachRequest,
    ) -> impl Future<Output = Result<Vec<IpAddr>, ApiError>> + Send;

    /// Removes addresses, all of them if none is named; the removed ones.
    fn detach(
        &self,
        request: DetachRequest,
    ) -> impl Future<Output = Result<Vec<IpAddr>, ApiError>> + Send;

    /// Gives the host addresses on the network; they come in the order of the request. Those it
    /// has already are no error.
    fn expose(
        &self,
        request: ExposeRequest,
    ) -> impl Future<Output = Result<Vec<IpAddr>, ApiError>> + Send;

    /// Takes addresses of the host off the network, all of them if none is named; the removed
    /// ones.
    fn hide(
        &self,
        request: HideRequest,
    ) -> impl Future<Output = Result<Vec<IpAddr>, ApiError>> + Send;

    /// Local endpoints, all or those of the named containers.
    fn ps(
        &self,
        containers: Vec<String>,
    ) -> impl Future<Output = Result<Vec<PsEntry>, ApiError>> + Send;

    /// Has the address range founded ahead of need; what that waits for, or nothing once it is.
    fn prime(&self) -> impl Future<Output = Result<Option<String>, ApiError>> + Send;

    /// Gives a container, or no container, further names. Those it has already are no error.
    fn dns_add(&self, request: NameRequest) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Takes names away that [`Router::dns_add`] gave.
    fn dns_remove(&self, request: NameRequest)
    -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Live addresses of a name; a bare label is taken within the DNS domain.
    fn dns_lookup(
        &self,
        name: String,
    ) -> impl Future<Output = Result<Vec<IpAddr>, ApiError>> + Send;

    /// Changes the passwords of the mesh that this host holds; the generation that it was about.
    fn change_passwords(
        &self,
        change: PasswordChange,
    ) -> impl Future<Output = Result<u16, ApiError>> + Send;

    /// What is between here and a container or peer, layer by layer.
    fn ping(
        &self,
        request: PingRequest,
    ) -> impl Future<Output = Result<PingReport, ApiError>> + Send;

    /// Has a peer lend a station to test with.
    fn stand_in(
        &self,
        request: StandInRequest,
    ) -> impl Future<Output = Result<IpAddr, ApiError>> + Send;

    /// What the router finds wrong with the mesh and with this host.
    fn doctor(&self) -> impl Future<Output = Result<Vec<Finding>, ApiError>> + Send;

    /// Says goodbye to all peers; the process ends soon after the answer, with
    /// everything local left as it is.
    fn stop(&self) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Leaves the mesh for good, as far as peers must know. With `force`
    /// nothing is waited for.
    fn reset(&self, force: bool) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// What kind of failure it was; decides the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ApiErrorKind {
    /// The request makes no sense: 400.
    BadRequest,
    /// The path is there, but not for this method: 405.
    WrongMethod,
    /// A named thing does not exist: 404.
    NotFound,
    /// It is taken, or already there: 409.
    Conflict,
    /// Not now: 503.
    Unavailable,
    /// A fault of this host or of the router: 500.
    Internal,
}

impl ApiErrorKind {
    /// The status of HTTP.
    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A failure, as it goes over the socket and onto the terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    /// What kind of failure it was.
    pub(crate) kind: ApiErrorKind,
    /// What failed, and why.
    #[serde(rename = "error")]
    pub(crate) message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl ApiError {
    /// An error without a hint.
    pub(crate) fn new(kind: ApiErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// The same error with what to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
