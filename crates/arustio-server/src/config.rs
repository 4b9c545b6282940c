//! Settings of the daemon, as data.
//!
//! File, then environment, then flags; a later one overrides an earlier one
//! ([`load`]). Every key lies in a section, so that every environment variable of the
//! configuration has two underscores in it: `ARUSTIO_METADATA__RAFT__TICK`. Unknown keys
//! are refused with the nearest known one, wherever they stand.
//!
//! [`ServerConfig::validate`] turns settings into [`CheckedServer`], which is what a
//! server can be made from.

mod cluster;
mod load;
mod print;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use arustio_block::config::BlockConfig;
use arustio_meta::config::MetaConfig;
use arustio_types::ByteSize;
use arustio_types::unit::duration;
use serde::{Deserialize, Serialize};

use crate::error::ServerError;

pub(crate) use cluster::is_address;
pub use cluster::{CheckedCluster, ClusterConfig};
pub use load::{Loaded, Sources, load};
pub use print::print;

/// Where gRPC is served unless told otherwise.
pub const DEFAULT_GRPC: &str = "127.0.0.1:7411";
/// Where health, metrics and version are served unless told otherwise.
pub const DEFAULT_HTTP: &str = "127.0.0.1:7413";

/// The usual port of block frames is the one after gRPC's: 7412.
const FRAMES_AFTER_GRPC: u16 = 1;

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// What this process does and where.
    pub server: ProcessConfig,
    /// The cluster that it belongs to.
    pub cluster: ClusterConfig,
    /// Log lines.
    pub log: LogConfig,
    /// Health, metrics, version.
    pub http: HttpConfig,
    /// Limits of gRPC.
    pub grpc: GrpcConfig,
    /// The framed protocol for block bytes.
    pub frames: FramesConfig,
    /// The metadata node.
    pub metadata: MetadataConfig,
    /// The block node.
    pub block: BlockConfig,
    /// Finishing what dead clients left.
    pub recovery: RecoveryConfig,
}

/// What this process does and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessConfig {
    /// `metadata`, `block`, or both.
    pub role: Vec<Role>,
    /// Where everything that lasts is kept. Unset: `$XDG_DATA_HOME/arustio`, else
    /// `$HOME/.local/share/arustio`.
    pub data_dir: Option<PathBuf>,
    /// Where gRPC is served, `host:port`.
    pub listen: String,
    /// The address that others reach gRPC at. Unset: its address in `cluster.members`, else
    /// the one that is listened on.
    pub advertise: Option<String>,
    /// Allows listening beyond loopback without TLS.
    pub insecure: bool,
    /// How long requests may take to end when the server stops.
    #[serde(with = "duration")]
    pub shutdown_grace: Duration,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            role: vec![Role::Metadata, Role::Block],
            data_dir: None,
            listen: DEFAULT_GRPC.to_owned(),
            advertise: None,
            insecure: false,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// What a process can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Holds the namespace.
    Metadata,
    /// Caches blocks.
    Block,
}

/// Log lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How they look.
    pub format: LogFormat,
    /// Which ones: as in `ARUSTIO_LOG`, which overrides this.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

/// Health, metrics, version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where, `host:port`.
    pub listen: String,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: DEFAULT_HTTP.to_owned(),
        }
    }
}

/// Limits of gRPC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcConfig {
    /// Connections at a time; more are closed at once.
    pub connections: usize,
    /// Requests of one connection that are worked on at a time; more wait.
    pub concurrency_per_connection: usize,
    /// A connection on which nothing moves is asked for a sign of life after this.
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    /// A connection that gives none is closed after this.
    #[serde(with = "duration")]
    pub keepalive_timeout: Duration,
    /// Bytes of one message of the block service: large ones carry a block faster, and
    /// cost memory for each stream.
    pub block_chunk: ByteSize,
    /// Bytes that a peer may send on one connection before it has to wait.
    pub window: ByteSize,
    /// Bytes of blocks that are being received at a time, all connections together.
    pub write_buffer: ByteSize,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            connections: 10_000,
            concurrency_per_connection: 256,
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            block_chunk: ByteSize::mib(1),
            window: ByteSize::mib(8),
            write_buffer: ByteSize::mib(256),
        }
    }
}

/// Who is passed descriptors of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passing {
    /// Nobody: all bytes go through sockets.
    Nobody,
    /// The user that the server runs as, and root.
    #[default]
    SameUser,
    /// Every user of this host: the socket is open to all of them.
    Anyone,
}

