//! The metadata service over gRPC.
//!
//! Messages are made and read here; which server gets them, and how often, is decided in
//! `route`. A change is repeated under the same id until its deadline: whoever applied it
//! gives the same outcome again. What never reached a server is told from what may have
//! been applied.

use std::sync::Arc;
use std::time::Duration;

use arustio_proto::common::v1::Caller;
use arustio_proto::convert::{decode_outcome, encode_command_with_secrets};
use arustio_proto::meta::v1 as wire;
use arustio_proto::meta::v1::answer::Kind;
use arustio_proto::meta::v1::metadata_service_client::MetadataServiceClient;
use arustio_types::cluster::ClusterView;
use arustio_types::meta::command::Principal;
use arustio_types::meta::query::Page;
use arustio_types::meta::sync::{SyncRequest, SyncTarget, SyncTurn};
use arustio_types::meta::{Answer, Command, Consistency, Query, RequestContext};
use arustio_types::used::Used;
use arustio_types::{ErrorKind, LogIndex};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::route::{Answered, Call, Repeat, Route, Want, request};
use super::together::Together;
use super::trouble::Failed;
use super::{ArrivedPage, ClusterIdentity, MetadataClient, PageAnswer, Proposed};
use crate::block::epoch::Epoch;
use crate::config::ClientConfig;
use crate::entropy::Entropy;
use crate::error::{FsError, Result};

/// How old the view of the block nodes may be.
const VIEW_AGE: Duration = Duration::from_secs(5);
/// How old it may be although a node told of a newer one: whatever nodes say, the leader is
/// not asked more often.
const VIEW_REST: Duration = Duration::from_millis(500);
/// How long it is asked for: reading must not wait long for what it can do without.
const VIEW_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest answer that is taken: an outcome with its bounds, and some envelope.
const MOST_BYTES: usize = arustio_proto::convert::MAX_OUTCOME + (1 << 20);

/// A metadata service at one or several addresses.
#[derive(Debug)]
pub struct RemoteMetadata {
    route: Route,
    /// Questions about names.
    stats: Together<Query, Answer>,
    view: Mutex<Option<(Instant, Arc<ClusterView>)>>,
    /// What block nodes tell of newer views.
    epoch: Arc<Epoch>,
    principal: Principal,
    client: u128,
    entropy: Arc<Entropy>,
    request_timeout: Duration,
}

impl RemoteMetadata {
    /// Connects when it is first asked.
    ///
    /// # Errors
    /// `InvalidArgument` for an address that cannot be one.
    pub fn new(config: &ClientConfig, principal: Principal, entropy: Arc<Entropy>) -> Result<Self> {
        Ok(Self {
            route: Route::new(config, Arc::clone(&entropy))?,
            stats: Together::default(),
            view: Mutex::default(),
            epoch: Arc::default(),
            principal,
            client: entropy.bits(),
            entropy,
            request_timeout: config.request_timeout,
        })
    }

    /// Where connections to block nodes say which views those know of.
    pub fn epoch(&self) -> Arc<Epoch> {
        Arc::clone(&self.epoch)
    }

    /// A request that may be repeated freely.
    async fn call<T, F>(
        &self,
        want: Want,
        timeout: Duration,
        ask: impl Fn(MetadataServiceClient<Channel>, Duration) -> F + Send + Sync,
    ) -> Result<Answered<T>, Failed>
    where
        T: Send,
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send,
    {
        let call = Call {
            want,
            repeat: Repeat::Freely,
            timeout,
        };
        let ask = |channel, left| {
            let service = MetadataServiceClient::new(channel);
            ask(service.max_decoding_message_size(MOST_BYTES), left)
        };
        let answered = self.route.call(call, ask).await?;
        Ok(Answered {
            value: answered.value.into_inner(),
            attempts: answered.attempts,
            server: answered.server,
        })
    }

    async fn ask(
        &self,
        want: Want,
        timeout: Duration,
        query: Query,
        consistency: Consistency,
    ) -> Result<Answer> {
        let asked = self.ask_raw(want, timeout, &[query], consistency).await?;
        Answer::try_from(first(asked.answer)?).map_err(unreadable)
    }

