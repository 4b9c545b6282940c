//! The front door: every HTTP request comes in here and every answer leaves
//! here.
//!
//! A request is carried out in a task of its own, so that it goes on when its
//! client goes away, as a real store does; the server owns the task. Faults
//! that concern the connection or the answer's body are done here, because
//! here alone both are in reach.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, EXPECT};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use s3s::HttpResponse;
use s3s::service::S3Service;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{AnswerBody, CountedBody, Cut, discard};
use super::connection::ConnectionFate;
use super::exchange::Exchange;
use super::faults::{FaultAction, Verdict};
use super::operation::Operation;
use super::stats::{Ended, Stats};

/// How much of a refused body is read to keep its connection.
const DISCARD_LIMIT: u64 = 64 << 20;

/// What all connections share.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    pub(crate) service: S3Service,
    pub(crate) stats: Stats,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

/// The request gets no answer; its connection ends.
#[derive(Debug, thiserror::Error)]
#[error("the request was left without an answer")]
pub(crate) struct NoAnswer;

impl Front {
    /// Carries one request out and decides what its client sees.
    pub(crate) async fn handle(
        self,
        request: Request<Incoming>,
        fate: Arc<ConnectionFate>,
    ) -> Result<Response<AnswerBody>, NoAnswer> {
        let _in_flight = self.stats.enter();
        let exchange = Exchange::new(self.stats.clone(), self.stopping.clone());
        let mut attendance = Attendance::new(&exchange);
        let is_head = request.method() == Method::HEAD;
        let waits_for_continue = request.headers().contains_key(EXPECT);

        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(Arc::clone(&exchange));
        let (body, remainder) = CountedBody::new(body, Arc::clone(&exchange));
        let request = Request::from_parts(parts, s3s::Body::http_body(body));
        let answer = self.carry_out(request).await;

        if matches!(
            exchange.action(),
            Some(FaultAction::Reset | FaultAction::ApplyThenReset)
        ) {
            fate.reset();
            return Err(NoAnswer);
        }
        let answer = answer.filter(|_| exchange.action() != Some(FaultAction::Hang));
        let answer = answer.ok_or(NoAnswer)?;
        if !waits_for_continue {
            discard(&remainder, DISCARD_LIMIT).await;
        }
        attendance.ended = Ended::Answered(answer.status());
        drop(attendance);
        Ok(dress(answer, exchange, is_head))
    }

    /// Runs the request in a task that outlives the connection but not the
    /// server. `None` if it ended without an answer.
    async fn carry_out(&self, request: Request<s3s::Body>) -> Option<HttpResponse> {
        let service = self.service.clone();
        let stopping = self.stopping.clone();
        let work = async move { service.call(request).await };
        let task = self.tasks.spawn(stopping.run_until_cancelled_owned(work));
        task.await.ok()??.ok()
    }
}

/// Somebody waits for the answer until this is dropped; the counters then
/// learn how the request ended.
#[derive(Debug)]
struct Attendance {
    exchange: Arc<Exchange>,
    ended: Ended,
}

impl Attendance {
    fn new(exchange: &Arc<Exchange>) -> Self {
        Self {
            exchange: Arc::clone(exchange),
            ended: Ended::Dropped,
        }
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.exchange.client_gone().cancel();
        // Counts a request that was refused before it became an operation.
        self.exchange.judge(Operation::Other, Verdict::default());
        let stats = self.exchange.stats();
        stats.ended(self.exchange.operation(), self.ended);
    }
}

/// Puts the answer's body into its counted and perhaps cut form.
fn dress(answer: HttpResponse, exchange: Arc<Exchange>, is_head: bool) -> Response<AnswerBody> {
    let (mut parts, body) = answer.into_parts();
    let whole = http_body::Body::size_hint(&body).exact().unwrap_or(0);
    let cut = match exchange.action() {
        _ if is_head || whole == 0 || !parts.status.is_success() => Cut::No,
        Some(FaultAction::TruncateBody) => Cut::Break {
            left: whole / 2,
            flushed: false,
        },
        Some(FaultAction::WrongLength) => Cut::Short(whole - 1),
        _ => Cut::No,
    };
    if let Cut::Short(len) = cut {
        parts.headers.insert(CONTENT_LENGTH, len.into());
    }
    Response::from_parts(parts, AnswerBody::new(body, exchange, cut))
}
