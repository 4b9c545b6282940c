//! R4 to R6: many clients read the same cold bytes at once, and some of them fail.
//!
//! Times are chosen so that none of them matters: what is to happen before a lease or a
//! patience is over has a minute for it.

use std::sync::Arc;
use std::time::Duration;

use arustio_client::block::{
    Alone, BlockClient, BlockError, BlockExtent, BlockLease, BlockOffer, BlockPart, BlockRead,
    BlockSelector, BlockStored, BlockWant, BlockWrite, LeaseWord, NoBlocks,
};
use arustio_client::config::Transport;
use arustio_client::types::NodeId;
use arustio_client::types::cluster::{ClusterView, DataEndpoints, NodeInfo};
use arustio_client::{
    ArustioFileSystem, Builder, ByteSize, ErrorKind, FileReader, FileSystem, OpenOptions,
};
use arustio_server::{Server, ServerConfig};
use arustio_testkit::s3::{FaultAction, FaultRule, Operation, OperationStats};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::join_all;

use crate::house::{House, Short as _, p, within};

const MIB: usize = 1 << 20;
const LONG: Duration = Duration::from_secs(60);
const CLIENTS: usize = 8;

fn pattern(salt: u64, length: usize) -> Bytes {
    let word = |at: u64| {
        (at ^ salt)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_le_bytes()
    };
    let words = (0..length.div_ceil(8) as u64).flat_map(word);
    words.take(length).collect()
}

/// A server whose leases last, and a bucket that is mounted at /data.
async fn house(change: impl FnOnce(&mut ServerConfig)) -> House {
    let house = House::with_server(|config| {
        config.block.fill.lease = LONG;
        change(config);
    })
    .await;
    let fs = house.client().await;
    house.mount(&fs, "/data", "s3://test-bucket").await.unwrap();
    house
}

/// Clients that wait as long as it takes, of both wires.
async fn herd(house: &House) -> Vec<ArustioFileSystem> {
    let patient = |number| {
        house.client_with(move |config| {
            config.read.fill_wait = LONG;
            if number % 2 == 1 {
                config.transport = Transport::Grpc;
            }
        })
    };
    join_all((0..CLIENTS).map(patient)).await
}

async fn open(fs: &ArustioFileSystem) -> Arc<dyn FileReader> {
    let opened = fs.open(&p("/data/f"), OpenOptions::default()).await;
    opened.unwrap().into()
}

async fn opened(herd: &[ArustioFileSystem]) -> Vec<Arc<dyn FileReader>> {
    join_all(herd.iter().map(open)).await
}

async fn whole(reader: &Arc<dyn FileReader>) -> arustio_client::Result<Vec<u8>> {
    let pieces: Vec<Bytes> = reader.stream(0..u64::MAX).try_collect().await?;
    Ok(pieces.concat())
}

/// A new object, of which the namespace knows.
async fn put(house: &House, bytes: impl Into<Bytes>) {
    house.put("f", bytes);
    house.client().await.sync_all("/data").await;
}

/// What the store was asked for since it was last looked at.
fn gets(house: &House) -> OperationStats {
    house
        .s3
        .stats()
        .snapshot_and_reset()
        .of(Operation::GetObject)
}

