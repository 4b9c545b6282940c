//! The control port of a server that runs as a program: the counters, read and
//! reset over plain HTTP, without a signature.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stats::Stats;

/// What the control port needs.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) stats: Stats,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

/// Serves the control port until the server stops.
pub(crate) async fn serve(listener: TcpListener, control: Control) {
    let stopping = control.stopping.clone();
    let accepting = async {
        while let Ok((stream, _)) = listener.accept().await {
            drop(control.tasks.spawn(serve_one(stream, control.clone())));
        }
    };
    stopping.run_until_cancelled(accepting).await;
}

async fn serve_one(stream: TcpStream, control: Control) {
    let stopping = control.stopping.clone();
    let handle = service_fn(move |request| {
        let answer = answer(&request, &control.stats);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), handle);
    // How it ended concerns only the client.
    let _ = stopping.run_until_cancelled(connection).await;
}

fn answer(request: &Request<Incoming>, stats: &Stats) -> Response<s3s::Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/stats") => json(&stats.snapshot()),
        (&Method::POST, "/reset") => json(&stats.snapshot_and_reset()),
        (_, "/stats" | "/reset") => plain(StatusCode::METHOD_NOT_ALLOWED),
        _ => plain(StatusCode::NOT_FOUND),
    }
}

fn json(value: &impl serde::Serialize) -> Response<s3s::Body> {
    let Ok(text) = serde_json::to_vec_pretty(value) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = Response::new(s3s::Body::from(Bytes::from(text)));
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn plain(status: StatusCode) -> Response<s3s::Body> {
    let help = Bytes::from_static(b"GET /stats, POST /reset\n");
    let mut response = Response::new(s3s::Body::from(help));
    *response.status_mut() = status;
    response
}
