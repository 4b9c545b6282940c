//! What every `BlockClient` promises, the same for both wires and without one.

use std::time::Duration;

use arustio_client::block::{
    BlockClient, BlockError, BlockExtent, BlockPart, BlockRead, BlockSelector, BlockStored,
};
use arustio_types::cluster::NodeInfo;
use arustio_types::{BlockKey, Checksum, MountId};
use futures::future::join_all;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::house::{House, PATIENT, bytes_of, clients, key, write};

const CHUNK: usize = 32 << 10;

/// The bytes of parts, which have to be those of the block, ascend and not overlap.
fn checked(all: &[u8], parts: &[BlockPart]) -> Vec<std::ops::Range<u64>> {
    let mut covered: Vec<std::ops::Range<u64>> = Vec::new();
    for part in parts {
        let start = part.offset as usize;
        let end = start + part.bytes.len();
        assert!(all[start..end] == part.bytes[..], "wrong bytes at {start}");
        match covered.last_mut() {
            Some(last) if last.end == part.offset => last.end = end as u64,
            Some(last) => {
                assert!(last.end < part.offset);
                covered.push(part.offset..end as u64);
            }
            None => covered.push(part.offset..end as u64),
        }
    }
    covered
}

/// The same, where one run is expected.
fn one(all: &[u8], parts: &[BlockPart], run: std::ops::Range<u64>) {
    assert_eq!(checked(all, parts), std::slice::from_ref(&run));
}

/// One client of one node.
struct Bench<'a> {
    client: &'a dyn BlockClient,
    node: NodeInfo,
}

impl Bench<'_> {
    async fn read(&self, key: BlockKey, range: std::ops::Range<u64>) -> Vec<BlockPart> {
        let request = BlockRead {
            key,
            range,
            epoch: 3,
            lane: None,
        };
        self.client
            .read(&self.node, request, PATIENT)
            .await
            .unwrap()
    }

    async fn write(&self, write: arustio_client::block::BlockWrite) -> BlockStored {
        self.client.write(&self.node, write, PATIENT).await.unwrap()
    }

    async fn remove(&self, selector: BlockSelector) -> u64 {
        self.client
            .remove(&self.node, selector, PATIENT)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn both_wires_and_descriptors_keep_the_contract() {
    for (name, client) in clients() {
        let house = House::start().await;
        let bench = Bench {
            client: &*client,
            node: house.node(),
        };
        blocks_are_stored_read_and_forgotten(&bench).await;
        partial_blocks_have_gaps(&bench).await;
        wrong_bytes_are_rejected(&bench).await;
        contents_are_counted(&bench).await;
        random_ranges_are_exact(&bench).await;
        many_at_once_are_told_apart(&bench).await;
        deadlines_are_kept_and_dropping_is_safe(&bench).await;
        let open = Instant::now();
        house.server.stop().await;
        assert!(
            open.elapsed() < Duration::from_secs(4),
            "{name} holds up the end"
        );
    }
}

async fn blocks_are_stored_read_and_forgotten(bench: &Bench<'_>) {
    let length = 1_000_000;
    let of = |index| key(1, index);
    assert!(bench.read(of(0), 0..10).await.is_empty(), "a miss");
    for index in 0..2 {
        let stored = bench.write(write(of(index), length, 0..length)).await;
        assert_eq!(stored, BlockStored::Stored);
    }
    let again = bench.write(write(of(0), length, 0..length)).await;
    assert_eq!(again, BlockStored::AlreadyPresent);
    // A range beyond the end is clipped.
    let parts = bench.read(of(0), 900_001..1 << 20).await;
    one(&bytes_of(&of(0), length), &parts, 900_001..1_000_000);
    assert!(bench.read(of(0), 1_000_000..1 << 20).await.is_empty());

    assert!(bench.remove(BlockSelector::Block(of(0))).await >= 1);
    assert!(bench.read(of(0), 0..10).await.is_empty());
    assert!(!bench.read(of(1), 0..10).await.is_empty());
    assert!(bench.remove(BlockSelector::Content(of(1).content)).await >= 1);
    assert!(bench.read(of(1), 0..10).await.is_empty());
    bench.write(write(of(2), length, 0..length)).await;
    assert_eq!(
        bench.remove(BlockSelector::Mount(MountId::new(99))).await,
        0
    );
    assert!(bench.remove(BlockSelector::Mount(MountId::new(1))).await >= 1);
    assert!(bench.read(of(2), 0..10).await.is_empty());
}

async fn partial_blocks_have_gaps(bench: &Bench<'_>) {
    let (key, length) = (key(2, 5), 8 * CHUNK);
    let all = bytes_of(&key, length);
    for run in [0..CHUNK, 3 * CHUNK..5 * CHUNK, 7 * CHUNK..8 * CHUNK] {
        let stored = bench.write(write(key, length, run)).await;
        assert_eq!(stored, BlockStored::Stored);
    }
    let parts = bench.read(key, 0..length as u64).await;
    let chunk = CHUNK as u64;
    let runs = [0..chunk, 3 * chunk..5 * chunk, 7 * chunk..8 * chunk];
    assert_eq!(checked(&all, &parts), runs);
    let parts = bench.read(key, chunk - 1..3 * chunk + 1).await;
    let runs = [chunk - 1..chunk, 3 * chunk..3 * chunk + 1];
    assert_eq!(checked(&all, &parts), runs);
    assert!(bench.read(key, chunk..3 * chunk).await.is_empty());
}

async fn wrong_bytes_are_rejected(bench: &Bench<'_>) {
    let (key, length) = (key(3, 0), 4 * CHUNK);
    let all = bytes_of(&key, length);
    let mut wrong = write(key, length, 0..length);
    wrong.checksum = Checksum(wrong.checksum.0 ^ 1);
    let BlockStored::Rejected(why) = bench.write(wrong).await else {
        panic!("damaged bytes were kept")
    };
    assert!(why.contains("checksum"), "{why}");
    assert!(bench.read(key, 0..10).await.is_empty());

    let mut outside = write(key, length, 0..length);
    outside.block_length = 10;
    let outside = bench.client.write(&bench.node, outside, PATIENT).await;
    assert!(
        matches!(outside, Err(BlockError::Refused { .. })),
        "wrong answer"
    );

    bench.write(write(key, length, 0..length)).await;
    let mut other = write(super::house::key(4, 0), length, 0..length);
    other.key = key;
    let BlockStored::Rejected(why) = bench.write(other).await else {
        panic!("other bytes were kept under the same key")
    };
    assert!(why.contains("other bytes"), "{why}");
    let parts = bench.read(key, 0..length as u64).await;
    one(&all, &parts, 0..length as u64);
}

async fn contents_are_counted(bench: &Bench<'_>) {
    let length = 3 * CHUNK;
    bench.write(write(key(5, 0), length, 0..length)).await;
    bench
        .write(write(key(5, 1), length, CHUNK..2 * CHUNK))
        .await;
    let run = |content, first, blocks| BlockExtent {
        content: key(content, 0).content,
        size: key(content, 0).size,
        first,
        blocks,
    };
    let extent = |content, blocks| run(content, 0, blocks);
    let second = run(5, 1, 1);
    let extents = [
        extent(5, 1),
        extent(5, 2),
        extent(6, 7),
        extent(5, 0),
        second,
    ];
    let cached = bench.client.cached(&bench.node, &extents, PATIENT).await;
    let all = length as u64;
    let chunk = CHUNK as u64;
    assert_eq!(cached.unwrap(), [all, all + chunk, 0, 0, chunk]);
    let none = bench.client.cached(&bench.node, &[], PATIENT).await;
    assert_eq!(none.unwrap(), [0_u64; 0]);
    let absurd = [extent(5, u64::MAX)];
    let refused = bench.client.cached(&bench.node, &absurd, PATIENT).await;
    assert!(
        matches!(refused, Err(BlockError::Refused { .. })),
        "wrong answer"
    );
}

/// The seed makes the same ranges every time.
async fn random_ranges_are_exact(bench: &Bench<'_>) {
    let (key, length) = (key(7, 3), (1 << 20) - 77);
    let all = bytes_of(&key, length);
    bench.write(write(key, length, 0..length)).await;
    let mut state = 0x5eed_u64;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) % bound
    };
    for _ in 0..100 {
        let start = below(length as u64);
        let end = (start + 1 + below(200_000)).min(length as u64);
        let parts = bench.read(key, start..end).await;
        one(&all, &parts, start..end);
    }
}

