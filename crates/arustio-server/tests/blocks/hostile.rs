//! Peers that send nonsense, too much, or take nothing: they lose their own connection,
//! and nobody else notices.

use std::time::Duration;

use arustio_proto::frame::{Flags, HEADER, Header, Operation, Status};
use arustio_types::{ByteSize, ErrorKind};

use super::house::{House, forged, key, read, whole_write, words};

#[tokio::test]
async fn garbage_is_closed_and_nobody_else_notices() {
    let house = House::start().await;
    let mut good = house.peer().await;
    let mut state = 1_u64;
    for length in [1, HEADER - 1, HEADER, 10 * HEADER, 100_000] {
        let mut peer = house.stranger().await;
        let byte = |_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        };
        let bytes: Vec<u8> = (0..length).map(byte).collect();
        peer.raw(&bytes).await;
        peer.leave().await;
        assert!(peer.heard().await.is_none());
        // The same in the middle of a connection.
        let mut peer = house.peer().await;
        peer.raw(&bytes).await;
        peer.leave().await;
        assert!(peer.heard().await.is_none());
    }
    assert!(good.is_served().await);
    house.server.stop().await;
}

#[tokio::test]
async fn what_is_cut_off_anywhere_does_no_harm() {
    let house = House::start().await;
    let (header, payload) = whole_write(&key(1, 0), 100_000);
    let all = [&header.encode()[..], &payload].concat();
    for cut in [1, 50, HEADER - 1, HEADER, HEADER + 1, all.len() - 1] {
        let mut peer = house.peer().await;
        peer.raw(&all[..cut]).await;
        peer.leave().await;
        assert!(peer.heard().await.is_none(), "cut at {cut}");
    }
    let mut peer = house.peer().await;
    let (header, _) = peer.ask(read(&key(1, 0), 0, 10)).await.unwrap();
    assert_eq!(header.status, Status::Miss, "nothing was kept");
    house.server.stop().await;
}

#[tokio::test]
async fn lengths_are_bounded_before_anything_is_allocated() {
    let house = House::start().await;
    let (write, _) = whole_write(&key(1, 0), 100_000);
    let claims = u32::MAX.to_le_bytes();
    for header in [
        write,
        read(&key(1, 0), 0, 10).0,
        Header::request(Operation::Stat, 3),
    ] {
        let mut peer = house.peer().await;
        peer.raw(&forged(&header, 84, &claims)).await;
        let (answer, payload) = peer.heard().await.unwrap();
        assert_eq!(answer.status, Status::Failed(ErrorKind::InvalidArgument));
        assert!(words(&payload).contains("4294967295 bytes"));
        assert!(peer.heard().await.is_none());
    }
    // As long as a block can be, but not as this one is.
    let mut peer = house.peer().await;
    let (header, payload) = whole_write(&key(1, 0), 2 << 20);
    let (answer, _) = peer.ask((header, payload)).await.unwrap();
    assert_eq!(answer.status, Status::Failed(ErrorKind::InvalidArgument));
    assert!(peer.is_served().await, "it can go on");
    // Any range may be asked for; it is clipped.
    let stored = peer.ask(whole_write(&key(1, 0), 70_000)).await.unwrap();
    assert_eq!(stored.0.status, Status::Ok);
    let (answer, payload) = peer.ask(read(&key(1, 0), 69_000, u64::MAX)).await.unwrap();
    assert_eq!((answer.offset, payload.len()), (69_000, 1000));
    let (answer, _) = peer
        .ask(read(&key(1, 0), u64::MAX, u64::MAX))
        .await
        .unwrap();
    assert_eq!(answer.status, Status::Miss);
    house.server.stop().await;
}

