//! A node on this host that takes files, or does not, written by hand.

use std::io::{Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;

use arustio_proto::frame::Operation;
use arustio_proto::frame::body::Hello;
use arustio_types::cluster::DataEndpoints;
use arustio_types::{BlockKey, BlockSize, ContentId, MountId, NodeId};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::AsyncRead;
use tokio::net::{TcpListener, UnixListener};

use super::super::catch::{Catching, Caught};
use super::super::inlet::Inlet;
use super::super::outbox::{Outbox, WriteHalf};
use super::*;
use crate::block::buffers::Buffers;
use crate::block::fill::checksum;
use crate::block::{BlockClient as _, BlockStored, GrpcBlocks};
use crate::metadata::ClusterIdentity;

const PATIENT: Duration = Duration::from_secs(10);
const HOST: &str = "this start of this machine";
const LENGTH: u64 = 300_000;
const SMALLEST: u64 = 256 << 10;

/// A node that answers on both of its sockets.
struct Node {
    folder: TempDir,
    unix: UnixListener,
    tcp: TcpListener,
}

/// The node's side of a connection.
struct Peer<R> {
    inlet: Inlet<R>,
    outbox: Outbox,
    caught: Caught,
}

impl Node {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            unix: UnixListener::bind(folder.path().join("s")).unwrap(),
            tcp: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            folder,
        }
    }

    fn info(&self) -> NodeInfo {
        let socket = self.folder.path().join("s");
        NodeInfo {
            id: NodeId::new(1),
            address: "127.0.0.1:1".to_owned(),
            weight: 1,
            draining: false,
            data: DataEndpoints {
                frames: Some(self.tcp.local_addr().unwrap().to_string()),
                socket: Some(socket.to_str().unwrap().to_owned()),
                host: Some(HOST.to_owned()),
            },
        }
    }

    async fn accept_local(&self, features: u32) -> Peer<Catching> {
        let (read, write) = self.unix.accept().await.unwrap().0.into_split();
        let caught = Caught::default();
        let read = Catching::new(read, caught.clone());
        Peer::greet(read, WriteHalf::Unix(write), caught, features).await
    }

    async fn accept(&self) -> Peer<impl AsyncRead + Unpin> {
        let (read, write) = self.tcp.accept().await.unwrap().0.into_split();
        Peer::greet(read, WriteHalf::Tcp(write), Caught::default(), 0xffff).await
    }
}

impl<R: AsyncRead + Unpin> Peer<R> {
    async fn greet(read: R, write: WriteHalf, caught: Caught, features: u32) -> Self {
        let mut peer = Self {
            inlet: Inlet::new(read, Buffers::default()),
            outbox: Outbox::new(write),
            caught,
        };
        let hello = Hello {
            features,
            ..Hello::default()
        };
        let asked = peer.inlet.asked().await;
        let payload = hello.encode();
        let answer = Header::answer(Operation::Hello, asked.request, Status::Ok);
        let answer = answer.with(&payload);
        let sent = peer.outbox.send(&answer, [payload.into()], Vec::new());
        sent.unwrap();
        peer
    }

    /// The next request is answered so.
    async fn answer(&mut self, status: Status) -> Header {
        let asked = self.inlet.asked().await;
        let answer = Header::answer(asked.operation, asked.request, status);
        self.outbox.send(&answer, [], Vec::new()).unwrap();
        asked
    }
}

fn client() -> FramedBlocks {
    let grpc = GrpcBlocks::new(1);
    FramedBlocks::new(ClusterIdentity::default(), grpc).handing_in(HOST.to_owned(), SMALLEST)
}

fn bytes(length: u64) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn write(length: u64, block_length: u64) -> BlockWrite {
    let bytes = Bytes::from(bytes(length));
    let pieces = vec![bytes.slice(..1000), bytes.slice(1000..)];
    BlockWrite {
        key: BlockKey {
            content: ContentId::new(1),
            size: BlockSize::from_log2(20).unwrap(),
            index: 3,
        },
        mount: MountId::new(2),
        block_length,
        offset: 0,
        checksum: checksum(&pieces),
        pieces,
    }
}

fn whole() -> BlockWrite {
    write(LENGTH, LENGTH)
}

