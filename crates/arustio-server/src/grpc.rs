//! The gRPC services: each converts, calls what it was given, converts back.
//!
//! Every failure leaves here as a status whose details are a [`Failure`]; every answer
//! is counted.

pub(crate) mod admin;
pub(crate) mod block;
pub(crate) mod metadata;
pub(crate) mod node;
pub(crate) mod raft;

use std::future::Future;
use std::io;
use std::time::Duration;

use arustio_client::net;
use arustio_meta::Consensus;
use arustio_meta::error::StoreError;
use arustio_meta::namespace::Namespace;
use arustio_meta::store::{MetadataStore as _, Role, StoreStatus};
use arustio_proto::admin::v1::admin_server::AdminServer;
use arustio_proto::block::v1::block_service_server::BlockServiceServer;
use arustio_proto::convert::{ConvertError, MAX_COMMAND, MAX_OUTCOME};
use arustio_proto::failure::Failure;
use arustio_proto::meta::v1::metadata_service_server::MetadataServiceServer;
use arustio_proto::node::v1::node_service_server::NodeServiceServer;
use arustio_proto::raft::v1::raft_service_server::RaftServiceServer;
use arustio_types::{Classify, ErrorKind};
use futures::{Stream, TryStreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Response, Status};

use crate::config::GrpcConfig;
use crate::metrics::Metrics;
use crate::places::{self, Places};

/// Largest HTTP/2 frame that a client may send: fewer, larger pieces of a block cost less.
const FRAME: u32 = 1 << 20;
/// What a message may be larger than its payload.
const ENVELOPE: usize = 64 * 1024;

/// Largest message between metadata servers: a batch is closed at 1 MiB, and the message
/// that closes it has at most the largest command that can be set.
const MAX_RAFT: usize = 80 << 20;

/// The services of one process.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) metadata: Option<metadata::Metadata>,
    pub(crate) node: Option<node::Nodes>,
    pub(crate) admin: Option<admin::Admin>,
    pub(crate) raft: Option<raft::Raft>,
    pub(crate) block: Option<block::Blocks>,
}

/// Serves until it is stopped, and until the requests that are under way have ended.
pub(crate) async fn serve(
    listener: TcpListener,
    config: GrpcConfig,
    services: Services,
    stop: CancellationToken,
) {
    let chunk = size(config.block_chunk) + ENVELOPE;
    let window = u32::try_from(config.window.get()).unwrap_or(u32::MAX);
    let places = Places::new("grpc", config.connections);
    let incoming = places::seated(incoming(listener, config.keepalive_interval), places);
    let metadata = services.metadata.map(|service| {
        MetadataServiceServer::new(service)
            .max_decoding_message_size(MAX_COMMAND + ENVELOPE)
            .max_encoding_message_size(MAX_OUTCOME + ENVELOPE)
    });
    let node = services.node.map(NodeServiceServer::new);
    let admin = services.admin.map(AdminServer::new);
    let raft = services.raft.map(|service| {
        RaftServiceServer::new(service).max_decoding_message_size(MAX_RAFT + ENVELOPE)
    });
    let block = services.block.map(|service| {
        BlockServiceServer::new(service)
            .max_decoding_message_size(16 << 20)
            .max_encoding_message_size(chunk)
    });
    let served = Server::builder()
        .concurrency_limit_per_connection(config.concurrency_per_connection)
        .http2_keepalive_interval(Some(config.keepalive_interval))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
        .max_frame_size(FRAME)
        .initial_stream_window_size(window)
        .initial_connection_window_size(window.saturating_mul(4))
        .add_optional_service(metadata)
        .add_optional_service(node)
        .add_optional_service(admin)
        .add_optional_service(raft)
        .add_optional_service(block)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!("gRPC is no longer served: {error}");
    }
}

/// Connections as they come, each set up for its peer.
fn incoming(
    listener: TcpListener,
    keepalive: Duration,
) -> impl Stream<Item = io::Result<TcpStream>> {
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(keepalive))
        .inspect_ok(net::spare_loopback)
}

/// Times and counts a request, and turns its failure into a status.
async fn answer<T>(
    metrics: &Metrics,
    method: &'static str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<Response<T>, Status> {
    let began = Instant::now();
    let result = work.await;
    metrics.request(method, kind_of(&result), began.elapsed());
    respond(method, result)
}