    /// Asks about a name: together with others who do, where they would wait.
    async fn stat(&self, query: Query) -> Result<Answer> {
        let (began, consistency) = (Instant::now(), Consistency::Linearizable);
        let ask = |queries: Vec<Query>| async move {
            let left = self.request_timeout.saturating_sub(began.elapsed());
            let asked = self.ask_raw(wanted(consistency), left, &queries, consistency);
            let asked = asked.await?;
            let own = Answer::try_from(first(asked.answer)?).map_err(unreadable)?;
            let others = asked.more.into_iter().map(Answer::try_from);
            let others: Result<_, _> = others.collect();
            Ok((own, others.map_err(unreadable)?))
        };
        self.stats.ask(query, ask).await
    }

    /// The first of the queries, and the others with it.
    async fn ask_raw(
        &self,
        want: Want,
        timeout: Duration,
        queries: &[Query],
        consistency: Consistency,
    ) -> Result<wire::QueryResponse> {
        let asked = |left: Duration| wire::QueryRequest {
            consistency: Some((&consistency).into()),
            query: queries.first().map(Into::into),
            principal: Some((&self.principal).into()),
            deadline_millis: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            more: queries.iter().skip(1).map(Into::into).collect(),
        };
        let answered = self
            .call(want, timeout, |mut service, left| {
                let asked = request(asked(left), left);
                async move { service.query(asked).await }
            })
            .await;
        Ok(answered.map_err(Failed::explain)?.value)
    }

    fn caller(&self) -> Caller {
        Caller {
            client: Some(self.client.into()),
            request: self.entropy.bits() as u64,
        }
    }

    fn known_view(&self, at_most: Duration) -> Option<Arc<ClusterView>> {
        let view = self.view.lock();
        let (at, view) = view.as_ref()?;
        (at.elapsed() < at_most).then(|| Arc::clone(view))
    }

    /// The view, while it is young, and the newest that anybody told of or very young.
    fn good_view(&self) -> Option<Arc<ClusterView>> {
        let view = self.known_view(VIEW_AGE)?;
        match self.epoch.is_after(view.epoch) {
            true => self.known_view(VIEW_REST),
            false => Some(view),
        }
    }
}

/// Whom a read may be asked of.
fn wanted(consistency: Consistency) -> Want {
    match consistency {
        Consistency::Linearizable | Consistency::AtLeast(_) => Want::Newest,
        Consistency::Stale => Want::Any,
    }
}

fn first(answer: Option<wire::Answer>) -> Result<wire::Answer> {
    answer.ok_or_else(|| unreadable("it is empty"))
}

/// An answer that this release cannot read.
fn unreadable(error: impl std::fmt::Display) -> FsError {
    FsError::new(
        ErrorKind::Internal,
        format!("the metadata service's answer cannot be read: {error}"),
    )
}

#[async_trait]
impl MetadataClient for RemoteMetadata {
    async fn identity(&self) -> Result<ClusterIdentity> {
        let identity = self.route.identity(self.request_timeout).await;
        identity.map_err(Failed::explain)
    }

    async fn propose(&self, context: &RequestContext, command: &Command) -> Result<Proposed> {
        let bytes = bytes::Bytes::from(encode_command_with_secrets(command));
        let propose = wire::ProposeRequest {
            context: Some(context.into()),
            command: bytes,
        };
        let proposed = self
            .call(Want::Leader, context.deadline, |mut service, left| {
                let propose = request(propose.clone(), left);
                async move { service.propose(propose).await }
            })
            .await;
        let proposed = proposed.map_err(|failed| failed.lost("look"))?;
        Ok(Proposed {
            outcome: decode_outcome(&proposed.value.outcome).map_err(unreadable)?,
            position: LogIndex::new(proposed.value.position),
            attempts: proposed.attempts,
        })
    }

