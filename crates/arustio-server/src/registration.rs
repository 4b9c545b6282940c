//! A block node says who it is, and that it lives.
//!
//! The node registers over gRPC and gives a sign of life every few seconds, to the leader of
//! the metadata servers: it tries one after the other and follows their hints. It serves
//! what it has all the while: a node that nobody knows of harms nobody.

use std::sync::Arc;
use std::time::Duration;

use arustio_block::BlockStore;
use arustio_proto::convert;
use arustio_proto::failure::Failure;
use arustio_proto::meta::v1 as meta;
use arustio_proto::meta::v1::metadata_service_client::MetadataServiceClient;
use arustio_proto::node::v1 as wire;
use arustio_proto::node::v1::node_service_client::NodeServiceClient;
use arustio_types::cluster::DataEndpoints;
use arustio_types::meta::{Command, Outcome, RequestContext};
use arustio_types::{ErrorKind, NodeId, SystemClock, WallClock as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::blocks::{self, Identity};
use crate::error::ServerError;
use crate::introduction::connect;

/// Share of blocks of a node that was given none.
pub(crate) const WEIGHT: u32 = 100;
const TIMEOUT: Duration = Duration::from_secs(3);

/// How long an announcement that is under way may still take when the server stops.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Hints that are followed before there is a pause.
const HOPS: usize = 3;
/// A node that starts together with the metadata servers waits for them; from then on that is
/// something to look at.
const START: Duration = Duration::from_secs(10);

/// Between two tries meanwhile.
const HURRY: Duration = Duration::from_millis(250);

/// The server that a node could not be announced to, and why.
type Trouble = (String, Failure);

/// What a node says of itself.
pub(crate) struct Announcement {
    pub(crate) identity: Identity,
    pub(crate) address: String,
    pub(crate) data: DataEndpoints,
    /// The metadata servers at the moment, the likeliest leader first.
    pub(crate) servers: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    pub(crate) heartbeat: Duration,
    /// What the node is asked about itself.
    pub(crate) store: Arc<dyn BlockStore>,
    /// Set once, when the cluster does not take the node, now or later: it was removed.
    pub(crate) refused: watch::Sender<Option<Arc<ServerError>>>,
}

/// The command by which a node says who it is.
pub(crate) fn command(instance: u128, address: &str, data: &DataEndpoints) -> Command {
    Command::RegisterNode {
        instance,
        address: address.to_owned(),
        weight: WEIGHT,
        data: data.clone(),
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
    let mut leader: Option<(String, Channel)> = None;
    let began = Instant::now();
    let hurry = announcement.heartbeat.min(HURRY);
    let mut starting = true;
    let mut told = String::new();
    loop {
        let mut heard = None;
        // What is under way may register the node; only who knows its number can say that it
        // leaves.
        let patience = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WORD).await;
        };
        let trouble = tokio::select! {
            trouble = announcement.find(&mut leader, &mut heard, &mut turn) => trouble,
            () = patience => break,
        };
        starting = starting && heard.is_none() && began.elapsed() < START;
        match trouble {
            Some((server, failure)) if starting => {
                // Asked often, said once.
                let waiting = format!("waiting for a metadata server: {failure}");
                if waiting != told {
                    tracing::info!(server, "{waiting}");
                    told = waiting;
                }
            }
            Some((server, failure)) => {
                tracing::warn!(server, "cannot announce this block node: {failure}");
            }
            None => {}
        }
        if let Some(server) = heard {
            tracing::info!(server, "announced to the cluster");
        }
        if let Some(error) = announcement.refused.borrow().as_ref() {
            tracing::error!("{error}");
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(if starting { hurry } else { announcement.heartbeat }) => {}
            () = stop.cancelled() => break,
        }
    }
    announcement.leave(leader.map(|(_, channel)| channel)).await;
}

