//! Signs of life of block nodes.

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

use super::answer;
use crate::metrics::Metrics;
use crate::view::Liveness;

/// The service.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) store: Arc<Consensus<Namespace>>,
    pub(crate) liveness: Arc<Liveness>,
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
        let node = NodeId::new(request.node);
        let registered = self.registered().await?;
        // A node that moved has to register again, so that clients find it.
        let known = registered
            .nodes
            .iter()
            .any(|known| known.id == node && known.address == request.address);
        if known {
            self.liveness.beat(node, request.leaving);
        }
        Ok(wire::HeartbeatResponse {
            epoch: self.liveness.living(registered).epoch,
            next_in: Some(self.heartbeat.into()),
            unknown: !known,
        })
    }

    async fn registered(&self) -> Result<ClusterView, Failure> {
        let options = ReadOptions::from(Consistency::Stale);
        let found = self.store.query(Query::ClusterView, options).await;
        match found.map_err(|error| Failure::of(&error))? {
            Answer::ClusterView(view) => Ok(view),
            _ => Ok(ClusterView::default()),
        }
    }
}
