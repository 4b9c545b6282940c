//! A cluster of servers, and a client that follows its leader.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use arustio_meta::consensus::Consensus;
use arustio_meta::namespace::Namespace;
use arustio_meta::store::{MetadataStore as _, Role as MemberRole};
use arustio_proto::convert;
use arustio_proto::failure::Failure;
use arustio_proto::meta::v1 as meta;
use arustio_proto::meta::v1::metadata_service_client::MetadataServiceClient;
use arustio_server::{Engine, Role, Server, ServerConfig, ServerError, ask};
use arustio_types::meta::{Answer, Command, Consistency, Outcome, Query, RequestContext};
use arustio_types::{ByteSize, FsPath, SessionId, WriteId};
use tempfile::TempDir;
use tonic::transport::Channel;

/// Nothing here takes so long on a machine that works at all.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for something with a deadline.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(DEADLINE, found).await {
        Ok(found) => found,
        Err(_) => panic!("never happened: {what}"),
    }
}

/// An address of this process alone: other addresses of loopback than everybody's, so that
/// no outgoing connection takes the port while a server is down.
pub(crate) fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let process = std::process::id();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = process.to_be_bytes();
    let host = format!("127.{}.{}.{}", 64 + high % 128, low, number % 250 + 1);
    let listener = std::net::TcpListener::bind((host.as_str(), 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}

/// One server, running or not.
pub(crate) struct Member {
    pub(crate) number: u64,
    pub(crate) folder: TempDir,
    pub(crate) engine: Engine,
    pub(crate) address: String,
    pub(crate) server: Option<Server>,
}

impl Member {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            folder: tempfile::tempdir().unwrap(),
            engine: Engine::kept(),
            address: free_address(),
            server: None,
        }
    }

    /// The folder and what its engines hold are lost.
    pub(crate) fn wipe(&mut self) {
        self.folder = tempfile::tempdir().unwrap();
        self.engine = Engine::kept();
    }

    pub(crate) fn store(&self) -> Arc<Consensus<Namespace>> {
        self.server.as_ref().unwrap().metadata().unwrap()
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }
}

/// Servers that were given one list.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    pub(crate) listed: Vec<String>,
    /// Keeps the key.
    _home: TempDir,
    pub(crate) key: PathBuf,
    /// Compacts early and keeps little, so that whoever was away needs a snapshot.
    pub(crate) forgetful: bool,
}

impl Cluster {
    /// Servers that are not running yet.
    pub(crate) fn new(count: u64) -> Self {
        // With ARUSTIO_LOG a failing test tells what its servers did.
        let filter = tracing_subscriber::EnvFilter::from_env("ARUSTIO_LOG");
        let lines = tracing_subscriber::fmt().with_env_filter(filter);
        let _ = lines.with_test_writer().try_init();
        let home = tempfile::tempdir().unwrap();
        let key = home.path().join("cluster.key");
        arustio_server::data_dir::make_key(&key).unwrap();
        let members: Vec<_> = (1..=count).map(Member::new).collect();
        let listed = members.iter();
        let listed = listed.map(|member| format!("{}={}", member.number, member.address));
        Self {
            listed: listed.collect(),
            members,
            _home: home,
            key,
            forgetful: false,
        }
    }

    /// Servers that have formed a cluster.
    pub(crate) async fn formed(count: u64) -> Self {
        let mut cluster = Self::new(count);
        cluster.start_all().await;
        cluster
    }

    pub(crate) fn config(&self, at: usize) -> ServerConfig {
        let member = &self.members[at];
        let mut config = ServerConfig::ephemeral(member.folder.path());
        config.server.role = vec![Role::Metadata];
        config.server.listen.clone_from(&member.address);
        config.cluster.member = Some(member.number);
        config.cluster.members.clone_from(&self.listed);
        config.cluster.key_file = Some(self.key.clone());
        config.recovery.enabled = false;
        if self.forgetful {
            config.metadata.raft.compact_after = ByteSize::kib(4);
            config.metadata.raft.compact_keep = 4;
        }
        config
    }

    /// Begins to start one.
    pub(crate) async fn open(&mut self, at: usize) -> Result<(), ServerError> {
        self.open_with(at, self.config(at)).await
    }

    pub(crate) async fn open_with(
        &mut self,
        at: usize,
        config: ServerConfig,
    ) -> Result<(), ServerError> {
        let engine = self.members[at].engine.clone();
        let server = Server::open(config.validate()?, engine).await?;
        self.members[at].server = Some(server);
        Ok(())
    }

    pub(crate) async fn ready(&mut self, at: usize) -> Result<(), ServerError> {
        let server = self.members[at].server.as_mut().unwrap();
        tokio::time::timeout(DEADLINE, server.ready())
            .await
            .unwrap()
    }

    pub(crate) async fn start(&mut self, at: usize) {
        self.open(at).await.unwrap();
        self.ready(at).await.unwrap();
    }

