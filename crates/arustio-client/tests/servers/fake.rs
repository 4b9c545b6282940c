//! A metadata cluster of fake servers: real gRPC, one shared log, and moods.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arustio_client::ClientConfig;
use arustio_client::entropy::Entropy;
use arustio_client::metadata::RemoteMetadata;
use arustio_proto::convert;
use arustio_proto::failure::Failure;
use arustio_proto::meta::v1 as wire;
use arustio_proto::meta::v1::metadata_service_server::{MetadataService, MetadataServiceServer};
use arustio_types::meta::command::Principal;
use arustio_types::meta::{Answer, Outcome};
use arustio_types::{ErrorKind, Incarnation, LogIndex};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// How a fake server behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Leads.
    Leads,
    /// Does not, and says that this one does.
    Follows(Option<String>),
    /// Leads; applies what it gets, and cuts the answer off.
    Cuts,
    /// Leads; applies what it gets, and never answers.
    Swallows,
    /// Takes connections and never answers anything.
    Mute,
    /// Leads; loses leadership while it works on a request, which it applies or not.
    Falters,
}

/// What all servers of a cluster share.
#[derive(Debug, Default)]
pub(crate) struct Log {
    outcomes: HashMap<(u64, u64), u64>,
    /// Sequence numbers, in the order in which they were applied.
    pub(crate) applied: Vec<u64>,
    /// Requests that arrived, repeats included.
    pub(crate) arrived: u32,
    /// Those, and the questions who leads.
    asked: watch::Sender<u32>,
    /// Who answered reads.
    pub(crate) readers: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Fake {
    cluster: u128,
    address: String,
    mood: Arc<Mutex<Mood>>,
    log: Arc<Mutex<Log>>,
}

/// A running server. Like a process it has a runtime of its own, which takes the
/// connections with it when it ends.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) fake: Fake,
    process: Option<Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.shutdown_background();
        }
    }
}

/// Several of them, with one log.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Running>,
    pub(crate) log: Arc<Mutex<Log>>,
}

impl Cluster {
    /// The first one leads, the others follow and say so.
    pub(crate) async fn start(count: usize) -> Self {
        let log = Arc::default();
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(Running::start(7, Arc::clone(&log), Mood::Follows(None)).await);
        }
        let cluster = Self { servers, log };
        cluster.elect(0);
        cluster
    }

    pub(crate) fn address(&self, at: usize) -> String {
        self.servers[at].fake.address.clone()
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        (0..self.servers.len()).map(|at| self.address(at)).collect()
    }

    pub(crate) fn mood(&self, at: usize, mood: Mood) {
        *self.servers[at].fake.mood.lock() = mood;
    }

    /// One leads; the others name it.
    pub(crate) fn elect(&self, leader: usize) {
        for at in 0..self.servers.len() {
            self.mood(at, Mood::Follows(Some(self.address(leader))));
        }
        self.mood(leader, Mood::Leads);
    }

    /// Nobody leads.
    pub(crate) fn depose(&self) {
        for at in 0..self.servers.len() {
            self.mood(at, Mood::Follows(None));
        }
    }

    pub(crate) fn applied(&self) -> Vec<u64> {
        self.log.lock().applied.clone()
    }

    /// Waits until clients have asked so often from now on, for a change or who leads.
    pub(crate) async fn until_asked(&self, times: u32) {
        let mut asked = self.log.lock().asked.subscribe();
        let enough = *asked.borrow() + times;
        asked.wait_for(|asked| *asked >= enough).await.unwrap();
    }
}

impl Running {
    pub(crate) async fn start(cluster: u128, log: Arc<Mutex<Log>>, mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Fake {
            cluster,
            address: listener.local_addr().unwrap().to_string(),
            mood: Arc::new(Mutex::new(mood)),
            log,
        };
        Self {
            process: Some(fake.serve(listener)),
            fake,
        }
    }

    /// The process is gone, with all its connections.
    pub(crate) async fn kill(&mut self) {
        let process = self.process.take().unwrap();
        let limit = Duration::from_secs(10);
        let ended = tokio::task::spawn_blocking(move || process.shutdown_timeout(limit));
        ended.await.unwrap();
    }

    /// It runs again at the same address.
    pub(crate) async fn restart(&mut self) {
        let address: SocketAddr = self.fake.address.parse().unwrap();
        let listener = TcpListener::bind(address).unwrap();
        self.process = Some(self.fake.serve(listener));
    }
}

impl Fake {
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    pub(crate) fn applied(&self) -> Vec<u64> {
        self.log.lock().applied.clone()
    }

