//! What the whole did and what is still to be done, for a person who takes one look.

use arustio_meta::MetadataStore as _;
use arustio_proto::admin::v1 as wire;
use arustio_proto::failure::Failure;
use arustio_types::ErrorKind;
use arustio_types::meta::query::MAX_PAGE;
use arustio_types::meta::{Answer, Consistency, Query};
use tokio::time::Instant;

use super::Admin;
use crate::grpc::{leading, store_failure};

impl Admin {
    pub(super) async fn summary(&self) -> Result<wire::GetSummaryResponse, Failure> {
        let store = self.store()?;
        // Clients tell the leader.
        leading(store)?;
        let all = Query::Pending {
            after: None,
            limit: MAX_PAGE,
        };
        let found = store.query(all, Consistency::Linearizable.into()).await;
        let found = found.map_err(|error| store_failure(store, &error))?;
        let Answer::Pending {
            intents,
            effects,
            next,
            ..
        } = found
        else {
            let message = "what is pending was answered with something else";
            return Err(Failure::new(ErrorKind::Internal, message));
        };
        let (used, since) = self.metrics.clients().sum();
        Ok(wire::GetSummaryResponse {
            used: Some((&used).into()),
            since: Some(Instant::now().duration_since(since).into()),
            pending: (intents.len() + effects.len()) as u64,
            pending_more: next.is_some(),
        })
    }
}
