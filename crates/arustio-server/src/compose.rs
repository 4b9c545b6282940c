//! From settings to a running server: the only place that picks implementations.
//!
//! Start: take the data folder, bind the ports, serve; meanwhile the metadata node forms a
//! cluster, or finds the one that it belongs to, and a client that comes early is told what
//! is waited for. Ready: the group has a leader, the block node is announced, jobs run.
//!
//! Stop, in the opposite order: no longer ready, jobs, announcements, leadership handed
//! over, gRPC with the requests that are under way, the transport, the metadata node, the
//! block store, HTTP, the folder's lock.

use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arustio_block::{BlockStore, Disks, Fills, Machine, MemoryTier, TieredStore};
use arustio_meta::engine::KvEngine;
use arustio_meta::error::StoreError;
use arustio_meta::namespace::Namespace;
use arustio_meta::store::Role as MemberRole;
use arustio_meta::{Consensus, MetadataStore as _};
use arustio_types::cluster::DataEndpoints;
use arustio_types::meta::Outcome;
use arustio_types::unit::format_duration;
use arustio_types::{ByteSize, NodeId, SystemClock};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::blocks::{Budget, Identity};
use crate::config::{CheckedServer, Role, ServerConfig};
use crate::data::socket::{self, Socket};
use crate::data::{self, Endpoint, Lending, Listeners};
use crate::data_dir::DataDir;
pub use crate::engines::Engine;
use crate::error::ServerError;
use crate::grpc::admin::Copies;
use crate::grpc::{self, Services, admin, block, metadata, node, raft};
use crate::http::{self, Readiness, Shown};
use crate::introduction::Introduction;
use crate::jobs;
use crate::late::Late;
use crate::metrics::Metrics;
use crate::opening::Opening;
use crate::raft_transport::{Arrivals, GrpcTransport};
use crate::registration::{self, Announcement};
use crate::tasks::Tasks;
use crate::view::Liveness;
use arustio_client::block::buffers::Buffers;

/// How long the registration of the block node may take.
const REGISTRATION: Duration = Duration::from_secs(10);
/// How long a leader that stops waits for another one to take over.
const HANDOVER: Duration = Duration::from_secs(1);

/// Where a server is reached, with the ports that it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// Block frames, where they are spoken.
    pub frames: Option<SocketAddr>,
    /// Health, metrics, version.
    pub http: SocketAddr,
}

/// A running server. Dropping it without [`stop`](Self::stop) leaves its tasks running
/// until the runtime ends.
#[derive(Debug)]
pub struct Server {
    addresses: Addresses,
    ready_line: String,
    settings: ServerConfig,
    /// Where others reach it.
    advertised: String,
    /// Metadata servers, for a block node without one.
    servers: Vec<String>,
    readiness: Arc<Readiness>,
    metrics: Metrics,
    forming: Tasks,
    jobs: Tasks,
    announcing: Tasks,
    serving: Tasks,
    http: Tasks,
    metadata: Option<MetadataPart>,
    blocks: Option<BlockPart>,
    /// Last, so that the folder is given free last.
    data: Arc<DataDir>,
}

#[derive(Debug)]
struct MetadataPart {
    late: Arc<Late<Opened>>,
    introduction: Arc<Introduction>,
    failure: watch::Receiver<Option<Arc<ServerError>>>,
}

/// A metadata node that is there.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Arc<Consensus<Namespace>>,
    /// The state's engine, which opens copies of itself.
    pub(crate) state: Arc<dyn KvEngine>,
    /// What answers clients.
    pub(crate) metadata: metadata::Inner,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) transport: GrpcTransport,
}

#[derive(Debug)]
struct BlockPart {
    store: Arc<dyn BlockStore>,
    fills: Arc<Fills>,
    identity: Identity,
    memory: ByteSize,
    disk: ByteSize,
    /// Of what is received and of what was read to be sent, on both wires.
    receiving: Budget,
    sending: Budget,
    /// Ways to the bytes beside gRPC.
    ways: DataEndpoints,
    /// Why the cluster does not take this node, now or later.
    refused: watch::Sender<Option<Arc<ServerError>>>,
}

impl Server {
    /// Starts a server. On return it takes requests. A server that waits for others (to
    /// found a cluster, to be made a member, to have a leader) does not return before.
    pub async fn start(checked: CheckedServer, engine: Engine) -> Result<Self, ServerError> {
        let mut server = Self::open(checked, engine).await?;
        match server.ready().await {
            Ok(()) => Ok(server),
            Err(error) => {
                server.stop().await;
                Err(error)
            }
        }
    }

