//! Bytes that come in memory files: what becomes of them, and what a peer can do that means
//! no good.

use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use arustio_client::block::buffers::Buffers;
use arustio_client::block::framed::inlet::Inlet;
use arustio_client::block::framed::outbox::{Outbox, WriteHalf};
use arustio_client::block::{BlockClient as _, BlockRead};
use arustio_proto::frame::body::{self, Hello};
use arustio_proto::frame::{Flags, Header, Operation, Status};
use arustio_server::config::Passing;
use arustio_types::{BlockKey, ByteSize, ErrorKind};
use bytes::Bytes;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

use super::house::{House, PATIENT, bytes_of, framed, hello, key, read, whole_write, words};

const CHUNK: usize = 32 << 10;
const LENGTH: usize = 8 * CHUNK;
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

/// A peer on this host that speaks by hand, also in descriptors.
struct Neighbour {
    raw: StdUnixStream,
    inlet: Inlet<OwnedReadHalf>,
    outbox: Arc<Outbox>,
    next: u64,
    features: u32,
}

impl Neighbour {
    async fn meet(house: &House) -> Self {
        let raw = StdUnixStream::connect(house.socket()).unwrap();
        raw.set_nonblocking(true).unwrap();
        let stream = UnixStream::from_std(raw.try_clone().unwrap()).unwrap();
        let (read, write) = stream.into_split();
        let outbox = Arc::new(Outbox::new(WriteHalf::Unix(write)));
        let sending = Arc::clone(&outbox);
        // It ends with the runtime of the test.
        tokio::spawn(async move { sending.run(LONG).await });
        let mut neighbour = Self {
            raw,
            inlet: Inlet::new(read, Buffers::default()),
            outbox,
            next: 1,
            features: 0,
        };
        let (header, payload) = hello(&Hello::default());
        let sent = neighbour.outbox.send(&header, [payload.into()], Vec::new());
        sent.unwrap();
        let (_, payload) = neighbour.heard().await.unwrap();
        neighbour.features = Hello::decode(&payload).unwrap().features;
        neighbour
    }

    async fn heard(&mut self) -> Option<(Header, Bytes)> {
        let heard = async {
            let bytes = self.inlet.header().await.ok()??;
            let header = Header::decode(&bytes).unwrap();
            let payload = self.inlet.payload(&header, || {}).await.ok()?;
            Some((header, payload.bytes))
        };
        let heard = tokio::time::timeout(PATIENT, heard).await;
        heard.expect("the node neither answers nor closes")
    }

    async fn ask(&mut self, header: Header, file: Option<&File>) -> Option<(Header, Bytes)> {
        let request = self.next;
        self.next += 1;
        let header = Header { request, ..header };
        // A node that has closed the connection is noticed below.
        let _ = match file {
            Some(file) => {
                let file = Arc::new(file.try_clone().unwrap());
                self.outbox.pass(&header, Bytes::new().into(), file)
            }
            None => self.outbox.send(&header, [], Vec::new()),
        };
        let (answer, payload) = self.heard().await?;
        assert_eq!(answer.request, request);
        Some((answer, payload))
    }

    async fn is_served(&mut self) -> bool {
        let ping = Header::request(Operation::Ping, 0);
        let answer = self.ask(ping, None).await;
        answer.is_some_and(|(answer, _)| answer.status == Status::Ok)
    }

    /// The only lease on all of a block.
    async fn lease(&mut self, key: &BlockKey) -> u64 {
        let (header, _) = read(key, 0, LENGTH as u64);
        let want = Header {
            flags: Flags::WANT_FILL,
            block_length: LENGTH as u32,
            millis: 60_000,
            ..header
        };
        let (answer, payload) = self.ask(want, None).await.unwrap();
        assert_eq!(answer.status, Status::YouFill);
        body::decode_grants(&payload).unwrap()[0].lease
    }
}

