//! From settings to a running server: the only place that picks implementations.
//!
//! Start: take the data folder, bind the ports (a client that comes early waits instead
//! of being refused), open metadata and blocks, serve. Stop, in the opposite order: no
//! longer ready, jobs, announcements, gRPC with the requests that are under way, the
//! metadata node, the block store, HTTP, the folder's lock.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arustio_block::{BlockStore, DiskTier, Machine, MemoryTier, TieredStore};
use arustio_meta::engine::{EngineKind, KvEngine, MemEngine};
use arustio_meta::error::FatalError;
use arustio_meta::namespace::Namespace;
use arustio_meta::store::Role as MemberRole;
use arustio_meta::{Consensus, ConsensusBuilder, MemberIdentity, MetadataStore as _};
use arustio_types::meta::Outcome;
use arustio_types::unit::format_duration;
use arustio_types::{ByteSize, NodeId, SystemClock, WallClock as _};
use futures::FutureExt as _;
use tokio::net::TcpListener;

use crate::config::{CheckedServer, Role, ServerConfig};
use crate::data_dir::{DataDir, random};
use crate::error::ServerError;
use crate::grpc::{self, Services, admin, block, metadata, node};
use crate::http::{self, Shown};
use crate::jobs;
use crate::metrics::Metrics;
use crate::registration::{self, Announcement};
use crate::tasks::Tasks;
use crate::view::Liveness;

/// A group of one elects itself at once; longer means that something is wrong.
const ELECTION: Duration = Duration::from_secs(10);

/// Where the metadata lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// In memory, forgotten with the server: for tests.
    Memory,
    /// In the data folder.
    #[cfg(feature = "rocksdb")]
    Rocks,
}

impl Default for Engine {
    fn default() -> Self {
        #[cfg(feature = "rocksdb")]
        return Self::Rocks;
        #[cfg(not(feature = "rocksdb"))]
        return Self::Memory;
    }
}

/// Where a server is reached, with the ports that it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// Health, metrics, version.
    pub http: SocketAddr,
}

/// A running server. Dropping it without [`stop`](Self::stop) leaves its tasks running
/// until the runtime ends.
#[derive(Debug)]
pub struct Server {
    addresses: Addresses,
    ready_line: String,
    grace: Duration,
    ready: Arc<AtomicBool>,
    metrics: Metrics,
    jobs: Tasks,
    announcing: Tasks,
    serving: Tasks,
    http: Tasks,
    metadata: Option<MetadataPart>,
    blocks: Option<BlockPart>,
    /// Last, so that the folder is given free last.
    data: DataDir,
}

#[derive(Debug)]
struct MetadataPart {
    store: Arc<Consensus<Namespace>>,
    liveness: Arc<Liveness>,
}

#[derive(Debug)]
struct BlockPart {
    store: Arc<dyn BlockStore>,
    identity: block::Identity,
    memory: ByteSize,
    disk: ByteSize,
}

impl Server {
    /// Starts a server. On return it takes requests.
    pub async fn start(checked: CheckedServer, engine: Engine) -> Result<Self, ServerError> {
        let CheckedServer {
            settings,
            data_dir,
            grpc,
            http,
        } = checked;
        let data = blocking(move || DataDir::open(&data_dir)).await?;
        let grpc = listen(grpc, "gRPC", "--listen").await?;
        let http = listen(http, "HTTP", "--http-listen").await?;
        let addresses = Addresses {
            grpc: local(&grpc)?,
            http: local(&http)?,
        };
        let metrics = Metrics::new();
        let metadata = match settings.has(Role::Metadata) {
            true => Some(open_metadata(&settings, &data, engine, &metrics).await?),
            false => None,
        };
        let blocks = match settings.has(Role::Block) {
            true => Some(open_blocks(&settings, &data, &metrics).await?),
            false => None,
        };
        let mut server = Self {
            ready_line: ready_line(&settings, addresses, &data, blocks.as_ref()),
            addresses,
            grace: settings.server.shutdown_grace,
            ready: Arc::new(AtomicBool::new(false)),
            metrics,
            jobs: Tasks::default(),
            announcing: Tasks::default(),
            serving: Tasks::default(),
            http: Tasks::default(),
            metadata,
            blocks,
            data,
        };
        server.serve(&settings, grpc, http)?;
        server.announce(&settings).await?;
        server.schedule(&settings);
        server.ready.store(true, Ordering::Release);
        Ok(server)
    }

    /// Where it is reached.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// One line that says where everything is, for whoever started it.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// Where everything that lasts is kept.
    pub fn data_dir(&self) -> PathBuf {
        self.data.path().to_owned()
    }

    /// Returns when the server can no longer keep its promises; without such a failure
    /// it never does. Safe to drop.
    pub async fn failed(&self) -> ServerError {
        if let Some(metadata) = &self.metadata
            && let Err(error) = metadata.store.ended().await
        {
            return ServerError::Metadata(error);
        }
        std::future::pending().await
    }