    async fn query(&self, query: Query, consistency: Consistency) -> Result<Answer> {
        if matches!(query, Query::Stat { .. }) && consistency == Consistency::Linearizable {
            return self.stat(query).await;
        }
        self.ask(
            wanted(consistency),
            self.request_timeout,
            query,
            consistency,
        )
        .await
    }

    async fn query_page(&self, query: Query, consistency: Consistency) -> Result<PageAnswer> {
        let (want, queries) = (wanted(consistency), [query]);
        let asked = self.ask_raw(want, self.request_timeout, &queries, consistency);
        Ok(match first(asked.await?.answer)?.kind {
            Some(Kind::PackedPage(page)) => PageAnswer::Page(ArrivedPage {
                next: page.next.clone(),
                entries: Box::new(|| Ok(Page::try_from(page).map_err(unreadable)?.entries)),
            }),
            kind => {
                let answer = Answer::try_from(wire::Answer { kind }).map_err(unreadable)?;
                answer.into()
            }
        })
    }

    async fn begin_sync(&self, asked: SyncRequest) -> Result<SyncTurn> {
        let begin = wire::BeginSyncRequest {
            caller: Some(self.caller()),
            request: Some((&asked).into()),
        };
        let begun = self
            .call(Want::Leader, self.request_timeout, |mut service, left| {
                let begin = request(begin.clone(), left);
                async move { service.begin_sync(begin).await }
            })
            .await;
        let turn = begun.map_err(Failed::explain)?.value.turn;
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
        let ended = self.call(Want::Leader, self.request_timeout, |mut service, left| {
            let end = request(end.clone(), left);
            async move { service.end_sync(end).await }
        });
        ended.await.map(drop).map_err(Failed::explain)
    }

    async fn tell_used(&self, used: &Used) -> Result<()> {
        let tell = wire::TellUsedRequest {
            caller: Some(self.caller()),
            used: Some(used.into()),
        };
        let told = self.call(Want::Leader, self.request_timeout, |mut service, left| {
            let tell = request(tell.clone(), left);
            async move { service.tell_used(tell).await }
        });
        told.await.map(drop).map_err(Failed::explain)
    }

    /// Only the leader hears the signs of life of block nodes. Who is not told of them goes
    /// on with those that it knew.
    async fn cluster_view(&self) -> Result<Arc<ClusterView>> {
        if let Some(view) = self.good_view() {
            return Ok(view);
        }
        let timeout = VIEW_TIMEOUT.min(self.request_timeout);
        let query = Query::ClusterView;
        let asked = self.ask(Want::Leader, timeout, query, Consistency::Stale);
        let view = match (asked.await, self.known_view(Duration::MAX)) {
            (Ok(Answer::ClusterView(view)), _) => {
                self.epoch.settle(view.epoch);
                Arc::new(view)
            }
            (Ok(other), _) => {
                let doing = "asking for the block nodes";
                return Err(crate::client::unexpected(doing, &other));
            }
            (Err(_), Some(known)) => known,
            (Err(error), None) => return Err(error),
        };
        *self.view.lock() = Some((Instant::now(), Arc::clone(&view)));
        Ok(view)
    }

    fn repeats(&self) -> u64 {
        self.route.repeats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_view_is_asked_for_again_when_a_node_tells_of_a_newer_one_but_not_all_the_time() {
        let entropy = Arc::new(Entropy::from_seed(1));
        let config = ClientConfig::default();
        let remote = RemoteMetadata::new(&config, Principal::default(), entropy).unwrap();
        assert!(remote.good_view().is_none(), "there is none yet");
        let view = ClusterView {
            epoch: 3,
            nodes: Vec::new(),
        };
        *remote.view.lock() = Some((Instant::now(), Arc::new(view)));
        let epoch = remote.epoch();
        epoch.heard(4);
        tokio::time::advance(Duration::from_millis(400)).await;
        assert!(remote.good_view().is_some(), "it has just been asked for");
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(remote.good_view().is_none());
        // The leader knows of nothing newer.
        epoch.settle(3);
        assert!(remote.good_view().is_some());
        tokio::time::advance(VIEW_AGE).await;
        assert!(remote.good_view().is_none());
    }
}