fn memfd(flags: MemfdFlags, bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create("test", flags | MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    file
}

fn file(bytes: &[u8]) -> File {
    memfd(MemfdFlags::ALLOW_SEALING, bytes)
}

/// The header of bytes that come in a file.
fn brought(operation: Operation, key: &BlockKey, offset: usize, bytes: &[u8]) -> Header {
    Header {
        flags: Flags::IN_FILE,
        offset: offset as u64,
        length: bytes.len() as u64,
        block_length: LENGTH as u32,
        payload_crc32c: crc32c::crc32c(bytes),
        ..Header::request(operation, 0).of(key)
    }
}

fn filling(lease: u64, key: &BlockKey, bytes: &[u8]) -> Header {
    Header {
        epoch: lease,
        ..brought(Operation::Fill, key, 0, bytes)
    }
}

async fn house() -> House {
    House::with(|config| config.block.fill.lease = LONG).await
}

async fn there(house: &House, key: BlockKey) -> Vec<u8> {
    let asked = BlockRead {
        key,
        range: 0..LENGTH as u64,
        epoch: 0,
        lane: None,
    };
    let parts = framed().read(&house.node(), asked, PATIENT).await.unwrap();
    parts.iter().flat_map(|part| part.bytes.to_vec()).collect()
}

#[tokio::test]
async fn r4_a_block_in_a_file_becomes_the_nodes_and_nobody_changes_it_any_more() {
    let house = house().await;
    let mut peer = Neighbour::meet(&house).await;
    assert_eq!(peer.features & body::FILES, body::FILES);
    for (index, operation) in [(0, Operation::Write), (1, Operation::Fill)] {
        let key = key(1, index);
        let all = bytes_of(&key, LENGTH);
        let lease = peer.lease(&key).await;
        let file = file(&all);
        let header = Header {
            epoch: lease,
            ..brought(operation, &key, 0, &all)
        };
        let (answer, _) = peer.ask(header, Some(&file)).await.unwrap();
        assert_eq!(answer.status, Status::Ok);
        assert!(
            file.write_all_at(b"x", 0).is_err(),
            "it can still be written"
        );
        assert!(there(&house, key).await == all);
        let loan = framed().borrow(&house.node(), key, PATIENT).await;
        let kept = loan.unwrap().unwrap().file.metadata().unwrap().ino();
        assert_eq!(kept, file.metadata().unwrap().ino(), "it was copied");
        // The same file again says nothing new.
        let (answer, _) = peer.ask(header, Some(&file)).await.unwrap();
        assert_eq!(answer.status, Status::AlreadyPresent);
    }
    house.server.stop().await;
}

#[tokio::test]
async fn parts_in_files_are_copied_and_feed_who_waits() {
    let house = house().await;
    let (mut peer, mut waits) = (Neighbour::meet(&house).await, house.peer().await);
    let key = key(1, 0);
    let all = bytes_of(&key, LENGTH);
    let lease = peer.lease(&key).await;
    let (header, _) = read(&key, 0, LENGTH as u64);
    let want = Header {
        request: 9,
        flags: Flags::WANT_FILL,
        block_length: LENGTH as u32,
        millis: 60_000,
        ..header
    };
    waits.send(want, &[]).await;
    assert!(waits.is_served().await);
    for offset in [0, LENGTH / 2] {
        let half = &all[offset..offset + LENGTH / 2];
        let header = Header {
            epoch: lease,
            ..brought(Operation::Fill, &key, offset, half)
        };
        let (answer, _) = peer.ask(header, Some(&file(half))).await.unwrap();
        assert_eq!(answer.status, Status::Ok);
    }
    let (fed, payload) = waits.heard().await.unwrap();
    assert_eq!((fed.request, fed.status), (9, Status::Ok));
    assert!(all.starts_with(&payload) && !payload.is_empty());
    assert!(there(&house, key).await == all);
    house.server.stop().await;
}

#[tokio::test]
async fn r4_what_is_not_the_file_that_it_should_be_is_rejected_and_ends_the_lease() {
    let house = house().await;
    let (mut peer, mut next) = (Neighbour::meet(&house).await, Neighbour::meet(&house).await);
    let key = key(1, 0);
    let all = bytes_of(&key, LENGTH);
    let mut on_disk = tempfile::tempfile().unwrap();
    on_disk.write_all(&all).unwrap();
    let hollow = file(&[]);
    hollow.set_len(LENGTH as u64).unwrap();
    let longer = [&all[..], b"x"].concat();
    for (file, why) in [
        (on_disk, "no memory file"),
        (File::open("/dev/null").unwrap(), "no memory file"),
        (memfd(MemfdFlags::empty(), &all), "no memory file"),
        (file(&all[1..]), "bytes, not"),
        (file(&longer), "bytes, not"),
        (hollow, "holes"),
        (file(&longer[1..]), "checksum"),
    ] {
        let lease = peer.lease(&key).await;
        let header = filling(lease, &key, &all);
        let (answer, said) = peer.ask(header, Some(&file)).await.unwrap();
        assert_eq!(answer.status, Status::Rejected, "{why}");
        assert!(words(&said).contains(why), "{}", words(&said));
        // Somebody else may have more luck, and is given it at once.
        let lease = next.lease(&key).await;
        let end = Header {
            epoch: lease,
            status: Status::Miss,
            ..Header::request(Operation::Fill, 0)
        };
        next.ask(end, None).await.unwrap();
    }
    assert!(peer.is_served().await);
    house.server.stop().await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_and_the_connection_goes_on() {
    let house = house().await;
    let mut peer = Neighbour::meet(&house).await;
    let key = key(1, 0);
    let all = bytes_of(&key, LENGTH);
    let file = file(&all);
    let wrong = Status::Failed(ErrorKind::InvalidArgument);
    // No descriptor comes, and the lease goes.
    for _ in 0..2 {
        let lease = peer.lease(&key).await;
        let header = filling(lease, &key, &all);
        let (answer, _) = peer.ask(header, None).await.unwrap();
        assert_eq!(answer.status, wrong);
    }
    let good = brought(Operation::Write, &key, 0, &all);
    let reading = Header {
        operation: Operation::Read,
        ..good
    };
    let empty = Header { length: 0, ..good };
    let long = Header {
        length: u64::MAX,
        ..good
    };
    let outside = Header { offset: 1, ..good };
    for odd in [reading, empty, long, outside] {
        let (answer, _) = peer.ask(odd, Some(&file)).await.unwrap();
        assert_eq!(answer.status, wrong, "{odd:?}");
    }
    assert!(there(&house, key).await.is_empty());
    // It is good for what it is for, after all of that.
    let (answer, _) = peer.ask(good, Some(&file)).await.unwrap();
    assert_eq!(answer.status, Status::Ok);
    house.server.stop().await;
}

#[tokio::test]
async fn descriptors_that_nobody_asked_for_end_the_connection() {
    let house = house().await;
    let all = bytes_of(&key(1, 0), LENGTH);
    let file = file(&all);
    let ping = Header::request(Operation::Ping, 1);
    let write = brought(Operation::Write, &key(1, 0), 0, &all);
    for (header, count) in [(ping, 1), (ping, 4), (write, 2), (write, 20)] {
        let mut peer = Neighbour::meet(&house).await;
        let files = vec![file.as_fd(); count];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(20))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
        let bytes = header.encode();
        let sent = sendmsg(
            &peer.raw,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::empty(),
        );
        assert_eq!(sent.unwrap(), bytes.len());
        assert!(peer.heard().await.is_none(), "{count} with {header:?}");
    }
    let mut peer = Neighbour::meet(&house).await;
    assert!(peer.is_served().await);
    house.server.stop().await;
}

#[tokio::test]
async fn files_come_over_the_socket_and_from_the_own_user_alone() {
    let house = House::with(|config| config.frames.pass = Passing::Nobody).await;
    let all = bytes_of(&key(1, 0), LENGTH);
    let header = brought(Operation::Write, &key(1, 0), 0, &all);
    let mut peer = Neighbour::meet(&house).await;
    assert_eq!(peer.features & body::FILES, 0);
    let (answer, why) = peer.ask(header, Some(&file(&all))).await.unwrap();
    assert_eq!(answer.status, Status::Unsupported);
    assert!(words(&why).contains("the user"), "{}", words(&why));
    assert!(peer.is_served().await);
    house.server.stop().await;

    let house = House::start().await;
    let mut peer = house.stranger().await;
    let (_, payload) = peer.ask(hello(&Hello::default())).await.unwrap();
    assert_eq!(Hello::decode(&payload).unwrap().features & body::FILES, 0);
    let (answer, _) = peer.ask((header, Vec::new())).await.unwrap();
    assert_eq!(answer.status, Status::Unsupported);
    assert!(peer.is_served().await);
    house.server.stop().await;
}

#[tokio::test]
async fn files_count_like_bytes_that_are_being_received() {
    let house = House::with(|config| {
        config.block.fill.lease = LONG;
        config.grpc.write_buffer = ByteSize::kib(LENGTH as u64 >> 10);
        config.frames.stall_timeout = LONG;
    })
    .await;
    let key = key(1, 0);
    let all = bytes_of(&key, LENGTH);
    let mut peer = Neighbour::meet(&house).await;
    // Somebody has begun to send.
    let mut slow = house.peer().await;
    let (header, payload) = whole_write(&super::house::key(2, 0), LENGTH);
    slow.send(
        Header {
            request: 9,
            ..header
        },
        &payload[..100],
    )
    .await;
    let lease = peer.lease(&key).await;
    let header = filling(lease, &key, &all);
    let file = file(&all);
    // It may not have been heard yet.
    let mut status = Status::AlreadyPresent;
    let busy = async {
        while status != Status::Busy {
            status = peer.ask(header, Some(&file)).await.unwrap().0.status;
            let forget = Header::request(Operation::Remove, 0).of(&key);
            peer.ask(forget, None).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENT, busy).await.unwrap();
    slow.raw(&payload[100..]).await;
    let (answer, _) = slow.heard().await.unwrap();
    assert_eq!((answer.request, answer.status), (9, Status::Ok));
    let write = brought(Operation::Write, &key, 0, &all);
    let (answer, _) = peer.ask(write, Some(&file)).await.unwrap();
    assert_eq!(answer.status, Status::Ok);
    house.server.stop().await;
}

#[tokio::test]
async fn many_files_at_once_are_all_taken() {
    let house = house().await;
    let mut peer = Neighbour::meet(&house).await;
    let count = 100;
    for index in 0..count {
        let key = key(1, index);
        let all = bytes_of(&key, LENGTH);
        let header = Header {
            request: 1000 + index,
            ..brought(Operation::Write, &key, 0, &all)
        };
        let file = Arc::new(file(&all));
        peer.outbox
            .pass(&header, Bytes::new().into(), file)
            .unwrap();
    }
    let mut open: Vec<u64> = (1000..1000 + count).collect();
    while !open.is_empty() {
        let (answer, _) = peer.heard().await.unwrap();
        let taken = matches!(answer.status, Status::Ok | Status::Busy);
        assert!(taken, "{answer:?}");
        let at = open.iter().position(|known| *known == answer.request);
        open.swap_remove(at.expect("answered twice or never asked"));
    }
    house.server.stop().await;
}