    /// Begins to start a server. On return it listens, and whoever asks it is told what it
    /// waits for.
    pub async fn open(checked: CheckedServer, engine: Engine) -> Result<Self, ServerError> {
        let folder = checked.data_dir.clone();
        let data = Arc::new(blocking(move || DataDir::open(&folder)).await?);
        let grpc = listen(checked.grpc, "gRPC", "--listen").await?;
        let http = listen(checked.http, "HTTP", "--http-listen").await?;
        let frames = listen_for_frames(&checked, &data).await?;
        let addresses = Addresses {
            grpc: local(&grpc)?,
            frames: frames.as_ref().map(|to| local(&to.tcp)).transpose()?,
            http: local(&http)?,
        };
        let ways = ways(&checked, addresses, frames.as_ref());
        let advertised = checked.advertised(addresses.grpc);
        let metrics = Metrics::new();
        let settings = checked.settings.clone();
        let servers = checked.cluster.metadata.clone();
        let opening = match settings.has(Role::Metadata) {
            true => {
                let (data, metrics) = (Arc::clone(&data), metrics.clone());
                let address = advertised.clone();
                let prepare = move || Opening::prepare(&checked, data, address, engine, metrics);
                Some(blocking(prepare).await?)
            }
            false => None,
        };
        let blocks = match settings.has(Role::Block) {
            true => Some(open_blocks(&settings, &data, &metrics, ways).await?),
            false => None,
        };
        let metadata = opening.as_ref().map(|opening| MetadataPart {
            late: Arc::clone(&opening.late),
            introduction: Arc::clone(&opening.introduction),
            failure: opening.failure.subscribe(),
        });
        let readiness = Readiness {
            metadata: metadata.as_ref().map(|part| Arc::clone(&part.late)),
            ..Readiness::default()
        };
        let server = Self {
            ready_line: ready_line(&settings, addresses, &data, blocks.as_ref()),
            addresses,
            settings,
            advertised,
            servers,
            readiness: Arc::new(readiness),
            metrics,
            forming: Tasks::default(),
            jobs: Tasks::default(),
            announcing: Tasks::default(),
            serving: Tasks::default(),
            http: Tasks::default(),
            metadata,
            blocks,
            data,
        };
        server.serve(grpc, http, frames);
        if let Some(opening) = opening {
            let stop = server.forming.stopping();
            server.forming.spawn("metadata", opening.run(stop));
        }
        Ok(server)
    }

    /// Waits until the server takes requests. Safe to drop, and to call again if it was.
    pub async fn ready(&mut self) -> Result<(), ServerError> {
        if let Some(metadata) = &self.metadata {
            tokio::select! {
                () = led(&metadata.late) => {}
                error = self.failed() => return Err(error),
            }
        }
        self.announce().await?;
        self.schedule();
        self.readiness.serving.store(true, Ordering::Release);
        Ok(())
    }

    /// Where it is reached.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The metadata node, once it is there: for programs that embed a server, and for tests.
    pub fn metadata(&self) -> Option<Arc<Consensus<Namespace>>> {
        let opened = self.metadata.as_ref()?.late.get()?;
        Some(Arc::clone(&opened.store))
    }

    /// What it waits for before its metadata node is there, in words.
    pub fn waiting(&self) -> Option<String> {
        let late = &self.metadata.as_ref()?.late;
        late.get().is_none().then(|| late.waiting())
    }

    /// One line that says where everything is, for whoever started it.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// Where everything that lasts is kept.
    pub fn data_dir(&self) -> PathBuf {
        self.data.path().to_owned()
    }

    /// Returns when the server can no longer keep its promises, or can never be a member of
    /// its cluster; without such a failure it never does. Safe to drop.
    pub async fn failed(&self) -> ServerError {
        let Some(metadata) = &self.metadata else {
            // Whoever is nothing but a block node that nobody takes has nothing to do.
            return match &self.blocks {
                Some(blocks) => first(blocks.refused.subscribe()).await,
                None => pending().await,
            };
        };
        let ended = async {
            match metadata.late.come().await.store.ended().await {
                Err(error) => ServerError::Metadata(error),
                Ok(()) => pending().await,
            }
        };
        tokio::select! {
            error = ended => error,
            error = first(metadata.failure.clone()) => error,
        }
    }

