//! The owner of a client's background tasks.
//!
//! Two kinds: *background* work (renewing, filling) is told to stop at close; *owed* work
//! (aborting a writer that was dropped) is waited for. Nothing is ever spawned past this.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns, stops and waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    stop: CancellationToken,
    background: TaskTracker,
    owed: TaskTracker,
}

impl Tasks {
    /// Work that ends when the client closes, wherever it is.
    pub(crate) fn background<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.background.spawn(async move {
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

    /// Stops background work and waits for its end.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.background.close();
        self.background.wait().await;
    }

    /// Whether the client is closing.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
}
