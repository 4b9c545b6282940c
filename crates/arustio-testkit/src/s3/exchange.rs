//! One request and its answer, as the layers of the server see it together.
//!
//! The front door makes an exchange for each request and sends it along in the
//! request's extensions; the gate writes into it what the request turned out
//! to be and what shall happen to it; the front door reads that when the
//! answer is there.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use s3s::S3Result;
use s3s::s3_error;
use tokio_util::sync::CancellationToken;

use super::faults::{FaultAction, Verdict};
use super::operation::Operation;
use super::stats::Stats;

/// What the layers share about one request.
#[derive(Debug)]
pub(crate) struct Exchange {
    stats: Stats,
    judged: OnceLock<Judged>,
    /// Cancelled when nobody waits for the answer any more.
    client_gone: CancellationToken,
    /// Cancelled when the server stops.
    stopping: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
struct Judged {
    operation: Operation,
    verdict: Verdict,
}

impl Exchange {
    pub(crate) fn new(stats: Stats, stopping: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            stats,
            judged: OnceLock::new(),
            client_gone: CancellationToken::new(),
            stopping,
        })
    }

    /// Writes down what the request is and counts it. Only the first call of
    /// an exchange has an effect.
    pub(crate) fn judge(&self, operation: Operation, verdict: Verdict) {
        if self.judged.set(Judged { operation, verdict }).is_ok() {
            self.stats.requested(operation);
            (0..verdict.faults).for_each(|_| self.stats.injected(operation));
        }
    }

    /// What the request is, as far as it is known.
    pub(crate) fn operation(&self) -> Operation {
        self.judged
            .get()
            .map_or(Operation::Other, |judged| judged.operation)
    }

    /// What shall happen to it.
    pub(crate) fn action(&self) -> Option<FaultAction> {
        self.judged.get().and_then(|judged| judged.verdict.action)
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Ends when nobody waits for the answer any more.
    pub(crate) fn client_gone(&self) -> &CancellationToken {
        &self.client_gone
    }

    /// Waits, unless the server stops or the client goes away.
    pub(crate) async fn pause(&self, time: Duration) -> S3Result<()> {
        if time.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.abandoned() => Err(s3_error!(ServiceUnavailable)),
        }
    }

    /// Comes back when nobody can get an answer any more.
    pub(crate) async fn abandoned(&self) {
        tokio::select! {
            () = self.client_gone.cancelled() => {}
            () = self.stopping.cancelled() => {}
        }
    }

    /// The moment between receiving a change and making it. Goes on when the
    /// client has gone, as a store does that has received the whole request.
    pub(crate) async fn before_apply(&self) -> S3Result<()> {
        let judged = self.judged.get();
        let time = judged.map_or(Duration::ZERO, |judged| judged.verdict.delay_apply);
        if time.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.stopping.cancelled() => Err(s3_error!(ServiceUnavailable)),
        }
    }
}