    /// Stops in order and waits. Every acknowledged operation is durable afterwards.
    pub async fn stop(self) {
        self.readiness.serving.store(false, Ordering::Release);
        self.close("the start", &self.forming).await;
        self.close("jobs", &self.jobs).await;
        self.close("announcements", &self.announcing).await;
        let opened = self.metadata.as_ref().and_then(|part| part.late.get());
        if let Some(opened) = opened {
            hand_over(&opened.store).await;
        }
        self.close("requests", &self.serving).await;
        if let Some(opened) = opened {
            if !opened
                .transport
                .close(self.settings.server.shutdown_grace)
                .await
            {
                tracing::warn!("streams to other metadata servers were left behind");
            }
            if let Err(error) = opened.store.close().await {
                tracing::error!("the metadata node did not stop well: {error}");
            }
        }
        if let Some(blocks) = &self.blocks {
            blocks.store.close().await;
        }
        self.close("HTTP", &self.http).await;
    }

    async fn close(&self, what: &str, tasks: &Tasks) {
        let grace = self.settings.server.shutdown_grace;
        if !tasks.close(grace).await {
            let grace = format_duration(grace);
            tracing::warn!("{what} had not ended after {grace} and were left behind");
        }
    }

    fn serve(&self, grpc: TcpListener, http: TcpListener, frames: Option<Listeners>) {
        let services = self.services();
        let stop = self.serving.stopping();
        let config = self.settings.grpc.clone();
        self.serving
            .spawn("grpc", grpc::serve(grpc, config, services, stop));
        if let Some((frames, blocks)) = frames.zip(self.blocks.as_ref()) {
            let endpoint = Arc::new(self.endpoint(blocks));
            let stop = self.serving.stopping();
            self.serving
                .spawn("frames", data::serve(frames, endpoint, stop));
        }
        let shown = Shown {
            metrics: self.metrics.clone(),
            readiness: Arc::clone(&self.readiness),
        };
        self.http
            .spawn("http", http::serve(http, shown, self.http.stopping()));
    }

    fn endpoint(&self, blocks: &BlockPart) -> Endpoint {
        let late = self.metadata.as_ref().map(|part| Arc::clone(&part.late));
        let lending = Lending::default();
        self.metrics.watch_lending(lending.clone());
        Endpoint {
            store: Arc::clone(&blocks.store),
            fills: Arc::clone(&blocks.fills),
            holders: AtomicU64::new(0),
            identity: blocks.identity.clone(),
            cluster: Box::new(move || {
                let opened = late.as_ref().and_then(|late| late.get());
                let identity = opened.map(|opened| opened.store.identity());
                identity.map_or_else(Default::default, |own| (own.cluster, own.incarnation))
            }),
            receiving: blocks.receiving.clone(),
            sending: blocks.sending.clone(),
            lending,
            buffers: Buffers::default(),
            config: self.settings.frames.clone(),
            metrics: self.metrics.clone(),
        }
    }

    fn services(&self) -> Services {
        let metadata = self.metadata.as_ref();
        let settings = &self.settings;
        let block = self.blocks.as_ref().map(|part| {
            block::Blocks::new(
                Arc::clone(&part.store),
                Arc::clone(&part.fills),
                part.identity.clone(),
                settings.grpc.block_chunk,
                part.receiving.clone(),
                part.sending.clone(),
                self.metrics.clone(),
            )
        });
        Services {
            metadata: metadata.map(|part| metadata::Metadata {
                late: Arc::clone(&part.late),
                metrics: self.metrics.clone(),
                stop: self.serving.stopping(),
            }),
            node: metadata.map(|part| node::Nodes {
                late: Arc::clone(&part.late),
                heartbeat: settings.metadata.nodes.heartbeat,
                metrics: self.metrics.clone(),
            }),
            admin: metadata.map(|part| admin::Admin {
                late: Arc::clone(&part.late),
                metrics: self.metrics.clone(),
                copies: Copies::new(settings.metadata.raft.snapshot_rate, self.serving.clone()),
            }),
            raft: metadata.map(|part| raft::Raft {
                introduction: Arc::clone(&part.introduction),
                late: Arc::clone(&part.late),
                arrivals: Arc::new(Arrivals::default()),
                metrics: self.metrics.clone(),
                stop: self.serving.stopping(),
            }),
            block,
        }
    }

