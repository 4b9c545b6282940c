//! Leases on both wires: one client brings what is missing, the others wait for it.

use std::time::Duration;

use arustio_client::block::{
    Alone, BlockClient, BlockLease, BlockOffer, BlockStored, BlockWant, LeaseWord,
};
use arustio_proto::frame::{Flags, Header, Operation, Status, body};
use arustio_server::ServerConfig;
use arustio_types::cluster::NodeInfo;
use arustio_types::{BlockKey, Checksum, ErrorKind};
use tokio::time::Instant;

use super::house::{House, PATIENT, bytes_of, clients, key, read, whole_write, write};

const CHUNK: usize = 32 << 10;
const LENGTH: usize = 4 * CHUNK;
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

/// One client of one node.
struct Bench<'a> {
    client: &'a dyn BlockClient,
    node: NodeInfo,
}

impl Bench<'_> {
    async fn want(
        &self,
        key: BlockKey,
        range: std::ops::Range<usize>,
        wait: Duration,
    ) -> BlockOffer {
        let request = BlockWant {
            key,
            range: range.start as u64..range.end as u64,
            block_length: LENGTH as u64,
            epoch: 3,
            wait,
        };
        let offer = self.client.want(&self.node, request, wait + PATIENT).await;
        offer.unwrap()
    }

    /// The only lease on all of a block of which nothing is there.
    async fn lease(&self, key: BlockKey) -> BlockLease {
        let mut offer = self.want(key, 0..LENGTH, PATIENT).await;
        assert!(offer.parts.is_empty() && offer.alone.is_none(), "{offer:?}");
        assert_eq!(offer.leases.len(), 1);
        let lease = offer.leases.remove(0);
        assert_eq!(lease.range, 0..LENGTH as u64);
        lease
    }

    async fn fill(
        &self,
        lease: &BlockLease,
        key: BlockKey,
        range: std::ops::Range<usize>,
    ) -> BlockStored {
        let write = write(key, LENGTH, range);
        let stored = self.client.fill(&self.node, lease.lease, write, PATIENT);
        stored.await.unwrap().stored
    }

    async fn say(&self, lease: &BlockLease, word: LeaseWord) -> bool {
        let said = self.client.lease(&self.node, lease.lease, word, PATIENT);
        said.await.unwrap()
    }
}

/// The bytes of an offer, which has to be nothing but them.
fn bytes(offer: BlockOffer) -> Vec<u8> {
    assert!(
        offer.leases.is_empty() && offer.alone.is_none(),
        "{offer:?}"
    );
    let parts = offer.parts.iter().map(|part| &part.bytes[..]);
    parts.collect::<Vec<_>>().concat()
}

fn lasting(lease: Duration) -> impl FnOnce(&mut ServerConfig) {
    move |config| config.block.fill.lease = lease
}

#[tokio::test]
async fn r5_both_wires_give_one_lease_and_feed_those_who_wait() {
    for (name, client) in clients() {
        let house = House::with(lasting(LONG)).await;
        let bench = Bench {
            client: &*client,
            node: house.node(),
        };
        others_are_fed_as_bytes_arrive(&bench).await;
        holders_hear_that_others_wait(&house, &bench).await;
        the_rest_is_granted_at_once(&bench).await;
        nobody_waits_longer_than_it_wants(&bench).await;
        words_about_a_lease_are_told_to_others(&bench).await;
        corrupt_bytes_cost_the_lease(&bench).await;
        plain_writes_feed_them_too(&bench).await;
        let stopping = Instant::now();
        house.server.stop().await;
        assert!(stopping.elapsed() < Duration::from_secs(4), "{name}");
    }
}

async fn others_are_fed_as_bytes_arrive(bench: &Bench<'_>) {
    let key = key(1, 0);
    let all = bytes_of(&key, LENGTH);
    let lease = bench.lease(key).await;
    assert_eq!(lease.lasts, LONG);
    let waiting = async {
        let mut fed = Vec::new();
        while fed.len() < LENGTH {
            fed.extend(bytes(bench.want(key, fed.len()..LENGTH, LONG).await));
        }
        fed
    };
    let filling = async {
        for half in [0..LENGTH / 2, LENGTH / 2..LENGTH] {
            assert_eq!(bench.fill(&lease, key, half).await, BlockStored::Stored);
        }
    };
    let (got, ()) = tokio::join!(waiting, filling);
    // Both halves may have come before it was served.
    assert!(got == all[..got.len()] && got.len() >= LENGTH / 2);
    assert_eq!(bytes(bench.want(key, 0..LENGTH, PATIENT).await), all);
    assert_eq!(
        bench.fill(&lease, key, 0..CHUNK).await,
        BlockStored::AlreadyPresent
    );
    assert!(!bench.say(&lease, LeaseWord::Renew).await, "it is over");
}

