//! A table of routes that can be listed: `docs/openapi.json` is held against the list.

use axum::handler::Handler;
use axum::http::{Method, Uri};
use axum::routing::{MethodFilter, MethodRouter, on};

use super::{ApiError, ApiErrorKind};

/// Routes with handlers, and the same as a list.
pub(super) struct Routes<S> {
    router: axum::Router<S>,
    listed: Vec<(Method, &'static str)>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            router: axum::Router::new(),
            listed: Vec::new(),
        }
    }

    /// `GET path`.
    pub(super) fn get<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(Method::GET, path, on(MethodFilter::GET, handler))
    }

    /// `POST path`.
    pub(super) fn post<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(Method::POST, path, on(MethodFilter::POST, handler))
    }

    /// `PUT path`.
    pub(super) fn put<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(Method::PUT, path, on(MethodFilter::PUT, handler))
    }

    /// `DELETE path`.
    pub(super) fn delete<H: Handler<T, S>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.add(Method::DELETE, path, on(MethodFilter::DELETE, handler))
    }

    fn add(mut self, method: Method, path: &'static str, route: MethodRouter<S>) -> Self {
        self.listed.push((method, path));
        self.router = self.router.route(path, route);
        self
    }

    /// Each method and path.
    #[cfg(test)]
    pub(super) fn list(&self) -> &[(Method, &'static str)] {
        &self.listed
    }

    /// What serves them. Everything else is answered with words.
    pub(super) fn serve_with(self, state: S) -> axum::Router {
        self.router
            .fallback(unknown)
            .method_not_allowed_fallback(wrong_method)
            .with_state(state)
    }
}

async fn unknown(uri: Uri) -> ApiError {
    ApiError::new(
        ApiErrorKind::NotFound,
        format!("there is nothing at {}", uri.path()),
    )
    .with_hint("the command line and the router may be of different versions: `weave version`")
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        ApiErrorKind::WrongMethod,
        format!("{} does not take {method}", uri.path()),
    )
}