    /// Makes the block node of this process known. Where this process leads the metadata
    /// group that is one command, and on return the node is in the view.
    async fn announce(&self) -> Result<(), ServerError> {
        let Some(blocks) = &self.blocks else {
            return Ok(());
        };
        let late = self.metadata.as_ref().map(|part| Arc::clone(&part.late));
        let opened = late.as_ref().and_then(|late| late.get());
        if let Some(opened) = opened.filter(|opened| leads(opened)) {
            let node = register(opened, blocks, &self.advertised).await?;
            *blocks.identity.node.lock() = node;
            opened.liveness.own(node);
        }
        let (servers, own) = (self.servers.clone(), self.addresses.grpc.to_string());
        let announcement = Announcement {
            identity: blocks.identity.clone(),
            address: self.advertised.clone(),
            data: blocks.ways.clone(),
            servers: Box::new(move || match late.as_ref().and_then(|late| late.get()) {
                Some(opened) => metadata_servers(opened, &own),
                None => servers.clone(),
            }),
            heartbeat: self.settings.metadata.nodes.heartbeat,
            store: Arc::clone(&blocks.store),
            refused: blocks.refused.clone(),
        };
        let stop = self.announcing.stopping();
        self.announcing
            .spawn("announce", registration::announce(announcement, stop));
        Ok(())
    }

    fn schedule(&self) {
        let Some(metadata) = &self.metadata else {
            return;
        };
        if !self.settings.recovery.enabled {
            return;
        }
        let late = Arc::clone(&metadata.late);
        let job = jobs::recover(
            self.addresses.grpc.to_string(),
            self.settings.recovery.interval,
            move || late.get().is_some_and(leads),
            self.jobs.stopping(),
        );
        self.jobs.spawn("recovery", job);
    }
}

/// Waits for a failure.
async fn first(mut failure: watch::Receiver<Option<Arc<ServerError>>>) -> ServerError {
    let found = failure.wait_for(Option::is_some).await;
    let error = found.ok().and_then(|found| found.clone());
    match error {
        Some(error) => ServerError::Ended(error),
        None => pending().await,
    }
}

fn leads(opened: &Opened) -> bool {
    opened.store.status().role == MemberRole::Leader
}

/// Waits until the metadata node is there and its group has a leader.
async fn led(late: &Late<Opened>) {
    let mut status = late.come().await.store.watch();
    if status
        .wait_for(|status| status.leader.is_some())
        .await
        .is_err()
    {
        pending::<()>().await;
    }
}

/// Has another member lead, so that clients need not wait for an election.
async fn hand_over(store: &Consensus<Namespace>) {
    let alone = store.membership().voters.len() < 2;
    if alone || store.status().role != MemberRole::Leader {
        return;
    }
    match tokio::time::timeout(HANDOVER, store.transfer(None, HANDOVER)).await {
        Ok(Ok(leader)) => tracing::info!(%leader, "handed leadership over"),
        Ok(Err(error)) => tracing::debug!("leadership is not handed over: {error}"),
        Err(_) => tracing::debug!("nobody took leadership over in time"),
    }
}

/// Where the metadata servers are, the leader first. The group may not know yet where this
/// one listens now.
fn metadata_servers(opened: &Opened, own: &str) -> Vec<String> {
    let members = opened.store.membership();
    let me = opened.store.identity().member;
    let address = |member: NodeId| match member == me {
        true => Some(own),
        false => members.address(member),
    };
    let leader = opened.store.status().leader;
    let all = leader.into_iter().chain(members.members.keys().copied());
    let mut servers: Vec<String> = Vec::new();
    for server in all.filter_map(address).chain([own]) {
        if !servers.iter().any(|known| known == server) {
            servers.push(server.to_owned());
        }
    }
    servers
}

