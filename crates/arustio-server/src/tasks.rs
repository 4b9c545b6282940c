//! Background tasks with an owner: each has a name and an end.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one part of the server.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Told when to stop.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task that ends soon after [`stopping`](Self::stopping) is cancelled.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tracker.spawn(async move {
            task.await;
            tracing::debug!(name, "task ended");
        });
    }

    /// Stops all and waits, but not for ever. False: some still run.
    pub(crate) async fn close(&self, most: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(most, self.tracker.wait())
            .await
            .is_ok()
    }
}
