//! Several block nodes: where blocks go, and what happens when a node drains, dies, comes
//! back, is removed, or is there twice (R4, R5).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arustio_client::admin::{Admin, BlockNode};
use arustio_client::block::epoch::Epoch;
use arustio_client::block::{
    BlockClient, BlockError, BlockExtent, BlockPart, BlockRead, BlockSelector, BlockStored,
    BlockWrite, FramedBlocks, GrpcBlocks, LocalBlocks,
};
use arustio_client::config::LocalConfig;
use arustio_client::entropy::Entropy;
use arustio_client::metadata::{ClusterIdentity, MetadataClient as _, RemoteMetadata};
use arustio_client::types::cluster::{DataEndpoints, NodeChange, NodeInfo};
use arustio_client::types::meta::command::Principal;
use arustio_client::types::meta::setting::PathConf;
use arustio_client::types::meta::{Command, RequestContext};
use arustio_client::types::{BlockKey, BlockSize};
use arustio_client::{
    ArustioFileSystem, Builder, ClientConfig, ErrorKind, FileSystem, FsError, LoadEvent,
    LoadOptions, OpenOptions, ReadStats, StatOptions,
};
use arustio_server::{Engine, Role, Server, ServerConfig};
use arustio_types::{ByteSize, NodeId};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::house::{House, Short as _, eventually, p, within};

const BLOCK: u64 = 64 << 10;
const BLOCKS: u64 = 128;
const PATIENT: Duration = Duration::from_secs(10);

/// Signs of life come and are missed fast.
fn hasty(config: &mut ServerConfig) {
    config.metadata.nodes.heartbeat = Duration::from_millis(50);
    config.metadata.nodes.expiry = Duration::from_millis(1_000);
}

/// A block node on a runtime of its own, so that it can end as a killed process does.
struct Node {
    folder: TempDir,
    running: Option<(Server, Runtime)>,
}