#[tokio::test]
async fn a_damaged_frame_is_never_taken_for_another() {
    let house = House::start().await;
    let mut peer = house.peer().await;
    let (mut header, payload) = whole_write(&key(1, 0), 70_000);
    header.payload_crc32c ^= 1;
    let (answer, why) = peer.ask((header, payload)).await.unwrap();
    assert_eq!(answer.status, Status::Rejected);
    assert!(words(&why).contains("checksum"));
    let mut bytes = read(&key(1, 0), 0, 10).0.encode();
    bytes[64] ^= 1;
    peer.raw(&bytes).await;
    let (answer, _) = peer.heard().await.unwrap();
    assert_eq!(answer.status, Status::Failed(ErrorKind::Corrupt));
    assert!(peer.heard().await.is_none());
    house.server.stop().await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_one_by_one() {
    let house = House::start().await;
    let mut peer = house.peer().await;
    let nameless = (Header::request(Operation::Read, 0), Vec::new());
    let mut twice = Header::request(Operation::Remove, 0);
    twice.flags = Flags::OF_CONTENT.with(Flags::OF_MOUNT);
    let list = vec![0xff; 32];
    let odd = (Header::request(Operation::Stat, 0).with(&list), list);
    for request in [nameless, (twice, Vec::new()), odd] {
        let (answer, why) = peer.ask(request).await.unwrap();
        assert_eq!(answer.status, Status::Failed(ErrorKind::InvalidArgument));
        assert!(!why.is_empty());
    }
    assert!(peer.is_served().await);
    let mut answer = house.peer().await;
    let header = Header::answer(Operation::Ping, 1, Status::Ok);
    answer.raw(&header.encode()).await;
    assert!(
        answer.heard().await.is_none(),
        "a peer that answers is closed"
    );
    house.server.stop().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_stalls_only_itself_and_is_closed() {
    let house = House::with(|config| {
        config.frames.window = ByteSize::kib(64);
        config.frames.stall_timeout = Duration::from_millis(300);
    })
    .await;
    let mut good = house.peer().await;
    let stored = good.ask(whole_write(&key(1, 0), 1 << 20)).await.unwrap();
    assert_eq!(stored.0.status, Status::Ok);
    let mut deaf = house.peer().await;
    // Far more than the buffers of two sockets hold.
    for request in 1..=200 {
        let (header, _) = read(&key(1, 0), 0, 1 << 20);
        deaf.raw(&Header { request, ..header }.encode()).await;
    }
    for _ in 0..50 {
        let (answer, payload) = good.ask(read(&key(1, 0), 0, 1 << 20)).await.unwrap();
        assert_eq!((answer.status, payload.len()), (Status::Ok, 1 << 20));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What had been handed to the system still comes, then it is over.
    let mut heard = 0;
    while deaf.heard().await.is_some() {
        heard += 1;
    }
    assert!(heard < 200, "it was never closed");
    assert!(good.is_served().await);
    house.server.stop().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_leaves_the_disk_to_others() {
    let house = House::with(|config| {
        config.block.memory.capacity = Some(ByteSize::default());
        config.grpc.write_buffer = ByteSize::mib(4);
        config.frames.window = ByteSize::mib(1);
        // It is not closed while this test runs.
        config.frames.stall_timeout = Duration::from_secs(600);
    })
    .await;
    let mut good = house.peer().await;
    // The disk is looked at first; until then it takes nothing.
    loop {
        let (mut header, payload) = whole_write(&key(1, 0), 1 << 20);
        header.flags = Flags::DURABLE;
        let (answer, why) = good.ask((header, payload)).await.unwrap();
        if answer.status == Status::Ok {
            break;
        }
        assert!(words(&why).contains("restart"), "{}", words(&why));
    }
    let mut deaf = house.peer().await;
    for request in 1..=200 {
        let (header, _) = read(&key(1, 0), 0, 1 << 20);
        deaf.raw(&Header { request, ..header }.encode()).await;
    }
    for _ in 0..50 {
        let (answer, payload) = good.ask(read(&key(1, 0), 0, 1 << 20)).await.unwrap();
        assert_eq!((answer.status, payload.len()), (Status::Ok, 1 << 20));
    }
    // Nothing is lost for it if it reads after all.
    let mut heard = 0;
    while heard < 200 {
        let (answer, _) = deaf.heard().await.unwrap();
        assert_eq!(
            (answer.status, answer.payload_length),
            (Status::Ok, 1 << 20)
        );
        heard += 1;
    }
    house.server.stop().await;
}

#[tokio::test]
async fn connections_are_limited_and_a_free_place_is_taken_again() {
    let house = House::with(|config| config.frames.connections = 3).await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(house.peer().await);
    }
    for _ in 0..50 {
        let mut surplus = house.stranger().await;
        let (answer, _) = surplus.heard().await.unwrap();
        assert_eq!((answer.status, answer.request), (Status::Busy, 0));
        assert!(answer.millis > 0);
        assert!(surplus.heard().await.is_none());
    }
    assert!(peers[0].is_served().await);
    peers[1].leave().await;
    assert!(peers[1].heard().await.is_none());
    // Its place is free a moment after it saw the end.
    let taken = async {
        loop {
            let mut peer = house.stranger().await;
            let (header, payload) = super::house::hello(&Default::default());
            peer.send(header, &payload).await;
            if peer
                .heard()
                .await
                .is_some_and(|(h, _)| h.status == Status::Ok)
            {
                return;
            }
        }
    };
    tokio::time::timeout(super::house::PATIENT, taken)
        .await
        .unwrap();
    house.server.stop().await;
}

#[tokio::test]
async fn idle_and_silent_peers_are_let_go() {
    let house = House::with(|config| {
        config.frames.idle_timeout = Duration::from_millis(100);
        config.frames.stall_timeout = Duration::from_millis(100);
    })
    .await;
    let mut idle = house.peer().await;
    assert!(idle.heard().await.is_none());
    let mut half = house.peer().await;
    let (header, payload) = whole_write(&key(1, 0), 70_000);
    half.send(header, &payload[..1000]).await;
    assert!(half.heard().await.is_none());
    house.server.stop().await;
}

#[tokio::test]
async fn requests_are_answered_out_of_order_and_all_of_them() {
    let house = House::start().await;
    let mut peer = house.peer().await;
    for index in 0..8 {
        let stored = peer
            .ask(whole_write(&key(1, index), 200_000))
            .await
            .unwrap();
        assert_eq!(stored.0.status, Status::Ok);
    }
    let mut open: Vec<u64> = (1000..1400).collect();
    for request in &open {
        let (header, _) = read(&key(1, request % 9), *request, 1000);
        let header = Header {
            request: *request,
            ..header
        };
        peer.raw(&header.encode()).await;
    }
    while !open.is_empty() {
        let (answer, _) = peer.heard().await.unwrap();
        let at = open.iter().position(|known| *known == answer.request);
        let request = open.swap_remove(at.expect("answered twice or never asked"));
        let there = request % 9 < 8;
        assert_eq!(answer.status == Status::Ok, there, "{answer:?}");
    }
    house.server.stop().await;
}

#[tokio::test]
async fn the_socket_speaks_the_same_and_goes_with_the_server() {
    use std::os::unix::fs::PermissionsExt as _;
    let house = House::start().await;
    let mut peer = house.neighbour().await;
    let stored = peer.ask(whole_write(&key(1, 0), 100_000)).await.unwrap();
    assert_eq!(stored.0.status, Status::Ok);
    let (answer, payload) = peer.ask(read(&key(1, 0), 5, 50_000)).await.unwrap();
    assert_eq!((answer.status, payload.len()), (Status::Ok, 50_000));
    let path = house.folder.path().join("block.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let began = tokio::time::Instant::now();
    house.server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4));
    assert!(!path.exists());
    assert!(peer.heard().await.is_none());
}
