//! Signs of life of block nodes, which the leader of the metadata group takes.

use std::sync::Arc;
use std::time::Duration;

use arustio_meta::namespace::Namespace;
use arustio_meta::store::ReadOptions;
use arustio_meta::{Consensus, MetadataStore as _};
use arustio_proto::failure::Failure;
use arustio_proto::node::v1 as wire;
use arustio_proto::node::v1::node_service_server::NodeService;
use arustio_types::NodeId;
use arustio_types::cluster::ClusterView;
use arustio_types::meta::{Answer, Consistency, Query};
use async_trait::async_trait;
use tonic::{Request, Response, Status};

use super::{answer, leading, store_failure};
use crate::compose::Opened;
use crate::late::Late;
use crate::metrics::Metrics;

/// The service.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) late: Arc<Late<Opened>>,
    pub(crate) heartbeat: Duration,
    pub(crate) metrics: Metrics,
}

#[async_trait]
impl NodeService for Nodes {
    async fn heartbeat(
        &self,
        request: Request<wire::HeartbeatRequest>,
    ) -> Result<Response<wire::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "heartbeat", self.beat(request)).await
    }
}

impl Nodes {
    async fn beat(
        &self,
        request: wire::HeartbeatRequest,
    ) -> Result<wire::HeartbeatResponse, Failure> {
        let Opened {
            store, liveness, ..
        } = self.late.there()?;
        let term = leading(store)?.term;
        let node = NodeId::new(request.node);
        let registered = registered(store).await?;
        // A node that moved has to register again, so that clients find it.
        let known = registered
            .nodes
            .iter()
            .any(|known| known.id == node && known.address == request.address);
        if known {
            liveness.beat(term, node, request.leaving);
        }
        Ok(wire::HeartbeatResponse {
            epoch: liveness.living(term, registered).epoch,
            next_in: Some(self.heartbeat.into()),
            unknown: !known,
        })
    }
}

async fn registered(store: &Consensus<Namespace>) -> Result<ClusterView, Failure> {
    let options = ReadOptions::from(Consistency::Stale);
    let found = store.query(Query::ClusterView, options).await;
    match found.map_err(|error| store_failure(store, &error))? {
        Answer::ClusterView(view) => Ok(view),
        _ => Ok(ClusterView::default()),
    }
}
