//! Signs of life of block nodes, which the leader of the metadata group takes.

use std::sync::Arc;
use std::time::Duration;

use arustio_meta::namespace::Namespace;
use arustio_meta::store::ReadOptions;
use arustio_meta::{Consensus, MetadataStore as _};
use arustio_proto::failure::Failure;
use arustio_proto::node::v1 as wire;
use arustio_proto::node::v1::node_service_server::NodeService;
use arustio_types::cluster::{ClusterView, NodeEntry};
use arustio_types::meta::{Answer, Consistency, Query};
use arustio_types::unit::format_duration;
use arustio_types::{ErrorKind, NodeId};
use async_trait::async_trait;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{answer, leading, store_failure};
use crate::compose::Opened;
use crate::late::Late;
use crate::metrics::Metrics;
use crate::view::{Heard, Liveness, Rival};

/// Tiers of a node that are told of.
const MOST_TIERS: usize = 8;
/// Bytes of the name of a tier.
const MOST_NAME: usize = 32;

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
        let entries = entries(store).await?;
        let instance: Option<u128> = request.instance.map(Into::into);
        // A node that moved has to register again, so that clients find it; one that has the
        // number of another one gets its own by that.
        let known = entries.iter().any(|entry| {
            entry.node.id == node
                && entry.node.address == request.address
                && instance.is_none_or(|instance| entry.instance == instance)
                && !entry.removed
        });
        if known {
            let mut tiers = request.tiers;
            tiers.retain(|tier| tier.name.len() <= MOST_NAME);
            tiers.truncate(MOST_TIERS);
            let heard = Heard {
                at: Instant::now(),
                address: request.address,
                tiers,
            };
            liveness.beat(term, node, (!request.leaving).then_some(heard));
        }
        let view = registered(store).await?;
        Ok(wire::HeartbeatResponse {
            epoch: liveness.living(term, view).epoch,
            next_in: Some(self.heartbeat.into()),
            unknown: !known,
        })
    }
}

/// The nodes that registered and were not removed, with the epoch of the records.
pub(super) async fn registered(store: &Consensus<Namespace>) -> Result<ClusterView, Failure> {
    match recorded(store, Query::ClusterView).await? {
        Answer::ClusterView(view) => Ok(view),
        _ => Ok(ClusterView::default()),
    }
}

/// The nodes as they are recorded.
pub(super) async fn entries(store: &Consensus<Namespace>) -> Result<Vec<NodeEntry>, Failure> {
    match recorded(store, Query::Nodes).await? {
        Answer::Nodes(entries) => Ok(entries),
        _ => Ok(Vec::new()),
    }
}

async fn recorded(store: &Consensus<Namespace>, query: Query) -> Result<Answer, Failure> {
    let options = ReadOptions::from(Consistency::Stale);
    let found = store.query(query, options).await;
    found.map_err(|error| store_failure(store, &error))
}

/// Refuses a node while another process lives that has its data folder or its address.
pub(super) async fn unrivalled(
    store: &Consensus<Namespace>,
    liveness: &Liveness,
    instance: u128,
    address: &str,
) -> Result<(), Failure> {
    let term = leading(store)?.term;
    let entries = entries(store).await?;
    let after = format_duration(liveness.expiry());
    let message = match liveness.rival(term, instance, address, &entries) {
        None => return Ok(()),
        Some(Rival::SameFolder { node, address }) => format!(
            "block node {node} has this data folder and lives at {address}: two processes use \
             copies of one folder. Start this one with an empty data folder, and it becomes a \
             node of its own; or stop the other one, and {node} moves here after at most {after}"
        ),
        Some(Rival::SameAddress { node }) => format!(
            "block node {node} lives at this address, {address}, with another data folder: give \
             this one an address of its own (--advertise). If {node} is gone it is forgotten \
             after {after}"
        ),
    };
    Err(Failure::new(ErrorKind::Conflict, message))
}
