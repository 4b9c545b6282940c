//! What is typed on the command line of `arustio-server`.
//!
//! Without arguments: metadata, block node and HTTP in one process, on loopback.
//! Every flag overrides the same setting of the environment and of the file.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{LogFormat, Role};

/// The Arustio daemon. Without arguments it serves everything on loopback.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "arustio-server", version, max_term_width = 100)]
pub struct Args {
    /// Something else than serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// What this process does.
    #[arg(long, value_delimiter = ',', value_name = "ROLE,...")]
    pub role: Option<Vec<Role>>,

    /// Settings to read; otherwise the user's or the system's server.toml, if there is one.
    #[arg(long, value_name = "FILE", env = "ARUSTIO_CONFIG", global = true)]
    pub config: Option<PathBuf>,

    /// Where everything that lasts is kept.
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,

    /// Where gRPC is served; port 0 picks a free one (and for frames and HTTP too, unless
    /// they are given).
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Where block frames are spoken, unless at the port after the one of gRPC.
    #[arg(long, value_name = "HOST:PORT")]
    pub frames_listen: Option<String>,

    /// Where health, metrics and version are served.
    #[arg(long, value_name = "HOST:PORT")]
    pub http_listen: Option<String>,

    /// The address that others reach this server's gRPC at, if it is not the one it listens on.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,

    /// Metadata servers of the cluster, for a process that is a block node only.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,...")]
    pub metadata: Option<Vec<String>>,

    /// The number of this metadata server in its cluster.
    #[arg(long, value_name = "N")]
    pub member: Option<u64>,

    /// The metadata servers that found the cluster, or, for one that joins it, where they are.
    #[arg(long, value_delimiter = ',', value_name = "N=HOST:PORT,...")]
    pub members: Option<Vec<String>>,

    /// The cluster key, which has to be the same on every metadata server.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Make a cluster key in a new file, and end. Copy it to every metadata server.
    #[arg(long, value_name = "FILE")]
    pub make_key: Option<PathBuf>,

    /// Listen beyond loopback without TLS. Secrets and data then travel in clear.
    #[arg(long)]
    pub insecure: bool,

    /// How log lines look.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Print every setting with its source, as a file that could be given back, and end.
    #[arg(long)]
    pub print_config: bool,
}

/// What can be done instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// The metadata in the data folder of a server that is stopped
    Metadata {
        /// What to do with it.
        #[command(subcommand)]
        verb: MetadataCommand,
    },
    /// Ask the server with the same settings at its HTTP address, within seconds: exit 0 when it
    /// answers, else 1
    Health {
        /// Whether it takes requests, and else what it waits for
        #[arg(long)]
        ready: bool,
    },
}

/// `arustio-server metadata ...`
#[derive(Debug, Clone, Subcommand)]
pub enum MetadataCommand {
    /// Write everything but credentials and sessions into one file
    Backup {
        /// A file that does not exist yet
        file: PathBuf,
    },
    /// Make a new life of a cluster from a backup, in an empty data folder
    Restore {
        /// What backup wrote
        file: PathBuf,
    },
    /// Check every invariant; exit 0 when all hold, else 1
    Verify,
    /// Print every record as a line of JSON, without secrets
    Dump {
        /// Only these families, such as inodes,dentries
        #[arg(long, value_delimiter = ',', value_name = "FAMILY,...")]
        family: Vec<String>,
    },
}
