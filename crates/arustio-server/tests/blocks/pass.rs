//! Descriptors of blocks: what they are good for, who gets them, and that a client which
//! keeps them harms nobody.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use arustio_client::block::{
    BlockClient as _, BlockLoan, BlockRead, BlockSelector, BlockStored, LocalBlocks,
};
use arustio_client::config::LocalConfig;
use arustio_proto::frame::{Header, Operation, Status};
use arustio_server::config::Passing;
use arustio_types::cluster::NodeInfo;
use arustio_types::{BlockKey, ByteSize};
use bytes::Bytes;
use tokio::net::UnixStream;

use super::house::{House, PATIENT, Peer, bytes_of, framed, key, local, whole_write, words, write};

const LENGTH: usize = 1_000_000;

/// A house whose blocks lie on the disk alone.
async fn on_disk(capacity: u64) -> House {
    House::with(|config| {
        config.block.memory.capacity = Some(ByteSize::default());
        config.block.disk.capacity = Some(ByteSize::mib(capacity));
    })
    .await
}

/// Stores a block; the disk takes nothing until it was looked at.
async fn store(house: &House, key: BlockKey) {
    let (client, node) = (framed(), house.node());
    loop {
        let stored = client.write(&node, write(key, LENGTH, 0..LENGTH), PATIENT);
        match stored.await.unwrap() {
            BlockStored::Stored => return,
            BlockStored::Rejected(why) if why.contains("restart") => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn read(client: &LocalBlocks, node: &NodeInfo, key: BlockKey) -> Bytes {
    let request = BlockRead {
        key,
        range: 0..LENGTH as u64,
        epoch: 0,
        lane: None,
    };
    let parts = client.read(node, request, PATIENT).await.unwrap();
    assert_eq!(parts.len(), 1, "not all of it");
    parts[0].bytes.clone()
}

fn contents(loan: &BlockLoan) -> Vec<u8> {
    let mut file = loan.file.try_clone().unwrap();
    file.seek(SeekFrom::Start(loan.offset)).unwrap();
    let mut bytes = Vec::new();
    file.take(loan.length).read_to_end(&mut bytes).unwrap();
    bytes
}

fn pass(key: &BlockKey) -> (Header, Vec<u8>) {
    (Header::request(Operation::Pass, 0).of(key), Vec::new())
}

async fn status(peer: &mut Peer<UnixStream>, key: &BlockKey) -> Status {
    peer.ask(pass(key)).await.unwrap().0.status
}

#[tokio::test]
async fn a_passed_block_is_right_read_only_and_stays_when_it_is_gone_from_the_node() {
    let house = on_disk(128).await;
    let (node, key) = (house.node(), key(1, 3));
    let client = framed();
    assert!(client.borrow(&node, key, PATIENT).await.unwrap().is_none());
    store(&house, key).await;
    let mut loan = client.borrow(&node, key, PATIENT).await.unwrap().unwrap();
    let all = bytes_of(&key, LENGTH);
    assert_eq!(loan.checksum.0, crc32c::crc32c(&all));
    assert!(contents(&loan) == all);
    assert!(loan.file.write(b"x").is_err());
    assert!(loan.file.set_len(0).is_err());

    let gone = client.remove(&node, BlockSelector::Block(key), PATIENT);
    assert!(gone.await.unwrap() >= 1);
    assert!(client.borrow(&node, key, PATIENT).await.unwrap().is_none());
    assert!(contents(&loan) == all);
    house.server.stop().await;
    drop(house.folder);
    assert!(contents(&loan) == all);
}

#[tokio::test]
async fn partial_blocks_are_not_passed() {
    let house = on_disk(128).await;
    store(&house, key(1, 0)).await;
    let half = write(key(1, 1), LENGTH, 0..LENGTH / 2);
    let (node, client) = (house.node(), framed());
    client.write(&node, half, PATIENT).await.unwrap();
    let loan = client.borrow(&node, key(1, 1), PATIENT).await.unwrap();
    assert!(loan.is_none());
    house.server.stop().await;
}

#[tokio::test]
async fn a_client_has_so_many_descriptors_at_a_time_and_others_are_served() {
    let house = House::with(|config| {
        config.block.memory.capacity = Some(ByteSize::default());
        config.frames.passes_per_connection = 3;
    })
    .await;
    store(&house, key(1, 0)).await;
    let mut greedy = house.neighbour().await;
    for asked in 0..2000 {
        let status = status(&mut greedy, &key(1, 0)).await;
        let expected = if asked < 3 { Status::Ok } else { Status::Busy };
        assert_eq!(status, expected);
    }
    let mut modest = house.neighbour().await;
    assert_eq!(status(&mut modest, &key(1, 0)).await, Status::Ok);
    // The second request after the greeting was the first for a descriptor.
    for (request, count) in [(2, 1), (2, 0), (77, 0)] {
        let mut release = Header::request(Operation::Release, 0);
        release.offset = request;
        let (answer, _) = greedy.ask((release, Vec::new())).await.unwrap();
        assert_eq!((answer.status, answer.length), (Status::Ok, count));
    }
    assert_eq!(status(&mut greedy, &key(1, 0)).await, Status::Ok);
    assert_eq!(status(&mut greedy, &key(1, 0)).await, Status::Busy);
    house.server.stop().await;
}

#[tokio::test]
async fn half_of_the_cache_is_lent_at_most_and_what_is_lent_is_kept() {
    let house = on_disk(8).await;
    let mut keepers = Vec::new();
    for index in 0..4 {
        store(&house, key(1, index)).await;
        let mut keeper = house.neighbour().await;
        assert_eq!(status(&mut keeper, &key(1, index)).await, Status::Ok);
        keepers.push(keeper);
    }
    store(&house, key(1, 9)).await;
    let mut late = house.neighbour().await;
    assert_eq!(status(&mut late, &key(1, 9)).await, Status::Miss);
    // Everybody else's blocks go through what is left.
    for index in 0..30 {
        store(&house, key(2, index)).await;
    }
    for index in 0..4 {
        let (header, payload) = late
            .ask(super::house::read(&key(1, index), 0, 10))
            .await
            .unwrap();
        assert_eq!((header.status, payload.len()), (Status::Ok, 10));
    }
    // Who goes gives back.
    keepers.clear();
    store(&house, key(3, 0)).await;
    let given_back = async {
        while status(&mut late, &key(3, 0)).await != Status::Ok {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENT, given_back).await.unwrap();
    house.server.stop().await;
}

#[tokio::test]
async fn descriptors_that_a_client_drops_are_given_back() {
    let house = House::with(|config| {
        config.block.memory.capacity = Some(ByteSize::default());
        config.frames.passes_per_connection = 2;
    })
    .await;
    let (node, client) = (house.node(), framed());
    store(&house, key(1, 0)).await;
    for _ in 0..50 {
        let loans = client.borrow(&node, key(1, 0), PATIENT);
        assert!(loans.await.unwrap().is_some());
        // Given up before the answer is there.
        let dropped = client.borrow(&node, key(1, 0), PATIENT);
        let _ = tokio::time::timeout(Duration::from_micros(1), dropped).await;
        // Answered in order, and after what was given up.
        house.neighbour().await;
    }
    house.server.stop().await;
}

#[tokio::test]
async fn who_gets_no_descriptors_reads_through_the_socket() {
    let house = House::with(|config| config.frames.pass = Passing::Nobody).await;
    store(&house, key(1, 0)).await;
    let mut peer = house.neighbour().await;
    let (answer, why) = peer.ask(pass(&key(1, 0))).await.unwrap();
    assert_eq!(answer.status, Status::Unsupported);
    assert!(words(&why).contains("to the user"), "{}", words(&why));
    let client = local();
    let all = bytes_of(&key(1, 0), LENGTH);
    assert!(read(&client, &house.node(), key(1, 0)).await == all);
    assert_eq!(client.kept(), 0);
    house.server.stop().await;
}

#[tokio::test]
async fn without_a_socket_or_on_another_host_the_wires_do_it() {
    let house = on_disk(128).await;
    store(&house, key(1, 0)).await;
    let all = bytes_of(&key(1, 0), LENGTH);
    let mut node = house.node();
    node.data.host = Some("another".to_owned());
    let client = local();
    assert!(read(&client, &node, key(1, 0)).await == all);
    assert_eq!(client.kept(), 0, "another host was asked");
    std::fs::remove_file(house.socket()).unwrap();
    assert!(read(&client, &house.node(), key(1, 0)).await == all);
    assert_eq!(client.kept(), 0);
    house.server.stop().await;
}

#[tokio::test]
async fn a_client_keeps_a_bounded_number_and_reads_on_when_its_node_is_gone() {
    let house = on_disk(128).await;
    let node = house.node();
    let few = LocalConfig {
        descriptors: 2,
        ..LocalConfig::default()
    };
    let client = LocalBlocks::new(Box::new(framed()), node.data.host.clone().unwrap(), &few);
    for index in 0..5 {
        store(&house, key(1, index)).await;
        let all = bytes_of(&key(1, index), LENGTH);
        assert!(read(&client, &node, key(1, index)).await == all);
        assert!(client.kept() <= 2);
    }
    house.server.stop().await;
    drop(house.folder);
    let all = bytes_of(&key(1, 4), LENGTH);
    assert!(read(&client, &node, key(1, 4)).await == all);
    // A new node at the same place has its own blocks.
    let house = on_disk(128).await;
    store(&house, key(2, 0)).await;
    let all = bytes_of(&key(2, 0), LENGTH);
    assert!(read(&client, &house.node(), key(2, 0)).await == all);
    house.server.stop().await;
}

#[tokio::test]
async fn a_silent_peer_with_descriptors_is_not_closed() {
    let house = House::with(|config| {
        config.block.memory.capacity = Some(ByteSize::default());
        config.frames.idle_timeout = Duration::from_millis(50);
    })
    .await;
    store(&house, key(1, 0)).await;
    let mut keeper = house.neighbour().await;
    assert_eq!(status(&mut keeper, &key(1, 0)).await, Status::Ok);
    let mut idle = house.neighbour().await;
    assert!(idle.heard().await.is_none());
    assert!(keeper.is_served().await);
    house.server.stop().await;
}

#[tokio::test]
async fn a_block_in_memory_is_passed_sealed_and_counts_while_it_is_lent() {
    let house = House::with(|config| {
        config.block.memory.capacity = Some(ByteSize::mib(8));
        config.block.disk.capacity = Some(ByteSize::default());
    })
    .await;
    let mut peer = house.neighbour().await;
    let (node, client) = (house.node(), framed());
    let mut loans = Vec::new();
    for index in 0..4 {
        let stored = peer.ask(whole_write(&key(1, index), LENGTH)).await.unwrap();
        assert_eq!(stored.0.status, Status::Ok);
        let loan = client.borrow(&node, key(1, index), PATIENT).await.unwrap();
        loans.push(loan.unwrap());
    }
    let mut again = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{}", loans[0].file.as_raw_fd()))
        .unwrap();
    assert!(again.write(b"x").is_err(), "it is not sealed");
    // Everybody else shares what is left.
    for index in 0..40 {
        let stored = peer.ask(whole_write(&key(2, index), LENGTH)).await.unwrap();
        assert_eq!(stored.0.status, Status::Ok);
    }
    let beyond = client.borrow(&node, key(2, 39), PATIENT).await;
    assert!(beyond.unwrap().is_none(), "more than half is lent");
    for (loan, index) in loans.iter().zip(0..) {
        assert!(contents(loan) == bytes_of(&key(1, index), LENGTH));
    }
    house.server.stop().await;
    assert!(contents(&loans[0]) == bytes_of(&key(1, 0), LENGTH));
}

#[tokio::test]
async fn without_memory_files_the_wires_do_it() {
    let house = House::with(|config| {
        config.block.memory.memfd = false;
        config.block.disk.capacity = Some(ByteSize::default());
    })
    .await;
    let mut peer = house.neighbour().await;
    peer.ask(whole_write(&key(1, 0), LENGTH)).await.unwrap();
    let client = local();
    let all = bytes_of(&key(1, 0), LENGTH);
    assert!(read(&client, &house.node(), key(1, 0)).await == all);
    assert_eq!(client.kept(), 0);
    house.server.stop().await;
}
