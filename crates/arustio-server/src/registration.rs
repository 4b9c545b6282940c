//! A block node says who it is, and that it lives.
//!
//! In a process with a metadata node this is one command; the node lives as long as the
//! process. Alone, the node registers over gRPC and gives a sign of life every few
//! seconds, trying one metadata server after the other. It serves what it has all the
//! while: a node that nobody knows of harms nobody.

use std::time::Duration;

use arustio_proto::convert;
use arustio_proto::failure::Failure;
use arustio_proto::meta::v1 as meta;
use arustio_proto::meta::v1::metadata_service_client::MetadataServiceClient;
use arustio_proto::node::v1 as wire;
use arustio_proto::node::v1::node_service_client::NodeServiceClient;
use arustio_types::meta::{Command, Outcome, RequestContext};
use arustio_types::{ErrorKind, NodeId, SystemClock, WallClock as _};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::grpc::block::Identity;

/// Share of blocks of a node that was given none.
pub(crate) const WEIGHT: u32 = 100;
const TIMEOUT: Duration = Duration::from_secs(3);

/// What a node says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Announcement {
    pub(crate) identity: Identity,
    pub(crate) address: String,
    /// Metadata servers.
    pub(crate) servers: Vec<String>,
    pub(crate) heartbeat: Duration,
}

/// The command by which a node says who it is.
pub(crate) fn command(instance: u128, address: &str) -> Command {
    Command::RegisterNode {
        instance,
        address: address.to_owned(),
        weight: WEIGHT,
    }
}

/// The context of a command that needs no session.
pub(crate) fn context(deadline: Duration) -> RequestContext {
    RequestContext {
        deadline,
        now: SystemClock.now(),
        ..RequestContext::default()
    }
}

/// Keeps the node announced until it is stopped, then says that it leaves.
pub(crate) async fn announce(announcement: Announcement, stop: CancellationToken) {
    let mut turn = 0;
    let mut reached = false;
    while !stop.is_cancelled() {
        let server = &announcement.servers[turn % announcement.servers.len()];
        match announcement.say(server, false).await {
            Ok(()) => {
                if !reached {
                    tracing::info!(server, "announced to the cluster");
                }
                reached = true;
            }
            Err(error) => {
                tracing::warn!(server, "cannot announce this block node: {error}");
                turn += 1;
                reached = false;
            }
        }
        let pause = tokio::time::sleep(announcement.heartbeat);
        tokio::select! {
            () = pause => {}
            () = stop.cancelled() => {}
        }
    }
    if reached {
        let server = &announcement.servers[turn % announcement.servers.len()];
        // It is left out of the view soon anyway.
        let _ = announcement.say(server, true).await;
    }
}

impl Announcement {
    /// One sign of life; registers first where that was not done yet.
    async fn say(&self, server: &str, leaving: bool) -> Result<(), Failure> {
        let channel = connect(server).await?;
        let known = *self.identity.node.lock();
        let node = match known {
            Some(node) => node,
            None => self.register(channel.clone()).await?,
        };
        let beat = wire::HeartbeatRequest {
            caller: None,
            node: node.get(),
            instance: Some(self.identity.instance.into()),
            address: self.address.clone(),
            leaving,
        };
        let said = NodeServiceClient::new(channel).heartbeat(beat).await;
        let answer = said.map_err(|status| Failure::from(&status))?.into_inner();
        if answer.unknown {
            *self.identity.node.lock() = None;
        }
        Ok(())
    }

    async fn register(&self, channel: Channel) -> Result<NodeId, Failure> {
        let command = command(self.identity.instance, &self.address);
        let encoded = convert::encode_command(&command).map_err(|error| Failure::of(&error))?;
        let request = meta::ProposeRequest {
            context: Some((&context(TIMEOUT)).into()),
            command: encoded.into(),
        };
        let said = MetadataServiceClient::new(channel).propose(request).await;
        let answer = said.map_err(|status| Failure::from(&status))?.into_inner();
        let outcome = convert::decode_outcome(&answer.outcome);
        match outcome.map_err(|error| Failure::of(&error))? {
            Outcome::NodeRegistered(node) => {
                *self.identity.node.lock() = Some(node);
                Ok(node)
            }
            Outcome::Refused(refusal) => Err(Failure::new(refusal.kind, refusal.message)),
            other => {
                let message = format!("registering was answered with {other:?}");
                Err(Failure::new(ErrorKind::Internal, message))
            }
        }
    }
}

async fn connect(server: &str) -> Result<Channel, Failure> {
    let wrong = |error: tonic::transport::Error| {
        Failure::new(ErrorKind::Unavailable, format!("{server}: {error}"))
    };
    let endpoint = Endpoint::from_shared(format!("http://{server}")).map_err(wrong)?;
    let endpoint = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT);
    endpoint.connect().await.map_err(wrong)
}
