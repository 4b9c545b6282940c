//! A server in this process, clients of both wires, and a peer that speaks by hand.

use std::path::PathBuf;
use std::time::Duration;

use arustio_client::block::buffers::Buffers;
use arustio_client::block::framed::inlet::Inlet;
use arustio_client::block::local::{LocalBlocks, running_system};
use arustio_client::block::{BlockClient, BlockWrite, FramedBlocks, GrpcBlocks};
use arustio_client::config::LocalConfig;
use arustio_client::metadata::ClusterIdentity;
use arustio_proto::frame::body::{self, Hello};
use arustio_proto::frame::{HEADER, Header, Operation, Status};
use arustio_server::{Engine, Server, ServerConfig};
use arustio_types::cluster::{DataEndpoints, NodeInfo};
use arustio_types::{BlockKey, BlockSize, ByteSize, Checksum, ContentId, MountId, NodeId};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split,
};
use tokio::net::{TcpStream, UnixStream};

pub(crate) const PATIENT: Duration = Duration::from_secs(10);

/// A running server and its folder.
pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) folder: TempDir,
}

impl House {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::ephemeral(folder.path());
        config.block.memory.capacity = Some(ByteSize::mib(32));
        config.block.disk.capacity = Some(ByteSize::mib(128));
        config.block.disk.min_free = ByteSize::mib(1);
        change(&mut config);
        let checked = config.validate().unwrap();
        let server = Server::start(checked, Engine::Memory).await.unwrap();
        Self { server, folder }
    }

    pub(crate) fn node(&self) -> NodeInfo {
        let frames = self.server.addresses().frames;
        NodeInfo {
            id: NodeId::new(0),
            address: self.server.addresses().grpc.to_string(),
            weight: 1,
            draining: false,
            data: DataEndpoints {
                frames: frames.map(|frames| frames.to_string()),
                socket: Some(self.socket().to_str().unwrap().to_owned()),
                host: running_system(),
            },
        }
    }

    /// A peer that was greeted.
    pub(crate) async fn peer(&self) -> Peer<TcpStream> {
        let mut peer = self.stranger().await;
        peer.greet().await;
        peer
    }

    /// What the server counts; `name` with labels and a space.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let address = self.server.addresses().http;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let ask = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let value = answer.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().trim().parse().unwrap()
    }

    /// A peer that has not said anything yet.
    pub(crate) async fn stranger(&self) -> Peer<TcpStream> {
        let address = self.server.addresses().frames.unwrap();
        Peer::new(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("block.sock")
    }

    pub(crate) async fn neighbour(&self) -> Peer<UnixStream> {
        let mut peer = Peer::new(UnixStream::connect(self.socket()).await.unwrap());
        peer.greet().await;
        peer
    }
}