    fn serve(&self, listener: TcpListener) -> Runtime {
        let service = MetadataServiceServer::new(self.clone());
        listener.set_nonblocking(true).unwrap();
        let mut process = tokio::runtime::Builder::new_multi_thread();
        let process = process.worker_threads(1).enable_all().build().unwrap();
        process.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let served = Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener));
            served.await.unwrap();
        });
        process
    }

    async fn mood(&self) -> Mood {
        let mood = self.mood.lock().clone();
        if mood == Mood::Mute {
            std::future::pending::<()>().await;
        }
        mood
    }

    fn asked(&self) {
        self.log.lock().asked.send_modify(|asked| *asked += 1);
    }

    fn apply(&self, context: &wire::RequestContext) -> u64 {
        let mut log = self.log.lock();
        let id = (context.session, context.sequence);
        if let Some(position) = log.outcomes.get(&id) {
            return *position;
        }
        log.applied.push(context.sequence);
        let position = log.applied.len() as u64;
        log.outcomes.insert(id, position);
        position
    }
}

fn follows(leader: Option<String>) -> Status {
    Failure::new(ErrorKind::Unavailable, "this server does not lead")
        .not_leader(None, leader)
        .into()
}

#[tonic::async_trait]
impl MetadataService for Fake {
    async fn hello(
        &self,
        _: Request<wire::HelloRequest>,
    ) -> Result<Response<wire::HelloResponse>, Status> {
        self.asked();
        let mood = self.mood().await;
        let leader = match &mood {
            Mood::Follows(leader) => leader.clone(),
            _ => None,
        };
        Ok(Response::new(wire::HelloResponse {
            cluster: Some(self.cluster.into()),
            incarnation: Incarnation::new(1).get(),
            leading: !matches!(mood, Mood::Follows(_)),
            leader: leader.unwrap_or_default(),
            ..wire::HelloResponse::default()
        }))
    }

    async fn propose(
        &self,
        request: Request<wire::ProposeRequest>,
    ) -> Result<Response<wire::ProposeResponse>, Status> {
        let context = request.into_inner().context.unwrap();
        self.log.lock().arrived += 1;
        self.asked();
        let position = match self.mood().await {
            Mood::Follows(leader) => return Err(follows(leader)),
            Mood::Cuts => {
                self.apply(&context);
                return Err(Status::unavailable("the connection broke"));
            }
            Mood::Swallows => {
                self.apply(&context);
                return std::future::pending().await;
            }
            Mood::Falters => {
                *self.mood.lock() = Mood::Follows(None);
                let lost = Failure::new(ErrorKind::Unavailable, "the leader changed");
                return Err(lost.undecided().into());
            }
            Mood::Leads | Mood::Mute => self.apply(&context),
        };
        Ok(Response::new(wire::ProposeResponse {
            outcome: convert::encode_outcome(&Outcome::Done).into(),
            position,
        }))
    }

    async fn query(
        &self,
        _: Request<wire::QueryRequest>,
    ) -> Result<Response<wire::QueryResponse>, Status> {
        self.mood().await;
        let answer = {
            let mut log = self.log.lock();
            log.readers.push(self.address.clone());
            Answer::Identity {
                cluster: arustio_types::ClusterId::new(self.cluster),
                incarnation: Incarnation::new(1),
                applied: LogIndex::new(log.applied.len() as u64),
            }
        };
        Ok(Response::new(wire::QueryResponse {
            answer: Some((&answer).into()),
            more: Vec::new(),
        }))
    }

    async fn begin_sync(
        &self,
        _: Request<wire::BeginSyncRequest>,
    ) -> Result<Response<wire::BeginSyncResponse>, Status> {
        Err(Status::unimplemented("nobody asks a fake for it"))
    }

    async fn end_sync(
        &self,
        _: Request<wire::EndSyncRequest>,
    ) -> Result<Response<wire::EndSyncResponse>, Status> {
        Err(Status::unimplemented("nobody asks a fake for it"))
    }

    async fn tell_used(
        &self,
        _: Request<wire::TellUsedRequest>,
    ) -> Result<Response<wire::TellUsedResponse>, Status> {
        Err(Status::unimplemented("nobody tells a fake"))
    }
}

/// A client of these servers.
pub(crate) fn client(addresses: Vec<String>) -> RemoteMetadata {
    client_within(addresses, Duration::from_secs(10))
}

pub(crate) fn client_within(addresses: Vec<String>, request_timeout: Duration) -> RemoteMetadata {
    let config = ClientConfig {
        addresses,
        request_timeout,
        ..ClientConfig::default()
    };
    let entropy = Arc::new(Entropy::from_seed(1));
    RemoteMetadata::new(&config, Principal::default(), entropy).unwrap()
}

/// Addresses that were free a moment ago and that nobody listens on.
pub(crate) fn nobody(count: usize) -> Vec<String> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners: Vec<_> = (0..count).map(bind).collect();
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    listeners.iter().map(address).collect()
}