    /// Stops in order and waits. Every acknowledged operation is durable afterwards.
    pub async fn stop(self) {
        self.ready.store(false, Ordering::Release);
        self.close("jobs", &self.jobs).await;
        self.close("announcements", &self.announcing).await;
        self.close("requests", &self.serving).await;
        if let Some(metadata) = &self.metadata
            && let Err(error) = metadata.store.close().await
        {
            tracing::error!("the metadata node did not stop well: {error}");
        }
        if let Some(blocks) = &self.blocks {
            blocks.store.close().await;
        }
        self.close("HTTP", &self.http).await;
    }

    async fn close(&self, what: &str, tasks: &Tasks) {
        if !tasks.close(self.grace).await {
            let grace = format_duration(self.grace);
            tracing::warn!("{what} had not ended after {grace} and were left behind");
        }
    }

    fn serve(
        &mut self,
        settings: &ServerConfig,
        grpc: TcpListener,
        http: TcpListener,
    ) -> Result<(), ServerError> {
        let services = self.services(settings)?;
        let stop = self.serving.stopping();
        let config = settings.grpc.clone();
        self.serving
            .spawn("grpc", grpc::serve(grpc, config, services, stop));
        let shown = Shown {
            metrics: self.metrics.clone(),
            ready: Arc::clone(&self.ready),
        };
        self.http
            .spawn("http", http::serve(http, shown, self.http.stopping()));
        Ok(())
    }

    fn services(&self, settings: &ServerConfig) -> Result<Services, ServerError> {
        let metadata = self.metadata.as_ref();
        let node = metadata.map(|part| node::Nodes {
            store: Arc::clone(&part.store),
            liveness: Arc::clone(&part.liveness),
            heartbeat: settings.metadata.nodes.heartbeat,
            metrics: self.metrics.clone(),
        });
        let admin = metadata.map(|part| admin::Admin {
            store: Arc::clone(&part.store),
            metrics: self.metrics.clone(),
        });
        let metadata = match metadata {
            None => None,
            Some(part) => Some(metadata::Metadata::new(
                Arc::clone(&part.store),
                self.data.sealer()?,
                Arc::clone(&part.liveness),
                self.metrics.clone(),
            )),
        };
        let block = self.blocks.as_ref().map(|part| {
            block::Blocks::new(
                Arc::clone(&part.store),
                part.identity.clone(),
                settings.grpc.block_chunk,
                settings.grpc.write_buffer,
                self.metrics.clone(),
            )
        });
        Ok(Services {
            metadata,
            node,
            admin,
            block,
        })
    }

    /// Makes the block node of this process known.
    async fn announce(&self, settings: &ServerConfig) -> Result<(), ServerError> {
        let Some(blocks) = &self.blocks else {
            return Ok(());
        };
        let address = settings.server.advertise.clone();
        let address = address.unwrap_or_else(|| self.addresses.grpc.to_string());
        if let Some(metadata) = &self.metadata {
            let node = register(metadata, blocks.identity.instance, &address).await?;
            *blocks.identity.node.lock() = Some(node);
            metadata.liveness.own(Some(node));
            return Ok(());
        }
        let announcement = Announcement {
            identity: blocks.identity.clone(),
            address,
            servers: settings.cluster.metadata.clone(),
            heartbeat: settings.metadata.nodes.heartbeat,
        };
        let stop = self.announcing.stopping();
        self.announcing
            .spawn("announce", registration::announce(announcement, stop));
        Ok(())
    }

    fn schedule(&self, settings: &ServerConfig) {
        if self.metadata.is_none() || !settings.recovery.enabled {
            return;
        }
        let job = jobs::recover(
            self.addresses.grpc.to_string(),
            settings.recovery.interval,
            self.jobs.stopping(),
        );
        self.jobs.spawn("recovery", job);
    }
}

async fn open_metadata(
    settings: &ServerConfig,
    data: &DataDir,
    engine: Engine,
    metrics: &Metrics,
) -> Result<MetadataPart, ServerError> {
    let identity = MemberIdentity {
        cluster: data.cluster()?,
        incarnation: data.incarnation(),
        member: data.member(),
    };
    let config = settings.metadata.raft.clone().validate();
    let config = config.map_err(|error| ServerError::Setting {
        setting: "metadata.raft".to_owned(),
        reason: error.to_string(),
    })?;
    let engines = Engines::of(settings, data, engine);
    let seed = u64::from_le_bytes(random()?);
    let store = blocking(move || {
        let (log, state) = engines.open()?;
        let namespace = Namespace::open(state, identity.cluster, identity.incarnation);
        let namespace = namespace.map_err(|error| fatal(FatalError::Apply(error)))?;
        let builder = ConsensusBuilder::new(config, identity, log, namespace, seed);
        builder.start().map_err(fatal)
    });
    let store = Arc::new(store.await?);
    lead(&store).await?;
    metrics.watch_metadata(store.watch());
    let expiry = settings.metadata.nodes.expiry;
    let liveness = Arc::new(Liveness::new(expiry, SystemClock.now()));
    Ok(MetadataPart { store, liveness })
}