/// The framed protocol for block bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FramesConfig {
    /// Off: block bytes go over gRPC.
    pub enabled: bool,
    /// Where it is spoken, `host:port`. Unset: the host of `server.listen`, and the port
    /// after its port.
    pub listen: Option<String>,
    /// The address that others reach it at. Unset: the host that they reach gRPC at.
    pub advertise: Option<String>,
    /// The UNIX socket for clients on this host. Unset: `block.sock` in the data folder.
    pub socket: Option<PathBuf>,
    /// Who is passed descriptors of blocks over the UNIX socket.
    pub pass: Passing,
    /// Descriptors that one connection has at a time; who wants more reads through the
    /// socket. A client keeps 256 of files, and of blocks in memory as many as it may map,
    /// unless told otherwise.
    pub passes_per_connection: usize,
    /// Connections at a time; more are told to come back.
    pub connections: usize,
    /// Requests of one connection that are worked on at a time; more wait.
    pub concurrency_per_connection: usize,
    /// Bytes of answers that wait for one peer before it has to wait.
    pub window: ByteSize,
    /// A peer that takes or sends nothing for so long in the middle of something is closed.
    #[serde(with = "duration")]
    pub stall_timeout: Duration,
    /// A connection without requests is closed after this.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
}

impl Default for FramesConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: None,
            advertise: None,
            socket: None,
            pass: Passing::default(),
            passes_per_connection: 16_384,
            connections: 1024,
            concurrency_per_connection: 64,
            window: ByteSize::mib(16),
            stall_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(600),
        }
    }
}

/// The metadata node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataConfig {
    /// Consensus.
    pub raft: MetaConfig,
    /// How long a block node counts as living without a sign of life.
    pub nodes: NodesConfig,
    /// Memory of the engine that holds the namespace.
    pub state: StateConfig,
}

/// Liveness of block nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodesConfig {
    /// Between two signs of life.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// After this without one a node is left out of the view.
    #[serde(with = "duration")]
    pub expiry: Duration,
}

impl Default for NodesConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            expiry: Duration::from_secs(10),
        }
    }
}

/// The engine that holds the namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// Memory for what was read from disk.
    pub block_cache: ByteSize,
    /// Memory for what is not yet in tables.
    pub write_buffer: ByteSize,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            block_cache: ByteSize::mib(256),
            write_buffer: ByteSize::mib(64),
        }
    }
}

/// Finishing what dead clients left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecoveryConfig {
    /// Off: it is left to the next client that meets it.
    pub enabled: bool,
    /// Between two looks.
    #[serde(with = "duration")]
    pub interval: Duration,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(1),
        }
    }
}

/// Settings that can work, with addresses resolved and folders chosen.
#[derive(Debug, Clone)]
pub struct CheckedServer {
    pub(crate) settings: ServerConfig,
    pub(crate) data_dir: PathBuf,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    /// Where frames are spoken; `None` for a process that speaks none.
    pub(crate) frames: Option<SocketAddr>,
    pub(crate) cluster: CheckedCluster,
}

impl ServerConfig {
    /// Everything on free ports of loopback, in this folder: for tests and for programs
    /// that embed a server.
    pub fn ephemeral(data_dir: impl Into<PathBuf>) -> Self {
        let mut config = Self::default();
        config.server.data_dir = Some(data_dir.into());
        config.server.listen = "127.0.0.1:0".to_owned();
        config.http.listen = "127.0.0.1:0".to_owned();
        config
    }

    /// Whether this process has a role.
    pub fn has(&self, role: Role) -> bool {
        self.server.role.contains(&role)
    }

    /// Where others reach gRPC, if it is not simply the address that is listened on.
    fn address(&self, cluster: &CheckedCluster) -> Option<String> {
        let advertised = self.server.advertise.clone();
        advertised.or_else(|| cluster.own_address().map(str::to_owned))
    }

    /// Checks every setting against the others and resolves the addresses.
    pub fn validate(self) -> Result<CheckedServer, ServerError> {
        if self.server.role.is_empty() {
            return Err(refuse("server.role", "name metadata, block, or both"));
        }
        let cluster = self.cluster.check(self.has(Role::Metadata))?;
        self.grpc.check()?;
        self.frames.check()?;
        let nodes = &self.metadata.nodes;
        if nodes.heartbeat.is_zero() || nodes.expiry < nodes.heartbeat * 2 {
            let reason = "it has to be at least twice metadata.nodes.heartbeat, which is not 0";
            return Err(refuse("metadata.nodes.expiry", reason));
        }
        if self.recovery.interval < Duration::from_millis(10) {
            return Err(refuse("recovery.interval", "it has to be at least 10ms"));
        }
        let Some(data_dir) = self.server.data_dir.clone() else {
            let reason = "neither XDG_DATA_HOME nor HOME says where: give --data-dir";
            return Err(refuse("server.data_dir", reason));
        };
        let grpc = address("server.listen", &self.server.listen, self.server.insecure)?;
        let http = address("http.listen", &self.http.listen, self.server.insecure)?;
        if cluster.has_others() && grpc.ip().is_unspecified() && self.address(&cluster).is_none() {
            let reason = "the other metadata servers need an address at which they reach this \
                          one: --advertise HOST:PORT";
            return Err(refuse("server.advertise", reason));
        }
        let frames = match self.frames.enabled && self.has(Role::Block) {
            true => Some(self.frames_address(grpc)?),
            false => None,
        };
        Ok(CheckedServer {
            settings: self,
            data_dir,
            grpc,
            http,
            frames,
            cluster,
        })
    }
}

