//! The metadata service over gRPC.
//!
//! Three things happen here that are nobody else's: a credential in clear is sealed
//! before the command is proposed, and unsealed for whoever opens the mount (C1); the
//! turn to look at a UFS is given (L4) and the age of knowledge written into answers
//! (R3); a view of the cluster names only the nodes that live.
//!
//! Turns, ages and signs of life are soft state of the leader: another server that is asked
//! for a turn or for the view says who leads.

use std::sync::Arc;
use std::time::Duration;

use arustio_meta::consensus::{MonotonicClock, SystemMonotonic};
use arustio_meta::error::StateMachineError;
use arustio_meta::namespace::Namespace;
use arustio_meta::store::{ReadOptions, Role};
use arustio_meta::sync_table::{Moment, SyncLimits, SyncTable};
use arustio_meta::{Consensus, MetadataStore};
use arustio_proto::convert;
use arustio_proto::failure::Failure;
use arustio_proto::meta::v1 as wire;
use arustio_proto::meta::v1::metadata_service_server::MetadataService;
use arustio_types::meta::credential::Credential;
use arustio_types::meta::mount::MountEntry;
use arustio_types::meta::query::Page;
use arustio_types::meta::sync::SyncTurn;
use arustio_types::meta::{
    Answer, Command, Consistency, FileKind, FileStatus, Query, RequestContext,
};
use arustio_types::used::Used;
use arustio_types::{Classify as _, ErrorKind, InodeId, SystemClock, WallClock};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::node::unrivalled;
use super::{answer, given, leading, refused, store_failure, unless_stopped};
use crate::compose::Opened;
use crate::late::Late;
use crate::metrics::Metrics;
use crate::seal::Sealer;
use crate::view::Liveness;

/// The longest that a request may wait here, whatever it says.
const LONGEST: Duration = Duration::from_secs(120);

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    pub(crate) late: Arc<Late<Opened>>,
    pub(crate) metrics: Metrics,
    /// Who waits for other members does so until the server stops.
    pub(crate) stop: CancellationToken,
}

/// What answers when the metadata node is there.
#[derive(Debug)]
pub(crate) struct Inner {
    store: Arc<Consensus<Namespace>>,
    sealer: Sealer,
    syncs: SyncTable,
    liveness: Arc<Liveness>,
    monotonic: SystemMonotonic,
}

impl Inner {
    pub(crate) fn new(
        store: Arc<Consensus<Namespace>>,
        sealer: Sealer,
        liveness: Arc<Liveness>,
        seed: u64,
    ) -> Self {
        Self {
            store,
            sealer,
            syncs: SyncTable::new(SyncLimits::default(), seed),
            liveness,
            monotonic: SystemMonotonic::new(),
        }
    }
}

impl Metadata {
    fn inner(&self) -> Result<&Inner, Failure> {
        Ok(&self.late.there()?.metadata)
    }
}

#[async_trait]
impl MetadataService for Metadata {
    async fn hello(
        &self,
        request: Request<wire::HelloRequest>,
    ) -> Result<Response<wire::HelloResponse>, Status> {
        let hello = request.into_inner();
        let work = async { self.inner()?.hello(hello).await };
        answer(&self.metrics, "hello", work).await
    }

    async fn propose(
        &self,
        request: Request<wire::ProposeRequest>,
    ) -> Result<Response<wire::ProposeResponse>, Status> {
        let request = request.into_inner();
        let work = async {
            let inner = self.inner()?;
            unless_stopped(&self.stop, &inner.store, inner.propose(request)).await
        };
        answer(&self.metrics, "propose", work).await
    }

    async fn query(
        &self,
        request: Request<wire::QueryRequest>,
    ) -> Result<Response<wire::QueryResponse>, Status> {
        let request = request.into_inner();
        let work = async {
            let inner = self.inner()?;
            unless_stopped(&self.stop, &inner.store, inner.query(request)).await
        };
        answer(&self.metrics, "query", work).await
    }

    async fn begin_sync(
        &self,
        request: Request<wire::BeginSyncRequest>,
    ) -> Result<Response<wire::BeginSyncResponse>, Status> {
        let request = request.into_inner();
        let work = async { self.inner()?.begin_sync(request).await };
        answer(&self.metrics, "begin_sync", work).await
    }

    async fn end_sync(
        &self,
        request: Request<wire::EndSyncRequest>,
    ) -> Result<Response<wire::EndSyncResponse>, Status> {
        let request = request.into_inner();
        let work = async {
            // A turn of a server that led before has passed on, and its ticket names none
            // here.
            self.inner()?.syncs.finish(request.ticket, request.looked);
            Ok(wire::EndSyncResponse {})
        };
        answer(&self.metrics, "end_sync", work).await
    }