/// The store answers each read later, so that all of them are under way together.
fn slowly(house: &House) {
    let later = FaultAction::Delay(Duration::from_millis(200));
    house.fault(FaultRule::new(later).on(Operation::GetObject));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_r6_eight_clients_that_read_a_cold_file_at_once_cost_one_request() {
    let house = house(|_| ()).await;
    let bytes = pattern(1, 12 * MIB + 77);
    put(&house, bytes.clone()).await;
    slowly(&house);
    let herd = herd(&house).await;
    let readers = opened(&herd).await;
    gets(&house);
    let all = within(join_all(readers.iter().map(whole))).await;
    for got in all {
        assert!(got.unwrap() == bytes, "wrong bytes");
    }
    let cost = gets(&house);
    assert_eq!(cost.bytes_out, bytes.len() as u64);
    assert_eq!(cost.requests, 1, "the first block decides");
    let stats = readers.iter().map(|reader| reader.stats());
    let (ufs, cached) = stats.fold((0, 0), |(ufs, cached), stats| {
        (ufs + stats.ufs_bytes, cached + stats.cache_bytes)
    });
    assert_eq!(ufs, bytes.len() as u64);
    assert_eq!(cached, ufs * (CLIENTS as u64 - 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_a_large_file_is_read_from_the_store_once() {
    let house = house(|_| ()).await;
    let bytes = pattern(2, 24 * MIB);
    put(&house, bytes.clone()).await;
    slowly(&house);
    let readers = opened(&herd(&house).await).await;
    gets(&house);
    for got in within(join_all(readers.iter().map(whole))).await {
        assert!(got.unwrap() == bytes, "wrong bytes");
    }
    assert_eq!(gets(&house).bytes_out, bytes.len() as u64);
}

/// A store that is faster than the node: what there is no room for is waited for, not dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_a_small_buffer_costs_the_store_nothing_while_others_wait() {
    let house = house(|_| ()).await;
    let bytes = pattern(9, 24 * MIB);
    put(&house, bytes.clone()).await;
    slowly(&house);
    let little = |number| {
        house.client_with(move |config| {
            config.read.fill_wait = LONG;
            config.read.fill_buffer = ByteSize::kib(512);
            if number % 2 == 1 {
                config.transport = Transport::Grpc;
            }
        })
    };
    let herd = join_all((0..CLIENTS).map(little)).await;
    let readers = opened(&herd).await;
    gets(&house);
    for got in within(join_all(readers.iter().map(whole))).await {
        assert!(got.unwrap() == bytes, "wrong bytes");
    }
    assert_eq!(gets(&house).bytes_out, bytes.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_r6_the_same_random_read_of_eight_clients_costs_min_fetch_once() {
    let house = house(|_| ()).await;
    let bytes = pattern(3, 6 * MIB);
    put(&house, bytes.clone()).await;
    slowly(&house);
    let readers = opened(&herd(&house).await).await;
    gets(&house);
    let at = 4 * MIB + 300_000;
    let reads = readers.iter().map(|reader| reader.read_at(at as u64, 1000));
    for got in within(join_all(reads)).await {
        assert_eq!(got.unwrap(), bytes[at..at + 1000]);
    }
    let cost = gets(&house);
    assert_eq!((cost.bytes_out, cost.requests), (256 << 10, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_when_the_client_that_reads_for_all_is_killed_another_one_does() {
    let house = house(|_| ()).await;
    let bytes = pattern(4, 9 * MIB);
    put(&house, bytes.clone()).await;
    let herd = herd(&house).await;
    let readers = opened(&herd).await;
    let victim = house.victim().await;
    let (fs, hangs) = (victim.fs.clone(), FaultRule::new(FaultAction::Hang));
    let hangs = house.fault(hangs.on(Operation::GetObject).times(1));
    gets(&house);
    let dying = victim.start(async move { whole(&open(&fs).await).await });
    // It holds the leases of the whole file.
    house.struck(hangs).await;
    let reading = join_all(readers.iter().map(whole));
    let killing = async {
        victim.kill().await;
        drop(dying);
    };
    let (all, ()) = within(async { tokio::join!(reading, killing) }).await;
    for got in all {
        assert!(got.unwrap() == bytes, "wrong bytes");
    }
    let cost = gets(&house);
    assert_eq!(cost.bytes_out, bytes.len() as u64);
    assert_eq!(cost.requests, 2, "the one that hung, and the next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_a_client_whose_store_hangs_loses_its_lease_to_the_next() {
    let house = house(|config| config.block.fill.lease = Duration::from_millis(300)).await;
    let bytes = pattern(5, MIB);
    put(&house, bytes.clone()).await;
    let herd = herd(&house).await;
    let readers = opened(&herd).await;
    let stuck = house.client().await;
    let hangs = FaultRule::new(FaultAction::Hang).on(Operation::GetObject);
    let hangs = house.fault(hangs.times(1));
    let hanging = tokio::spawn(async move { whole(&open(&stuck).await).await });
    house.struck(hangs).await;
    for got in within(join_all(readers.iter().map(whole))).await {
        assert!(got.unwrap() == bytes, "wrong bytes");
    }
    hanging.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_r4_readers_that_wait_for_a_version_that_is_gone_never_get_another() {
    let house = house(|_| ()).await;
    put(&house, vec![b'a'; 5 * MIB]).await;
    let herd = herd(&house).await;
    let readers = opened(&herd).await;
    // One of them has begun, so that it can only end as it began.
    let begun = open(&herd[0]).await;
    assert_eq!(begun.read_at(0, 10).await.unwrap(), vec![b'a'; 10]);
    slowly(&house);
    house.put("f", vec![b'b'; 5 * MIB]);
    let late = begun.read_at(4 * MIB as u64, 10);
    let all = join_all(readers.iter().map(whole));
    let (late, all) = within(async { tokio::join!(late, all) }).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Stale);
    for got in all {
        match got {
            Ok(bytes) => assert!(bytes == vec![b'b'; 5 * MIB], "a mixture"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Stale),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_a_node_without_room_slows_nobody_down() {
    let no_space = |config: &mut ServerConfig| {
        config.block.memory.capacity = Some(ByteSize(0));
        config.block.disk.capacity = Some(ByteSize(0));
    };
    let no_lease = |config: &mut ServerConfig| config.block.fill.leases = 0;
    let houses = [house(no_space).await, house(no_lease).await];
    for (house, salt) in houses.into_iter().zip(6..) {
        let bytes = pattern(salt, 3 * MIB);
        put(&house, bytes.clone()).await;
        let readers = opened(&herd(&house).await).await;
        for got in within(join_all(readers.iter().map(whole))).await {
            assert!(got.unwrap() == bytes, "wrong bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_who_waits_for_nobody_reads_for_itself() {
    let house = house(|_| ()).await;
    let bytes = pattern(8, 3 * MIB);
    put(&house, bytes.clone()).await;
    let stuck = house.client().await;
    let hangs = FaultRule::new(FaultAction::Hang).on(Operation::GetObject);
    let hangs = house.fault(hangs.times(1));
    let hanging = tokio::spawn(async move { whole(&open(&stuck).await).await });
    house.struck(hangs).await;
    for wait in [Duration::ZERO, Duration::from_millis(200)] {
        let fs = house
            .client_with(|config| config.read.fill_wait = wait)
            .await;
        let reader = open(&fs).await;
        assert!(
            within(whole(&reader)).await.unwrap() == bytes,
            "wrong bytes"
        );
    }
    hanging.abort();
}

/// Servers that are block nodes of a view; they know nothing of one another.
struct Nodes {
    servers: Vec<(Server, tempfile::TempDir)>,
    view: ClusterView,
}

impl Nodes {
    async fn start() -> Self {
        let mut servers = Vec::new();
        let mut nodes = Vec::new();
        for id in 1..=3 {
            let folder = tempfile::tempdir().unwrap();
            let lasting = |config: &mut ServerConfig| config.block.fill.lease = LONG;
            let (server, address) = House::serve(folder.path(), lasting).await;
            servers.push((server, folder));
            nodes.push(NodeInfo {
                id: NodeId::new(id),
                address,
                weight: 1,
                draining: false,
                data: DataEndpoints::default(),
            });
        }
        Self {
            servers,
            view: ClusterView { epoch: 1, nodes },
        }
    }

    async fn herd(&self, house: &House) -> Vec<ArustioFileSystem> {
        let client =
            |_| house.client_of_nodes(self.view.clone(), |config| config.read.fill_wait = LONG);
        join_all((0..CLIENTS).map(client)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_r6_blocks_of_several_nodes_are_read_from_the_store_once() {
    let house = house(|_| ()).await;
    let bytes = pattern(10, 15 * MIB + 1);
    put(&house, bytes.clone()).await;
    slowly(&house);
    let nodes = Nodes::start().await;
    let readers = opened(&nodes.herd(&house).await).await;
    gets(&house);
    for got in within(join_all(readers.iter().map(whole))).await {
        assert!(got.unwrap() == bytes, "wrong bytes");
    }
    let cost = gets(&house);
    assert_eq!((cost.bytes_out, cost.requests), (bytes.len() as u64, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_nodes_that_stop_one_after_the_other_cost_no_byte() {
    let house = house(|_| ()).await;
    let bytes = pattern(11, 15 * MIB + 1);
    put(&house, bytes.clone()).await;
    let mut nodes = Nodes::start().await;
    let readers = opened(&nodes.herd(&house).await).await;
    let mut reads = Box::pin(join_all(readers.iter().map(whole)));
    let stopping = async {
        for (server, _folder) in nodes.servers.drain(..) {
            server.stop().await;
        }
    };
    let all = within(async {
        tokio::select! {
            all = &mut reads => all,
            () = stopping => reads.await,
        }
    });
    for got in all.await {
        assert!(got.unwrap() == bytes, "wrong bytes");
    }
    // Without any node it goes on all the same.
    let late = readers[0].read_at(7 * MIB as u64, 1000);
    assert_eq!(within(late).await.unwrap(), bytes[7 * MIB..7 * MIB + 1000]);
}

/// How a node behaves that has never anything.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// Nothing, at once, as if it had waited.
    Nothing,
    /// Everything, some of it twice, and a lease on all of it as well.
    Overlap,
    /// A lease on the middle only, every time.
    Middle,
    /// No answer.
    Mute,
    /// Leases, and then it takes no bytes.
    TakesNothing,
    /// It sends everybody away.
    Alone(Alone),
}

/// A node that lies about leases; the bytes that it sends are right.
#[derive(Debug)]
struct Liar {
    lie: Lie,
    bytes: Bytes,
}

impl Liar {
    fn part(&self, want: &BlockWant, range: std::ops::Range<u64>) -> BlockPart {
        let start = want.key.start();
        let bytes = (start + range.start) as usize..(start + range.end) as usize;
        BlockPart {
            offset: range.start,
            bytes: self.bytes.slice(bytes),
        }
    }

    fn offer(&self, want: &BlockWant) -> Result<BlockOffer, BlockError> {
        let std::ops::Range { start, end } = want.range;
        let lease = |range| BlockLease {
            lease: 1,
            range,
            lasts: Duration::from_secs(3),
        };
        let middle = (start + 1).min(end)..end.saturating_sub(1).max(start + 1).min(end);
        let mut offer = BlockOffer::default();
        match self.lie {
            Lie::Nothing => {}
            Lie::Mute => {
                return Err(BlockError::Timeout {
                    address: "nowhere".to_owned(),
                    after: Duration::ZERO,
                });
            }
            Lie::Alone(why) => offer.alone = Some(why),
            Lie::TakesNothing => offer.leases = vec![lease(start..end)],
            Lie::Middle if middle.is_empty() => {}
            Lie::Middle => offer.leases = vec![lease(middle)],
            Lie::Overlap => {
                offer.parts = vec![self.part(want, middle.clone()), self.part(want, start..end)];
                offer.leases = vec![lease(start..end)];
            }
        }
        Ok(offer)
    }
}

#[async_trait]
impl BlockClient for Liar {
    async fn read(
        &self,
        node: &NodeInfo,
        request: BlockRead,
        deadline: Duration,
    ) -> Result<Vec<BlockPart>, BlockError> {
        NoBlocks.read(node, request, deadline).await
    }

    async fn write(
        &self,
        node: &NodeInfo,
        request: BlockWrite,
        deadline: Duration,
    ) -> Result<BlockStored, BlockError> {
        NoBlocks.write(node, request, deadline).await
    }

    async fn cached(
        &self,
        node: &NodeInfo,
        extents: &[BlockExtent],
        deadline: Duration,
    ) -> Result<Vec<u64>, BlockError> {
        NoBlocks.cached(node, extents, deadline).await
    }

    async fn remove(
        &self,
        node: &NodeInfo,
        selector: BlockSelector,
        deadline: Duration,
    ) -> Result<u64, BlockError> {
        NoBlocks.remove(node, selector, deadline).await
    }

    async fn want(
        &self,
        _: &NodeInfo,
        request: BlockWant,
        _: Duration,
    ) -> Result<BlockOffer, BlockError> {
        self.offer(&request)
    }

    async fn lease(
        &self,
        _: &NodeInfo,
        _: u64,
        _: LeaseWord,
        _: Duration,
    ) -> Result<bool, BlockError> {
        Ok(false)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_whatever_a_node_says_about_leases_readers_get_the_right_bytes() {
    let house = house(|_| ()).await;
    let bytes = pattern(9, 9 * MIB + 5);
    put(&house, bytes.clone()).await;
    for lie in [
        Lie::Nothing,
        Lie::Overlap,
        Lie::Middle,
        Lie::Mute,
        Lie::TakesNothing,
        Lie::Alone(Alone::Busy),
        Lie::Alone(Alone::Stale),
    ] {
        let liar = Arc::new(Liar {
            lie,
            bytes: bytes.clone(),
        });
        let mut config = house.config();
        // It would show.
        config.read.fill_wait = LONG;
        let builder = Builder::new().config(config).blocks(liar);
        let fs = builder.connect().await.unwrap();
        let reader = open(&fs).await;
        assert!(within(whole(&reader)).await.unwrap() == bytes, "{lie:?}");
        let at = 4 * MIB - 100;
        let some = within(reader.read_at(at as u64, 200)).await.unwrap();
        assert_eq!(some, bytes[at..at + 200], "{lie:?}");
    }
}
