//! Ten thousand peers at once: whoever was there first is served on, the others are sent away,
//! and nothing of them stays.

use std::time::Duration;

use arustio_client::block::{BlockClient, BlockRead, BlockStored, GrpcBlocks};
use arustio_proto::frame::{HEADER, Header, Status};
use futures::stream::{self, StreamExt as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::daemon::{Daemon, until};
use super::house::{PATIENT, Peer, bytes_of, key, read, whole_write, write};

const CROWD: usize = 10_000;
/// Connections that the server takes.
const PLACES: usize = 100;
/// Peers that come together: fewer than the queue of the system holds.
const BATCH: usize = 100;
const LENGTH: usize = 70_000;
/// Descriptors of a server that has few.
const FEW: usize = 250;
/// Descriptors of the server that come and go: metrics, files.
const OTHERS: usize = 16;
/// The server may take so much more memory while they are there.
const MEMORY: u64 = 64 << 20;

/// As many as this process may have beside what its other tests have.
fn crowd() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // It is then as large as it may be.
    let _ = setrlimit(Resource::Nofile, raised);
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    CROWD.min(most.saturating_sub(500)).max(BATCH)
}

/// Peers that stay. They come as fast as they are taken: one that finds the queue of the
/// system full believes that it is connected, and nobody ever tells it that it is not.
async fn arrive(address: &str, peers: usize) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(address.to_owned());
    let mut arrived = Vec::with_capacity(peers);
    while arrived.len() < peers {
        let batch = stream::iter(0..BATCH).map(connect).buffer_unordered(BATCH);
        arrived.extend(batch.map(Result::unwrap).collect::<Vec<_>>().await);
        // Taken in the order of their coming, and turned away: all before it were taken.
        if arrived.len() > PLACES {
            told(connect(0).await.unwrap()).await;
        }
    }
    arrived
}

/// What a peer that says nothing is told until it is closed.
async fn told(mut stream: TcpStream) -> Vec<u8> {
    let mut told = Vec::new();
    let closed = timeout(3 * PATIENT, stream.read_to_end(&mut told)).await;
    // Also one that was reset is gone.
    let _ = closed.expect("a peer that says nothing is closed");
    told
}

async fn asks(client: &dyn BlockClient, daemon: &Daemon) {
    let request = BlockRead {
        key: key(1, 0),
        range: 0..LENGTH as u64,
        epoch: 0,
        lane: None,
    };
    let parts = client.read(&daemon.node(), request, PATIENT).await.unwrap();
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes.to_vec()).collect();
    assert!(bytes == bytes_of(&key(1, 0), LENGTH));
}

