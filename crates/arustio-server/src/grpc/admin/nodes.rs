//! Block nodes, as operators see them: what was decided is replicated, what was heard of
//! them is soft state of the leader, which therefore answers.

use std::collections::{HashMap, HashSet};

use arustio_meta::MetadataStore as _;
use arustio_proto::admin::v1 as wire;
use arustio_proto::convert;
use arustio_proto::failure::Failure;
use arustio_proto::meta::v1 as meta;
use arustio_types::cluster::NodeEntry;
use arustio_types::meta::{Answer, Command, Consistency, Outcome, Query};
use arustio_types::{ErrorKind, NodeId};
use tokio::time::Instant;

use super::{Admin, bounded};
use crate::compose::Opened;
use crate::grpc::{leading, node, store_failure};
use crate::registration::context;
use crate::view::Heard;

impl Admin {
    pub(super) async fn nodes(&self) -> Result<wire::ListNodesResponse, Failure> {
        let Opened {
            store, liveness, ..
        } = self.late.there()?;
        let term = leading(store)?.term;
        let newest = store.query(Query::Nodes, Consistency::Linearizable.into());
        let found = newest.await.map_err(|error| store_failure(store, &error))?;
        let Answer::Nodes(entries) = found else {
            let message = "the block nodes were answered with something else";
            return Err(Failure::new(ErrorKind::Internal, message));
        };
        let view = liveness.living(term, node::registered(store).await?);
        let living: HashSet<NodeId> = view.nodes.iter().map(|node| node.id).collect();
        let heard = liveness.heard(term);
        let states = entries.iter().map(|entry| state(entry, &living, &heard));
        Ok(wire::ListNodesResponse {
            nodes: states.collect(),
            epoch: view.epoch,
        })
    }

    pub(super) async fn decide(
        &self,
        request: wire::ChangeNodeRequest,
    ) -> Result<wire::ChangeNodeResponse, Failure> {
        let missing = || Failure::new(ErrorKind::InvalidArgument, "the change is missing");
        let change = request.change.ok_or_else(missing)?;
        let command: Command = convert::node_change(change).map_err(|error| Failure::of(&error))?;
        let store = &self.late.there()?.store;
        let deadline = bounded(request.deadline_millis);
        let proposed = store.propose(context(deadline), command).await;
        let proposed = proposed.map_err(|error| store_failure(store, &error))?;
        match proposed.outcome {
            Outcome::Done => {}
            Outcome::Refused(refusal) => {
                return Err(Failure::new(refusal.kind, refusal.message));
            }
            other => {
                let message = format!("changing a block node was answered with {other:?}");
                return Err(Failure::new(ErrorKind::Internal, message));
            }
        }
        // The change is made, whether or not this server still leads.
        Ok(wire::ChangeNodeResponse {
            nodes: self.nodes().await.ok(),
        })
    }
}

fn state(
    entry: &NodeEntry,
    living: &HashSet<NodeId>,
    heard: &HashMap<NodeId, Heard>,
) -> wire::NodeState {
    let id = entry.node.id;
    let heard = heard.get(&id);
    wire::NodeState {
        entry: Some(meta::NodeEntry::from(entry)),
        lives: living.contains(&id),
        heard_ago: heard.map(|heard| Instant::now().duration_since(heard.at).into()),
        tiers: heard.map(|heard| heard.tiers.clone()).unwrap_or_default(),
    }
}
