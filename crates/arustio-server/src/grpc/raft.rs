//! What other metadata servers ask of this one.
//!
//! The introduction is served from the first moment on; everything else when this server
//! belongs to a group and its log is open. Whoever speaks has to be a member of the same
//! life of the same cluster. One that was removed is told so, since its own log may never
//! learn of it.

use std::sync::Arc;
use std::time::Duration;

use arustio_meta::MemberIdentity;
use arustio_meta::consensus::{Change, Envelope};
use arustio_meta::store::MetadataStore as _;
use arustio_proto::failure::Failure;
use arustio_proto::raft::v1 as wire;
use arustio_proto::raft::v1::raft_service_server::RaftService;
use arustio_proto::raft::v1::snapshot_request::Kind;
use arustio_proto::raft::v1::snapshot_response::Kind as Answer;
use arustio_types::{ErrorKind, NodeId};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{answer, answer_at_end, given_or, store_failure, unless_stopped};
use crate::compose::Opened;
use crate::config::is_address;
use crate::introduction::{Introduction, check_peer};
use crate::late::Late;
use crate::metrics::Metrics;
use crate::raft_transport::{Arrival, Arrivals, blocking, free_space};

/// How long a change of the group may take.
const CHANGE: Duration = Duration::from_secs(8);
/// A sender that says nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);

/// The service.
#[derive(Debug)]
pub(crate) struct Raft {
    pub(crate) introduction: Arc<Introduction>,
    pub(crate) late: Arc<Late<Opened>>,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) metrics: Metrics,
    /// Streams that last end when the server stops.
    pub(crate) stop: CancellationToken,
}

#[async_trait]
impl RaftService for Raft {
    async fn hello(
        &self,
        _: Request<wire::HelloRequest>,
    ) -> Result<Response<wire::HelloResponse>, Status> {
        let work = async {
            let known = self.late.get().map(|opened| {
                // The position first: the members are at least as new.
                let status = opened.store.status();
                (status, opened.store.membership())
            });
            let known = known
                .as_ref()
                .map(|(status, members)| (*status, &**members));
            Ok(self.introduction.answer(known))
        };
        answer(&self.metrics, "raft_hello", work).await
    }

    async fn bind(
        &self,
        request: Request<wire::BindRequest>,
    ) -> Result<Response<wire::BindResponse>, Status> {
        let request = request.into_inner();
        answer(&self.metrics, "raft_bind", self.bound(request)).await
    }

    async fn messages(
        &self,
        request: Request<Streaming<wire::MessagesRequest>>,
    ) -> Result<Response<wire::MessagesResponse>, Status> {
        let messages = request.into_inner();
        let work = async {
            tokio::select! {
                ended = self.listen(messages) => ended,
                () = self.stop.cancelled() => Err(stopping()),
            }
        };
        answer_at_end(&self.metrics, "raft_messages", work).await
    }

    type SnapshotStream = BoxStream<'static, Result<wire::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotRequest>>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let pieces = request.into_inner();
        answer(&self.metrics, "raft_snapshot", self.arrive(pieces)).await
    }
}

fn stopping() -> Failure {
    Failure::new(ErrorKind::Unavailable, "this metadata server is stopping")
}

fn refuse(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::InvalidArgument, message)
}

impl Raft {
    async fn bound(&self, request: wire::BindRequest) -> Result<wire::BindResponse, Failure> {
        let opened = self.late.there()?;
        let from = check_peer(request.from, opened.store.identity())?;
        let instance = given_or(request.instance.map(u128::from), "the instance")?;
        if instance == 0 || !is_address(&request.address) {
            return Err(refuse("a member is bound by an instance and host:port"));
        }
        if request.key != self.introduction.me.key[..] {
            let message = format!(
                "member {} has another cluster key than this cluster: copy the file (cluster.key \
                 in the data folder, or cluster.key_file) from a member to it",
                from.member
            );
            return Err(Failure::new(ErrorKind::Unauthenticated, message));
        }
        let change = Change::Bind {
            id: from.member,
            instance,
            address: request.address,
        };
        let changing = async {
            let changed = opened.store.change(change, CHANGE).await;
            changed.map_err(|error| store_failure(&opened.store, &error))
        };
        unless_stopped(&self.stop, &opened.store, changing).await?;
        Ok(wire::BindResponse {})
    }

