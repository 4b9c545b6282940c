//! Counters of requests and bytes, by operation.
//!
//! They are what a test of "one request for each range" reads, and what the
//! benchmark subtracts. A request is counted when it has been understood,
//! bytes when they pass; a snapshot taken during traffic is therefore not
//! one instant, but each counter is exact.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::operation::Operation;

/// The counters of one server; clones share them.
#[derive(Clone, Debug)]
pub struct Stats(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    operations: Vec<OperationCounters>,
    connections: AtomicU64,
    in_flight: AtomicU64,
    peak_in_flight: AtomicU64,
}

#[derive(Debug, Default)]
struct OperationCounters {
    requests: AtomicU64,
    ok: AtomicU64,
    client_errors: AtomicU64,
    server_errors: AtomicU64,
    dropped: AtomicU64,
    faults: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// What was counted for one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OperationStats {
    /// Requests that arrived.
    pub requests: u64,
    /// Answers below 400.
    pub ok: u64,
    /// Answers from 400 to 499.
    pub client_errors: u64,
    /// Answers from 500 on.
    pub server_errors: u64,
    /// Requests that got no answer.
    pub dropped: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Body bytes received.
    pub bytes_in: u64,
    /// Body bytes handed to the connection.
    pub bytes_out: u64,
}

/// All counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatsSnapshot {
    /// Operations that were asked for at least once.
    pub operations: BTreeMap<Operation, OperationStats>,
    /// Connections that were accepted.
    pub connections: u64,
    /// The greatest number of requests that were being carried out at once.
    pub peak_in_flight: u64,
}

impl StatsSnapshot {
    /// The counters of one operation, zero if it was never asked for.
    #[must_use]
    pub fn of(&self, operation: Operation) -> OperationStats {
        self.operations.get(&operation).copied().unwrap_or_default()
    }

    /// The number of requests for one operation.
    #[must_use]
    pub fn requests(&self, operation: Operation) -> u64 {
        self.of(operation).requests
    }

    /// The sum over all operations.
    #[must_use]
    pub fn total(&self) -> OperationStats {
        let mut total = OperationStats::default();
        for stats in self.operations.values() {
            total.requests += stats.requests;
            total.ok += stats.ok;
            total.client_errors += stats.client_errors;
            total.server_errors += stats.server_errors;
            total.dropped += stats.dropped;
            total.faults += stats.faults;
            total.bytes_in += stats.bytes_in;
            total.bytes_out += stats.bytes_out;
        }
        total
    }
}

/// How a request ended, for the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// With this status.
    Answered(http::StatusCode),
    /// Without an answer.
    Dropped,
}

impl Stats {
    pub(crate) fn new() -> Self {
        let fresh = |_: &Operation| OperationCounters::default();
        Self(Arc::new(Counters {
            operations: Operation::ALL.iter().map(fresh).collect(),
            connections: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            peak_in_flight: AtomicU64::new(0),
        }))
    }

    /// The counters as they are now.
    #[must_use]
    pub fn snapshot(&self) -> StatsSnapshot {
        self.take(AtomicU64::load)
    }

    /// The counters as they are now, which start again from zero. No event is
    /// lost between two such snapshots or counted in both.
    #[must_use = "the counts are gone afterwards; call `reset` to discard them"]
    pub fn snapshot_and_reset(&self) -> StatsSnapshot {
        self.take(|counter, order| counter.swap(0, order))
    }

    /// Starts all counters again from zero.
    pub fn reset(&self) {
        drop(self.snapshot_and_reset());
    }

    fn take(&self, read: impl Fn(&AtomicU64, Ordering) -> u64) -> StatsSnapshot {
        let read = |counter: &AtomicU64| read(counter, Ordering::Relaxed);
        let one = |counters: &OperationCounters| OperationStats {
            requests: read(&counters.requests),
            ok: read(&counters.ok),
            client_errors: read(&counters.client_errors),
            server_errors: read(&counters.server_errors),
            dropped: read(&counters.dropped),
            faults: read(&counters.faults),
            bytes_in: read(&counters.bytes_in),
            bytes_out: read(&counters.bytes_out),
        };
        let all = Operation::ALL
            .iter()
            .map(|operation| (*operation, one(self.of(*operation))));
        StatsSnapshot {
            operations: all
                .filter(|(_, stats)| *stats != OperationStats::default())
                .collect(),
            connections: read(&self.0.connections),
            peak_in_flight: read(&self.0.peak_in_flight),
        }
    }

    fn of(&self, operation: Operation) -> &OperationCounters {
        &self.0.operations[operation.index()]
    }

    pub(crate) fn connected(&self) {
        bump(&self.0.connections, 1);
    }

    /// A request is being carried out until the guard is dropped.
    pub(crate) fn enter(&self) -> InFlight {
        let now = self.0.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.peak_in_flight.fetch_max(now, Ordering::Relaxed);
        InFlight(self.clone())
    }

    pub(crate) fn requested(&self, operation: Operation) {
        bump(&self.of(operation).requests, 1);
    }

    pub(crate) fn injected(&self, operation: Operation) {
        bump(&self.of(operation).faults, 1);
    }

    pub(crate) fn received(&self, operation: Operation, bytes: u64) {
        bump(&self.of(operation).bytes_in, bytes);
    }

    pub(crate) fn sent(&self, operation: Operation, bytes: u64) {
        bump(&self.of(operation).bytes_out, bytes);
    }

    pub(crate) fn ended(&self, operation: Operation, ended: Ended) {
        let counters = self.of(operation);
        let counter = match ended {
            Ended::Dropped => &counters.dropped,
            Ended::Answered(status) if status.is_server_error() => &counters.server_errors,
            Ended::Answered(status) if status.is_client_error() => &counters.client_errors,
            Ended::Answered(_) => &counters.ok,
        };
        bump(counter, 1);
    }
}

fn bump(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// A request that is being carried out.
#[derive(Debug)]
pub(crate) struct InFlight(Stats);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
