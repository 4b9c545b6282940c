//! A node on this host that passes what it should and what it should not, written by hand.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use arustio_proto::frame::body::{self, Hello};
use arustio_proto::frame::{Header, Operation, Status};
use arustio_types::cluster::DataEndpoints;
use arustio_types::{BlockSize, ByteSize, Checksum, ContentId, NodeId};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::net::unix::OwnedReadHalf;

use super::super::framed::inlet::Inlet;
use super::super::framed::outbox::{Outbox, WriteHalf};
use super::super::{FramedBlocks, GrpcBlocks};
use super::*;
use crate::metadata::ClusterIdentity;

const PATIENT: Duration = Duration::from_secs(10);
const HOST: &str = "this start of this machine";
const LENGTH: u64 = 100_000;

struct Node {
    _folder: TempDir,
    path: PathBuf,
    listener: UnixListener,
}

/// The node's side of a connection.
struct Peer {
    inlet: Inlet<OwnedReadHalf>,
    outbox: Outbox,
}

impl Node {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        Self {
            _folder: folder,
            path,
            listener,
        }
    }

    /// Nobody answers for it but at its socket.
    fn info(&self) -> NodeInfo {
        NodeInfo {
            id: NodeId::new(1),
            address: "127.0.0.1:1".to_owned(),
            weight: 1,
            draining: false,
            data: DataEndpoints {
                frames: None,
                socket: Some(self.path.to_str().unwrap().to_owned()),
                host: Some(HOST.to_owned()),
            },
        }
    }

    async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        let (read, write) = stream.into_split();
        let mut peer = Peer {
            inlet: Inlet::new(read, Buffers::default()),
            outbox: Outbox::new(WriteHalf::Unix(write)),
        };
        let asked = peer.inlet.asked().await;
        let payload = Hello::default().encode();
        let answer = Header::answer(Operation::Hello, asked.request, Status::Ok).with(&payload);
        peer.outbox
            .send(&answer, [payload.into()], Vec::new())
            .unwrap();
        peer
    }
}

impl Peer {
    fn pass(&self, header: Header, file: &File) {
        let payload = body::encode_passed(Checksum(7));
        let file = Arc::new(file.try_clone().unwrap());
        self.outbox
            .pass(&header.with(&payload), Bytes::from(payload).into(), file)
            .unwrap();
    }
}

fn key(index: u64) -> BlockKey {
    BlockKey {
        content: ContentId::new(1),
        size: BlockSize::from_log2(20).unwrap(),
        index,
    }
}

fn bytes() -> Vec<u8> {
    (0..LENGTH).map(|at| (at % 251) as u8).collect()
}

/// A block behind a page that is none of it.
fn on_disk() -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0xee; 4096]).unwrap();
    file.write_all(&bytes()).unwrap();
    file
}

fn in_memory(seals: SealFlags) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("test", flags).unwrap());
    file.write_all(&bytes()).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

fn sealed() -> File {
    in_memory(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW)
}

/// What a node says with a descriptor.
fn passed(asked: &Header, offset: u64) -> Header {
    let answer = Header::answer(Operation::Pass, asked.request, Status::Ok);
    Header {
        offset,
        length: LENGTH,
        ..answer.of(&asked.key().unwrap())
    }
}

fn client(descriptors: usize) -> LocalBlocks {
    client_with(LocalConfig {
        descriptors,
        ..LocalConfig::default()
    })
}

fn client_with(config: LocalConfig) -> LocalBlocks {
    let framed = FramedBlocks::new(ClusterIdentity::default(), GrpcBlocks::new(1));
    LocalBlocks::new(Box::new(framed), HOST.to_owned(), &config)
}

fn read(index: u64, range: Range<u64>) -> BlockRead {
    BlockRead {
        key: key(index),
        range,
        epoch: 0,
        lane: None,
    }
}

#[tokio::test]
async fn a_block_is_asked_for_once_and_read_by_its_descriptor_from_then_on() {
    for (file, offset) in [(on_disk(), 4096), (sealed(), 0)] {
        let (node, client) = (Node::start(), client(8));
        let info = node.info();
        let served = async {
            let mut peer = node.accept().await;
            let asked = peer.inlet.asked().await;
            assert_eq!(
                (asked.operation, asked.key()),
                (Operation::Pass, Some(key(3)))
            );
            peer.pass(passed(&asked, offset), &file);
            peer
        };
        let asked = async {
            let all = bytes();
            for range in [0..10, 5..LENGTH, 99_999..1 << 20, 50_000..50_001] {
                let parts = client.read(&info, read(3, range.clone()), PATIENT).await;
                let parts = parts.unwrap();
                let end = range.end.min(LENGTH) as usize;
                assert_eq!(parts[0].offset, range.start);
                assert!(parts[0].bytes[..] == all[range.start as usize..end]);
            }
            let beyond = client.read(&info, read(3, LENGTH..1 << 20), PATIENT).await;
            assert!(beyond.unwrap().is_empty());
        };
        tokio::join!(served, asked);
        // It does not need its node any more.
        drop(node);
        let parts = client.read(&info, read(3, 0..LENGTH), PATIENT).await;
        assert!(parts.unwrap()[0].bytes[..] == bytes());
    }
}

