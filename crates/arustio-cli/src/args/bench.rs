//! What people type to measure.

use std::ffi::OsString;

use clap::{Args, Subcommand, ValueEnum};

/// `arustio bench ...`
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Read a file again and again
    Read(BenchRead),
    /// Write one file per stream
    Write(BenchWrite),
    /// Metadata operations
    Meta(BenchMeta),
    /// Read every file below a directory, whole and in random order, again and again
    Epoch(BenchEpoch),
    /// Reads, writes and stats of small files in a tree, by weight
    Mix(BenchMix),
}

/// `arustio bench read`
#[derive(Debug, Args)]
pub struct BenchRead {
    /// Bytes per request
    #[arg(long, visible_alias = "bs", default_value = "1MiB")]
    pub request: String,
    /// Readers at once
    #[arg(long, default_value_t = 1)]
    pub streams: usize,
    /// Random offsets instead of a sequence
    #[arg(long)]
    pub random: bool,
    /// One request by offset after the other, instead of a stream
    #[arg(long, conflicts_with = "random")]
    pub read_at: bool,
    /// Leave the block nodes out of it
    #[arg(long, conflicts_with_all = ["local", "transport"])]
    pub no_cache: bool,
    /// Take what block nodes have, and give them nothing
    #[arg(long, conflicts_with = "no_cache")]
    pub no_fill: bool,
    /// Free the file before each pass, so that the UFS is read; as many passes as --total
    /// holds the file
    #[arg(long, conflicts_with = "no_cache")]
    pub cold: bool,
    /// How bytes of block nodes travel: framed or grpc [default: as configured, framed]
    #[arg(long, value_enum, value_name = "TRANSPORT")]
    pub transport: Option<Wire>,
    /// Take descriptors from a block node on this host, and read without a socket
    /// [default: as configured, unless --transport says which wire to measure]
    #[arg(long, conflicts_with = "no_local")]
    pub local: bool,
    /// Read through sockets only
    #[arg(long)]
    pub no_local: bool,
    /// Stop after so many bytes [default: the file once per stream]
    #[arg(long)]
    pub total: Option<String>,
    /// Begin so many requests a second, as in 20000/s, answered or not, and count their time
    /// from when they should have begun
    #[arg(long, requires = "random", value_parser = crate::command::bench::rate::parse)]
    pub rate: Option<u64>,
    /// The file
    pub path: OsString,
}

/// `arustio bench write`
#[derive(Debug, Args)]
pub struct BenchWrite {
    /// Bytes of each
    #[arg(long, default_value = "1GiB")]
    pub size: String,
    /// Writers at once
    #[arg(long, default_value_t = 1)]
    pub streams: usize,
    /// THROUGH or CACHE_THROUGH
    #[arg(long, default_value = "THROUGH")]
    pub write_type: String,
    /// Leave the files there
    #[arg(long)]
    pub keep: bool,
    /// A directory
    pub path: OsString,
}

/// `arustio bench meta`
#[derive(Debug, Args)]
pub struct BenchMeta {
    /// Which
    #[arg(long, value_enum, default_value = "stat")]
    pub op: MetaOp,
    /// Clients at once
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// Connections that the clients share [default: one for every 16 clients]
    #[arg(long)]
    pub connections: Option<usize>,
    /// Entries of each directory that is listed or renamed, made first
    #[arg(long, default_value_t = 10)]
    pub files: usize,
    /// For so long
    #[arg(long, default_value = "5s")]
    pub duration: String,
    /// Stop each client after so many operations, if that comes first
    #[arg(long)]
    pub count: Option<u64>,
    /// Leave what was made; otherwise it is removed, in the background as well
    #[arg(long)]
    pub keep: bool,
    /// A directory that may be written
    pub path: OsString,
}

/// `arustio bench epoch`
#[derive(Debug, Args)]
pub struct BenchEpoch {
    /// Readers at once, each with one file open
    #[arg(long, default_value_t = 8)]
    pub streams: usize,
    /// How often; each epoch is a line
    #[arg(long, default_value_t = 2)]
    pub epochs: u32,
    /// Read through sockets only
    #[arg(long)]
    pub no_local: bool,
    /// The directory
    pub path: OsString,
}

/// `arustio bench mix`
#[derive(Debug, Args)]
pub struct BenchMix {
    /// Weight of reading a file whole
    #[arg(long, default_value_t = 80)]
    pub read: u32,
    /// Weight of writing one, new or again
    #[arg(long, default_value_t = 15)]
    pub write: u32,
    /// Weight of asking for one's status
    #[arg(long, default_value_t = 5)]
    pub stat: u32,
    /// Bytes of each file
    #[arg(long, default_value = "100KiB")]
    pub size: String,
    /// Files that are read, made first
    #[arg(long, default_value_t = 100)]
    pub files: usize,
    /// Loops at once, each with one operation under way
    #[arg(long, default_value_t = 8)]
    pub streams: usize,
    /// For so long
    #[arg(long, default_value = "5s")]
    pub duration: String,
    /// THROUGH or CACHE_THROUGH
    #[arg(long, default_value = "CACHE_THROUGH")]
    pub write_type: String,
    /// Leave what was made
    #[arg(long)]
    pub keep: bool,
    /// A directory that may be written
    pub path: OsString,
}

/// How bytes of blocks travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wire {
    /// In frames.
    Framed,
    /// Over gRPC.
    Grpc,
}

/// What `bench meta` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MetaOp {
    /// Linearizable stat of one directory
    Stat,
    /// Durable creation: makes directories, since outside mounts there is nothing else;
    /// under a mount each owes the store a marker, which is then measured with it
    Create,
    /// Each client moves a directory of its own there and back; its entries (--files)
    /// are directories too
    Rename,
    /// Lists a directory with --files entries, to its end
    List,
    /// 80 of 100 stat, 10 list, 7 create, 3 rename
    Mix,
}
