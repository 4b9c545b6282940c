//! What the cluster did and what it still has to do, in numbers.

use std::time::Duration;

use arustio_proto::admin::v1 as wire;
use arustio_types::Classify as _;
use arustio_types::used::Used;

use super::Admin;
use crate::error::{FsError, Result};
use crate::metadata::route::{Repeat, Want, request};

/// In numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What clients told the server that leads, since it was started.
    pub used: Used,
    /// How long ago that was.
    pub since: Duration,
    /// Intents and effects that are still to be carried out; at least so many.
    pub pending: u64,
    /// There are more.
    pub pending_more: bool,
}

impl Admin {
    /// What was done and is to be done, as the leader knows it. Clients tell every few
    /// seconds and when they close. Safe to drop.
    ///
    /// # Errors
    /// `Unavailable` when no server leads.
    pub async fn summary(&self) -> Result<Summary> {
        let call = self.call(Want::Leader, Repeat::Freely);
        let answered = self
            .ask(call, |mut admin, left| {
                let asked = request(wire::GetSummaryRequest {}, left);
                async move { admin.get_summary(asked).await }
            })
            .await;
        let doing = "sum up what the cluster does";
        let found = answered.map_err(|failed| failed.explain().during(doing))?;
        let found = found.value;
        let used = Used::try_from(found.used.unwrap_or_default())
            .map_err(|error| FsError::new(error.kind(), error.to_string()))?;
        Ok(Summary {
            used,
            since: found.since.map(Into::into).unwrap_or_default(),
            pending: found.pending,
            pending_more: found.pending_more,
        })
    }
}