#[tokio::test]
async fn what_is_dropped_is_given_back_once_nobody_reads_it() {
    let room_for_one = LocalConfig {
        bytes: ByteSize(LENGTH),
        ..LocalConfig::default()
    };
    let (node, client) = (Node::start(), client_with(room_for_one));
    let info = node.info();
    let served = async {
        let mut peer = node.accept().await;
        let first = peer.inlet.asked().await;
        peer.pass(passed(&first, 0), &sealed());
        let second = peer.inlet.asked().await;
        peer.pass(passed(&second, 0), &sealed());
        let release = peer.inlet.asked().await;
        assert_eq!(release.operation, Operation::Release);
        assert_eq!(release.offset, first.request);
        let release = peer.inlet.asked().await;
        assert_eq!(release.offset, second.request);
        peer
    };
    let asked = async {
        let held = client.read(&info, read(0, 0..10), PATIENT).await.unwrap();
        client.read(&info, read(1, 0..10), PATIENT).await.unwrap();
        assert_eq!(client.kept(), 1);
        // The first has left the shelf, and is still read by somebody.
        tokio::task::yield_now().await;
        drop(held);
        let gone = client.shared.shelf.lock().forget(|_| true);
        drop(gone);
    };
    let (_peer, ()) = tokio::join!(served, asked);
}