async fn many_at_once_are_told_apart(bench: &Bench<'_>) {
    let length = 5 * CHUNK;
    let writes = (0..40).map(|index| bench.write(write(key(8, index), length, 0..length)));
    for stored in join_all(writes).await {
        assert_eq!(stored, BlockStored::Stored);
    }
    let all: Vec<_> = (0..40)
        .map(|index| bytes_of(&key(8, index), length))
        .collect();
    let all = &all;
    let reads = (0..400).map(|n| async move {
        let (key, start) = (key(8, n % 40), n * 17);
        let all = &all[n as usize % 40];
        let parts = bench.read(key, start..start + 100_000).await;
        one(all, &parts, start..start + 100_000);
    });
    join_all(reads).await;
}

async fn deadlines_are_kept_and_dropping_is_safe(bench: &Bench<'_>) {
    let (key, length) = (key(9, 0), 1 << 20);
    let all = bytes_of(&key, length);
    bench.write(write(key, length, 0..length)).await;
    let request = || BlockRead {
        key,
        range: 0..length as u64,
        epoch: 0,
        lane: None,
    };
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap().to_string();
    let mut node = bench.node.clone();
    node.data.frames = Some(address.clone());
    node.data.socket = None;
    node.address = address;
    let (began, within) = (Instant::now(), Duration::from_millis(300));
    let late = bench.client.read(&node, request(), within).await;
    assert!(late.is_err());
    assert!(began.elapsed() < within * 4);
    for micros in (0..2000).step_by(100) {
        let within = Duration::from_micros(micros);
        let dropped = bench.client.read(&bench.node, request(), PATIENT);
        // Some are done by then, some are not.
        let _ = tokio::time::timeout(within, dropped).await;
    }
    let parts = bench.read(key, 0..length as u64).await;
    one(&all, &parts, 0..length as u64);
}
