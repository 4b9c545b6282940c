//! The owner of a client's background tasks.
//!
//! Three kinds: *background* work (renewing) is told to stop at close; *lingering* work
//! (filling the cache) is given a moment more; *owed* work (aborting a writer that was
//! dropped) is waited for. Nothing is ever spawned past this.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns, stops and waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    stop: CancellationToken,
    background: TaskTracker,
    lingering: TaskTracker,
    owed: TaskTracker,
}

impl Tasks {
    /// Work that ends when the client closes, wherever it is.
    pub(crate) fn background<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.until_stopped(&self.background, work);
    }

    /// Work that closing waits for, but not long.
    pub(crate) fn lingering<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.until_stopped(&self.lingering, work);
    }

    fn until_stopped<F>(&self, tracker: &TaskTracker, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Work that closing waits for.
    pub(crate) fn owed<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // A writer may be dropped where no runtime is left; recovery does it then.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.owed.spawn_on(work, &runtime);
        }
    }

    /// Waits for owed work.
    pub(crate) async fn finish_owed(&self) {
        self.owed.close();
        self.owed.wait().await;
    }

    /// Waits for lingering work at most so long, then stops it and background work, and
    /// waits for the end of both.
    pub(crate) async fn stop(&self, linger: Duration) {
        self.lingering.close();
        // What is left after that is stopped.
        let _ = tokio::time::timeout(linger, self.lingering.wait()).await;
        self.stop.cancel();
        self.lingering.wait().await;
        self.background.close();
        self.background.wait().await;
    }

    /// Whether the client is closing.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
}
