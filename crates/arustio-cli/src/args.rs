//! The command tree: what people type.
//!
//! Every verb exists in kebab-case and, as a hidden alias, in the camelCase that
//! Alluxio users have in their fingers. Paths are taken as the bytes that the shell
//! passed: no glob, no percent-decoding, no URI parsing.

mod bench;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use self::bench::{
    BenchCommand, BenchEpoch, BenchMeta, BenchMix, BenchRead, BenchWrite, MetaOp, Wire,
};

/// A distributed file system: one namespace over object stores, and a shared cache.
#[derive(Debug, Parser)]
#[command(name = "arustio", version, propagate_version = true)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Metadata servers, `host:port`, separated by commas [default: 127.0.0.1:7411]
    #[arg(long, global = true, env = "ARUSTIO_SERVER", value_delimiter = ',')]
    pub server: Vec<String>,
    /// Configuration file [default: $XDG_CONFIG_HOME/arustio/config.toml]
    #[arg(long, global = true, env = "ARUSTIO_CONFIG")]
    pub config: Option<PathBuf>,
    /// One JSON object per line
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress bars and no notices
    #[arg(long, short = 'q', global = true)]
    pub quiet: bool,
    /// Show the chain of causes of an error, and log to stderr
    #[arg(long, global = true)]
    pub verbose: bool,
}

/// Groups of verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Files, directories and mounts
    Fs {
        /// The verb.
        #[command(subcommand)]
        verb: FsCommand,
    },
    /// The servers of the cluster
    Admin {
        /// The verb.
        #[command(subcommand)]
        verb: AdminCommand,
    },
    /// Measure: read, write, metadata operations, a mix; beside what this machine can do
    Bench {
        /// Leave out the limit, which takes a second
        #[arg(long, global = true)]
        no_limit: bool,
        /// The workload.
        #[command(subcommand)]
        workload: BenchCommand,
    },
    /// Print a completion script for a shell
    Completions {
        /// For which shell.
        shell: Shell,
    },
    /// Print the version
    Version,
}