#[tokio::test]
async fn of_blocks_that_are_read_in_order_the_next_one_is_asked_for_before_its_turn() {
    let (node, client) = (Node::start(), client(8));
    let info = node.info();
    let served = async {
        let mut peer = node.accept().await;
        for index in 0..3 {
            let asked = peer.inlet.asked().await;
            assert_eq!(asked.index, index);
            peer.pass(passed(&asked, 0), &sealed());
        }
        peer
    };
    let asked = async {
        client.read(&info, read(0, 0..10), PATIENT).await.unwrap();
        assert_eq!(client.kept(), 1, "one block says nothing of an order");
        client.read(&info, read(1, 0..10), PATIENT).await.unwrap();
        while client.kept() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_given_back() {
    let (node, client) = (Node::start(), client(8));
    let info = node.info();
    let (given_up, waited) = tokio::sync::oneshot::channel::<()>();
    let served = async {
        let mut peer = node.accept().await;
        let asked = peer.inlet.asked().await;
        waited.await.unwrap();
        peer.pass(passed(&asked, 0), &sealed());
        let release = peer.inlet.asked().await;
        assert_eq!(
            (release.operation, release.offset),
            (Operation::Release, asked.request)
        );
        peer
    };
    let asked = async {
        let short = Duration::from_millis(50);
        let late = tokio::time::timeout(short, client.borrow(&info, key(0), PATIENT));
        assert!(late.await.is_err());
        given_up.send(()).unwrap();
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn what_is_not_the_block_is_refused_and_given_back() {
    let short = || {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"short").unwrap();
        file
    };
    type Spoil = fn(&mut Header);
    let cases: [(File, Spoil); 6] = [
        (short(), |_| {}),
        (File::open("/dev/null").unwrap(), |_| {}),
        (sealed(), |header| header.length = 0),
        (sealed(), |header| header.length = u64::MAX),
        (sealed(), |header| header.offset = u64::MAX),
        (sealed(), |header| header.index += 1),
    ];
    for (file, spoil) in cases {
        let (node, client) = (Node::start(), client(8));
        let info = node.info();
        let served = async {
            let mut peer = node.accept().await;
            let asked = peer.inlet.asked().await;
            let mut header = passed(&asked, 0);
            spoil(&mut header);
            peer.pass(header, &file);
            let release = peer.inlet.asked().await;
            assert_eq!(release.offset, asked.request);
            peer
        };
        let asked = async {
            let refused = client.borrow(&info, key(0), PATIENT).await;
            assert!(matches!(refused, Err(BlockError::Refused { .. })));
        };
        let (_peer, ()) = tokio::join!(served, asked);
    }
}

#[tokio::test]
async fn a_node_that_promises_a_descriptor_and_sends_none_is_left() {
    let (node, client) = (Node::start(), client(8));
    let info = node.info();
    let served = async {
        // Asked again on another connection, which behaves the same.
        for _ in 0..2 {
            let mut peer = node.accept().await;
            let asked = peer.inlet.asked().await;
            let payload = body::encode_passed(Checksum(7));
            let header = passed(&asked, 0).with(&payload);
            peer.outbox
                .send(&header, [payload.into()], Vec::new())
                .unwrap();
            assert!(peer.inlet.is_left().await);
        }
    };
    let asked = async {
        let lost = client.borrow(&info, key(0), PATIENT).await;
        assert!(matches!(lost, Err(BlockError::Unreachable { .. })));
    };
    tokio::join!(served, asked);
}

fn loan(file: File) -> BlockLoan {
    BlockLoan {
        file,
        offset: 0,
        length: LENGTH,
        checksum: Checksum(0),
        hold: Box::new(()),
    }
}

#[tokio::test]
async fn memory_that_could_still_be_changed_is_read_and_not_mapped() {
    for seals in [SealFlags::empty(), SealFlags::GROW | SealFlags::SHRINK] {
        assert!(matches!(Kept::of(loan(in_memory(seals))), Kept::File(_)));
    }
}

#[tokio::test]
async fn a_file_that_was_cut_is_an_error_and_not_kept() {
    let (node, client) = (Node::start(), client(8));
    let info = node.info();
    let file = on_disk();
    let served = async {
        let mut peer = node.accept().await;
        let asked = peer.inlet.asked().await;
        peer.pass(passed(&asked, 4096), &file);
        peer
    };
    let asked = async {
        client.read(&info, read(0, 0..10), PATIENT).await.unwrap();
        assert_eq!(client.kept(), 1);
        file.set_len(5000).unwrap();
        // Nobody answers gRPC, which would be next.
        let error = client.read(&info, read(0, 0..LENGTH), PATIENT).await;
        assert!(matches!(error, Err(BlockError::Unreachable { .. })));
        assert_eq!(client.kept(), 0);
    };
    tokio::join!(served, asked);
}

#[test]
fn absent_blocks_and_refusing_nodes_are_left_alone_for_a_while() {
    let (mut shelf, node) = (Shelf::new(8, 1 << 20), NodeId::new(1));
    let now = Instant::now();
    let later = now + Duration::from_secs(2);
    let asks = |shelf: &mut Shelf, key, now| {
        let asks = matches!(shelf.turn(key, node, true, now), Turn::Ask);
        if asks {
            shelf.asked(key);
        }
        asks
    };
    assert!(matches!(shelf.turn(key(0), node, true, now), Turn::Ask));
    assert!(!asks(&mut shelf, key(0), now), "somebody asks already");
    shelf.asked(key(0));
    assert!(!matches!(shelf.turn(key(0), node, false, now), Turn::Ask));
    shelf.absent(key(0), now);
    assert!(!asks(&mut shelf, key(0), now));
    assert!(asks(&mut shelf, key(1), now));
    assert!(asks(&mut shelf, key(0), later));
    shelf.absent(key(0), later);
    shelf.may_be_there(key(0));
    assert!(asks(&mut shelf, key(0), later));
    shelf.pause(node, now);
    assert!(!asks(&mut shelf, key(2), now));
    assert!(asks(&mut shelf, key(2), later));
}

#[test]
fn the_shelf_is_bounded_by_descriptors_and_bytes_and_keeps_what_is_used() {
    let file = || Kept::of(loan(on_disk()));
    let mapped = || Kept::Mapped(Bytes::from_static(b"x"));
    let (mut shelf, node) = (Shelf::new(3, 100), NodeId::new(1));
    let here = |shelf: &mut Shelf, index| {
        let turn = shelf.turn(key(index), node, false, Instant::now());
        matches!(turn, Turn::Here(_))
    };
    for index in 0..3 {
        assert!(shelf.keep(key(index), file(), 10).is_empty());
        assert!(here(&mut shelf, 0));
    }
    for index in 10..14 {
        assert!(shelf.keep(key(index), mapped(), 10).is_empty());
    }
    assert_eq!(shelf.keep(key(3), file(), 10).len(), 1, "one file too many");
    assert!(here(&mut shelf, 0) && !here(&mut shelf, 1));
    assert!(here(&mut shelf, 10), "mapped, so no descriptor");
    assert_eq!(shelf.len(), 7);
    assert_eq!(
        shelf.keep(key(4), mapped(), 70).len(),
        4,
        "the oldest first"
    );
    assert!(here(&mut shelf, 0) && here(&mut shelf, 3) && here(&mut shelf, 10));
    assert_eq!(shelf.keep(key(5), file(), 101).len(), 1, "larger than all");
    assert_eq!(shelf.forget(|_| true).len(), 4);
    assert!(shelf.keep(key(6), mapped(), 100).is_empty());
}