    async fn tell_used(
        &self,
        request: Request<wire::TellUsedRequest>,
    ) -> Result<Response<wire::TellUsedResponse>, Status> {
        let work = async {
            // Answered by the leader, so that it alone has the sum.
            leading(&self.inner()?.store)?;
            let used: Used = given(request.into_inner().used, "what was used")?;
            self.metrics.clients().count(&used);
            Ok(wire::TellUsedResponse {})
        };
        answer(&self.metrics, "tell_used", work).await
    }
}

impl Inner {
    async fn hello(&self, _: wire::HelloRequest) -> Result<wire::HelloResponse, Failure> {
        let identity = self.store.identity();
        let status = self.store.status();
        let members = self.store.membership();
        let leader = status.leader.and_then(|leader| members.address(leader));
        Ok(wire::HelloResponse {
            software: concat!("arustio-server ", env!("CARGO_PKG_VERSION")).to_owned(),
            command_format: convert::COMMAND_FORMAT,
            cluster: Some(identity.cluster.get().into()),
            incarnation: identity.incarnation.get(),
            applied: status.applied.get(),
            leading: status.role == Role::Leader,
            leader: leader.unwrap_or_default().to_owned(),
        })
    }

    async fn propose(
        &self,
        request: wire::ProposeRequest,
    ) -> Result<wire::ProposeResponse, Failure> {
        let mut context: RequestContext = given(request.context, "the request's context")?;
        context.deadline = bounded(context.deadline);
        let command = convert::decode_command_with_secrets(&request.command).map_err(refused)?;
        let command = self.sealed(command)?;
        if let Command::RegisterNode {
            instance, address, ..
        } = &command
        {
            unrivalled(&self.store, &self.liveness, *instance, address).await?;
        }
        let proposed = self.store.propose(context, command).await;
        let proposed = proposed.map_err(|error| store_failure(&self.store, &error))?;
        Ok(wire::ProposeResponse {
            outcome: convert::encode_outcome(&proposed.outcome).into(),
            position: proposed.position.index.get(),
        })
    }

    /// A credential in clear never gets past here.
    fn sealed(&self, command: Command) -> Result<Command, Failure> {
        let seal = |spec| {
            let sealed = self.sealer.seal_mount(spec);
            sealed.map_err(|error| Failure::of(&error))
        };
        Ok(match command {
            Command::Mount(spec) => Command::Mount(seal(spec)?),
            Command::UpdateMount(spec) => Command::UpdateMount(seal(spec)?),
            other => other,
        })
    }

    async fn query(&self, request: wire::QueryRequest) -> Result<wire::QueryResponse, Failure> {
        let consistency: Consistency = match request.consistency {
            Some(consistency) => given(Some(consistency), "consistency")?,
            None => Consistency::default(),
        };
        let packed = reads_packed(request.query.as_ref());
        let query: Query = given(request.query, "the query")?;
        let more = also_asked(request.more)?;
        let options = ReadOptions {
            consistency,
            deadline: bounded(match request.deadline_millis {
                0 => ReadOptions::DEADLINE,
                millis => Duration::from_millis(millis),
            }),
        };
        let found = self.store.query(query, options).await;
        let found = found.map_err(|error| store_failure(&self.store, &error))?;
        let completed = self.completed(found).await?;
        let answer = match &completed {
            Answer::Page(page) if !packed => wire::Answer {
                kind: Some(wire::answer::Kind::Page(convert::plain_page(page))),
            },
            other => other.into(),
        };
        Ok(wire::QueryResponse {
            answer: Some(answer),
            more: self.further(more, options).await?,
        })
    }

    /// What was asked together with a question that has its answer: the state is at least as
    /// new as that asked for, and never becomes older.
    async fn further(
        &self,
        queries: Vec<Query>,
        options: ReadOptions,
    ) -> Result<Vec<wire::Answer>, Failure> {
        let mut answers = Vec::with_capacity(queries.len());
        for query in queries {
            let options = ReadOptions {
                consistency: Consistency::Stale,
                ..options
            };
            let found = self.store.query(query, options).await;
            let found = found.map_err(|error| store_failure(&self.store, &error))?;
            answers.push((&self.completed(found).await?).into());
        }
        Ok(answers)
    }

