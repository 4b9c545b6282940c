//! Making a client: settings and components in, a [`FileSystem`](crate::FileSystem) out.
//!
//! Everything that a test replaces is a component here: the metadata service, the block
//! nodes, the stores that can be opened, the clock and the source of chance. Settings are
//! data ([`ClientConfig`]); no component hides in them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use arustio_types::meta::command::Principal;
use arustio_types::{SystemClock, WallClock};
use arustio_ufs::registry::{Environment, UfsRegistry};

use crate::block::buffers::Buffers;
use crate::block::fill::Filler;
use crate::block::framed::hand_in;
use crate::block::hedge::Hedges;
use crate::block::owner::Owners;
use crate::block::{BlockClient, FramedBlocks, GrpcBlocks, LocalBlocks};
use crate::client::Client;
use crate::config::{ClientConfig, Transport, Verify};
use crate::entropy::Entropy;
use crate::error::Result;
use crate::filesystem::ArustioFileSystem;
use crate::job::Running;
use crate::metadata::session::{SessionParts, Sessions};
use crate::metadata::{ClusterIdentity, MetadataClient, RemoteMetadata};
use crate::read::budget::Budget;
use crate::resolve::Mounts;
use crate::sync::memory::Looked;
use crate::tasks::Tasks;
use crate::told::tell_on;

/// Told in one line what an operation waits for, so that a command can say it.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// Connects to the metadata service at `host:port`, with defaults for everything else.
/// Several servers of one cluster are separated by commas: `a:7411,b:7411,c:7411`.
///
/// # Errors
/// `Unavailable` within a few seconds when nobody answers there.
pub async fn connect(address: &str) -> Result<ArustioFileSystem> {
    Builder::new()
        .of_this_process()
        .addresses(address.split(','))
        .connect()
        .await
}

/// Settings and components of a client.
pub struct Builder {
    config: ClientConfig,
    principal: Principal,
    notice: Notice,
    metadata: Option<Arc<dyn MetadataClient>>,
    blocks: Option<Arc<dyn BlockClient>>,
    registry: Option<Arc<UfsRegistry>>,
    environment: Environment,
    clock: Arc<dyn WallClock>,
    entropy: Entropy,
    host: Option<String>,
    system: Option<String>,
}

impl Builder {
    /// Defaults.
    pub fn new() -> Self {
        Self {
            config: ClientConfig::default(),
            principal: Principal::default(),
            notice: Arc::new(|line| tracing::info!("{line}")),
            metadata: None,
            blocks: None,
            registry: None,
            environment: Environment::default(),
            clock: Arc::new(SystemClock),
            entropy: Entropy::from_os(),
            host: None,
            system: None,
        }
    }

