//! Health, readiness, metrics and version over HTTP.
//!
//! `/healthz` answers while the process lives, `/readyz` while it takes requests,
//! `/metrics` in the OpenMetrics text format, `/version` as one JSON object.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arustio_meta::store::MetadataStore as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::compose::Opened;
use crate::late::Late;
use crate::metrics::Metrics;
use crate::opening::leaderless;
use crate::places::{Door, Places};

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at a time: more than anybody watches a server with.
const CONNECTIONS: usize = 256;

/// What the endpoint shows.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Arc<Readiness>,
}

/// Whether requests are taken, and what for is waited otherwise.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// Everything has started, and nothing stops.
    pub(crate) serving: AtomicBool,
    /// The metadata node, where there is one.
    pub(crate) metadata: Option<Arc<Late<Opened>>>,
}

impl Readiness {
    fn waits_for(&self) -> Option<String> {
        if let Some(late) = &self.metadata {
            let Some(opened) = late.get() else {
                return Some(late.waiting());
            };
            if opened.store.status().leader.is_none() {
                return Some(leaderless(&opened.store, &opened.transport));
            }
        }
        let serving = self.serving.load(Ordering::Acquire);
        (!serving).then(|| "its start, or its end".to_owned())
    }
}

/// Serves until it is stopped.
pub(crate) async fn serve(listener: TcpListener, shown: Shown, stop: CancellationToken) {
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .with_state(shown);
    let door = Door {
        listener,
        places: Places::new("http", CONNECTIONS),
    };
    let served = axum::serve(door, routes).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::warn!("health and metrics are no longer served: {error}");
    }
}

async fn ready(State(shown): State<Shown>) -> Response {
    let Some(what) = shown.readiness.waits_for() else {
        return "ready\n".into_response();
    };
    let text = format!("not ready: waiting for {what}\n");
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
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