impl Announcement {
    /// One sign of life: to the known leader, else to one server after the other, where
    /// hints are followed. `heard` is the server that is new; told is what stood in the way.
    async fn find(
        &self,
        leader: &mut Option<(String, Channel)>,
        heard: &mut Option<String>,
        turn: &mut usize,
    ) -> Option<Trouble> {
        let mut hint = None;
        for _ in 0..HOPS {
            if let Some((server, channel)) = leader.as_ref() {
                let Err(failure) = self.say(channel, false).await else {
                    return None;
                };
                tracing::debug!(server, "lost the metadata leader: {failure}");
                hint = failure.leader;
                *leader = None;
            }
            let server = match hint.take() {
                Some(server) => server,
                None => {
                    let servers = (self.servers)();
                    *turn += 1;
                    let at = (*turn - 1) % servers.len().max(1);
                    servers.get(at).cloned()?
                }
            };
            match self.greet(&server).await {
                Ok(channel) => {
                    *leader = Some((server.clone(), channel));
                    *turn = 0;
                    *heard = Some(server);
                    return None;
                }
                Err(failure) if failure.leader.is_some() => hint = failure.leader,
                Err(failure) if failure.not_leader => {
                    tracing::debug!(server, "not announced yet: {failure}");
                }
                Err(_) if self.refused.borrow().is_some() => return None,
                Err(failure) => return Some((server, failure)),
            }
        }
        None
    }

    /// Says that the node leaves, also when it was stopped between its registration and the
    /// answer to its first sign of life. Unheard, it is left out of the view soon anyway.
    async fn leave(&self, leader: Option<Channel>) {
        let channel = match leader {
            Some(channel) => Some(channel),
            None if self.identity.node.lock().is_none() => None,
            None => match (self.servers)().first() {
                Some(server) => connect(server).await.ok(),
                None => None,
            },
        };
        if let Some(channel) = channel {
            let _ = self.say(&channel, true).await;
        }
    }

    async fn greet(&self, server: &str) -> Result<Channel, Failure> {
        let channel = connect(server).await?;
        self.say(&channel, false).await?;
        Ok(channel)
    }

    /// One sign of life; registers first where that was not done yet.
    async fn say(&self, channel: &Channel, leaving: bool) -> Result<(), Failure> {
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
            tiers: blocks::usage(&*self.store),
        };
        let mut request = tonic::Request::new(beat);
        request.set_timeout(TIMEOUT);
        let mut service = NodeServiceClient::new(channel.clone());
        let said = service.heartbeat(request);
        let late = |_| Failure::new(ErrorKind::Timeout, "no answer to a sign of life");
        let said = tokio::time::timeout(TIMEOUT, said).await.map_err(late)?;
        let answer = said.map_err(|status| Failure::from(&status))?.into_inner();
        self.identity.heard(answer.epoch);
        if answer.unknown {
            *self.identity.node.lock() = None;
        }
        Ok(())
    }

    async fn register(&self, channel: Channel) -> Result<NodeId, Failure> {
        let command = command(self.identity.instance, &self.address, &self.data);
        let encoded = convert::encode_command(&command).map_err(|error| Failure::of(&error))?;
        let request = meta::ProposeRequest {
            context: Some((&context(TIMEOUT)).into()),
            command: encoded.into(),
        };
        let mut service = MetadataServiceClient::new(channel);
        let said = service.propose(request);
        let late = |_| Failure::new(ErrorKind::Timeout, "no answer to a registration");
        let said = tokio::time::timeout(TIMEOUT, said).await.map_err(late)?;
        let answer = said.map_err(|status| Failure::from(&status))?.into_inner();
        let outcome = convert::decode_outcome(&answer.outcome);
        match outcome.map_err(|error| Failure::of(&error))? {
            Outcome::NodeRegistered(node) => {
                *self.identity.node.lock() = Some(node);
                Ok(node)
            }
            Outcome::Refused(refusal) => {
                let reason = refusal.message.clone();
                self.refused
                    .send_replace(Some(Arc::new(ServerError::Refused { reason })));
                Err(Failure::new(refusal.kind, refusal.message))
            }
            other => {
                let message = format!("registering was answered with {other:?}");
                Err(Failure::new(ErrorKind::Internal, message))
            }
        }
    }
}