async fn holders_hear_that_others_wait(house: &House, bench: &Bench<'_>) {
    let key = key(7, 0);
    let lease = bench.lease(key).await;
    let fill = |range| {
        let write = write(key, LENGTH, range);
        bench.client.fill(&bench.node, lease.lease, write, PATIENT)
    };
    assert!(!fill(0..CHUNK).await.unwrap().awaited);
    let waited = async || house.metric("arustio_block_fills_waited_total ").await;
    let before = waited().await;
    let last = LENGTH - CHUNK..LENGTH;
    let filling = async {
        while waited().await == before {
            tokio::task::yield_now().await;
        }
        fill(CHUNK..LENGTH).await.unwrap()
    };
    let waiting = bench.want(key, last.clone(), LONG);
    let (offer, filled) = tokio::join!(waiting, filling);
    assert_eq!((filled.stored, filled.awaited), (BlockStored::Stored, true));
    assert_eq!(bytes(offer), bytes_of(&key, LENGTH)[last]);
}

async fn the_rest_is_granted_at_once(bench: &Bench<'_>) {
    let key = key(2, 0);
    let here = write(key, LENGTH, CHUNK..2 * CHUNK);
    bench
        .client
        .write(&bench.node, here, PATIENT)
        .await
        .unwrap();
    let first = bench.want(key, 2 * CHUNK..3 * CHUNK, PATIENT).await;
    assert_eq!(first.leases.len(), 1);
    let offer = bench.want(key, 0..LENGTH, LONG).await;
    let chunk = CHUNK as u64;
    let ranges: Vec<_> = offer
        .leases
        .iter()
        .map(|lease| lease.range.clone())
        .collect();
    assert_eq!(ranges, [0..chunk, 3 * chunk..4 * chunk]);
    assert_eq!(offer.parts[0].offset, chunk);
    let there: Vec<u8> = offer
        .parts
        .iter()
        .flat_map(|part| part.bytes.to_vec())
        .collect();
    assert_eq!(there, bytes_of(&key, LENGTH)[CHUNK..2 * CHUNK]);
}

async fn nobody_waits_longer_than_it_wants(bench: &Bench<'_>) {
    let key = key(3, 0);
    let _lease = bench.lease(key).await;
    let (began, wait) = (Instant::now(), Duration::from_millis(50));
    let nothing = bench.want(key, 0..LENGTH, wait).await;
    assert_eq!(nothing, BlockOffer::default());
    assert!(began.elapsed() >= wait && began.elapsed() < PATIENT);
}

async fn words_about_a_lease_are_told_to_others(bench: &Bench<'_>) {
    for (index, word, told) in [
        (0, LeaseWord::GiveUp, None),
        (1, LeaseWord::Stale, Some(Alone::Stale)),
        (2, LeaseWord::Uncacheable, Some(Alone::Uncacheable)),
    ] {
        let key = key(4, index);
        let lease = bench.lease(key).await;
        assert!(bench.say(&lease, LeaseWord::Renew).await);
        let (offer, said) = tokio::join!(bench.want(key, 0..LENGTH, LONG), bench.say(&lease, word));
        assert!(said && !bench.say(&lease, word).await);
        assert_eq!(offer.alone, told);
        assert_eq!(offer.leases.len(), usize::from(told.is_none()));
        assert_eq!(bench.fill(&lease, key, 0..LENGTH).await, BlockStored::Late);
    }
}

async fn corrupt_bytes_cost_the_lease(bench: &Bench<'_>) {
    let key = key(5, 0);
    let lease = bench.lease(key).await;
    let mut wrong = write(key, LENGTH, 0..LENGTH);
    wrong.checksum = Checksum(wrong.checksum.0 ^ 1);
    let stored = bench.client.fill(&bench.node, lease.lease, wrong, PATIENT);
    let BlockStored::Rejected(why) = stored.await.unwrap().stored else {
        panic!("damaged bytes were kept")
    };
    assert!(why.contains("checksum"), "{why}");
    bench.lease(key).await;
}

async fn plain_writes_feed_them_too(bench: &Bench<'_>) {
    let key = key(6, 0);
    let _lease = bench.lease(key).await;
    let stored = write(key, LENGTH, 0..LENGTH);
    let (offer, stored) = tokio::join!(
        bench.want(key, 0..LENGTH, LONG),
        bench.client.write(&bench.node, stored, PATIENT)
    );
    assert_eq!(stored.unwrap(), BlockStored::Stored);
    assert_eq!(bytes(offer), bytes_of(&key, LENGTH));
}

