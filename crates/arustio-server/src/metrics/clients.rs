//! What clients tell of themselves: requests to stores and bytes of the cache go past the
//! servers.

use std::sync::Arc;

use arustio_types::used::{UFS_OPERATIONS, UfsUsed, Used};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// The sum of what clients told this server. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    since: Instant,
    sum: Arc<Mutex<Used>>,
    requests: Family<OperationLabel, Counter>,
    errors: Family<OperationLabel, Counter>,
    bytes: Family<DirectionLabel, Counter>,
    cache_bytes: Counter,
}

impl Clients {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let clients = Self {
            since: Instant::now(),
            sum: Arc::default(),
            requests: Family::default(),
            errors: Family::default(),
            bytes: Family::default(),
            cache_bytes: Counter::default(),
        };
        registry.register(
            "arustio_clients_ufs_requests",
            "Requests of clients to stores, repeated ones included",
            clients.requests.clone(),
        );
        registry.register(
            "arustio_clients_ufs_errors",
            "Those that failed or were refused",
            clients.errors.clone(),
        );
        registry.register_with_unit(
            "arustio_clients_ufs",
            "Bytes between clients and stores",
            Unit::Bytes,
            clients.bytes.clone(),
        );
        registry.register_with_unit(
            "arustio_clients_cache",
            "Bytes that clients read from block nodes",
            Unit::Bytes,
            clients.cache_bytes.clone(),
        );
        clients.count(&Used::default());
        clients
    }

    /// Adds what a client tells.
    pub(crate) fn count(&self, news: &Used) {
        for (operation, used) in UFS_OPERATIONS.into_iter().zip(&news.ufs) {
            let label = OperationLabel { operation };
            self.requests.get_or_create(&label).inc_by(used.requests);
            self.errors.get_or_create(&label).inc_by(used.errors);
        }
        let UfsUsed {
            bytes_in,
            bytes_out,
            ..
        } = news.ufs_total();
        for (direction, bytes) in [("in", bytes_in), ("out", bytes_out)] {
            let label = DirectionLabel { direction };
            self.bytes.get_or_create(&label).inc_by(bytes);
        }
        self.cache_bytes.inc_by(news.cache_bytes);
        let mut sum = self.sum.lock();
        *sum = sum.plus(news);
    }

    /// All that was told, and since when.
    pub(crate) fn sum(&self) -> (Used, Instant) {
        (self.sum.lock().clone(), self.since)
    }
}
