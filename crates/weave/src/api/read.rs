//! What only reads the state, on the admin socket and on the page.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::form::Form;
use super::format::Format;
use super::routes::Routes;
use super::{ApiError, ApiErrorKind, Router};
use crate::cli::view;
use crate::metrics;

/// Adds these routes.
pub(super) fn add<R: Router>(routes: Routes<Arc<R>>) -> Routes<Arc<R>> {
    routes
        .get("/report", report::<R>)
        .get("/status", status::<R>)
        .get("/status/{section}", section::<R>)
        .get("/metrics", metrics_text::<R>)
}

/// All of it as JSON; with `?format=` fields of it as text.
async fn report<R: Router>(
    State(router): State<Arc<R>>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let report = router.status().await?;
    let query = Form::parse(query.as_deref().unwrap_or_default());
    let Some(format) = query.value("format") else {
        return Ok(Json(report).into_response());
    };
    // it always makes JSON
    let report = serde_json::to_value(&report).unwrap_or_default();
    let fill = || Format::parse(format)?.fill(&report);
    let text = fill().map_err(|error: super::format::FormatError| {
        ApiError::new(ApiErrorKind::BadRequest, error.to_string()).with_hint(error.hint())
    })?;
    Ok(text.into_response())
}

/// As `weave status` prints it; JSON if that is asked for.
async fn status<R: Router>(
    State(router): State<Arc<R>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let report = router.status().await?;
    Ok(match wants_json(&headers) {
        true => Json(report).into_response(),
        false => view::status(&report).into_response(),
    })
}

/// As `weave status SECTION` prints it; JSON if that is asked for.
async fn section<R: Router>(
    State(router): State<Arc<R>>,
    Path(section): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let report = router.status().await?;
    let json = wants_json(&headers);
    let router = report.router;
    Ok(match (section.as_str(), json) {
        ("targets", true) => Json(router.targets).into_response(),
        ("targets", false) => view::targets(&router.targets).into_response(),
        ("connections", true) => Json(router.connections).into_response(),
        ("connections", false) => view::connections(&router.connections).into_response(),
        ("peers", true) => Json(router.all_peers()).into_response(),
        ("peers", false) => view::peers(&router).into_response(),
        ("dns", true) => Json(report.dns).into_response(),
        ("dns", false) => view::dns(report.dns.as_ref()).into_response(),
        ("ipam", true) => Json(report.ipam).into_response(),
        ("ipam", false) => view::ipam(report.ipam.as_ref()).into_response(),
        (other, _) => {
            return Err(ApiError::new(
                ApiErrorKind::NotFound,
                format!("status has no section `{other}`"),
            )
            .with_hint("sections: targets, connections, peers, dns, ipam"));
        }
    })
}

/// For Prometheus.
async fn metrics_text<R: Router>(State(router): State<Arc<R>>) -> Result<Response, ApiError> {
    let text = metrics::text(router.status().await?)
        .map_err(|error| ApiError::new(ApiErrorKind::Internal, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// Whether the caller asks for JSON by name: `*/*` is what every tool sends.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    accepted.any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.to_ascii_lowercase().contains("application/json")
    })
}