#[tokio::test]
async fn r4_a_holder_that_is_too_slow_loses_its_lease_and_late_bytes_are_compared() {
    for (_, client) in clients() {
        let house = House::with(lasting(Duration::from_millis(100))).await;
        let bench = Bench {
            client: &*client,
            node: house.node(),
        };
        let key = key(1, 0);
        let slow = bench.lease(key).await;
        let next = bench.lease(key).await;
        assert_ne!(slow.lease, next.lease);
        assert_eq!(bench.fill(&slow, key, 0..LENGTH).await, BlockStored::Late);
        // Nobody else wants it, so that it does not matter how long this takes.
        assert_eq!(bench.fill(&next, key, 0..LENGTH).await, BlockStored::Stored);
        assert_eq!(
            bench.fill(&slow, key, 0..LENGTH).await,
            BlockStored::AlreadyPresent
        );
        let mut other = write(super::house::key(2, 0), LENGTH, 0..LENGTH);
        other.key = key;
        let other = bench.client.fill(&bench.node, slow.lease, other, PATIENT);
        assert_eq!(other.await.unwrap().stored, BlockStored::Late);
        let there = bytes(bench.want(key, 0..LENGTH, PATIENT).await);
        assert_eq!(there, bytes_of(&key, LENGTH));
        house.server.stop().await;
    }
}

#[tokio::test]
async fn r4_a_node_without_room_sends_readers_away() {
    for (_, client) in clients() {
        let house = House::with(|config| {
            config.block.fill.lease = LONG;
            config.block.fill.leases = 1;
            config.block.fill.waiters = 0;
        })
        .await;
        let bench = Bench {
            client: &*client,
            node: house.node(),
        };
        bench.lease(key(1, 0)).await;
        for index in 0..2 {
            let offer = bench.want(key(1, index), 0..LENGTH, LONG).await;
            assert_eq!(offer, BlockOffer::alone(Alone::Busy));
        }
        house.server.stop().await;
    }
}

fn want(key: &BlockKey, offset: u64, length: u64) -> (Header, Vec<u8>) {
    let (mut header, none) = read(key, offset, length);
    header.flags = Flags::WANT_FILL;
    header.block_length = LENGTH as u32;
    header.millis = 60_000;
    (header, none)
}

#[tokio::test]
async fn r4_the_leases_of_a_connection_end_with_it() {
    let house = House::with(lasting(LONG)).await;
    let key = key(1, 0);
    let mut holder = house.peer().await;
    let (answer, payload) = holder.ask(want(&key, 0, LENGTH as u64)).await.unwrap();
    assert_eq!((answer.status, answer.millis), (Status::YouFill, 60_000));
    assert_eq!(body::decode_grants(&payload).unwrap().len(), 1);
    // One that waits and goes takes no lease with it.
    let mut gone = house.peer().await;
    let (header, _) = want(&key, 0, LENGTH as u64);
    gone.send(
        Header {
            request: 9,
            ..header
        },
        &[],
    )
    .await;
    assert!(gone.is_served().await, "it is served while it waits");
    drop(gone);
    let mut next = house.peer().await;
    next.send(
        Header {
            request: 9,
            ..header
        },
        &[],
    )
    .await;
    drop(holder);
    let (answer, _) = next.heard().await.unwrap();
    assert_eq!((answer.status, answer.request), (Status::YouFill, 9));
    house.server.stop().await;
}

#[tokio::test]
async fn nonsense_about_leases_is_refused_one_by_one() {
    let house = House::start().await;
    let mut peer = house.peer().await;
    let key = key(1, 0);
    let mut endless = want(&key, 0, LENGTH as u64);
    endless.0.block_length = u32::MAX;
    let wrong = Status::Failed(ErrorKind::InvalidArgument);
    for odd in [
        want(&key, 1, 10),
        want(&key, 0, 0),
        want(&key, 0, u64::MAX),
        endless,
    ] {
        let (answer, _) = peer.ask(odd).await.unwrap();
        assert_eq!(answer.status, wrong);
    }
    // A lease that nobody gave.
    let (header, payload) = whole_write(&key, LENGTH);
    let forged = Header {
        operation: Operation::Fill,
        epoch: 4711,
        ..header
    };
    let (answer, _) = peer.ask((forged, payload)).await.unwrap();
    assert_eq!(answer.status, Status::Miss);
    let mut word = Header::request(Operation::Fill, 0);
    for (status, told) in [(Status::Stale, Status::Miss), (Status::Busy, wrong)] {
        word.status = status;
        let (answer, _) = peer.ask((word, Vec::new())).await.unwrap();
        assert_eq!(answer.status, told);
    }
    assert!(peer.is_served().await);
    house.server.stop().await;
}
