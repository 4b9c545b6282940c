//! Work of the client crate that this server schedules.
//!
//! Recovery: intents and effects whose holder died are brought to their end, by a client
//! of our own over loopback. What a round cannot do (an unreachable store, a credential
//! that only clients can resolve) is tried again in a later one, with a growing pause.

use std::time::Duration;

use arustio_client::{
    ArustioFileSystem, Builder, FileSystem as _, FsError, PendingReport, PendingRounds,
};
use tokio_util::sync::CancellationToken;

/// Pieces of work that are taken over in one round.
const MOST: usize = 64;

/// Looks for work that nobody does until it is stopped.
///
/// Only while this server leads: one of a group is enough.
pub(crate) async fn recover(
    address: String,
    interval: Duration,
    leads: impl Fn() -> bool + Send,
    stop: CancellationToken,
) {
    let mut recovery = Recovery {
        address,
        client: None,
        rounds: PendingRounds::default(),
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(interval) => {}
        }
        if !leads() {
            recovery.release().await;
            continue;
        }
        // What a round has begun is left where it is; every step can be resumed.
        tokio::select! {
            () = stop.cancelled() => break,
            () = recovery.round() => {}
        }
    }
    recovery.release().await;
}

struct Recovery {
    address: String,
    client: Option<ArustioFileSystem>,
    rounds: PendingRounds,
}

impl Recovery {
    async fn round(&mut self) {
        match self.try_round().await {
            Ok(report) => self.ended(&report).await,
            Err(error) => {
                tracing::warn!("cannot look for unfinished work: {error}");
                self.release().await;
            }
        }
    }

    async fn try_round(&mut self) -> Result<PendingReport, FsError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let builder = Builder::new().of_this_process();
                builder.addresses([self.address.clone()]).connect().await?
            }
        };
        let client = self.client.insert(client);
        client.run_pending(&mut self.rounds, MOST).await
    }

    async fn ended(&mut self, report: &PendingReport) {
        if report.finished > 0 {
            let finished = report.finished;
            tracing::info!(finished, "finished what dead clients left");
        }
        for failure in &report.failed {
            tracing::warn!("unfinished work stays: {failure}");
        }
        // What we failed at must not wait for the end of our session.
        if report.finished + report.failed.len() > 0 {
            self.release().await;
        }
    }

    /// Gives free what we hold.
    async fn release(&mut self) {
        if let Some(client) = self.client.take()
            && let Err(error) = client.close().await
        {
            tracing::debug!("the client of recovery did not close well: {error}");
        }
    }
}