    /// All settings.
    #[must_use]
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.config = config;
        self
    }

    /// Metadata servers of one cluster, `host:port` each. Some of them are enough: which
    /// one leads, and where it is, is found out.
    #[must_use]
    pub fn addresses<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.config.addresses = addresses.into_iter().map(Into::into).collect();
        self
    }

    /// Who asks.
    #[must_use]
    pub fn principal(mut self, principal: Principal) -> Self {
        self.principal = principal;
        self
    }

    /// Where waits are announced; a log line unless set.
    #[must_use]
    pub fn notice(mut self, notice: Notice) -> Self {
        self.notice = notice;
        self
    }

    /// Another way to the metadata service than gRPC to the configured addresses.
    #[must_use]
    pub fn metadata(mut self, metadata: Arc<dyn MetadataClient>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Another way to block nodes than frames and gRPC.
    #[must_use]
    pub fn blocks(mut self, blocks: Arc<dyn BlockClient>) -> Self {
        self.blocks = Some(blocks);
        self
    }

    /// The stores that can be opened; everything that this build has unless set.
    #[must_use]
    pub fn registry(mut self, registry: Arc<UfsRegistry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Variables that provider chains of credentials look at; none unless set.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// The clock of modification times.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn WallClock>) -> Self {
        self.clock = clock;
        self
    }

    /// The source of ids and jitter.
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    /// The name of this host: mounts of local directories are bound to it (U8).
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// The name of the running system: block nodes that say the same are asked for their
    /// descriptors ([`running_system`](crate::block::local::running_system)). None unless
    /// set: then all bytes come through sockets.
    #[must_use]
    pub fn system(mut self, system: Option<String>) -> Self {
        self.system = system;
        self
    }

    /// What a program on this machine expects: provider chains look at the variables of
    /// the process, mounts of local directories are bound to this host by its name, and
    /// blocks of a node on it are read without a socket.
    #[must_use]
    pub fn of_this_process(self) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let variables = std::env::vars_os().filter_map(text);
        let host = rustix::system::uname();
        self.environment(Environment::from_vars(variables))
            .host(host.nodename().to_string_lossy())
            .system(crate::block::local::running_system())
    }

    /// Connects and makes the client.
    ///
    /// # Errors
    /// `InvalidArgument` for settings that contradict each other, `Unavailable` within
    /// a few seconds when no metadata server answers.
    pub async fn connect(self) -> Result<ArustioFileSystem> {
        let config = self.config.validate()?.get().clone();
        let entropy = Arc::new(self.entropy);
        let mut epoch = Arc::default();
        let metadata = match self.metadata {
            Some(metadata) => metadata,
            None => {
                let principal = self.principal.clone();
                let remote = RemoteMetadata::new(&config, principal, Arc::clone(&entropy))?;
                epoch = remote.epoch();
                Arc::new(remote)
            }
        };
        let identity = metadata.identity().await?;
        let tasks = Tasks::default();
        let blocks = match self.blocks {
            Some(blocks) => blocks,
            None => {
                let grpc = GrpcBlocks::new(entropy.bits()).telling(epoch);
                block_nodes(&config, identity, grpc, self.system)
            }
        };
        let registry = match self.registry {
            Some(registry) => registry,
            None => Arc::new(UfsRegistry::with_all(entropy.bits() as u64)),
        };
        let owners = Arc::new(Owners::default());
        let sessions = Sessions::new(SessionParts {
            metadata: Arc::clone(&metadata),
            identity,
            principal: self.principal,
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&entropy),
            tasks: tasks.clone(),
            ttl: config.session_ttl,
            request_timeout: config.request_timeout,
            late_request: config.late_request,
        });
        let filler = Filler::new(
            Arc::clone(&metadata),
            Arc::clone(&blocks),
            Arc::clone(&owners),
            tasks.clone(),
            &config.read,
        );
        let client = Arc::new(Client {
            budget: Budget::new(config.read.buffer.get()),
            mounts: Mounts::new(registry, self.environment, config.ufs.clone(), self.host),
            metadata,
            sessions,
            blocks,
            owners,
            hedges: Hedges::new(config.read.hedge),
            filler,
            looked: Looked::default(),
            running: Running::default(),
            clock: self.clock,
            entropy,
            notice: self.notice,
            tasks,
            lanes: AtomicU32::new(0),
            config,
        });
        client.tasks.background(tell_on(Arc::downgrade(&client)));
        Ok(ArustioFileSystem(client))
    }
}

fn block_nodes(
    config: &ClientConfig,
    cluster: ClusterIdentity,
    grpc: GrpcBlocks,
    system: Option<String>,
) -> Arc<dyn BlockClient> {
    let buffers = Buffers::default();
    let framed = match config.transport {
        Transport::Grpc => return Arc::new(grpc),
        Transport::Framed => FramedBlocks::new(cluster, grpc).receiving_into(buffers.clone()),
    };
    let local = config.local.enabled && config.read.verify != Verify::Always;
    match system.filter(|_| local) {
        Some(system) => {
            let framed = match hand_in::is_limited() {
                true => framed,
                false => framed.handing_in(system.clone(), hand_in::WORTH_IT),
            };
            let framed = Box::new(framed);
            Arc::new(LocalBlocks::reading_into(
                framed,
                system,
                &config.local,
                buffers,
            ))
        }
        None => Arc::new(framed),
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