    /// Adds what only this server knows: secrets, ages of knowledge, who lives.
    async fn completed(&self, found: Answer) -> Result<Answer, Failure> {
        Ok(match found {
            Answer::OpenedMount { entry, .. } => self.opened(entry)?,
            Answer::Mounts(entries) => Answer::Mounts(self.marked(entries)?),
            Answer::Status(status) => Answer::Status(self.dated(status)),
            Answer::Page(page) => Answer::Page(self.dated_page(page)),
            Answer::ClusterView(view) => {
                // Only the leader hears the signs of life.
                let term = leading(&self.store)?.term;
                Answer::ClusterView(self.liveness.living(term, view))
            }
            other => other,
        })
    }

    fn opened(&self, entry: MountEntry) -> Result<Answer, Failure> {
        let secrets = match self.credential(&entry)? {
            Credential::Sealed(sealed) => {
                let unsealed = self.sealer.unseal(&entry.spec.path, &sealed);
                unsealed.map_err(|error| Failure::of(&error).on(&entry.spec.path))?
            }
            Credential::Provider | Credential::Clear(_) => Default::default(),
        };
        Ok(Answer::OpenedMount { entry, secrets })
    }

    /// A listing says that a credential is set, and nothing else about it.
    fn marked(&self, mut entries: Vec<MountEntry>) -> Result<Vec<MountEntry>, Failure> {
        for entry in &mut entries {
            entry.spec.credential = match self.credential(entry)? {
                Credential::Sealed(_) => Credential::Sealed(Vec::new()),
                Credential::Provider | Credential::Clear(_) => Credential::Provider,
            };
        }
        Ok(entries)
    }

    fn credential(&self, entry: &MountEntry) -> Result<Credential, Failure> {
        let found = self
            .store
            .with_state(|state| state.sealed_credential(entry.id));
        found.map_err(|error: StateMachineError| Failure::new(error.kind(), error.to_string()))
    }

    /// Ages of a name and, of a directory, of its listing.
    fn dated(&self, mut status: FileStatus) -> FileStatus {
        if status.mount.is_none() {
            return status;
        }
        if status.is_dir() {
            status.checked_at = self.syncs.checked_at(status.inode, None);
        }
        if let (Some(known), Some(name)) = (&mut status.freshness, status.path.name()) {
            let look = known
                .dir
                .and_then(|dir| self.syncs.look(dir, name, self.moment()));
            known.age = look.map(|(_, age)| age);
            status.checked_at = status.checked_at.or(look.map(|(at, _)| at));
        }
        status
    }

    fn moment(&self) -> Moment {
        Moment {
            elapsed: self.monotonic.now(),
            wall: SystemClock.now(),
        }
    }

    fn dated_page(&self, mut page: Page) -> Page {
        let dir: InodeId = page.dir.inode;
        page.dir.checked_at = self.syncs.checked_at(dir, None);
        let whole = page.dir.checked_at;
        if !self.syncs.knows_names(dir) && !page.entries.has_directories() {
            page.entries.set_checked(|_| whole);
            return page;
        }
        page.entries.set_checked(|entry| {
            let own = (entry.kind == FileKind::Directory)
                .then(|| self.syncs.checked_at(entry.inode, None));
            let by_name = || self.syncs.checked_at(dir, Some(entry.name));
            own.flatten().or_else(by_name)
        });
        page
    }

    async fn begin_sync(
        &self,
        request: wire::BeginSyncRequest,
    ) -> Result<wire::BeginSyncResponse, Failure> {
        let request = given(request.request, "the question")?;
        let status = leading(&self.store)?;
        let turn: SyncTurn = self.syncs.ask(&request, status.applied, self.moment());
        Ok(wire::BeginSyncResponse {
            turn: Some((&turn).into()),
        })
    }
}

/// Whether the asker reads packed pages: clients of earlier releases do not.
fn reads_packed(query: Option<&wire::Query>) -> bool {
    match query.and_then(|query| query.kind.as_ref()) {
        Some(wire::query::Kind::List(list)) => list.packed >= convert::PACKED_FORMAT,
        _ => false,
    }
}

/// Questions beside the first: about names only, whose answers are small.
fn also_asked(more: Vec<wire::Query>) -> Result<Vec<Query>, Failure> {
    if more.len() >= convert::MAX_QUESTIONS {
        let words = format!("{} questions at once; ask fewer", more.len() + 1);
        return Err(Failure::new(ErrorKind::InvalidArgument, words));
    }
    more.into_iter()
        .map(|query| match given(Some(query), "a query")? {
            stat @ Query::Stat { .. } => Ok(stat),
            _ => Err(Failure::new(
                ErrorKind::InvalidArgument,
                "only names can be asked about together",
            )),
        })
        .collect()
}

fn bounded(deadline: Duration) -> Duration {
    deadline.min(LONGEST)
}
