//! Health, readiness, metrics and version over HTTP.
//!
//! `/healthz` answers while the process lives, `/readyz` while it takes requests,
//! `/metrics` in the OpenMetrics text format, `/version` as one JSON object.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the endpoint shows.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) metrics: Metrics,
    pub(crate) ready: Arc<AtomicBool>,
}

/// Serves until it is stopped.
pub(crate) async fn serve(listener: TcpListener, shown: Shown, stop: CancellationToken) {
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .with_state(shown);
    let served = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::warn!("health and metrics are no longer served: {error}");
    }
}

async fn ready(State(shown): State<Shown>) -> Response {
    if shown.ready.load(Ordering::Acquire) {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match shown.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn version() -> Response {
    let text = format!(
        "{{\"name\":\"arustio-server\",\"version\":\"{}\"}}\n",
        env!("CARGO_PKG_VERSION")
    );
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}