/// `arustio fs ...`
#[derive(Debug, Subcommand)]
pub enum FsCommand {
    /// Mount a UFS; without arguments, show the mounts
    Mount(MountArgs),
    /// Change options or credentials of a mount in place
    #[command(alias = "updateMount")]
    UpdateMount(UpdateMountArgs),
    /// Forget a mount; never touches the UFS
    #[command(alias = "umount")]
    Unmount {
        /// Abandon open writes and pending work, and list them
        #[arg(long)]
        force: bool,
        /// The mount point
        path: OsString,
    },
    /// Show the mounts; with a path, list that directory
    List {
        /// What each UFS can do, age of knowledge, options
        #[arg(short)]
        v: bool,
        /// A directory to list instead
        path: Option<OsString>,
    },
    /// List a directory
    #[command(disable_help_flag = true)]
    Ls(LsArgs),
    /// Everything known of a name
    Stat {
        /// Take what the nearest metadata server knows; it may be old, and the UFS is not asked
        #[arg(long)]
        stale_ok: bool,
        /// Names
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Write files to stdout, exactly their bytes
    Cat {
        /// Say on stderr where the bytes came from
        #[arg(short)]
        v: bool,
        /// Files
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Write the first bytes of a file to stdout
    Head {
        /// How many
        #[arg(short = 'c', long, default_value = "1KiB")]
        bytes: String,
        /// The file
        path: OsString,
    },
    /// Write the last bytes of a file to stdout
    Tail {
        /// How many
        #[arg(short = 'c', long, default_value = "1KiB")]
        bytes: String,
        /// The file
        path: OsString,
    },
    /// Bring files or trees into the block nodes, and wait until they are there
    Load(LoadArgs),
    /// Forget what is cached of files or trees; the files stay
    Free {
        /// Files, directories or mount points
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Make directories
    Mkdir {
        /// Also missing parents; one that exists is fine
        #[arg(short, long)]
        parents: bool,
        /// Directories
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Make an empty file, or set the modification time of one that exists
    Touch {
        /// Files
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Change permission bits
    Chmod {
        /// Also everything below
        #[arg(short = 'R', long)]
        recursive: bool,
        /// In octal, such as 640
        mode: String,
        /// Names
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Change the owner, and with OWNER:GROUP the group
    Chown {
        /// Also everything below
        #[arg(short = 'R', long)]
        recursive: bool,
        /// OWNER, OWNER:GROUP or :GROUP
        owner: String,
        /// Names
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Change the group
    Chgrp {
        /// Also everything below
        #[arg(short = 'R', long)]
        recursive: bool,
        /// Its name
        group: String,
        /// Names
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Names at and below a path, one per line
    Find {
        /// Where to look
        path: OsString,
        /// Only names that match: * stands for any text, ? for one character
        #[arg(long)]
        name: Option<String>,
    },
    /// Exit 0 when a name is what was asked, else 1
    Test {
        /// It is a directory
        #[arg(short, group = "what")]
        d: bool,
        /// It is a file
        #[arg(short, group = "what")]
        f: bool,
        /// It exists
        #[arg(short, group = "what")]
        e: bool,
        /// It has no bytes or entries
        #[arg(short, group = "what")]
        z: bool,
        /// The name
        path: OsString,
    },
    /// Copy inside the namespace
    Cp(CopyArgs),
    /// Move or rename inside one mount
    Mv {
        /// Replace an existing file
        #[arg(short, long)]
        force: bool,
        /// From
        from: OsString,
        /// To, or into this directory
        to: OsString,
    },
    /// Remove names, and their objects in the UFS
    Rm {
        /// Also directories with everything below
        #[arg(short, long, visible_short_alias = 'R')]
        recursive: bool,
        /// Forget them here and leave the UFS alone
        #[arg(long, alias = "arustioOnly")]
        arustio_only: bool,
        /// Names
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Bytes below a path, and how many of them are cached: SIZE, CACHED (%), PATH
    #[command(disable_help_flag = true)]
    Du {
        /// Only the total of each argument
        #[arg(short, long)]
        summary: bool,
        /// Sizes for people
        #[arg(short = 'h', long)]
        human: bool,
        /// Do not ask block nodes: sizes only, without listing what is below
        #[arg(long)]
        no_cached: bool,
        /// Take what the nearest metadata server knows; it may be old, and the UFS is not asked
        #[arg(long)]
        stale_ok: bool,
        /// Print help
        #[arg(long, action = clap::ArgAction::Help)]
        help: Option<bool>,
        /// Names
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Count files, directories and bytes
    Count {
        /// Take what the nearest metadata server knows; it may be old, and the UFS is not asked
        #[arg(long)]
        stale_ok: bool,
        /// Names
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// SHA-256 of a file's bytes
    Checksum {
        /// Files
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// On which block nodes the blocks of files belong, and how much of them is there
    Location {
        /// Each block with the nodes that own it
        #[arg(long)]
        blocks: bool,
        /// Files
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Look at the UFS now
    Sync {
        /// Everything below
        #[arg(short, long)]
        recursive: bool,
        /// Print keys that cannot be paths, with the reason
        #[arg(long)]
        report: bool,
        /// A name
        path: OsString,
    },
    /// Writes announced, and work owed to a UFS
    Pending,
    /// Copy local files into the namespace
    #[command(alias = "copyFromLocal")]
    CopyFromLocal(CopyArgs),
    /// Copy files to the local disk
    #[command(alias = "copyToLocal")]
    CopyToLocal(CopyArgs),
    /// Set settings of a path: write.type, sync.interval, block.size
    #[command(alias = "setConf")]
    SetConf {
        /// Return these keys to what they inherit
        #[arg(long)]
        unset: Vec<String>,
        /// The path
        path: OsString,
        /// key=value
        values: Vec<String>,
    },
    /// Show settings of a path
    #[command(alias = "getConf")]
    GetConf {
        /// The path
        path: OsString,
        /// Only this key
        key: Option<String>,
    },
}

/// `arustio fs mount`
#[derive(Debug, Args)]
pub struct MountArgs {
    /// Option of the UFS, key=value; a secret can be `key=@file` or `key=env:NAME`
    #[arg(short = 'o', value_name = "KEY=VALUE")]
    pub options: Vec<String>,
    /// Refuse every change
    #[arg(long)]
    pub readonly: bool,
    /// Usable by everybody
    #[arg(long)]
    pub shared: bool,
    /// Try the UFS and say what it can do; mount nothing
    #[arg(long)]
    pub check: bool,
    /// Without arguments: what each UFS can do, age of knowledge, options
    #[arg(short)]
    pub v: bool,
    /// The mount point
    #[arg(requires = "uri")]
    pub path: Option<OsString>,
    /// The UFS, such as s3://bucket/prefix
    pub uri: Option<String>,
}

/// `arustio fs update-mount`
#[derive(Debug, Args)]
pub struct UpdateMountArgs {
    /// Option of the UFS, key=value; given ones replace, others stay
    #[arg(short = 'o', value_name = "KEY=VALUE")]
    pub options: Vec<String>,
    /// Refuse every change from now on; with =false, allow them again
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub readonly: Option<bool>,
    /// The mount point
    pub path: OsString,
    /// The same UFS under another URI
    pub uri: Option<String>,
}

/// `arustio fs load`
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Give each block to so many nodes, or to all if there are fewer; those who read look for
    /// more than one only if their read.replicas says so, or the first one fails
    /// [default: as configured, 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub replicas: Option<u8>,
    /// Ask all nodes at the end what they hold, and fail with NoSpace (exit code 8) unless it
    /// is everything. The command does the work itself and always waits for it; without this
    /// it succeeds when each byte was taken, also if later ones have pushed it out again
    #[arg(long)]
    pub wait: bool,
    /// Read back what is cached and compare it with its checksums, and the version of each file
    /// with the store; what is missing or damaged is loaded once more
    #[arg(long)]
    pub verify: bool,
    /// Read at most so much a second from the UFS, such as 100MiB
    #[arg(long, value_name = "SIZE")]
    pub bandwidth: Option<String>,
    /// Files, directories or mount points
    #[arg(required = true)]
    pub paths: Vec<OsString>,
}

/// `arustio fs ls`
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Mode, owner, group, size, persistence, modified, name
    #[arg(short)]
    pub long: bool,
    /// Everything below
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Sizes for people
    #[arg(short = 'h', long)]
    pub human: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// Take what the nearest metadata server knows; it may be old, and the UFS is not asked
    #[arg(long)]
    pub stale_ok: bool,
    /// Order; without it entries stream in name order
    #[arg(long, value_enum)]
    pub sort: Option<SortKey>,
    /// Names
    #[arg(required = true)]
    pub paths: Vec<OsString>,
}

/// How `ls --sort` orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SortKey {
    /// By name.
    Name,
    /// Largest first.
    Size,
    /// Newest first.
    Time,
}

/// Every verb that copies.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Directories with everything below
    #[arg(short, long, visible_short_alias = 'R')]
    pub recursive: bool,
    /// Replace existing files
    #[arg(short, long)]
    pub force: bool,
    /// Name every file, and say where the bytes came from
    #[arg(short)]
    pub v: bool,
    /// Files copied at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// From
    #[arg(required = true)]
    pub from: Vec<OsString>,
    /// To, or into this directory
    pub to: OsString,
}

/// `arustio admin ...`
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// The group of metadata servers: who belongs to it, and how that changes
    Raft {
        /// The verb.
        #[command(subcommand)]
        verb: RaftCommand,
    },
    /// The metadata as a whole: back it up, check it, look into it
    Metadata {
        /// The verb.
        #[command(subcommand)]
        verb: MetadataCommand,
    },
    /// The block nodes: who they are, and which of them get blocks
    Node {
        /// The verb.
        #[command(subcommand)]
        verb: NodeCommand,
    },
    /// What the cluster has
    Report {
        /// The verb; without it, the summary.
        #[command(subcommand)]
        verb: Option<ReportCommand>,
    },
}

/// `arustio admin node ...`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Number, address, state, weight, last sign of life, capacity and use of each
    #[command(alias = "ls")]
    List,
    /// Give a node no new blocks; it is still read while it runs
    Drain {
        /// Its number
        id: u64,
        /// Give it new blocks again
        #[arg(long)]
        undo: bool,
    },
    /// Change a node's share of the blocks; 100 is what a node begins with, 0 is none
    Weight {
        /// Its number
        id: u64,
        /// Its share, relative to other nodes
        weight: u32,
    },
    /// Remove a node for good; its number never comes back
    #[command(alias = "rm")]
    Remove {
        /// Its number
        id: u64,
    },
}

/// `arustio admin report ...`
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// All at a glance: servers, leader, nodes, cache, where reads came from, what stores were
    /// asked, and what is still to be done; without a verb, this
    Summary,
    /// Size and use of the cache, by node and tier, and the share of reads that found all
    /// they asked for since the node was started
    Capacity,
}

/// `arustio admin metadata ...`
#[derive(Debug, Subcommand)]
pub enum MetadataCommand {
    /// Write everything but credentials and sessions into one file, while the servers run
    Backup {
        /// A local file that does not exist yet
        file: PathBuf,
    },
    /// Say how a backup is restored: servers that run cannot do it
    Restore {
        /// What backup wrote
        file: PathBuf,
    },
    /// Check every invariant on each metadata server, and compare what they hold
    Verify {
        /// Only this server
        #[arg(long, value_name = "N")]
        member: Option<u64>,
        /// Problems that are shown of each server at most
        #[arg(long, default_value_t = 20, value_name = "COUNT")]
        problems: u32,
    },
    /// Print the records of one server as lines of JSON, without secrets
    Dump {
        /// This server as it is, instead of what is newest
        #[arg(long, value_name = "N")]
        member: Option<u64>,
        /// Only what is at or below this path of the namespace
        path: Option<OsString>,
    },
}

/// `arustio admin raft ...`
#[derive(Debug, Subcommand)]
pub enum RaftCommand {
    /// Who belongs to the group, what each is and how far
    #[command(alias = "ls")]
    List,
    /// Let a new server follow; it votes after `promote`
    Add {
        /// A number that was never used
        id: u64,
        /// Where the others reach it, `host:port`
        address: String,
    },
    /// Give a server that follows a vote
    Promote {
        /// Its number
        id: u64,
        /// Remove this voter in the same step
        #[arg(long, value_name = "OLD")]
        replace: Option<u64>,
    },
    /// Remove a server for good; its number never comes back
    #[command(alias = "rm")]
    Remove {
        /// Its number
        id: u64,
    },
    /// Let another server lead: this one, or the one that is closest
    Transfer {
        /// Its number
        id: Option<u64>,
    },
    /// Make a snapshot on the leader and drop its log below it
    Snapshot,
}