    pub(crate) async fn start_all(&mut self) {
        for at in 0..self.members.len() {
            self.open(at).await.unwrap();
        }
        for at in 0..self.members.len() {
            self.ready(at).await.unwrap();
        }
    }

    pub(crate) async fn stop_all(&mut self) {
        for member in &mut self.members {
            member.stop().await;
        }
    }

    /// Which running server leads.
    pub(crate) async fn leader(&self) -> usize {
        eventually("a leader", async || {
            self.members.iter().position(|member| {
                let store = member.server.as_ref().and_then(Server::metadata);
                store.is_some_and(|store| store.status().role == MemberRole::Leader)
            })
        })
        .await
    }

    /// A running server that does not lead.
    pub(crate) async fn follower(&self) -> usize {
        let leader = self.leader().await;
        let running = |at: &usize| *at != leader && self.members[*at].server.is_some();
        (0..self.members.len()).find(running).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        let addresses = self.members.iter().map(|member| member.address.clone());
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Client {
            addresses: addresses.collect(),
            nonce: NEXT.fetch_add(1, Ordering::Relaxed).into(),
            session: SessionId::default(),
            sequence: 0,
        }
    }

    /// Waits until a member has applied that a directory was made.
    pub(crate) async fn sees(&self, at: usize, path: &str) {
        let address = &self.members[at].address;
        eventually(&format!("{address} sees {path}"), async || {
            let answer = query(address, stat(path), Consistency::Stale).await.ok()?;
            matches!(answer, Answer::Status(_)).then_some(())
        })
        .await;
    }
}

/// Speaks to whoever leads, and repeats under the same request id.
pub(crate) struct Client {
    addresses: Vec<String>,
    nonce: u128,
    session: SessionId,
    sequence: u64,
}

impl Client {
    pub(crate) async fn propose(&mut self, command: &Command) -> Outcome {
        if self.session == SessionId::default() {
            let open = Command::OpenSession {
                nonce: self.nonce,
                ttl: Duration::from_secs(300),
            };
            match self.send(&open).await {
                Outcome::SessionOpened { session } => self.session = session,
                other => panic!("no session: {other:?}"),
            }
        }
        self.sequence += 1;
        self.send(command).await
    }

    async fn send(&self, command: &Command) -> Outcome {
        let mut context = RequestContext::default();
        context.id.session = self.session;
        context.id.sequence = self.sequence;
        context.id.first_unacked = self.sequence;
        context.deadline = Duration::from_secs(2);
        eventually("an outcome", async || {
            for address in &self.addresses {
                if let Ok(outcome) = propose(address, &context, command).await {
                    return Some(outcome);
                }
            }
            None
        })
        .await
    }

    pub(crate) async fn mkdir(&mut self, path: &str) {
        let made = self.propose(&mkdir(path)).await;
        assert!(matches!(made, Outcome::DirectoryMade { .. }), "{made:?}");
    }
}

pub(crate) async fn service(address: &str) -> Result<MetadataServiceClient<Channel>, Failure> {
    let unreachable = |error: tonic::transport::Error| {
        Failure::new(arustio_types::ErrorKind::Unavailable, error.to_string())
    };
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect().await.map_err(unreachable)?;
    Ok(MetadataServiceClient::new(channel))
}

pub(crate) async fn propose(
    address: &str,
    context: &RequestContext,
    command: &Command,
) -> Result<Outcome, Failure> {
    let request = meta::ProposeRequest {
        context: Some(context.into()),
        command: convert::encode_command_with_secrets(command).into(),
    };
    let answer = service(address).await?.propose(request).await;
    let answer = answer.map_err(|status| Failure::from(&status))?;
    Ok(convert::decode_outcome(&answer.into_inner().outcome).unwrap())
}

pub(crate) async fn query(
    address: &str,
    query: Query,
    consistency: Consistency,
) -> Result<Answer, Failure> {
    let request = meta::QueryRequest {
        consistency: Some((&consistency).into()),
        query: Some((&query).into()),
        ..meta::QueryRequest::default()
    };
    let answer = service(address).await?.query(request).await;
    let answer = answer.map_err(|status| Failure::from(&status))?;
    Ok(answer.into_inner().answer.unwrap().try_into().unwrap())
}

pub(crate) fn stat(path: &str) -> Query {
    Query::Stat {
        path: FsPath::new(path).unwrap(),
    }
}

pub(crate) fn mkdir(path: &str) -> Command {
    Command::Mkdir {
        path: FsPath::new(path).unwrap(),
        parents: true,
        exist_ok: false,
        write_id: WriteId::new(1),
        proofs: Vec::new(),
    }
}

/// What `/readyz` says.
pub(crate) async fn readyz(server: &Server) -> ask::Answer {
    let address = server.addresses().http.to_string();
    ask::ask(&address, "/readyz").await.unwrap()
}