impl Node {
    async fn start(house: &House) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let running = Some(serve(house, folder.path()).await);
        Self { folder, running }
    }

    async fn again(&mut self, house: &House) {
        self.running = Some(serve(house, self.folder.path()).await);
    }

    fn address(&self) -> String {
        let (server, _) = self.running.as_ref().unwrap();
        server.addresses().grpc.to_string()
    }

    /// Waits until it says why it ends by itself.
    async fn ends(&self) -> String {
        let (server, _) = self.running.as_ref().unwrap();
        within(server.failed()).await.to_string()
    }

    async fn stop(&mut self) {
        let (server, runtime) = self.running.take().unwrap();
        within(server.stop()).await;
        runtime.shutdown_background();
    }

    /// Ends it without a word.
    async fn kill(&mut self) {
        let (server, runtime) = self.running.take().unwrap();
        let end = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENT));
        end.await.unwrap();
        drop(server);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some((_, runtime)) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(house: &House, folder: &Path) -> (Server, Runtime) {
    let mut config = ServerConfig::ephemeral(folder);
    hasty(&mut config);
    config.server.role = vec![Role::Block];
    config.cluster.metadata = house.config().addresses;
    config.block.memory.capacity = Some(ByteSize::mib(32));
    config.block.disk.capacity = Some(ByteSize::mib(64));
    config.block.disk.min_free = ByteSize::mib(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let starting = runtime.spawn(Server::start(config.validate().unwrap(), Engine::Memory));
    (starting.await.unwrap().unwrap(), runtime)
}

fn admin(house: &House) -> Admin {
    Admin::new(&house.config(), Entropy::from_seed(5)).unwrap()
}

/// The node at an address, once it is in this state.
async fn known(admin: &Admin, address: &str, state: &str) -> BlockNode {
    eventually(async || {
        let nodes = admin.nodes().await.map_err(|error| error.to_string())?;
        let mut nodes = nodes.nodes.iter();
        let there = nodes.any(|n| n.entry.node.address == address && n.state() == state);
        there.then_some(()).ok_or_else(|| format!("{nodes:?}"))
    })
    .await;
    let nodes = admin.nodes().await.unwrap().nodes;
    let mut nodes = nodes.into_iter();
    nodes.find(|n| n.entry.node.address == address).unwrap()
}

async fn change(admin: &Admin, node: NodeId, change: NodeChange) {
    admin.change_node(node, change).await.unwrap();
}

/// Bytes of one file, different in every block.
fn bytes(seed: u8) -> Bytes {
    let block = |index: u64| (0..BLOCK).map(move |at| seed ^ (index as u8) ^ (at as u8));
    (0..BLOCKS).flat_map(block).collect()
}

/// Reads a file with a client that has just come, and compares.
async fn read(house: &House, path: &str, expected: &Bytes) -> ReadStats {
    let fs = house.client().await;
    read_by(&fs, path, expected).await
}

async fn read_by(fs: &ArustioFileSystem, path: &str, expected: &Bytes) -> ReadStats {
    let reader = fs.open(&p(path), OpenOptions::default()).await.unwrap();
    let pieces: Vec<Bytes> = within(reader.stream(0..u64::MAX).try_collect())
        .await
        .unwrap();
    assert!(pieces.concat() == *expected, "{path} has other bytes");
    reader.stats()
}

/// Bytes of a file that a node has.
async fn cached(fs: &ArustioFileSystem, path: &str, node: &BlockNode) -> u64 {
    let status = fs.stat(&p(path), StatOptions::default()).await.unwrap();
    let extents = [BlockExtent {
        first: 0,
        content: status.content_id().unwrap(),
        size: status.block_size,
        blocks: BLOCKS,
    }];
    let grpc = GrpcBlocks::new(1);
    let asked = grpc.cached(&node.entry.node, &extents, PATIENT);
    asked.await.unwrap()[0]
}

/// Waits until these nodes together have all of a file.
async fn all_cached(fs: &ArustioFileSystem, path: &str, nodes: &[&BlockNode]) {
    eventually(async || {
        let mut sum = 0;
        for node in nodes {
            sum += cached(fs, path, node).await;
        }
        (sum == BLOCK * BLOCKS)
            .then_some(())
            .ok_or_else(|| format!("{sum} bytes of {path}"))
    })
    .await;
}

async fn small_blocks(fs: &ArustioFileSystem) {
    let set = PathConf {
        block_size: Some(BlockSize::from_log2(16).unwrap()),
        ..PathConf::default()
    };
    fs.set_conf(&p("/data"), set, Vec::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_follow_weights_drains_deaths_and_removals() {
    let house = House::without_blocks(hasty).await;
    let admin = admin(&house);
    let mut nodes = Vec::new();
    let mut all = Vec::new();
    for _ in 0..3 {
        let node = Node::start(&house).await;
        all.push(known(&admin, &node.address(), "serves").await);
        nodes.push(node);
    }
    change(&admin, all[2].id(), NodeChange::Weight(200)).await;
    let fs = house.client().await;
    small_blocks(&fs).await;
    let (first, second) = (bytes(1), bytes(2));
    house.put("first", first.clone());
    house.put("second", second.clone());

    // By weight: 1, 1, 2.
    read(&house, "/data/first", &first).await;
    all_cached(&fs, "/data/first", &all.iter().collect::<Vec<_>>()).await;
    let mut share = Vec::new();
    for node in &all {
        share.push(cached(&fs, "/data/first", node).await / BLOCK);
    }
    assert!(
        share[2] > BLOCKS / 4 && share[2] < BLOCKS * 3 / 4,
        "{share:?}"
    );
    assert!(
        share[0] > BLOCKS / 20 && share[1] > BLOCKS / 20,
        "{share:?}"
    );
    let found = fs.location(&p("/data/first")).await.unwrap();
    let owns: Vec<u64> = found.nodes.iter().map(|share| share.owns).collect();
    assert_eq!(owns, share, "each has what belongs on it");
    // As of its last sign of life.
    eventually(async || {
        let told = known(&admin, &nodes[2].address(), "serves").await;
        let some = told.tiers.iter().any(|tier| tier.used > 0);
        some.then_some(()).ok_or_else(|| format!("{told:?}"))
    })
    .await;

    // Draining: read without the store, moved on by that, and given nothing new.
    change(&admin, all[2].id(), NodeChange::Draining(true)).await;
    let stats = read(&house, "/data/first", &first).await;
    assert_eq!((stats.ufs_requests, stats.cache_bytes), (0, BLOCK * BLOCKS));
    all_cached(&fs, "/data/first", &[&all[0], &all[1]]).await;
    read(&house, "/data/second", &second).await;
    all_cached(&fs, "/data/second", &[&all[0], &all[1]]).await;
    assert_eq!(cached(&fs, "/data/second", &all[2]).await, 0);
    let drained = known(&admin, &nodes[2].address(), "draining").await;
    assert_eq!(drained.entry.node.weight, 200);

    // Dead: others and the store take over; back, it has its number and its blocks.
    nodes[0].kill().await;
    read_by(&fs, "/data/first", &first).await;
    read(&house, "/data/second", &second).await;
    nodes[0].again(&house).await;
    let back = known(&admin, &nodes[0].address(), "serves").await;
    assert_eq!(back.id(), all[0].id());
    eventually(async || match cached(&fs, "/data/first", &back).await {
        0 => Err("it has nothing".to_owned()),
        _ => Ok(()),
    })
    .await;
    read(&house, "/data/first", &first).await;

    // Removed: it ends by itself, and is refused when it comes back.
    change(&admin, all[1].id(), NodeChange::Remove).await;
    let said = nodes[1].ends().await;
    assert!(
        said.contains("was removed") && said.contains("empty data folder"),
        "{said}"
    );
    nodes[1].stop().await;
    nodes[1].again(&house).await;
    assert!(nodes[1].ends().await.contains("was removed"));
    let gone = known(&admin, &all[1].entry.node.address, "removed").await;
    assert_eq!(gone.id(), all[1].id());
    read(&house, "/data/second", &second).await;

    // All of them dead: everything comes from the store.
    nodes[0].kill().await;
    nodes[2].kill().await;
    let stats = read_by(&fs, "/data/second", &second).await;
    assert_eq!((stats.ufs_bytes, stats.cache_bytes), (BLOCK * BLOCKS, 0));
    nodes[1].stop().await;
}

/// What is said to a node that registers and is refused.
async fn register(house: &House, instance: u128, address: &str) -> FsError {
    let entropy = Arc::new(Entropy::from_seed(6));
    let metadata = RemoteMetadata::new(&house.config(), Principal::default(), entropy).unwrap();
    let command = Command::RegisterNode {
        instance,
        address: address.to_owned(),
        weight: 100,
        data: DataEndpoints::default(),
    };
    let context = RequestContext {
        deadline: PATIENT,
        ..RequestContext::default()
    };
    metadata.propose(&context, &command).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_replicas_the_death_of_a_node_costs_the_store_nothing() {
    let house = House::without_blocks(hasty).await;
    let admin = admin(&house);
    let mut nodes = [Node::start(&house).await, Node::start(&house).await];
    let one = known(&admin, &nodes[0].address(), "serves").await;
    let two = known(&admin, &nodes[1].address(), "serves").await;
    let fs = house.client_with(|config| config.read.replicas = 2).await;
    small_blocks(&fs).await;
    let content = bytes(3);
    house.put("f", content.clone());
    read_by(&fs, "/data/f", &content).await;
    all_cached(&fs, "/data/f", &[&one]).await;
    all_cached(&fs, "/data/f", &[&two]).await;
    nodes[0].kill().await;
    let stats = read_by(&fs, "/data/f", &content).await;
    assert_eq!((stats.ufs_requests, stats.cache_bytes), (0, BLOCK * BLOCKS));
    nodes[1].stop().await;
}

/// Block nodes that answer no reads, or with damaged bytes, when they are told to.
#[derive(Debug)]
struct Faulty {
    inner: FramedBlocks,
    stalled: AtomicBool,
    /// The number of the node whose bytes do not match.
    damaged: AtomicU64,
}

impl Faulty {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: FramedBlocks::new(ClusterIdentity::default(), GrpcBlocks::new(1)),
            stalled: AtomicBool::new(false),
            damaged: AtomicU64::new(0),
        })
    }

    /// A client that reaches block nodes by this alone.
    async fn client(self: &Arc<Self>, config: ClientConfig) -> ArustioFileSystem {
        let blocks = Arc::<Self>::clone(self);
        let builder = Builder::new().config(config).blocks(blocks);
        builder.connect().await.unwrap()
    }
}

#[async_trait]
impl BlockClient for Faulty {
    async fn read(
        &self,
        node: &NodeInfo,
        request: BlockRead,
        deadline: Duration,
    ) -> Result<Vec<BlockPart>, BlockError> {
        if self.stalled.load(Ordering::Relaxed) {
            tokio::time::sleep(deadline).await;
            return Err(BlockError::Timeout {
                address: node.address.clone(),
                after: deadline,
            });
        }
        if self.damaged.load(Ordering::Relaxed) == node.id.get() {
            return Err(BlockError::Corrupt {
                address: node.address.clone(),
                key: request.key,
            });
        }
        self.inner.read(node, request, deadline).await
    }

    async fn write(
        &self,
        node: &NodeInfo,
        request: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockStored, BlockError> {
        self.inner.write(node, request, deadline).await
    }

    async fn cached(
        &self,
        node: &NodeInfo,
        extents: &[BlockExtent],
        deadline: Duration,
    ) -> Result<Vec<u64>, BlockError> {
        self.inner.cached(node, extents, deadline).await
    }

    async fn remove(
        &self,
        node: &NodeInfo,
        selector: BlockSelector,
        deadline: Duration,
    ) -> Result<u64, BlockError> {
        self.inner.remove(node, selector, deadline).await
    }
}

/// A file that is cached on a node which does not answer any more, and a client that has
/// made so many requests that one may be made twice.
async fn cached_on_a_stalled_node(house: &House) -> (Node, ArustioFileSystem, Bytes) {
    let admin = admin(house);
    let node = Node::start(house).await;
    let known = known(&admin, &node.address(), "serves").await;
    let blocks = Faulty::new();
    let mut config = house.config();
    // Longer than any test: only whoever is asked instead ends the read.
    config.read.node_timeout = Duration::from_secs(1_000);
    let fs = blocks.client(config).await;
    small_blocks(&fs).await;
    let content = bytes(4);
    house.put("f", content.clone());
    read_by(&fs, "/data/f", &content).await;
    all_cached(&fs, "/data/f", &[&known]).await;
    let stats = read_by(&fs, "/data/f", &content).await;
    assert_eq!((stats.ufs_requests, stats.hedges), (0, 0));
    blocks.stalled.store(true, Ordering::Relaxed);
    (node, fs, content)
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_a_reader_of_a_node_that_stalls_gets_the_bytes_from_the_store() {
    let house = House::without_blocks(hasty).await;
    let (mut node, fs, content) = cached_on_a_stalled_node(&house).await;
    let reader = fs.open(&p("/data/f"), OpenOptions::default()).await;
    let reader = reader.unwrap();
    let wanted = content.slice(..100);
    assert_eq!(within(reader.read_at(0, 100)).await.unwrap(), wanted);
    let stats = reader.stats();
    assert_eq!((stats.hedges, stats.hedges_won), (1, 1));
    assert_eq!((stats.ufs_requests, stats.cache_bytes), (1, 0));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_stream_to_which_nothing_comes_asks_the_store_as_well() {
    let house = House::without_blocks(hasty).await;
    let (mut node, fs, content) = cached_on_a_stalled_node(&house).await;
    let reader = fs.open(&p("/data/f"), OpenOptions::default()).await;
    let reader = reader.unwrap();
    let pieces = reader.stream(0..100).try_collect::<Vec<_>>();
    let pieces = within(pieces).await.unwrap();
    assert_eq!(pieces.concat(), content.slice(..100));
    let stats = reader.stats();
    assert_eq!((stats.hedges, stats.hedges_won), (1, 1));
    assert_eq!((stats.ufs_requests, stats.cache_bytes), (1, 0));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_blocks_that_are_damaged_on_one_node_come_from_its_replica() {
    let house = House::without_blocks(hasty).await;
    let admin = admin(&house);
    let mut nodes = [Node::start(&house).await, Node::start(&house).await];
    let one = known(&admin, &nodes[0].address(), "serves").await;
    let two = known(&admin, &nodes[1].address(), "serves").await;
    let blocks = Faulty::new();
    let mut config = house.config();
    config.read.replicas = 2;
    let fs = blocks.client(config).await;
    small_blocks(&fs).await;
    let content = bytes(5);
    house.put("f", content.clone());
    read_by(&fs, "/data/f", &content).await;
    all_cached(&fs, "/data/f", &[&one]).await;
    all_cached(&fs, "/data/f", &[&two]).await;
    blocks.damaged.store(one.id().get(), Ordering::Relaxed);
    let stats = read_by(&fs, "/data/f", &content).await;
    assert!(stats.corrupt_blocks > 0, "{stats:?}");
    assert_eq!((stats.ufs_requests, stats.cache_bytes), (0, BLOCK * BLOCKS));
    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_data_folder_is_refused_while_the_other_lives_and_moves_afterwards() {
    let house = House::without_blocks(hasty).await;
    let admin = admin(&house);
    let mut first = Node::start(&house).await;
    let node = known(&admin, &first.address(), "serves").await;
    let folder = tempfile::tempdir().unwrap();
    let copied = |name: &str| (first.folder.path().join(name), folder.path().join(name));
    let (from, to) = copied("node.json");
    std::fs::copy(from, to).unwrap();
    let running = Some(serve(&house, folder.path()).await);
    let mut second = Node { folder, running };
    let refused = register(&house, node.entry.instance, &second.address()).await;
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let said = refused.to_string();
    assert!(
        said.contains(&first.address()) && said.contains("empty data folder"),
        "{said}"
    );
    let refused = register(&house, 99, &first.address()).await.to_string();
    assert!(refused.contains("--advertise"), "{refused}");
    let nodes = admin.nodes().await.unwrap().nodes;
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    assert_eq!(nodes[0].entry.node.address, first.address());
    first.stop().await;
    let moved = known(&admin, &second.address(), "serves").await;
    assert_eq!(moved.id(), node.id());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_tell_of_newer_views_on_every_wire_and_unknown_numbers_are_refused() {
    let house = House::without_blocks(hasty).await;
    let admin = admin(&house);
    let mut node = Node::start(&house).await;
    let known = known(&admin, &node.address(), "serves").await;
    let old = admin.nodes().await.unwrap().epoch;
    change(&admin, known.id(), NodeChange::Weight(7)).await;
    let key = BlockKey {
        content: arustio_types::ContentId::new(1),
        size: BlockSize::DEFAULT,
        index: 0,
    };
    let request = BlockRead {
        key,
        range: 0..BLOCK,
        epoch: old,
        lane: None,
    };
    let told = || (Arc::new(Epoch::default()), Arc::new(Epoch::default()));
    let (by_grpc, by_frames) = told();
    let grpc = GrpcBlocks::new(1).telling(Arc::clone(&by_grpc));
    let frames = GrpcBlocks::new(2).telling(Arc::clone(&by_frames));
    let frames = FramedBlocks::new(ClusterIdentity::default(), frames);
    let local = LocalBlocks::new(Box::new(frames), String::new(), &LocalConfig::default());
    eventually(async || {
        // A miss tells as well.
        for client in [&grpc as &dyn BlockClient, &local] {
            let parts = client
                .read(&known.entry.node, request.clone(), PATIENT)
                .await;
            assert!(parts.unwrap().is_empty());
        }
        match by_grpc.is_after(old) && by_frames.is_after(old) {
            true => Ok(()),
            false => Err("no newer view than before".to_owned()),
        }
    })
    .await;
    for change in [
        NodeChange::Weight(1),
        NodeChange::Draining(true),
        NodeChange::Remove,
    ] {
        let refused = admin
            .change_node(NodeId::new(77), change)
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
        assert!(refused.to_string().contains("admin node list"), "{refused}");
    }
    node.stop().await;
}

/// Loads everything, and gives what failed.
async fn load(fs: &ArustioFileSystem, replicas: usize) -> (ReadStats, Vec<FsError>) {
    let options = LoadOptions {
        replicas: Some(replicas),
        ..LoadOptions::default()
    };
    let mut events = fs.load(vec![p("/data")], options);
    let (mut stats, mut failed) = (ReadStats::default(), Vec::new());
    while let Some(event) = within(events.try_next()).await.unwrap() {
        let LoadEvent::File(file) = event else {
            continue;
        };
        stats.cache_bytes += file.cache_bytes;
        stats.ufs_bytes += file.ufs_bytes;
        failed.extend(file.failed);
    }
    (stats, failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_gives_copies_from_node_to_node_and_moves_what_drains() {
    let house = House::without_blocks(hasty).await;
    let admin = admin(&house);
    let mut nodes = [Node::start(&house).await, Node::start(&house).await];
    let one = known(&admin, &nodes[0].address(), "serves").await;
    let two = known(&admin, &nodes[1].address(), "serves").await;
    let fs = house.client().await;
    small_blocks(&fs).await;
    let all = BLOCK * BLOCKS;
    house.put("f", bytes(4));
    fs.sync_all("/data").await;
    let (stats, failed) = load(&fs, 1).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(stats.ufs_bytes, all);
    let there = cached(&fs, "/data/f", &one).await;
    assert_eq!(there + cached(&fs, "/data/f", &two).await, all);

    // What one node has, the other gets from it.
    let (stats, failed) = load(&fs, 2).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(stats.ufs_bytes, 0);
    assert_eq!(cached(&fs, "/data/f", &one).await, all);
    assert_eq!(cached(&fs, "/data/f", &two).await, all);

    // Cold to both at once.
    house.put("g", bytes(5));
    fs.sync_all("/data").await;
    let (stats, failed) = load(&fs, 2).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(
        stats.ufs_bytes, all,
        "the store is asked once for two copies"
    );
    assert_eq!(cached(&fs, "/data/g", &one).await, all);
    assert_eq!(cached(&fs, "/data/g", &two).await, all);

    // What only a node has that drains goes to the other one.
    fs.free(&p("/data")).await.unwrap();
    load(&fs, 1).await;
    change(&admin, one.id(), NodeChange::Draining(true)).await;
    known(&admin, &nodes[0].address(), "draining").await;
    let fs = house.client().await;
    let (stats, failed) = load(&fs, 1).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(stats.ufs_bytes, 0);
    assert_eq!(cached(&fs, "/data/f", &two).await, all);

    // Nobody is left who would take anything.
    fs.free(&p("/data")).await.unwrap();
    nodes[1].kill().await;
    let (stats, failed) = load(&fs, 1).await;
    assert_eq!(stats.ufs_bytes, 0, "nothing is read that nobody keeps");
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[0].kind(), ErrorKind::Unavailable);
    nodes[0].stop().await;
}
