//! Reads that nobody waits for any more, on the node's side.

use std::time::Duration;

use arustio_proto::frame::{Flags, Header, Operation, Status};
use arustio_types::{BlockKey, ByteSize};
use tokio::io::{AsyncRead, AsyncWrite};

use super::house::{House, Peer, key, read, whole_write, words};

const LENGTH: usize = 1 << 20;
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);
/// The id of a read with which another peer finds out that it was given up.
const LEASE: u64 = 5000;

async fn house(memory: ByteSize) -> House {
    House::with(|config| {
        config.block.fill.lease = LONG;
        config.block.memory.capacity = Some(memory);
        config.frames.window = ByteSize::mib(2);
        config.frames.stall_timeout = LONG;
    })
    .await
}

fn want(key: &BlockKey, request: u64) -> Header {
    let (header, _) = read(key, 0, LENGTH as u64);
    Header {
        request,
        flags: Flags::WANT_FILL,
        block_length: LENGTH as u32,
        millis: 60_000,
        ..header
    }
}

async fn give_up<S: AsyncRead + AsyncWrite>(peer: &mut Peer<S>, request: u64) {
    let cancel = Header {
        offset: request,
        ..Header::request(Operation::Cancel, request + 100_000)
    };
    peer.send(cancel, &[]).await;
}

/// Whether the next answer is a lease under this id.
async fn granted<S: AsyncRead + AsyncWrite>(peer: &mut Peer<S>, request: u64) {
    let (answer, _) = peer.heard().await.unwrap();
    assert_eq!((answer.status, answer.request), (Status::YouFill, request));
}

#[tokio::test]
async fn r5_who_gives_up_waiting_is_given_no_lease() {
    let house = house(ByteSize::mib(32)).await;
    let (mut holder, mut waits) = (house.peer().await, house.peer().await);
    holder.send(want(&key(1, 0), 9), &[]).await;
    granted(&mut holder, 9).await;
    waits.send(want(&key(1, 0), 9), &[]).await;
    assert!(waits.is_served().await);
    give_up(&mut waits, 9).await;
    assert!(waits.is_served().await);
    // Nobody else is there to be given it.
    give_up(&mut holder, 9).await;
    assert!(holder.is_served().await);
    let mut next = house.peer().await;
    next.send(want(&key(1, 0), 1), &[]).await;
    granted(&mut next, 1).await;
    assert!(waits.is_served().await, "it was answered all the same");
    house.server.stop().await;
}

#[tokio::test]
async fn r5_leases_that_nobody_heard_of_are_given_back_at_once() {
    let house = house(ByteSize::mib(32)).await;
    let (mut first, mut second) = (house.peer().await, house.peer().await);
    for round in 0..20 {
        let key = key(1, round);
        // Before, while, or after it is answered.
        first.send(want(&key, 1 + round), &[]).await;
        if round % 2 == 0 {
            granted(&mut first, 1 + round).await;
        }
        give_up(&mut first, 1 + round).await;
        second.send(want(&key, 1 + round), &[]).await;
        granted(&mut second, 1 + round).await;
    }
    house.server.stop().await;
}

#[tokio::test]
async fn what_was_given_up_is_not_sent_and_the_rest_is() {
    for memory in [ByteSize::mib(32), ByteSize::default()] {
        let house = house(memory).await;
        let mut peer = house.neighbour().await;
        // The disk is looked at first; until then it takes nothing.
        loop {
            let (mut header, payload) = whole_write(&key(1, 0), LENGTH);
            header.flags = Flags::DURABLE;
            let (answer, why) = peer.ask((header, payload)).await.unwrap();
            if answer.status == Status::Ok {
                break;
            }
            assert!(words(&why).contains("restart"), "{}", words(&why));
        }
        peer.send(want(&key(2, 0), LEASE), &[]).await;
        granted(&mut peer, LEASE).await;
        let mut other = house.peer().await;
        other.send(want(&key(2, 0), 1), &[]).await;
        assert!(other.is_served().await);

        let reads = 1000..1040;
        for request in reads.clone() {
            let (header, _) = read(&key(1, 0), 0, LENGTH as u64);
            peer.send(Header { request, ..header }, &[]).await;
        }
        for request in reads.clone().take(39) {
            give_up(&mut peer, request).await;
        }
        give_up(&mut peer, LEASE).await;
        // All of that was heard, although nothing was taken from it.
        granted(&mut other, 1).await;
        let mut heard = 0;
        loop {
            let (answer, payload) = peer.heard().await.unwrap();
            assert_eq!(answer.status, Status::Ok);
            heard += 1;
            if answer.request == 1039 {
                assert_eq!(payload.len(), LENGTH);
                break;
            }
        }
        // What the socket had taken, and perhaps one that was just read from the disk.
        assert!(heard <= 4, "{heard} answers of {memory}");
        assert!(peer.is_served().await);
        house.server.stop().await;
    }
}

#[tokio::test]
async fn giving_up_what_is_not_there_does_nothing() {
    let house = house(ByteSize::mib(32)).await;
    let mut peer = house.peer().await;
    let stored = peer.ask(whole_write(&key(1, 0), LENGTH)).await.unwrap();
    assert_eq!(stored.0.status, Status::Ok);
    for request in [0, 1, 2, u64::MAX - 200_000] {
        give_up(&mut peer, request).await;
    }
    let (answer, payload) = peer.ask(read(&key(1, 0), 0, 100)).await.unwrap();
    assert_eq!((answer.status, payload.len()), (Status::Ok, 100));
    house.server.stop().await;
}
