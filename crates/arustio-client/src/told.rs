//! What this client did, told to the metadata service now and then.
//!
//! For people and metrics: a cluster says how many requests its stores got and how much its
//! cache spared them, although both go past the servers. Nobody waits for it, nothing is
//! repeated for its sake, and a client that dies leaves its last seconds untold.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arustio_types::used::{UfsUsed, Used};
use arustio_ufs::layer::{Operation, UfsMetrics};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::client::Client;

/// Time between words, and how long the last one may take when a client closes.
const EVERY: Duration = Duration::from_secs(10);
const LAST_WORD: Duration = Duration::from_secs(1);

/// Counters of everything that one client does.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    cache_bytes: AtomicU64,
    stores: Mutex<Stores>,
}

#[derive(Debug, Default)]
struct Stores {
    open: Vec<Arc<UfsMetrics>>,
    /// Of those that are closed.
    past: Used,
    /// All that was told.
    told: Used,
}

impl Tally {
    /// Bytes came from a block node.
    pub(crate) fn cached(&self, bytes: u64) {
        self.cache_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what is asked of a store, too.
    pub(crate) fn watch(&self, store: Arc<UfsMetrics>) {
        self.stores.lock().open.push(store);
    }

    /// What was not told yet; from then on it counts as told.
    fn take(&self) -> Used {
        let mut stores = self.stores.lock();
        // The store itself has the other one.
        let closed = stores
            .open
            .extract_if(.., |store| Arc::strong_count(store) == 1);
        let closed: Vec<_> = closed.collect();
        for store in closed {
            stores.past = stores.past.plus(&counts(&store));
        }
        let mut all = stores.past.clone();
        all.cache_bytes = self.cache_bytes.load(Ordering::Relaxed);
        for store in &stores.open {
            all = all.plus(&counts(store));
        }
        let news = all.since(&stores.told);
        stores.told = all;
        news
    }
}

fn counts(store: &UfsMetrics) -> Used {
    let mut used = Used::default();
    for operation in Operation::ALL {
        let counted = store.of(operation);
        used.ufs[Used::place(operation.name())] = UfsUsed {
            requests: counted.requests,
            errors: counted.errors,
            bytes_in: counted.bytes_in,
            bytes_out: counted.bytes_out,
        };
    }
    used
}

/// Tells as long as the client lives.
pub(crate) async fn tell_on(client: Weak<Client>) {
    loop {
        sleep(EVERY).await;
        let Some(client) = client.upgrade() else {
            return;
        };
        client.tell().await;
    }
}

impl Client {
    /// Tells what is new. What does not arrive stays untold.
    async fn tell(&self) {
        let news = self.mounts.tally.take();
        if news.is_nothing() {
            return;
        }
        if let Err(error) = self.metadata.tell_used(&news).await {
            tracing::debug!(%error, "what this client did is not told");
        }
    }

    /// The last word of a client that closes.
    pub(crate) async fn tell_last(&self) {
        // Nobody is kept waiting for it.
        let _ = timeout(LAST_WORD, self.tell()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_name_of_its_own_and_is_told_once() {
        let tally = Tally::default();
        let places = Operation::ALL.map(|operation| Used::place(operation.name()));
        let mut sorted = places.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), Operation::ALL.len());
        assert!(!places.contains(&Used::place("other")));
        tally.cached(7);
        assert_eq!(tally.take().cache_bytes, 7);
        assert!(tally.take().is_nothing());
        tally.cached(1);
        assert_eq!(tally.take().cache_bytes, 1);
    }

    #[test]
    fn stores_that_are_closed_count_on_and_are_let_go() {
        let tally = Tally::default();
        tally.watch(Arc::default());
        assert!(tally.take().is_nothing());
        assert!(tally.stores.lock().open.is_empty());
    }
}
