//! Two releases that meet: what one does not know ends well.

use std::time::Duration;

use arustio_client::block::{BlockClient as _, BlockRead, BlockStored, FramedBlocks, GrpcBlocks};
use arustio_client::metadata::ClusterIdentity;
use arustio_proto::frame::body::{self, Hello, Versions};
use arustio_proto::frame::{Flags, Header, MAX_TOKEN, Operation, Status};
use arustio_types::{ClusterId, ErrorKind};
use tokio::net::TcpListener;

use super::house::{House, PATIENT, forged, hello, key, read, whole_write, words, write};

#[tokio::test]
async fn an_unknown_version_is_answered_with_both_versions_and_closed() {
    let house = House::start().await;
    for greeted in [false, true] {
        let mut peer = match greeted {
            true => house.peer().await,
            false => house.stranger().await,
        };
        let (header, payload) = hello(&Hello::default());
        peer.raw(&forged(&header, 4, &[9])).await;
        peer.raw(&payload).await;
        let (answer, why) = peer.heard().await.unwrap();
        assert_eq!(answer.status, Status::UnknownVersion);
        assert_eq!((answer.index, answer.offset, answer.length), (9, 1, 1));
        assert!(words(&why).contains("version 9"), "{}", words(&why));
        assert!(peer.heard().await.is_none());
    }
    house.server.stop().await;
}

#[tokio::test]
async fn an_unknown_operation_is_answered_with_both_versions_and_closed() {
    let house = House::start().await;
    let mut peer = house.peer().await;
    let header = Header::request(Operation::Ping, 77);
    peer.raw(&forged(&header, 5, &[200])).await;
    let (answer, why) = peer.heard().await.unwrap();
    assert_eq!(
        (answer.status, answer.request),
        (Status::UnknownOperation, 77)
    );
    assert_eq!((answer.index, answer.offset, answer.length), (1, 1, 1));
    assert!(words(&why).contains("operation 200"), "{}", words(&why));
    assert!(peer.heard().await.is_none());
    house.server.stop().await;
}

#[tokio::test]
async fn an_unknown_flag_is_ignored_or_refused_and_the_connection_goes_on() {
    let house = House::start().await;
    let mut peer = house.peer().await;
    let with = |bits| {
        let (mut header, payload) = whole_write(&key(1, 0), 70_000);
        header.flags = Flags::from_bits(bits);
        (header, payload)
    };
    let (answer, why) = peer.ask(with(0x4000)).await.unwrap();
    assert_eq!(answer.status, Status::Unsupported);
    assert!(words(&why).contains("0x4000"), "{}", words(&why));
    let (answer, _) = peer.ask(with(0x0080)).await.unwrap();
    assert_eq!(answer.status, Status::Ok);
    house.server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_and_the_connection_goes_on() {
    let house = House::start().await;
    let mut peer = house.peer().await;
    // No descriptor can travel over TCP.
    let pass = Header::request(Operation::Pass, 0).of(&key(1, 0));
    let (answer, _) = peer.ask((pass, Vec::new())).await.unwrap();
    assert_eq!(answer.status, Status::Unsupported);
    assert!(peer.is_served().await);
    house.server.stop().await;
}

#[tokio::test]
async fn who_does_not_say_hello_or_means_another_cluster_is_closed() {
    let house = House::start().await;
    let mut rude = house.stranger().await;
    let (answer, _) = rude.ask(read(&key(1, 0), 0, 10)).await.unwrap();
    assert_eq!(answer.status, Status::Failed(ErrorKind::InvalidArgument));
    assert!(rude.heard().await.is_none());
    let mut lost = house.stranger().await;
    let other = Hello {
        cluster: ClusterId::new(4711),
        ..Hello::default()
    };
    let (answer, why) = lost.ask(hello(&other)).await.unwrap();
    assert_eq!(answer.status, Status::Failed(ErrorKind::Conflict));
    assert!(words(&why).contains("another cluster"));
    assert!(lost.heard().await.is_none());
    house.server.stop().await;
}

/// Writes and reads back.
async fn works(client: &FramedBlocks, node: &arustio_types::cluster::NodeInfo, index: u64) {
    let key = key(1, index);
    let stored = client
        .write(node, write(key, 70_000, 0..70_000), PATIENT)
        .await;
    assert_eq!(stored.unwrap(), BlockStored::Stored);
    let request = BlockRead {
        key,
        range: 0..70_000,
        epoch: 0,
        lane: None,
    };
    let parts = client.read(node, request, PATIENT).await.unwrap();
    assert_eq!(
        parts.iter().map(|part| part.bytes.len()).sum::<usize>(),
        70_000
    );
    let removed = client
        .remove(
            node,
            arustio_client::block::BlockSelector::Block(key),
            PATIENT,
        )
        .await;
    assert!(removed.unwrap() >= 1);
}

#[tokio::test]
async fn a_node_without_frames_is_asked_over_grpc() {
    let house = House::with(|config| config.frames.enabled = false).await;
    assert!(house.server.addresses().frames.is_none());
    assert!(house.server.ready_line().contains(" frames off "));
    assert!(!house.folder.path().join("block.sock").exists());
    let client = FramedBlocks::new(ClusterIdentity::default(), GrpcBlocks::new(1));
    works(&client, &house.node(), 0).await;
    // A port that nobody listens on, as behind a firewall.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut node = house.node();
    node.data.frames = Some(closed.local_addr().unwrap().to_string());
    drop(closed);
    works(&client, &node, 1).await;
    // A port where nothing ever answers.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    node.data.frames = Some(mute.local_addr().unwrap().to_string());
    let began = tokio::time::Instant::now();
    works(&client, &node, 2).await;
    works(&client, &node, 3).await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "it was tried again"
    );
    house.server.stop().await;
}