#[tokio::test]
async fn a_whole_block_goes_as_a_file_of_exactly_its_bytes() {
    let (node, client) = (Node::start().await, client());
    let info = node.info();
    let served = async {
        let mut peer = node.accept_local(body::FILES | body::LEASES).await;
        for operation in [Operation::Write, Operation::Fill] {
            let asked = peer.answer(Status::Ok).await;
            assert_eq!(asked.operation, operation);
            assert!(asked.flags.has(Flags::IN_FILE));
            assert_eq!((asked.payload_length, asked.length), (0, LENGTH));
            assert_eq!(asked.payload_crc32c, whole().checksum.0);
            let mut file = File::from(peer.caught.take().unwrap());
            assert!(peer.caught.is_empty());
            let mut there = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut there).unwrap();
            assert!(there == bytes(LENGTH));
            assert_eq!(file.metadata().unwrap().nlink(), 0);
        }
        peer
    };
    let asked = async {
        let stored = client.write(&info, whole(), PATIENT).await.unwrap();
        assert_eq!(stored, BlockStored::Stored);
        let filled = client.fill(&info, 7, whole(), PATIENT).await.unwrap();
        assert_eq!(filled.stored, BlockStored::Stored);
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn parts_small_blocks_and_other_hosts_get_bytes() {
    let (node, client) = (Node::start().await, client());
    let mut elsewhere = node.info();
    elsewhere.data.host = Some("another".to_owned());
    let cases = [
        (node.info(), write(LENGTH, LENGTH + 1)),
        (node.info(), write(SMALLEST - 1, SMALLEST - 1)),
        (elsewhere, whole()),
    ];
    let count = cases.len();
    let served = async {
        let mut peer = node.accept().await;
        for _ in 0..count {
            let asked = peer.answer(Status::Ok).await;
            assert!(!asked.flags.has(Flags::IN_FILE) && asked.payload_length > 0);
        }
        peer
    };
    let asked = async {
        for (node, write) in cases {
            let stored = client.write(&node, write, PATIENT).await.unwrap();
            assert_eq!(stored, BlockStored::Stored);
        }
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn a_node_that_takes_no_files_gets_bytes() {
    let (node, client) = (Node::start().await, client());
    let info = node.info();
    let served = async {
        let older = node.accept_local(body::LEASES | body::RUNS).await;
        let mut peer = node.accept().await;
        let asked = peer.answer(Status::Ok).await;
        assert_eq!(u64::from(asked.payload_length), LENGTH);
        (older, peer)
    };
    let asked = async {
        let stored = client.write(&info, whole(), PATIENT).await.unwrap();
        assert_eq!(stored, BlockStored::Stored);
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn a_node_that_refuses_the_file_or_is_not_there_gets_bytes() {
    let (node, client) = (Node::start().await, client());
    let info = node.info();
    let mut gone = node.info();
    gone.data.socket = Some("/nobody/listens/here".to_owned());
    let served = async {
        let mut local = node.accept_local(body::FILES).await;
        let asked = local.answer(Status::Unsupported).await;
        assert!(asked.flags.has(Flags::IN_FILE));
        let mut peer = node.accept().await;
        for _ in 0..2 {
            let asked = peer.answer(Status::Ok).await;
            assert_eq!(u64::from(asked.payload_length), LENGTH);
        }
        (local, peer)
    };
    let asked = async {
        for node in [&info, &gone] {
            let stored = client.write(node, whole(), PATIENT).await.unwrap();
            assert_eq!(stored, BlockStored::Stored);
        }
    };
    tokio::join!(served, asked);
}

#[test]
fn a_limit_of_a_group_or_one_above_it_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let put = |group: &str, name: &str, limit: &str| {
        fs::create_dir_all(root.join(group)).unwrap();
        fs::write(root.join(group).join(name), limit).unwrap();
    };
    put("free/inner", "memory.max", "max\n");
    put("tight", "memory.max", "1073741824\n");
    put("tight/inner", "memory.max", "max\n");
    put(
        "memory/old",
        "memory.limit_in_bytes",
        "9223372036854771712\n",
    );
    put("memory/small", "memory.limit_in_bytes", "4096\n");
    for (groups, limited) in [
        ("", false),
        ("nonsense", false),
        ("0::/", false),
        ("0::/free/inner\n", false),
        ("0::/gone\n", false),
        ("0::/tight\n", true),
        ("0::/tight/inner\n", true),
        ("5:cpu:/tight\n4:memory:/old\n", false),
        ("4:blkio,memory:/small\n0::/\n", true),
    ] {
        assert_eq!(limited_by(groups, root), limited, "{groups}");
    }
}
