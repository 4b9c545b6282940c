//! The metadata service over gRPC.
//!
//! One channel for each address; the one that answered last is asked first, a hint to the
//! leader is followed. A request is repeated under the same id, with jittered back-off,
//! until its deadline: whoever applied it gives the same outcome again. What never left
//! this machine is told from what may have been applied.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::net;
use arustio_proto::common::v1::Caller;
use arustio_proto::convert::{COMMAND_FORMAT, decode_outcome, encode_command_with_secrets};
use arustio_proto::failure::Failure;
use arustio_proto::meta::v1 as wire;
use arustio_proto::meta::v1::metadata_service_client::MetadataServiceClient;
use arustio_types::cluster::ClusterView;
use arustio_types::meta::command::Principal;
use arustio_types::meta::sync::{SyncRequest, SyncTarget, SyncTurn};
use arustio_types::meta::{Answer, Command, Consistency, Query, RequestContext};
use arustio_types::{Classify, ClusterId, ErrorKind, Incarnation, LogIndex};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::{ClusterIdentity, MetadataClient, Proposed};
use crate::config::ClientConfig;
use crate::entropy::Entropy;
use crate::error::{FsError, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How old the view of the block nodes may be.
const VIEW_AGE: Duration = Duration::from_secs(5);
/// Servers that are known beside the configured ones, from hints.
const MOST_HINTS: usize = 16;
/// In the transport's words about an answer of something that does not speak gRPC.
const NO_GRPC: &str = "mapped from HTTP status";
/// Largest answer that is taken: an outcome with its bounds, and some envelope.
const MOST_BYTES: usize = arustio_proto::convert::MAX_OUTCOME + (1 << 20);

/// A metadata service at one or several addresses.
#[derive(Debug)]
pub struct RemoteMetadata {
    addresses: Vec<String>,
    channels: Mutex<HashMap<String, MetadataServiceClient<Channel>>>,
    /// The server that answered last, or is said to lead.
    preferred: Mutex<Option<String>>,
    view: Mutex<Option<(Instant, Arc<ClusterView>)>>,
    principal: Principal,
    client: u128,
    entropy: Arc<Entropy>,
    connect_timeout: Duration,
    request_timeout: Duration,
}

/// A try that failed.
#[derive(Debug)]
struct Tried {
    failure: Failure,
    /// It certainly did not reach a server.
    unsent: bool,
}

/// What came of all tries.
#[derive(Debug)]
struct Failed {
    address: String,
    failure: Failure,
    unsent: bool,
}

impl RemoteMetadata {
    /// Connects when it is first asked.
    ///
    /// # Errors
    /// `InvalidArgument` for an address that cannot be one.
    pub fn new(config: &ClientConfig, principal: Principal, entropy: Arc<Entropy>) -> Result<Self> {
        if config.addresses.is_empty() {
            let message = "no address of a metadata server is configured";
            return Err(FsError::new(ErrorKind::InvalidArgument, message));
        }
        for address in &config.addresses {
            endpoint(address, config.connect_timeout)?;
        }
        Ok(Self {
            addresses: config.addresses.clone(),
            channels: Mutex::default(),
            preferred: Mutex::default(),
            view: Mutex::default(),
            principal,
            client: entropy.bits(),
            entropy,
            connect_timeout: config.connect_timeout,
            request_timeout: config.request_timeout,
        })
    }

    fn channel(&self, address: &str) -> Result<MetadataServiceClient<Channel>> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = net::channel(&endpoint(address, self.connect_timeout)?);
        let channel = MetadataServiceClient::new(channel).max_decoding_message_size(MOST_BYTES);
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// The server to ask at this try: the preferred one, then each in turn.
    fn server(&self, tries: u32) -> String {
        if tries == 0
            && let Some(preferred) = self.preferred.lock().clone()
        {
            return preferred;
        }
        let at = usize::try_from(tries).unwrap_or(0) % self.addresses.len();
        self.addresses[at].clone()
    }

    fn prefer(&self, address: &str) {
        let mut preferred = self.preferred.lock();
        if preferred.as_deref() != Some(address) {
            *preferred = Some(address.to_owned());
        }
    }

    /// Follows a hint to the leader; says whether there is one to follow.
    fn hinted(&self, from: &str, failure: &Failure) -> bool {
        let Some(leader) = failure.leader.as_deref().filter(|leader| *leader != from) else {
            return false;
        };
        let known = self.channels.lock().len();
        if known > self.addresses.len() + MOST_HINTS
            || endpoint(leader, self.connect_timeout).is_err()
        {
            return false;
        }
        self.prefer(leader);
        true
    }

    /// Asks until there is an answer that repeating does not change, or until `timeout`.
    /// Returns how often it was sent.
    async fn call<T, F>(
        &self,
        timeout: Duration,
        request: impl Fn(MetadataServiceClient<Channel>, Duration) -> F + Send + Sync,
    ) -> Result<(T, u32), Failed>
    where
        T: Send,
        F: Future<Output = Result<T, tonic::Status>> + Send,
    {
        let began = Instant::now();
        let (mut tries, mut sent, mut pause) = (0, 0, FIRST_PAUSE);
        loop {
            let address = self.server(tries);
            let left = timeout.saturating_sub(began.elapsed());
            let tried = self.attempt(&address, left, &request).await;
            let tried = match tried {
                Ok(answer) => {
                    self.prefer(&address);
                    return Ok((answer, sent + 1));
                }
                Err(tried) => tried,
            };
            sent += u32::from(!tried.unsent);
            tries += 1;
            let failed = |address, tried: Tried| Failed {
                address,
                failure: tried.failure,
                unsent: sent == 0,
            };
            // Nobody listens: waiting longer than a connection may take is no help.
            let patience = if sent == 0 {
                self.connect_timeout
            } else {
                timeout
            };
            let left = patience.saturating_sub(began.elapsed());
            let final_word = tried.failure.answered
                && !matches!(
                    tried.failure.kind(),
                    ErrorKind::Unavailable | ErrorKind::Timeout
                );
            if final_word || left <= pause {
                return Err(failed(address, tried));
            }
            if self.hinted(&address, &tried.failure) {
                tries = 0;
            } else {
                *self.preferred.lock() = None;
            }
            tokio::time::sleep(self.entropy.jitter(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt<T, F>(
        &self,
        address: &str,
        left: Duration,
        request: &(impl Fn(MetadataServiceClient<Channel>, Duration) -> F + Send + Sync),
    ) -> Result<T, Tried>
    where
        F: Future<Output = Result<T, tonic::Status>> + Send,
    {
        let channel = self.channel(address).map_err(|error| Tried {
            failure: Failure::new(error.kind(), error.message()),
            unsent: true,
        })?;
        match tokio::time::timeout(left, request(channel, left)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(Tried {
                unsent: never_left(&status),
                failure: Failure::from(&status),
            }),
            Err(_) => {
                let message = format!("no answer within {} s", left.as_secs());
                let mut failure = Failure::new(ErrorKind::Timeout, message);
                failure.answered = false;
                Err(Tried {
                    failure,
                    unsent: false,
                })
            }
        }
    }

    /// A question: repeating it is harmless, so its failure leaves nothing open.
    async fn ask<T, F>(
        &self,
        request: impl Fn(MetadataServiceClient<Channel>, Duration) -> F + Send + Sync,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T, tonic::Status>> + Send,
    {
        let asked = self.call(self.request_timeout, request).await;
        asked.map(|(answer, _)| answer).map_err(explain)
    }

    fn caller(&self) -> Caller {
        Caller {
            client: Some(self.client.into()),
            request: self.entropy.bits() as u64,
        }
    }
}

/// Whether a request certainly did not leave: the connection could not be made.
fn never_left(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                io.kind(),
                std::io::ErrorKind::ConnectionRefused
                    | std::io::ErrorKind::HostUnreachable
                    | std::io::ErrorKind::NetworkUnreachable
                    | std::io::ErrorKind::AddrNotAvailable
            );
        }
        cause = error.source();
    }
    false
}

fn explain(failed: Failed) -> FsError {
    let Failed {
        address,
        failure,
        unsent,
    } = failed;
    if failure.answered {
        let error = FsError::new(failure.kind, failure.message);
        return match &failure.path {
            Some(path) => error.at(path),
            None => error,
        };
    }
    if unsent {
        return FsError::new(
            ErrorKind::Unavailable,
            format!(
                "cannot reach {address}: {}. Is arustio-server running? Start it with: \
                 arustio-server",
                plain(&failure.message)
            ),
        );
    }
    if failure.message.contains(NO_GRPC) {
        return FsError::new(
            ErrorKind::Unavailable,
            format!(
                "what answers at {address} is not the gRPC port of an arustio-server; its first \
                 line says where that is (`ready: grpc ...`)"
            ),
        );
    }
    FsError::new(
        failure.kind,
        format!(
            "the metadata service at {address} did not answer: {}",
            failure.message
        ),
    )
}

/// Without the operating system's number.
fn plain(message: &str) -> String {
    let words = message.split(" (os error").next().unwrap_or(message);
    words.to_lowercase()
}

/// A mutation whose answer got lost may have been applied.
fn lost(failed: Failed) -> FsError {
    if failed.unsent || failed.failure.answered && failed.failure.kind != ErrorKind::Timeout {
        return explain(failed);
    }
    FsError::new(
        ErrorKind::Unknown,
        format!(
            "the metadata service at {} did not answer, and the change may have been made: look \
             before repeating it ({})",
            failed.address, failed.failure.message
        ),
    )
}

/// An answer that this release cannot read.
fn unreadable(error: impl std::fmt::Display) -> FsError {
    FsError::new(
        ErrorKind::Internal,
        format!("the metadata service's answer cannot be read: {error}"),
    )
}

fn endpoint(address: &str, connect_timeout: Duration) -> Result<Endpoint> {
    let refuse = || {
        let message =
            format!("{address:?} is not an address; write host:port, such as 127.0.0.1:7411");
        FsError::new(ErrorKind::InvalidArgument, message)
    };
    let port = address
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    if address.contains('/') || !matches!(port, Some(Ok(_))) {
        return Err(refuse());
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| refuse())?;
    Ok(endpoint
        .connect_timeout(connect_timeout)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5)))
}

fn request<T>(message: T, deadline: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(deadline);
    request
}

#[async_trait]
impl MetadataClient for RemoteMetadata {
    async fn identity(&self) -> Result<ClusterIdentity> {
        let hello = wire::HelloRequest {
            software: concat!("arustio-client ", env!("CARGO_PKG_VERSION")).to_owned(),
            command_format: COMMAND_FORMAT,
        };
        let hello = self
            .ask(move |mut channel, left| {
                let hello = hello.clone();
                async move { channel.hello(request(hello, left)).await }
            })
            .await?
            .into_inner();
        Ok(ClusterIdentity {
            cluster: ClusterId::new(hello.cluster.map(u128::from).unwrap_or_default()),
            incarnation: Incarnation::new(hello.incarnation),
        })
    }

    async fn propose(&self, context: &RequestContext, command: &Command) -> Result<Proposed> {
        let bytes = bytes::Bytes::from(encode_command_with_secrets(command));
        let propose = wire::ProposeRequest {
            context: Some(context.into()),
            command: bytes,
        };
        let proposed = self
            .call(context.deadline, |mut channel, left| {
                let propose = propose.clone();
                async move { channel.propose(request(propose, left)).await }
            })
            .await;
        let (response, attempts) = proposed.map_err(lost)?;
        let response = response.into_inner();
        Ok(Proposed {
            outcome: decode_outcome(&response.outcome).map_err(unreadable)?,
            position: LogIndex::new(response.position),
            attempts,
        })
    }

    async fn query(&self, query: Query, consistency: Consistency) -> Result<Answer> {
        let timeout = self.request_timeout;
        let asked = wire::QueryRequest {
            consistency: Some((&consistency).into()),
            query: Some((&query).into()),
            principal: Some((&self.principal).into()),
            deadline_millis: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let response = self
            .ask(|mut channel, left| {
                let asked = asked.clone();
                async move { channel.query(request(asked, left)).await }
            })
            .await?;
        let answer = response.into_inner().answer;
        let answer = answer.ok_or_else(|| unreadable("it is empty"))?;
        Answer::try_from(answer).map_err(unreadable)
    }

    async fn begin_sync(&self, asked: SyncRequest) -> Result<SyncTurn> {
        let begin = wire::BeginSyncRequest {
            caller: Some(self.caller()),
            request: Some((&asked).into()),
        };
        let response = self
            .ask(|mut channel, left| {
                let begin = begin.clone();
                async move { channel.begin_sync(request(begin, left)).await }
            })
            .await?;
        let turn = response.into_inner().turn;
        let turn = turn.ok_or_else(|| unreadable("it is empty"))?;
        SyncTurn::try_from(turn).map_err(unreadable)
    }

    async fn end_sync(&self, target: SyncTarget, ticket: u64, looked: bool) -> Result<()> {
        let end = wire::EndSyncRequest {
            caller: Some(self.caller()),
            target: Some((&target).into()),
            ticket,
            looked,
        };
        self.ask(|mut channel, left| {
            let end = end.clone();
            async move { channel.end_sync(request(end, left)).await }
        })
        .await?;
        Ok(())
    }

    async fn cluster_view(&self) -> Result<Arc<ClusterView>> {
        if let Some((at, view)) = &*self.view.lock()
            && at.elapsed() < VIEW_AGE
        {
            return Ok(Arc::clone(view));
        }
        let answer = self.query(Query::ClusterView, Consistency::Stale).await?;
        let Answer::ClusterView(view) = answer else {
            return Err(crate::client::unexpected(
                "asking for the block nodes",
                &answer,
            ));
        };
        let view = Arc::new(view);
        *self.view.lock() = Some((Instant::now(), Arc::clone(&view)));
        Ok(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_one_are_refused_at_once() {
        for bad in ["", "localhost", "http://x:1", "host:99999", "host:"] {
            let error = endpoint(bad, Duration::from_secs(1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
        }
        assert!(endpoint("127.0.0.1:7411", Duration::from_secs(1)).is_ok());
        assert!(endpoint("[::1]:7411", Duration::from_secs(1)).is_ok());
    }

    #[tokio::test]
    async fn a_server_that_is_not_running_is_said_so_within_three_seconds() {
        // A port that was free a moment ago and that nobody listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = ClientConfig {
            addresses: vec![format!("127.0.0.1:{port}")],
            ..ClientConfig::default()
        };
        let entropy = Arc::new(Entropy::from_seed(1));
        let remote = RemoteMetadata::new(&config, Principal::default(), entropy).unwrap();
        let began = Instant::now();
        let error = remote.identity().await.unwrap_err();
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(
            error.to_string(),
            format!(
                "cannot reach 127.0.0.1:{port}: connection refused. Is arustio-server running? \
                 Start it with: arustio-server"
            )
        );
    }
}
