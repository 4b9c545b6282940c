//! Loading: what readers find afterwards, what it costs the store, and what it does when
//! something is in its way (R4 to R6).

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arustio_client::block::{
    BlockClient, BlockError, BlockExtent, BlockFilled, BlockOffer, BlockPart, BlockRead,
    BlockSelector, BlockStored, BlockWant, BlockWrite, GrpcBlocks, LeaseWord,
};
use arustio_client::config::Transport;
use arustio_client::types::cluster::NodeInfo;
use arustio_client::{
    ArustioFileSystem, Builder, ByteSize, ErrorKind, FileSystem, LoadEvent, LoadOptions,
    LoadedFile, OpenOptions, Result,
};
use arustio_testkit::s3::{FaultAction, FaultRule, Operation, OperationStats};
use async_trait::async_trait;
use futures::TryStreamExt as _;
use futures::future::join_all;

use crate::house::{House, Short as _, p, within};

const MIB: usize = 1 << 20;

/// What a load told.
#[derive(Debug, Default)]
struct Told {
    replicas: usize,
    bytes: u64,
    files: Vec<LoadedFile>,
}

impl Told {
    fn sum(&self, of: impl Fn(&LoadedFile) -> u64) -> u64 {
        self.files.iter().map(of).sum()
    }

    #[track_caller]
    fn all_well(&self) {
        let failed: Vec<_> = self
            .files
            .iter()
            .filter_map(|f| f.failed.as_ref())
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}

async fn load(fs: &ArustioFileSystem, paths: &[&str], options: LoadOptions) -> Result<Told> {
    let paths = paths.iter().map(|path| p(path)).collect();
    let mut events = fs.load(paths, options);
    let mut told = Told::default();
    while let Some(event) = within(events.try_next()).await? {
        match event {
            LoadEvent::Begins { replicas } => told.replicas = replicas,
            LoadEvent::Bytes(bytes) => told.bytes += bytes,
            LoadEvent::File(file) => told.files.push(file),
        }
    }
    Ok(told)
}

async fn load_all(fs: &ArustioFileSystem) -> Told {
    load(fs, &["/data"], LoadOptions::default()).await.unwrap()
}

fn gets(house: &House) -> OperationStats {
    let stats = house.s3.stats().snapshot_and_reset();
    stats.of(Operation::GetObject)
}

async fn cached(fs: &ArustioFileSystem, path: &str) -> u64 {
    let status = fs.stat(&p(path), Default::default()).await.unwrap();
    let cached = fs.cached_bytes(&[status]).await.unwrap();
    cached[0].unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_a_tree_is_loaded_once_and_read_from_the_nodes_afterwards() {
    let (house, fs) = House::mounted().await;
    let sizes = [0, 1, 40_000, MIB, 5 * MIB + 3, 20 * MIB];
    for (number, size) in sizes.iter().enumerate() {
        house.put(
            &format!("d{}/f{number}", number % 2),
            vec![number as u8; *size],
        );
    }
    fs.sync_all("/data").await;
    gets(&house);
    let told = load_all(&fs).await;
    told.all_well();
    let all: usize = sizes.iter().sum();
    assert_eq!((told.files.len(), told.bytes), (sizes.len(), all as u64));
    assert_eq!(told.sum(|file| file.ufs_bytes), all as u64);
    let cost = gets(&house);
    assert_eq!(cost.bytes_out, all as u64);
    // Small ones at once, the largest in parts of 8 MiB; nothing is asked of the empty one.
    assert_eq!(cost.requests, 4 + 3);

    let again = load_all(&fs).await;
    again.all_well();
    assert_eq!(again.bytes, all as u64);
    assert_eq!(again.sum(|file| file.cache_bytes), all as u64);
    let reader = fs.open(&p("/data/d1/f5"), OpenOptions::default()).await;
    let read: Vec<bytes::Bytes> = reader
        .unwrap()
        .stream(0..u64::MAX)
        .try_collect()
        .await
        .unwrap();
    assert!(read.concat() == vec![5; 20 * MIB]);
    assert_eq!(gets(&house).requests, 0, "everything was there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_loads_and_readers_of_the_same_cold_file_are_one_request() {
    let (house, fs) = House::mounted().await;
    let content: Vec<u8> = (0..12 * MIB).map(|at| (at / 4096) as u8).collect();
    house.put("f", content.clone());
    fs.sync_all("/data").await;
    let later = FaultAction::Delay(Duration::from_millis(200));
    house.fault(FaultRule::new(later).on(Operation::GetObject));
    let grpc = house
        .client_with(|config| config.transport = Transport::Grpc)
        .await;
    let other = house.client().await;
    let reader = other.open(&p("/data/f"), OpenOptions::default()).await;
    let reader = reader.unwrap();
    gets(&house);
    let (one, two, read) = tokio::join!(
        load_all(&fs),
        load_all(&grpc),
        reader.stream(0..u64::MAX).try_collect::<Vec<_>>(),
    );
    one.all_well();
    two.all_well();
    assert!(read.unwrap().concat() == content);
    let cost = gets(&house);
    assert_eq!(cost.bytes_out, content.len() as u64, "no byte twice");
    assert_eq!(cached(&fs, "/data/f").await, content.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_waits_for_room_where_a_reader_drops() {
    let (house, _) = House::mounted().await;
    let fs = house
        .client_with(|config| config.read.fill_buffer = ByteSize::kib(64))
        .await;
    for number in 0..8 {
        house.put(&format!("f{number}"), vec![number; 3 * MIB]);
    }
    fs.sync_all("/data").await;
    load_all(&fs).await.all_well();
    for number in 0..8 {
        let there = cached(&fs, &format!("/data/f{number}")).await;
        assert_eq!(there, 3 * MIB as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bandwidth_is_kept() {
    let (house, fs) = House::mounted().await;
    for number in 0..4 {
        house.put(&format!("f{number}"), vec![number; MIB]);
    }
    fs.sync_all("/data").await;
    let options = LoadOptions {
        bandwidth: NonZeroU64::new(2 * MIB as u64),
        ..LoadOptions::default()
    };
    let started = Instant::now();
    let told = load(&fs, &["/data"], options).await.unwrap();
    told.all_well();
    // The last piece is not waited for: it is at most as large as the store sends them.
    assert!(started.elapsed() > Duration::from_millis(900));
}

#[tokio::test]
async fn r1_a_file_that_was_replaced_is_told_and_the_others_are_loaded() {
    let (house, fs) = House::mounted().await;
    house.put("a", vec![1; MIB]);
    house.put("b", vec![2; MIB]);
    fs.sync_all("/data").await;
    house.put("a", vec![3; MIB]);
    let told = load_all(&fs).await;
    assert_eq!(told.files.len(), 2);
    let failed: Vec<_> = told.files.iter().filter(|f| f.failed.is_some()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].path, p("/data/a"));
    let error = failed[0].failed.as_ref().unwrap();
    assert_eq!(error.kind(), ErrorKind::Stale);
    assert_eq!(told.bytes, MIB as u64, "only what is there is counted");
    assert_eq!(cached(&fs, "/data/b").await, MIB as u64);
}

#[tokio::test]
async fn without_block_nodes_there_is_nothing_to_load_to() {
    let house = House::without_blocks(|_| ()).await;
    house.put("f", "x");
    let fs = house.client().await;
    let refused = load(&fs, &["/data"], LoadOptions::default()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(
        refused.to_string().contains("nothing to load to"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_does_not_exist_and_what_cannot_be_is_refused() {
    let (_house, fs) = House::mounted().await;
    let missing = load(&fs, &["/data/none"], LoadOptions::default()).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    let many = LoadOptions {
        replicas: Some(9),
        ..LoadOptions::default()
    };
    let refused = load(&fs, &["/data"], many).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    let some = LoadOptions {
        replicas: Some(3),
        ..LoadOptions::default()
    };
    assert_eq!(load(&fs, &["/data"], some).await.unwrap().replicas, 1);
}

/// A node that loses, or damages, one block before it is read back.
#[derive(Debug)]
struct Unsound {
    inner: GrpcBlocks,
    /// Answers that are still to be wrong.
    wrong: AtomicU64,
    damaged: bool,
}

#[async_trait]
impl BlockClient for Unsound {
    async fn read(
        &self,
        node: &NodeInfo,
        request: BlockRead,
        deadline: Duration,
    ) -> Result<Vec<BlockPart>, BlockError> {
        let key = request.key;
        let left = self.wrong.load(Ordering::Relaxed);
        if left == 0 {
            return self.inner.read(node, request, deadline).await;
        }
        self.wrong.store(left - 1, Ordering::Relaxed);
        if self.damaged {
            let address = node.address.clone();
            return Err(BlockError::Corrupt { address, key });
        }
        let one = BlockSelector::Block(key);
        self.inner.remove(node, one, deadline).await?;
        Ok(Vec::new())
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

    async fn want(
        &self,
        node: &NodeInfo,
        request: BlockWant,
        deadline: Duration,
    ) -> Result<BlockOffer, BlockError> {
        self.inner.want(node, request, deadline).await
    }

    async fn fill(
        &self,
        node: &NodeInfo,
        lease: u64,
        request: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockFilled, BlockError> {
        self.inner.fill(node, lease, request, deadline).await
    }

    async fn lease(
        &self,
        node: &NodeInfo,
        lease: u64,
        word: LeaseWord,
        deadline: Duration,
    ) -> Result<bool, BlockError> {
        self.inner.lease(node, lease, word, deadline).await
    }
}

async fn verified(house: &House, wrong: u64, damaged: bool) -> Told {
    let blocks = Arc::new(Unsound {
        inner: GrpcBlocks::new(1),
        wrong: AtomicU64::new(wrong),
        damaged,
    });
    let builder = Builder::new().config(house.config()).blocks(blocks);
    let fs = builder.connect().await.unwrap();
    let options = LoadOptions {
        verify: true,
        ..LoadOptions::default()
    };
    load(&fs, &["/data/f"], options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_damaged_when_it_is_verified_is_loaded_once_more() {
    for damaged in [false, true] {
        let (house, fs) = House::mounted().await;
        house.put("f", vec![9; 9 * MIB]);
        fs.sync_all("/data").await;
        gets(&house);
        let sound = verified(&house, 0, damaged).await;
        sound.all_well();
        assert_eq!(gets(&house).bytes_out, 9 * MIB as u64);
        let mended = verified(&house, 1, damaged).await;
        mended.all_well();
        let cost = gets(&house);
        assert!(
            (MIB..=4 * MIB).contains(&(cost.bytes_out as usize)),
            "{cost:?}"
        );
        assert_eq!(cached(&fs, "/data/f").await, 9 * MIB as u64);
        let lost = verified(&house, 1000, damaged).await;
        let error = lost.files[0].failed.as_ref().unwrap();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_dropped_leaves_nobody_waiting() {
    let (house, fs) = House::mounted().await;
    house.put("f", vec![1; 6 * MIB]);
    fs.sync_all("/data").await;
    let slowly = FaultAction::Delay(Duration::from_secs(5));
    let rule = house.fault(FaultRule::new(slowly).on(Operation::GetObject).times(1));
    let mut events = fs.load(vec![p("/data/f")], LoadOptions::default());
    within(events.try_next()).await.unwrap();
    house.struck(rule).await;
    drop(events);
    let others = join_all((0..2).map(|_| house.client())).await;
    let started = Instant::now();
    for told in join_all(others.iter().map(load_all)).await {
        told.all_well();
    }
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "the lease was given up"
    );
}