/// Waits until the group has its leader.
async fn lead(store: &Consensus<Namespace>) -> Result<(), ServerError> {
    let mut status = store.watch();
    let led = status.wait_for(|status| status.role == MemberRole::Leader);
    match tokio::time::timeout(ELECTION, led).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => {
            if let Some(Err(error)) = store.ended().now_or_never() {
                return Err(ServerError::Metadata(error));
            }
            Err(ServerError::Start {
                action: "elect a leader of the metadata group",
                reason: format!("there was none after {}", format_duration(ELECTION)),
            })
        }
    }
}

/// Which engines to open, and where.
struct Engines {
    engine: Engine,
    #[cfg(feature = "rocksdb")]
    log: PathBuf,
    #[cfg(feature = "rocksdb")]
    state: PathBuf,
    #[cfg(feature = "rocksdb")]
    tuning: crate::config::StateConfig,
}

type Opened = (Arc<dyn KvEngine>, Arc<dyn KvEngine>);

impl Engines {
    #[cfg_attr(
        not(feature = "rocksdb"),
        expect(unused_variables, reason = "memory needs none")
    )]
    fn of(settings: &ServerConfig, data: &DataDir, engine: Engine) -> Self {
        Self {
            engine,
            #[cfg(feature = "rocksdb")]
            log: data.log(),
            #[cfg(feature = "rocksdb")]
            state: data.state(),
            #[cfg(feature = "rocksdb")]
            tuning: settings.metadata.state.clone(),
        }
    }

    fn open(self) -> Result<Opened, ServerError> {
        match self.engine {
            Engine::Memory => Ok((
                Arc::new(MemEngine::new(EngineKind::Log)),
                Arc::new(MemEngine::new(EngineKind::State)),
            )),
            #[cfg(feature = "rocksdb")]
            Engine::Rocks => self.open_rocks(),
        }
    }

    #[cfg(feature = "rocksdb")]
    fn open_rocks(self) -> Result<Opened, ServerError> {
        use arustio_meta::engine::{RocksConfig, RocksEngine};
        let log = RocksConfig::default_for(EngineKind::Log);
        let state = RocksConfig {
            block_cache: self.tuning.block_cache,
            write_buffer: self.tuning.write_buffer,
            ..RocksConfig::default_for(EngineKind::State)
        };
        Ok((
            Arc::new(RocksEngine::open(EngineKind::Log, &self.log, log)?),
            Arc::new(RocksEngine::open(EngineKind::State, &self.state, state)?),
        ))
    }
}

async fn open_blocks(
    settings: &ServerConfig,
    data: &DataDir,
    metrics: &Metrics,
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
            let disk = DiskTier::open(&dir, disk, Arc::new(SystemClock)).await?;
            (Arc::new(TieredStore::new(memory, disk)), size)
        }
    };
    metrics.watch_blocks(Arc::clone(&store));
    Ok(BlockPart {
        store,
        identity: block::Identity {
            instance: data.instance()?,
            ..block::Identity::default()
        },
        memory: memory_size,
        disk: disk_size,
    })
}

async fn register(
    metadata: &MetadataPart,
    instance: u128,
    address: &str,
) -> Result<NodeId, ServerError> {
    let command = registration::command(instance, address);
    let context = registration::context(ELECTION);
    let refused = |reason| ServerError::Start {
        action: "register the block node",
        reason,
    };
    match metadata.store.propose(context, command).await?.outcome {
        Outcome::NodeRegistered(node) => Ok(node),
        Outcome::Refused(refusal) => Err(refused(refusal.message)),
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
    let insecure = match settings.server.insecure {
        true => " INSECURE (no TLS: secrets and data travel in clear)",
        false => "",
    };
    format!(
        "ready: grpc {} frames off http {} data {} cache {cache}{insecure}",
        addresses.grpc,
        addresses.http,
        data.path().display(),
    )
}

fn compact(size: ByteSize) -> String {
    size.human().replace(' ', "")
}

async fn listen(
    address: SocketAddr,
    what: &'static str,
    flag: &'static str,
) -> Result<TcpListener, ServerError> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| ServerError::Listen {
        address,
        what,
        flag,
        source,
    })?;
    if address.ip().is_loopback() {
        // What paces for the network halves the rate of loopback; where it cannot be
        // changed the machine's default will do.
        let _ = rustix::net::sockopt::set_tcp_congestion(&listener, "cubic");
    }
    Ok(listener)
}

fn local(listener: &TcpListener) -> Result<SocketAddr, ServerError> {
    listener.local_addr().map_err(|error| ServerError::Start {
        action: "find the port that was given",
        reason: error.to_string(),
    })
}

fn fatal(error: FatalError) -> ServerError {
    ServerError::Metadata(Arc::new(error))
}

/// Runs what blocks on the disk beside the runtime.
async fn blocking<T: Send + 'static>(
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