async fn open_blocks(
    settings: &ServerConfig,
    data: &DataDir,
    metrics: &Metrics,
    ways: DataEndpoints,
) -> Result<BlockPart, ServerError> {
    let dir = data.cache();
    let machine = Machine::probe(&dir)?;
    let config = settings.block.clone().validate(&machine)?;
    let memory = MemoryTier::new(&config.memory, Arc::new(SystemClock));
    let memory_size = config.memory.capacity();
    let (store, disk_size): (Arc<dyn BlockStore>, _) = match config.disk {
        None => (Arc::new(memory), ByteSize::default()),
        Some(disk) => {
            let size = disk.capacity();
            let disk = Disks::open(&dir, disk, Arc::new(SystemClock)).await?;
            (Arc::new(TieredStore::new(memory, disk)), size)
        }
    };
    metrics.watch_blocks(Arc::clone(&store));
    // Leases of another run of this node are not taken for those of this one.
    let first = u64::from_le_bytes(crate::data_dir::random()?);
    let fills = Fills::new(Arc::clone(&store), config.fill, first);
    metrics.watch_fills(Arc::clone(&fills));
    Ok(BlockPart {
        store,
        fills,
        identity: Identity {
            instance: data.instance()?,
            ..Identity::default()
        },
        memory: memory_size,
        disk: disk_size,
        receiving: Budget::new(settings.grpc.write_buffer),
        sending: Budget::new(settings.grpc.write_buffer),
        ways,
        refused: watch::Sender::default(),
    })
}

/// Registers the block node with this process's own metadata node; `None` where another
/// one has just taken over.
async fn register(
    opened: &Opened,
    blocks: &BlockPart,
    address: &str,
) -> Result<Option<NodeId>, ServerError> {
    let command = registration::command(blocks.identity.instance, address, &blocks.ways);
    let context = registration::context(REGISTRATION);
    let refused = |reason| ServerError::Start {
        action: "register the block node",
        reason,
    };
    let proposed = match opened.store.propose(context, command).await {
        Err(StoreError::NotLeader { .. } | StoreError::LeadershipLost) => return Ok(None),
        proposed => proposed?,
    };
    match proposed.outcome {
        Outcome::NodeRegistered(node) => Ok(Some(node)),
        // The metadata are served all the same; who announces the node says so.
        Outcome::Refused(_) => Ok(None),
        other => Err(refused(format!("it was answered with {other:?}"))),
    }
}

fn ready_line(
    settings: &ServerConfig,
    addresses: Addresses,
    data: &DataDir,
    blocks: Option<&BlockPart>,
) -> String {
    let cache = match blocks {
        None => "off".to_owned(),
        Some(part) => format!("{}+{}", compact(part.memory), compact(part.disk)),
    };
    let frames = match addresses.frames {
        None => "off".to_owned(),
        Some(address) => address.to_string(),
    };
    let insecure = match settings.server.insecure {
        true => " INSECURE (no TLS: secrets and data travel in clear)",
        false => "",
    };
    format!(
        "ready: grpc {} frames {frames} http {} data {} cache {cache}{insecure}",
        addresses.grpc,
        addresses.http,
        data.path().display(),
    )
}

fn compact(size: ByteSize) -> String {
    size.human().replace(' ', "")
}

async fn listen_for_frames(
    checked: &CheckedServer,
    data: &DataDir,
) -> Result<Option<Listeners>, ServerError> {
    let Some(address) = checked.frames else {
        return Ok(None);
    };
    let tcp = listen(address, "block frames", "--frames-listen").await?;
    let path = checked.settings.frames.socket.clone();
    let path = path.unwrap_or_else(|| data.path().join(socket::NAME));
    let unix = Socket::bind(&path, checked.settings.frames.pass)?;
    Ok(Some(Listeners { tcp, unix }))
}

/// What the block node says of itself beside its gRPC address.
fn ways(
    checked: &CheckedServer,
    addresses: Addresses,
    frames: Option<&Listeners>,
) -> DataEndpoints {
    let Some((listening, frames)) = addresses.frames.zip(frames) else {
        return DataEndpoints::default();
    };
    let unix = frames.unix.as_ref();
    let socket = unix.and_then(|unix| unix.path().to_str().map(str::to_owned));
    DataEndpoints {
        frames: Some(checked.advertised_frames(listening)),
        host: socket
            .as_ref()
            .and_then(|_| arustio_client::block::local::running_system()),
        socket,
    }
}

async fn listen(
    address: SocketAddr,
    what: &'static str,
    flag: &'static str,
) -> Result<TcpListener, ServerError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| ServerError::Listen {
        address,
        what,
        flag,
        source,
    })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, ServerError> {
    listener.local_addr().map_err(|error| ServerError::Start {
        action: "find the port that was given",
        reason: error.to_string(),
    })
}

/// Runs what blocks on the disk beside the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(ServerError::Start {
            action: "open the data folder",
            reason: error.to_string(),
        })
    })
}