/// The features that a node tells of to a peer that says this of itself.
async fn features_told_to(house: &House, theirs: Hello) -> u32 {
    let mut peer = house.stranger().await;
    let (answer, payload) = peer.ask(hello(&theirs)).await.unwrap();
    assert_eq!(answer.status, Status::Ok);
    let ours = Hello::decode(&payload).unwrap();
    assert_eq!(ours.versions, Versions::HERE);
    // What every release has known is served.
    let stored = peer.ask(whole_write(&key(1, 0), 70_000)).await.unwrap();
    assert!(matches!(
        stored.0.status,
        Status::Ok | Status::AlreadyPresent
    ));
    let (answer, payload) = peer.ask(read(&key(1, 0), 0, 10)).await.unwrap();
    assert_eq!((answer.status, payload.len()), (Status::Ok, 10));
    // A list of contents as it was before runs were known: from the first block on.
    let mut list = key(1, 0).content.get().to_le_bytes().to_vec();
    list.extend(3_u64.to_le_bytes());
    list.extend(u64::from(key(1, 0).size.log2()).to_le_bytes());
    let asked = Header::request(Operation::Stat, 0).with(&list);
    let (answer, payload) = peer.ask((asked, list)).await.unwrap();
    assert_eq!(answer.status, Status::Ok);
    assert_eq!(body::decode_counts(&payload), Ok(vec![70_000]));
    assert!(peer.is_served().await);
    ours.features
}

#[tokio::test]
async fn clients_of_earlier_and_later_releases_are_served_and_told_what_is_known_here() {
    let house = House::start().await;
    let known = Hello::default().features;
    assert_eq!(
        known & (body::LEASES | body::RUNS),
        body::LEASES | body::RUNS
    );
    for features in [0, body::LEASES, u32::MAX] {
        let newest = if features == u32::MAX { 9 } else { 1 };
        let theirs = Hello {
            features,
            versions: Versions { oldest: 1, newest },
            ..Hello::default()
        };
        assert_eq!(features_told_to(&house, theirs).await, known);
    }
    house.server.stop().await;
}

#[tokio::test]
async fn a_greeting_that_is_longer_or_shorter_than_any_is_refused_and_harms_nobody() {
    let house = House::start().await;
    let mut good = house.peer().await;
    let greeting = Hello::default().encode();
    for length in [0, 1, greeting.len() - 1] {
        let payload = greeting[..length].to_vec();
        let header = Header::request(Operation::Hello, 0).with(&payload);
        let mut peer = house.stranger().await;
        assert!(peer.ask((header, payload)).await.is_none(), "{length}");
    }
    // Room for what later releases say, up to a bound.
    let longest = Hello {
        token: vec![7; MAX_TOKEN],
        ..Hello::default()
    };
    let mut peer = house.stranger().await;
    let (answer, _) = peer.ask(hello(&longest)).await.unwrap();
    assert_eq!(answer.status, Status::Ok);
    let longer = Hello {
        token: vec![7; MAX_TOKEN + 1],
        ..Hello::default()
    };
    let mut peer = house.stranger().await;
    let (answer, _) = peer.ask(hello(&longer)).await.unwrap();
    assert_eq!(answer.status, Status::Failed(ErrorKind::InvalidArgument));
    assert!(peer.heard().await.is_none());
    assert!(good.is_served().await);
    house.server.stop().await;
}
