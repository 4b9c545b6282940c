//! A bounded number of blocking calls at a time.
//!
//! The threads are the runtime's blocking ones; the bound is ours, so that a slow disk
//! fills no thread pool that others need. A call that has begun runs to its end, also
//! when whoever waits for it goes away; that makes the tier's futures safe to drop.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

#[derive(Debug)]
pub(crate) struct Pool {
    permits: Arc<Semaphore>,
    size: u32,
}

impl Pool {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(size)),
            size: u32::try_from(size).expect("pool sizes are checked to be at most 1024"),
        }
    }

    /// `None` if the pool is closed (or the call panicked, which is a bug that the
    /// panic hook has reported).
    pub(crate) async fn run<T, F>(&self, call: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        spawn_blocking(move || {
            let answer = call();
            drop(permit);
            answer
        })
        .await
        .ok()
    }

    /// Waits for all calls that have begun, and refuses all others.
    pub(crate) async fn close(&self) {
        let all = self.permits.acquire_many(self.size).await;
        self.permits.close();
        drop(all);
    }
}