/// As [`answer`], of a stream that is only answered at its end: it is counted and not timed.
async fn answer_at_end<T>(
    metrics: &Metrics,
    method: &'static str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<Response<T>, Status> {
    let result = work.await;
    metrics.ended(method, kind_of(&result));
    respond(method, result)
}

fn kind_of<T>(result: &Result<T, Failure>) -> Option<ErrorKind> {
    result.as_ref().err().map(|failure| failure.kind)
}

fn respond<T>(method: &'static str, result: Result<T, Failure>) -> Result<Response<T>, Status> {
    if let Err(failure) = &result {
        let level = failure.kind;
        tracing::debug!(method, kind = %level, "{failure}");
    }
    result.map(Response::new).map_err(Status::from)
}

/// What a failed request of the store tells a client: where the leader is, and whether the
/// request may have been carried out.
fn store_failure(store: &Consensus<Namespace>, error: &StoreError) -> Failure {
    let failure = Failure::of(error);
    match error {
        StoreError::NotLeader { leader } => {
            let members = store.membership();
            let address = leader.and_then(|leader| members.address(leader));
            failure.not_leader(*leader, address.map(str::to_owned))
        }
        StoreError::LeadershipLost
        | StoreError::DeadlinePassed { .. }
        | StoreError::Stopped
        | StoreError::Failed(_) => failure.undecided(),
        StoreError::Busy { .. }
        | StoreError::ChangeRefused { .. }
        | StoreError::TooLarge { .. }
        | StoreError::WrongCluster { .. }
        | StoreError::NoMark { .. }
        | StoreError::Query(_) => failure,
    }
}

/// What comes of a request that may need other members, or that this one is stopping.
///
/// A server that stops ends the streams of the others, and what they would have answered never
/// comes: who waits for it repeats elsewhere, at once instead of at its deadline. A member that is
/// alone needs nobody, and finishes what it has begun.
async fn unless_stopped<T>(
    stop: &CancellationToken,
    store: &Consensus<Namespace>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let left_alone = async {
        stop.cancelled().await;
        if store.membership().voters.len() < 2 {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = left_alone => Err(store_failure(store, &StoreError::Stopped)),
    }
}

/// The status of a member that leads; any other one says who does.
fn leading(store: &Consensus<Namespace>) -> Result<StoreStatus, Failure> {
    let status = store.status();
    if status.role == Role::Leader {
        return Ok(status);
    }
    let leader = status.leader;
    Err(store_failure(store, &StoreError::NotLeader { leader }))
}

/// A value that has to be there.
fn given_or<T>(value: Option<T>, what: &str) -> Result<T, Failure> {
    value.ok_or_else(|| Failure::new(ErrorKind::InvalidArgument, format!("{what} is missing")))
}

fn refused(error: ConvertError) -> Failure {
    Failure::of(&error)
}

/// A message that has to be there.
fn given<W, T>(message: Option<W>, what: &str) -> Result<T, Failure>
where
    T: TryFrom<W>,
    T::Error: Classify,
{
    T::try_from(given_or(message, what)?).map_err(|error| Failure::of(&error))
}

fn size(size: arustio_types::ByteSize) -> usize {
    usize::try_from(size.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_lasts_is_counted_and_does_not_pass_for_a_slow_request() {
        let metrics = Metrics::new();
        let hour = || async {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            Ok(())
        };
        answer_at_end(&metrics, "lasts", hour()).await.unwrap();
        answer(&metrics, "slow", hour()).await.unwrap();
        let text = metrics.text().unwrap();
        for counted in ["lasts", "slow"] {
            let line =
                format!("arustio_server_requests_total{{method=\"{counted}\",kind=\"ok\"}} 1");
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.contains("_seconds_count{method=\"slow\"} 1"), "{text}");
        assert!(!text.contains("_seconds_count{method=\"lasts\"}"), "{text}");
    }

    #[tokio::test]
    async fn clients_on_this_machine_are_answered_with_cubic() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to_be_had = set_tcp_congestion(&listener, "cubic").is_ok();
        // What it accepts inherits this; every kernel has it.
        set_tcp_congestion(&listener, "reno").unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = Box::pin(incoming(listener, Duration::from_secs(10)));
        let _client = TcpStream::connect(address).await.unwrap();
        let accepted = incoming.try_next().await.unwrap().unwrap();
        let expected = if to_be_had { "cubic" } else { "reno" };
        assert_eq!(tcp_congestion(&accepted).unwrap(), expected);
        assert!(accepted.nodelay().unwrap());
    }
}