/// Both wires, none, and none in both directions, by name.
pub(crate) fn clients() -> [(&'static str, Box<dyn BlockClient>); 4] {
    [
        ("grpc", Box::new(GrpcBlocks::new(2))),
        ("framed", Box::new(framed())),
        ("local", Box::new(local())),
        ("files", Box::new(in_files())),
    ]
}

pub(crate) fn framed() -> FramedBlocks {
    FramedBlocks::new(ClusterIdentity::default(), GrpcBlocks::new(1))
}

/// A system without a name has an empty one: only the tests of this crate compare it.
fn system() -> String {
    running_system().unwrap_or_default()
}

/// Takes descriptors where it can.
pub(crate) fn local() -> LocalBlocks {
    LocalBlocks::new(Box::new(framed()), system(), &LocalConfig::default())
}

/// Hands in files, too, whatever their size.
fn in_files() -> LocalBlocks {
    let framed = framed().handing_in(system(), 1);
    LocalBlocks::new(Box::new(framed), system(), &LocalConfig::default())
}

pub(crate) fn key(content: u128, index: u64) -> BlockKey {
    BlockKey {
        content: ContentId::new(content),
        size: BlockSize::from_log2(20).unwrap(),
        index,
    }
}

/// Bytes that differ from block to block and from place to place.
pub(crate) fn bytes_of(key: &BlockKey, length: usize) -> Vec<u8> {
    let salt = key.content.get() as u64 ^ key.index.rotate_left(17);
    let word = |at: u64| {
        let mixed = (at ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(length + 8);
    for at in 0..length.div_ceil(8) as u64 {
        bytes.extend(word(at));
    }
    bytes.truncate(length);
    bytes
}

/// A write of some bytes of a block, in pieces.
pub(crate) fn write(key: BlockKey, length: usize, range: std::ops::Range<usize>) -> BlockWrite {
    let bytes = Bytes::from(bytes_of(&key, length)).slice(range.clone());
    let checksum = Checksum(crc32c::crc32c(&bytes));
    let half = bytes.len() / 2;
    BlockWrite {
        key,
        mount: MountId::new(key.content.get() as u64),
        block_length: length as u64,
        offset: range.start as u64,
        pieces: vec![bytes.slice(..half), bytes.slice(half..)],
        checksum,
    }
}

/// The client's side of a connection, by hand.
pub(crate) struct Peer<S> {
    inlet: Inlet<ReadHalf<S>>,
    write: WriteHalf<S>,
    next: u64,
}

impl<S: AsyncRead + AsyncWrite> Peer<S> {
    pub(crate) fn new(stream: S) -> Self {
        let (read, write) = split(stream);
        Self {
            inlet: Inlet::new(read, Buffers::default()),
            write,
            next: 1,
        }
    }

    pub(crate) async fn greet(&mut self) {
        let (header, payload) = self.ask(hello(&Hello::default())).await.unwrap();
        assert_eq!(header.status, Status::Ok);
        assert_ne!(Hello::decode(&payload).unwrap().instance, 0);
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        // A peer that was closed already sees that when it reads.
        let _ = self.write.write_all(bytes).await;
    }

    pub(crate) async fn send(&mut self, header: Header, payload: &[u8]) {
        self.raw(&header.encode()).await;
        self.raw(payload).await;
    }

    /// The next answer; `None` once the node has closed the connection.
    pub(crate) async fn heard(&mut self) -> Option<(Header, Bytes)> {
        let heard = async {
            let bytes = self.inlet.header().await.ok()??;
            let header = Header::decode(&bytes).unwrap();
            let payload = self.inlet.payload(&header, || {}).await.ok()?;
            assert_eq!(payload.crc32c, header.payload_crc32c);
            Some((header, payload.bytes))
        };
        let heard = tokio::time::timeout(PATIENT, heard).await;
        heard.expect("the node neither answers nor closes")
    }

    /// Asks under a new id, and takes the first answer, which has to be for it.
    pub(crate) async fn ask(
        &mut self,
        (header, payload): (Header, Vec<u8>),
    ) -> Option<(Header, Bytes)> {
        let request = self.next;
        self.next += 1;
        self.send(Header { request, ..header }, &payload).await;
        let (header, payload) = self.heard().await?;
        assert_eq!(header.request, request);
        Some((header, payload))
    }

    /// Whether it still gets answers.
    pub(crate) async fn is_served(&mut self) -> bool {
        let ping = (Header::request(Operation::Ping, 0), Vec::new());
        let answer = self.ask(ping).await;
        answer.is_some_and(|(header, _)| header.status == Status::Ok)
    }

    /// Closes our half.
    pub(crate) async fn leave(&mut self) {
        let _ = self.write.shutdown().await;
    }
}

pub(crate) fn hello(hello: &Hello) -> (Header, Vec<u8>) {
    let payload = hello.encode();
    let header = Header::request(Operation::Hello, 0).with(&payload);
    (header, payload)
}

pub(crate) fn read(key: &BlockKey, offset: u64, length: u64) -> (Header, Vec<u8>) {
    let mut header = Header::request(Operation::Read, 0).of(key);
    header.offset = offset;
    header.length = length;
    (header, Vec::new())
}

pub(crate) fn whole_write(key: &BlockKey, length: usize) -> (Header, Vec<u8>) {
    let payload = bytes_of(key, length);
    let mut header = Header::request(Operation::Write, 0).of(key).with(&payload);
    header.block_length = length as u32;
    (header, payload)
}

/// A header that was changed by hand, with a checksum that fits.
pub(crate) fn forged(header: &Header, at: usize, bytes: &[u8]) -> [u8; HEADER] {
    let mut raw = header.encode();
    raw[at..at + bytes.len()].copy_from_slice(bytes);
    let sum = crc32c::crc32c(&raw[..HEADER - 4]);
    raw[HEADER - 4..].copy_from_slice(&sum.to_le_bytes());
    raw
}

pub(crate) fn words(payload: &[u8]) -> String {
    body::decode_text(payload)
}