async fn stores(client: &dyn BlockClient, daemon: &Daemon) {
    let write = write(key(1, 0), LENGTH, 0..LENGTH);
    let stored = client.write(&daemon.node(), write, PATIENT).await.unwrap();
    assert_eq!(stored, BlockStored::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_the_port_of_frames_is_told_to_come_back_and_leaves_nothing() {
    let places = PLACES.to_string();
    let daemon = Daemon::start(&[("ARUSTIO_FRAMES__CONNECTIONS", &places)]);
    let mut good = daemon.peer().await;
    let stored = good.ask(whole_write(&key(1, 0), LENGTH)).await.unwrap();
    assert_eq!(stored.0.status, Status::Ok);
    let (descriptors, memory) = (daemon.descriptors(), daemon.memory());

    let peers = arrive(daemon.address("frames"), crowd()).await;
    let count = peers.len();
    let there = daemon.descriptors();
    assert!(there <= descriptors + PLACES + OTHERS, "{there}");
    let (answer, payload) = good.ask(read(&key(1, 0), 0, 1 << 20)).await.unwrap();
    assert_eq!((answer.status, payload.len()), (Status::Ok, LENGTH));
    let told = stream::iter(peers).map(told).buffer_unordered(CROWD);
    let told: Vec<Vec<u8>> = told.collect().await;
    let busy = told.iter().filter(|words| {
        let header = words.first_chunk::<HEADER>().map(Header::decode);
        matches!(header, Some(Ok(header)) if header.status == Status::Busy && header.millis > 0)
    });
    let busy = busy.count();
    assert!(busy >= count / 2, "{busy} of {count} were told");
    assert!(told.iter().filter(|words| words.is_empty()).count() == count - busy);
    let more = daemon.memory().saturating_sub(memory);
    assert!(more < MEMORY, "{more} bytes");

    assert!(good.is_served().await);
    until("their descriptors are given back", || {
        daemon.descriptors() <= descriptors + OTHERS
    })
    .await;
    let open = "arustio_server_block_connections{wire=\"tcp\"}";
    assert_eq!(daemon.metric(open).await, 1.0);
    Peer::new(daemon.connect("frames").await).greet().await;
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_the_port_of_grpc_is_closed_and_leaves_nothing() {
    let places = PLACES.to_string();
    let daemon = Daemon::start(&[("ARUSTIO_GRPC__CONNECTIONS", &places)]);
    let good = GrpcBlocks::new(1);
    stores(&good, &daemon).await;
    let (descriptors, memory) = (daemon.descriptors(), daemon.memory());

    let peers = arrive(daemon.address("grpc"), crowd()).await;
    let there = daemon.descriptors();
    assert!(there <= descriptors + PLACES + OTHERS, "{there}");
    asks(&good, &daemon).await;
    // Who finds no place is one who may try again.
    let late = GrpcBlocks::new(1);
    let request = BlockRead {
        key: key(1, 0),
        range: 0..1,
        epoch: 0,
        lane: None,
    };
    let began = Instant::now();
    let refused = late.read(&daemon.node(), request, PATIENT).await;
    assert!(refused.is_err() && began.elapsed() < PATIENT, "{refused:?}");
    // Those that have a place say nothing, and lose it.
    let told = stream::iter(peers).map(told).buffer_unordered(CROWD);
    told.collect::<Vec<_>>().await;
    let more = daemon.memory().saturating_sub(memory);
    assert!(more < MEMORY, "{more} bytes");
    until("their descriptors are given back", || {
        daemon.descriptors() <= descriptors + OTHERS
    })
    .await;
    asks(&good, &daemon).await;
    asks(&GrpcBlocks::new(1), &daemon).await;
    let log = daemon.log();
    let full = log.matches("all connections are taken").count();
    assert!((1..10).contains(&full), "{log}");
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_descriptors_rests_and_goes_on_when_there_are_some() {
    for port in ["grpc", "frames", "http"] {
        let daemon = Daemon::with_descriptors(
            FEW,
            &[
                ("ARUSTIO_BLOCK__MEMORY__MEMFD", "false"),
                ("ARUSTIO_BLOCK__DISK__CAPACITY", "0"),
            ],
        );
        let mut good = daemon.peer().await;
        let stored = good.ask(whole_write(&key(1, 0), LENGTH)).await.unwrap();
        assert_eq!(stored.0.status, Status::Ok);
        let connect = |_| TcpStream::connect(daemon.address(port).to_owned());
        let peers = stream::iter(0..FEW + BATCH / 2)
            .map(connect)
            .buffer_unordered(BATCH);
        let mut peers: Vec<_> = peers.collect().await;
        if port != "http" {
            until("no descriptor is left", || {
                daemon.log().contains("cannot take a connection")
            })
            .await;
        }
        let before = daemon.cpu();
        let second = Duration::from_secs(1);
        sleep(second).await;
        let used = daemon.cpu() - before;
        assert!(used < second / 2, "{port}: {used:?} of a second");
        let (answer, payload) = good.ask(read(&key(1, 0), 0, 1 << 20)).await.unwrap();
        assert_eq!((answer.status, payload.len()), (Status::Ok, LENGTH));
        peers.clear();
        until("their descriptors are given back", || {
            daemon.descriptors() < FEW / 2
        })
        .await;
        asks(&GrpcBlocks::new(1), &daemon).await;
        daemon.peer().await;
        daemon.metric("arustio_meta_leading").await;
        daemon.stop();
    }
}