impl ServerConfig {
    /// Where health is served, for whoever asks and does not listen.
    pub(crate) fn health_address(&self) -> Result<SocketAddr, ServerError> {
        address("http.listen", &self.http.listen, true)
    }

    /// Where frames are spoken, given where gRPC is.
    fn frames_address(&self, grpc: SocketAddr) -> Result<SocketAddr, ServerError> {
        let setting = "frames.listen";
        if let Some(listen) = &self.frames.listen {
            return address(setting, listen, self.server.insecure);
        }
        let port = match grpc.port() {
            0 => Some(0),
            port => port.checked_add(FRAMES_AFTER_GRPC),
        };
        let none = "there is no port after the one of gRPC: give --frames-listen HOST:PORT";
        let port = port.ok_or_else(|| refuse(setting, none))?;
        Ok(SocketAddr::new(grpc.ip(), port))
    }
}

impl FramesConfig {
    fn check(&self) -> Result<(), ServerError> {
        if self.connections == 0 || self.concurrency_per_connection == 0 {
            let setting = "frames.connections, frames.concurrency_per_connection";
            return Err(refuse(setting, "they have to be at least 1"));
        }
        if self.window < ByteSize::kib(64) || self.window > ByteSize::gib(1) {
            let reason = "it has to lie between 64KiB and 1GiB";
            return Err(refuse("frames.window", reason));
        }
        if self.stall_timeout.is_zero() || self.idle_timeout.is_zero() {
            let setting = "frames.stall_timeout, frames.idle_timeout";
            return Err(refuse(setting, "they have to be longer than 0s"));
        }
        let odd = |advertised: &&String| !is_address(advertised);
        if let Some(advertised) = self.advertise.as_ref().filter(odd) {
            let reason = format!("{advertised:?} is no address: expected HOST:PORT");
            return Err(refuse("frames.advertise", reason));
        }
        Ok(())
    }
}

impl GrpcConfig {
    fn check(&self) -> Result<(), ServerError> {
        if self.connections == 0 || self.concurrency_per_connection == 0 {
            let setting = "grpc.connections, grpc.concurrency_per_connection";
            return Err(refuse(setting, "it has to be at least 1"));
        }
        let sensible = |size: ByteSize, most| size >= ByteSize::kib(64) && size <= most;
        if !sensible(self.block_chunk, ByteSize::mib(16)) {
            let reason = "it has to lie between 64KiB and 16MiB";
            return Err(refuse("grpc.block_chunk", reason));
        }
        if !sensible(self.window, ByteSize::gib(1)) {
            return Err(refuse(
                "grpc.window",
                "it has to lie between 64KiB and 1GiB",
            ));
        }
        Ok(())
    }
}

/// Resolves where to listen, and keeps it on loopback unless told otherwise.
fn address(setting: &'static str, text: &str, insecure: bool) -> Result<SocketAddr, ServerError> {
    use std::net::ToSocketAddrs as _;
    let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    let Some(address) = found else {
        let reason = format!("{text:?} is no address of this machine: expected HOST:PORT");
        return Err(refuse(setting, reason));
    };
    if !address.ip().is_loopback() && !insecure {
        let reason = format!(
            "{address} is reachable from other machines, and TLS is not available in this \
             release: listen on 127.0.0.1, or say --insecure to send secrets and data in clear"
        );
        return Err(refuse(setting, reason));
    }
    Ok(address)
}

impl CheckedServer {
    /// Where others reach gRPC, given where it listens.
    pub(crate) fn advertised(&self, listening: SocketAddr) -> String {
        let address = self.settings.address(&self.cluster);
        address.unwrap_or_else(|| listening.to_string())
    }

    /// Where others reach frames, given where they are spoken: at the host that they reach
    /// gRPC at, unless the settings say something else.
    pub(crate) fn advertised_frames(&self, listening: SocketAddr) -> String {
        let frames = &self.settings.frames;
        if let Some(advertised) = &frames.advertise {
            return advertised.clone();
        }
        let anywhere = frames.listen.is_none() || listening.ip().is_unspecified();
        let address = self.settings.address(&self.cluster);
        let host = address
            .as_deref()
            .and_then(|address| address.rsplit_once(':'));
        match host {
            Some((host, _)) if anywhere => format!("{host}:{}", listening.port()),
            _ => listening.to_string(),
        }
    }
}

fn refuse(setting: &'static str, reason: impl Into<String>) -> ServerError {
    ServerError::Setting {
        setting: setting.to_owned(),
        reason: reason.into(),
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata => "metadata",
            Self::Block => "block",
        })
    }
}