    /// Who speaks, whether it speaks to this member, and whether it may.
    fn meet(
        &self,
        from: Option<wire::Peer>,
        to: u64,
    ) -> Result<(&Opened, MemberIdentity, bool), Failure> {
        let opened = self.late.there()?;
        let own = opened.store.identity();
        let from = check_peer(from, own)?;
        if NodeId::new(to) != own.member {
            return Err(refuse(format!(
                "this is member {}, not member {to}: the address belongs to another server now",
                own.member
            )));
        }
        let removed = opened.store.membership().removed.contains(&from.member);
        Ok((opened, from, removed))
    }

    /// Gives messages to the member for as long as they come.
    async fn listen(
        &self,
        mut messages: Streaming<wire::MessagesRequest>,
    ) -> Result<wire::MessagesResponse, Failure> {
        let broken = |status: Status| Failure::from(&status);
        let first = messages.message().await.map_err(broken)?;
        let first = first.ok_or_else(|| refuse("an empty stream"))?;
        let (opened, from, removed) = self.meet(first.from, first.to)?;
        if !removed {
            opened.transport.hint(from.member, &first.address);
        }
        let to = opened.store.identity().member;
        let mut batch = Some(first);
        while let Some(request) = batch {
            if opened.store.membership().removed.contains(&from.member) {
                return Ok(wire::MessagesResponse { removed: true });
            }
            for bytes in request.messages {
                let bytes = bytes.into();
                opened.store.step(Envelope { from, to, bytes });
            }
            batch = messages.message().await.map_err(broken)?;
        }
        Ok(wire::MessagesResponse { removed: false })
    }

    async fn arrive(
        &self,
        mut pieces: Streaming<wire::SnapshotRequest>,
    ) -> Result<<Self as RaftService>::SnapshotStream, Failure> {
        let Some(Kind::Header(header)) = next(&mut pieces).await? else {
            return Err(refuse("a snapshot begins with its header"));
        };
        let (opened, from, removed) = self.meet(header.from, header.to)?;
        if removed {
            let parts = Vec::new();
            let have = wire::SnapshotHave { parts, removed };
            return Ok(stream::iter([Ok(respond(Answer::Have(have)))]).boxed());
        }
        let envelope = Envelope {
            from,
            to: opened.store.identity().member,
            bytes: header.message.to_vec(),
        };
        let root = opened.store.snapshot_folder().to_owned();
        let arrivals = Arc::clone(&self.arrivals);
        let arrival = blocking(move || arrivals.begin(&root, &header, free_space)).await?;
        let parts = arrival.have();
        let have = wire::SnapshotHave {
            parts,
            removed: false,
        };
        let (late, stop) = (Arc::clone(&self.late), self.stop.clone());
        let rest = async move {
            tokio::select! {
                taken = take(&late, envelope, arrival, pieces) => taken.map_err(Status::from),
                () = stop.cancelled() => Err(stopping().into()),
            }
        };
        let have = Ok(respond(Answer::Have(have)));
        Ok(stream::iter([have]).chain(stream::once(rest)).boxed())
    }
}

fn respond(kind: Answer) -> wire::SnapshotResponse {
    wire::SnapshotResponse { kind: Some(kind) }
}

/// Takes what is sent, to its end, and gives it to the member.
async fn take(
    late: &Late<Opened>,
    envelope: Envelope,
    mut arrival: Arrival,
    mut pieces: Streaming<wire::SnapshotRequest>,
) -> Result<wire::SnapshotResponse, Failure> {
    let from = envelope.from.member;
    while let Some(kind) = next(&mut pieces).await? {
        let Kind::Data(piece) = kind else {
            return Err(refuse("a snapshot has one header"));
        };
        arrival = blocking(move || {
            arrival.write(&piece)?;
            Ok(arrival)
        })
        .await?;
    }
    let folder = blocking(move || arrival.finish()).await?;
    tracing::info!(member = %from, "received a snapshot");
    late.there()?.store.receive_snapshot(envelope, folder).await;
    Ok(respond(Answer::Taken(wire::SnapshotTaken {})))
}

async fn next(pieces: &mut Streaming<wire::SnapshotRequest>) -> Result<Option<Kind>, Failure> {
    let silent = |_| Failure::new(ErrorKind::Timeout, "nothing came for a minute");
    let piece = tokio::time::timeout(SILENCE, pieces.message()).await;
    let piece = piece.map_err(silent)?;
    let piece = piece.map_err(|status| Failure::from(&status))?;
    piece
        .map(|piece| piece.kind.ok_or_else(|| refuse("an empty piece")))
        .transpose()
}
