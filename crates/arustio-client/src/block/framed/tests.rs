//! Nodes that misbehave, on real sockets: each test writes the other side by hand.

use std::net::SocketAddr;

use arustio_proto::frame::body::{Hello, Versions};
use arustio_types::cluster::DataEndpoints;
use arustio_types::{BlockKey, BlockSize, ContentId, NodeId};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::inlet::Inlet;
use super::*;

const PATIENT: Duration = Duration::from_secs(10);
const NODE: u64 = 7;

/// The node's side of a connection.
struct Peer {
    inlet: Inlet<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self {
            inlet: Inlet::new(read, Buffers::default()),
            write,
        }
    }

    /// The next connection, greeted.
    async fn accept(listener: &TcpListener) -> Self {
        let mut peer = Self::new(listener.accept().await.unwrap().0);
        peer.greet(Hello {
            node: NodeId::new(NODE),
            ..Hello::default()
        })
        .await;
        peer
    }

    async fn greet(&mut self, hello: Hello) {
        let asked = self.inlet.asked().await;
        assert_eq!(asked.operation, Operation::Hello);
        let header = Header::answer(Operation::Hello, asked.request, Status::Ok);
        self.say(header, &hello.encode()).await;
    }

    async fn say(&mut self, header: Header, payload: &[u8]) {
        let header = header.with(payload).encode();
        self.write.write_all(&header).await.unwrap();
        self.write.write_all(payload).await.unwrap();
    }

    /// Bytes from an offset on.
    async fn part(&mut self, asked: &Header, offset: u64, payload: &[u8], more: bool) {
        let mut header = Header::answer(Operation::Read, asked.request, Status::Ok);
        header.offset = offset;
        if more {
            header.flags = header.flags.with(Flags::MORE);
        }
        self.say(header, payload).await;
    }
}

async fn listen() -> (TcpListener, NodeInfo) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = node(listener.local_addr().unwrap());
    (listener, node)
}

/// Nobody answers gRPC for it.
fn node(frames: SocketAddr) -> NodeInfo {
    NodeInfo {
        id: NodeId::new(NODE),
        address: "127.0.0.1:1".to_owned(),
        weight: 1,
        draining: false,
        data: DataEndpoints {
            frames: Some(frames.to_string()),
            ..DataEndpoints::default()
        },
    }
}

fn client() -> FramedBlocks {
    FramedBlocks::new(ClusterIdentity::default(), GrpcBlocks::new(1))
}

fn read(range: std::ops::Range<u64>) -> BlockRead {
    BlockRead {
        key: BlockKey {
            content: ContentId::new(1),
            size: BlockSize::DEFAULT,
            index: 0,
        },
        range,
        epoch: 1,
        lane: None,
    }
}

fn shown(parts: &[BlockPart]) -> Vec<(u64, &[u8])> {
    parts.iter().map(|p| (p.offset, &p.bytes[..])).collect()
}

#[tokio::test]
async fn answers_are_matched_by_their_ids_in_any_order() {
    let (listener, node) = listen().await;
    let client = client();
    let served = async {
        let mut peer = Peer::accept(&listener).await;
        let (first, second) = (peer.inlet.asked().await, peer.inlet.asked().await);
        peer.part(&second, second.offset, b"second", false).await;
        peer.part(&first, first.offset, b"fir", true).await;
        peer.part(&first, first.offset + 4, b"st", false).await;
        // What is not there is an answer, too.
        let third = peer.inlet.asked().await;
        let miss = Header::answer(Operation::Read, third.request, Status::Miss);
        peer.say(miss, b"").await;
        peer
    };
    let asked = async {
        let connected = client.pool(Place::Tcp(node.data.frames.clone().unwrap()));
        // Both on one connection.
        connected
            .connection(node.id, None, Instant::now() + PATIENT)
            .await;
        let (one, two) = tokio::join!(
            client.read(&node, read(10..16), PATIENT),
            client.read(&node, read(20..26), PATIENT),
        );
        assert_eq!(shown(&one.unwrap()), [(10, &b"fir"[..]), (14, b"st")]);
        assert_eq!(shown(&two.unwrap()), [(20, &b"second"[..])]);
        let three = client.read(&node, read(30..36), PATIENT).await.unwrap();
        assert!(three.is_empty());
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn r4_bytes_that_do_not_match_their_checksum_are_never_returned() {
    let (listener, node) = listen().await;
    let client = client();
    let served = async {
        let mut peer = Peer::accept(&listener).await;
        let asked = peer.inlet.asked().await;
        let mut header = Header::answer(Operation::Read, asked.request, Status::Ok);
        header.flags = header.flags.with(Flags::MORE);
        let mut header = header.with(b"good");
        header.payload_crc32c ^= 1;
        peer.write.write_all(&header.encode()).await.unwrap();
        peer.write.write_all(b"good").await.unwrap();
        peer.part(&asked, 4, b"more", false).await;
        // The connection is as good as before.
        let asked = peer.inlet.asked().await;
        peer.part(&asked, 0, b"fine", false).await;
        peer
    };
    let asked = async {
        let damaged = client.read(&node, read(0..8), PATIENT).await;
        assert!(
            matches!(damaged, Err(BlockError::Corrupt { .. })),
            "wrong answer"
        );
        let fine = client.read(&node, read(0..4), PATIENT).await.unwrap();
        assert_eq!(shown(&fine), [(0, &b"fine"[..])]);
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn r4_parts_that_were_not_asked_for_end_the_connection() {
    // Before, beyond, twice, and nothing at all.
    for parts in [
        [(9, 1), (12, 1)],
        [(19, 2), (0, 0)],
        [(10, 4), (12, 2)],
        [(10, 0), (12, 1)],
    ] {
        let (listener, node) = listen().await;
        let client = client();
        let served = async {
            // Asked again on another connection, which behaves the same.
            for _ in 0..2 {
                let mut peer = Peer::accept(&listener).await;
                let asked = peer.inlet.asked().await;
                for (offset, length) in parts {
                    let header = Header::answer(Operation::Read, asked.request, Status::Ok);
                    let flags = header.flags.with(Flags::MORE);
                    let header = Header {
                        offset,
                        flags,
                        ..header
                    };
                    let payload = vec![1; length];
                    // The client may have left already.
                    let bytes = header.with(&payload).encode();
                    let _ = peer.write.write_all(&bytes).await;
                    let _ = peer.write.write_all(&payload).await;
                }
                assert!(peer.inlet.is_left().await);
            }
        };
        let asked = async {
            let refused = client.read(&node, read(10..20), PATIENT).await;
            assert!(
                matches!(refused, Err(BlockError::Unreachable { .. })),
                "wrong answer"
            );
        };
        tokio::join!(served, asked);
    }
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_any_more_is_read_past() {
    let (listener, node) = listen().await;
    let client = client();
    let (given_up, waited) = tokio::sync::oneshot::channel::<()>();
    let served = async {
        let mut peer = Peer::accept(&listener).await;
        let late = peer.inlet.asked().await;
        waited.await.unwrap();
        let large = vec![7; 1 << 20];
        peer.part(&late, 0, &large, true).await;
        peer.part(&late, 1 << 20, b"end", false).await;
        // It is told, which comes too late.
        let cancel = peer.inlet.asked().await;
        assert_eq!(cancel.operation, Operation::Cancel);
        let asked = peer.inlet.asked().await;
        peer.part(&asked, 0, b"fine", false).await;
        peer
    };
    let asked = async {
        let short = Duration::from_millis(50);
        let dropped = tokio::time::timeout(short, client.read(&node, read(0..2 << 20), PATIENT));
        assert!(dropped.await.is_err());
        given_up.send(()).unwrap();
        let fine = client.read(&node, read(0..4), PATIENT).await.unwrap();
        assert_eq!(shown(&fine), [(0, &b"fine"[..])]);
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn a_connection_that_is_gone_is_replaced_once() {
    let (listener, node) = listen().await;
    let client = client();
    let served = async {
        let mut peer = Peer::accept(&listener).await;
        peer.inlet.asked().await;
        drop(peer);
        let mut peer = Peer::accept(&listener).await;
        let asked = peer.inlet.asked().await;
        peer.part(&asked, 0, b"fine", false).await;
        peer
    };
    let asked = async {
        let fine = client.read(&node, read(0..4), PATIENT).await.unwrap();
        assert_eq!(shown(&fine), [(0, &b"fine"[..])]);
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn a_node_that_says_nothing_costs_the_deadline_and_its_connection() {
    let (listener, node) = listen().await;
    let client = client();
    let served = async {
        let mut silent = Peer::accept(&listener).await;
        silent.inlet.asked().await;
        let cancel = silent.inlet.asked().await;
        assert_eq!(cancel.operation, Operation::Cancel);
        let left = silent.inlet.is_left().await;
        let mut peer = Peer::accept(&listener).await;
        let asked = peer.inlet.asked().await;
        peer.part(&asked, 0, b"fine", false).await;
        (left, peer)
    };
    let asked = async {
        let short = Duration::from_millis(200);
        // So that what the node said last, its greeting, is older than the question.
        let pool = client.pool(Place::Tcp(node.data.frames.clone().unwrap()));
        pool.connection(node.id, None, Instant::now() + PATIENT)
            .await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let late = client.read(&node, read(0..4), short).await;
        assert!(
            matches!(late, Err(BlockError::Timeout { .. })),
            "wrong answer"
        );
        let fine = client.read(&node, read(0..4), PATIENT).await.unwrap();
        assert_eq!(shown(&fine), [(0, &b"fine"[..])]);
    };
    let ((left, _), ()) = tokio::join!(served, asked);
    assert!(left);
}

#[tokio::test]
async fn refusals_say_why() {
    let (listener, node) = listen().await;
    let client = client();
    let busy = Header {
        millis: 50,
        ..Header::answer(Operation::Read, 0, Status::Busy)
    };
    let kind = Status::Failed(ErrorKind::InvalidArgument);
    let failed = Header::answer(Operation::Read, 0, kind);
    let unsupported = Header::answer(Operation::Read, 0, Status::Unsupported);
    let cases = [
        (busy, "", "busy for 50 ms"),
        (failed, "no such block", "InvalidArgument: no such block"),
        (unsupported, "not yet", "not yet"),
    ];
    let served = async {
        let mut peer = Peer::accept(&listener).await;
        for (header, words, _) in cases {
            let request = peer.inlet.asked().await.request;
            peer.say(Header { request, ..header }, words.as_bytes())
                .await;
        }
        peer
    };
    let asked = async {
        for (_, _, why) in cases {
            let refused = client.read(&node, read(0..4), PATIENT).await.unwrap_err();
            assert!(matches!(refused, BlockError::Refused { .. }));
            assert!(refused.to_string().contains(why), "{refused}");
        }
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn a_node_of_another_version_or_another_number_is_left_to_grpc_for_a_while() {
    let later = Hello {
        node: NodeId::new(NODE),
        versions: Versions {
            oldest: 2,
            newest: 3,
        },
        ..Hello::default()
    };
    let other = Hello {
        node: NodeId::new(NODE + 1),
        ..Hello::default()
    };
    for hello in [later, other] {
        let (listener, node) = listen().await;
        let client = client();
        let served = async {
            let mut peer = Peer::new(listener.accept().await.unwrap().0);
            peer.greet(hello).await;
            assert!(peer.inlet.is_left().await);
        };
        let asked = async {
            for _ in 0..3 {
                let error = client.read(&node, read(0..4), PATIENT).await.unwrap_err();
                // Nobody answers gRPC, at the address of gRPC.
                let BlockError::Unreachable { address, .. } = error else {
                    panic!("{error}")
                };
                assert_eq!(address, node.address);
            }
        };
        tokio::join!(served, asked);
        // It was tried once.
        let again = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(again.is_err());
    }
}

#[tokio::test]
async fn nobody_who_speaks_something_else_is_believed() {
    let (listener, node) = listen().await;
    let client = client();
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let nonsense = b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(8);
        stream.write_all(&nonsense).await.unwrap();
        stream
    };
    let asked = async {
        let error = client.read(&node, read(0..4), PATIENT).await.unwrap_err();
        assert!(matches!(error, BlockError::Unreachable { .. }), "{error}");
    };
    tokio::join!(served, asked);
}

fn want(range: std::ops::Range<u64>) -> BlockWant {
    BlockWant {
        key: read(0..1).key,
        range,
        block_length: 4 << 20,
        epoch: 1,
        wait: Duration::from_millis(700),
    }
}

#[tokio::test]
async fn a_node_that_knows_no_leases_is_not_asked_for_any() {
    let (listener, node) = listen().await;
    let client = client();
    let served = async {
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        peer.greet(Hello {
            features: 0,
            ..Hello::default()
        })
        .await;
        // What comes first is a plain read.
        let asked = peer.inlet.asked().await;
        assert_eq!(
            (asked.operation, asked.flags),
            (Operation::Read, Flags::NONE)
        );
        peer.part(&asked, 0, b"abcd", false).await;
        peer
    };
    let asked = async {
        let offer = client.want(&node, want(0..32 << 10), PATIENT).await;
        assert_eq!(offer.unwrap(), BlockOffer::alone(Alone::Unsupported));
        assert!(
            !client
                .lease(&node, 1, LeaseWord::Renew, PATIENT)
                .await
                .unwrap()
        );
        let parts = client.read(&node, read(0..4), PATIENT).await.unwrap();
        assert_eq!(shown(&parts), [(0, &b"abcd"[..])]);
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn parts_and_leases_come_in_one_answer_and_lies_about_leases_are_seen() {
    let (listener, node) = listen().await;
    let client = client();
    let grant = |offset, length| body::Grant {
        lease: 9,
        offset,
        length,
    };
    let served = async {
        let mut peer = Peer::accept(&listener).await;
        for grant in [grant(4, 6), grant(8, 3), grant(0, u64::MAX)] {
            let asked = peer.inlet.asked().await;
            assert_eq!((asked.flags, asked.millis), (Flags::WANT_FILL, 700));
            peer.part(&asked, 0, b"abcd", true).await;
            let mut yours = Header::answer(Operation::Read, asked.request, Status::YouFill);
            yours.millis = 3000;
            peer.say(yours, &body::encode_grants(&[grant])).await;
        }
        peer
    };
    let asked = async {
        let offer = client.want(&node, want(0..10), PATIENT).await.unwrap();
        assert_eq!(shown(&offer.parts), [(0, &b"abcd"[..])]);
        let lease = BlockLease {
            lease: 9,
            range: 4..10,
            lasts: Duration::from_secs(3),
        };
        assert_eq!((offer.leases, offer.alone), (vec![lease], None));
        for _ in 0..2 {
            let error = client.want(&node, want(0..10), PATIENT).await.unwrap_err();
            assert!(matches!(error, BlockError::Refused { .. }), "{error}");
        }
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn r4_parts_of_a_want_that_do_not_match_are_never_returned() {
    let (listener, node) = listen().await;
    let client = client();
    let served = async {
        let mut peer = Peer::accept(&listener).await;
        let asked = peer.inlet.asked().await;
        let mut part = Header::answer(Operation::Read, asked.request, Status::Ok).with(b"abcd");
        part.flags = part.flags.with(Flags::MORE);
        part.payload_crc32c ^= 1;
        peer.write.write_all(&part.encode()).await.unwrap();
        peer.write.write_all(b"abcd").await.unwrap();
        peer.say(
            Header::answer(Operation::Read, asked.request, Status::Busy),
            &[],
        )
        .await;
        peer
    };
    let asked = async {
        let error = client.want(&node, want(0..10), PATIENT).await.unwrap_err();
        assert!(matches!(error, BlockError::Corrupt { .. }), "{error}");
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn a_node_that_counts_from_the_first_block_on_is_not_believed_about_others() {
    let (listener, node) = listen().await;
    let client = client();
    let served = async {
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        peer.greet(Hello {
            features: body::LEASES,
            ..Hello::default()
        })
        .await;
        let header = peer.inlet.header().await.unwrap().unwrap();
        let asked = Header::decode(&header).unwrap();
        assert_eq!(asked.operation, Operation::Stat);
        let payload = peer.inlet.payload(&asked, || {}).await.unwrap();
        let extents = body::decode_extents(&payload.bytes).unwrap();
        let asked_of: Vec<_> = extents.iter().map(|e| (e.first, e.blocks)).collect();
        assert_eq!(asked_of, [(0, 3), (0, 0)]);
        let counted = Header::answer(Operation::Stat, asked.request, Status::Ok);
        peer.say(counted, &body::encode_counts(&[7, 0])).await;
        peer
    };
    let key = read(0..1).key;
    let run = |first, blocks| BlockExtent {
        content: key.content,
        size: key.size,
        first,
        blocks,
    };
    let extents = [run(0, 3), run(5, 2)];
    let (counts, _peer) = tokio::join!(client.cached(&node, &extents, PATIENT), served);
    assert_eq!(counts.unwrap(), [7, 0]);
}

/// Asks, and gives up once the node has heard it.
async fn given_up<T>(asking: impl Future<Output = T>, heard: tokio::sync::oneshot::Receiver<()>) {
    tokio::select! {
        _ = asking => panic!("it was answered"),
        heard = heard => heard.unwrap(),
    }
}

#[tokio::test]
async fn a_node_is_told_what_nobody_waits_for_any_more() {
    let (listener, node) = listen().await;
    let client = client();
    let (told_read, read_heard) = tokio::sync::oneshot::channel();
    let (told_want, want_heard) = tokio::sync::oneshot::channel();
    let served = async {
        let mut peer = Peer::accept(&listener).await;
        for told in [told_read, told_want] {
            let asked = peer.inlet.asked().await;
            told.send(()).unwrap();
            let cancel = peer.inlet.asked().await;
            assert_eq!(cancel.operation, Operation::Cancel);
            assert_eq!(cancel.offset, asked.request);
            // What was under way is read past, whether it is whole or not.
            peer.part(&asked, 0, b"late", true).await;
        }
        // One that is answered, or late, says so at most once.
        let asked = peer.inlet.asked().await;
        peer.part(&asked, 0, b"fine", false).await;
        let late = peer.inlet.asked().await;
        assert_eq!(late.operation, Operation::Read);
        let cancel = peer.inlet.asked().await;
        assert_eq!(
            (cancel.operation, cancel.offset),
            (Operation::Cancel, late.request)
        );
        peer
    };
    let asked = async {
        given_up(client.read(&node, read(0..8), PATIENT), read_heard).await;
        given_up(client.want(&node, want(0..8), PATIENT), want_heard).await;
        let fine = client.read(&node, read(0..4), PATIENT).await.unwrap();
        assert_eq!(shown(&fine), [(0, &b"fine"[..])]);
        let short = Duration::from_millis(20);
        let late = client.read(&node, read(0..4), short).await;
        assert!(matches!(late, Err(BlockError::Timeout { .. })));
    };
    let (_peer, ()) = tokio::join!(served, asked);
}

#[tokio::test]
async fn an_older_node_is_not_told_that_nobody_waits() {
    let (listener, node) = listen().await;
    let client = client();
    let (told, heard) = tokio::sync::oneshot::channel();
    let served = async {
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        peer.greet(Hello {
            features: body::LEASES | body::RUNS,
            ..Hello::default()
        })
        .await;
        peer.inlet.asked().await;
        told.send(()).unwrap();
        let next = peer.inlet.asked().await;
        assert_eq!(next.operation, Operation::Read);
        peer.part(&next, 0, b"fine", false).await;
        peer
    };
    let asked = async {
        given_up(client.read(&node, read(0..8), PATIENT), heard).await;
        let fine = client.read(&node, read(0..4), PATIENT).await.unwrap();
        assert_eq!(shown(&fine), [(0, &b"fine"[..])]);
    };
    let (_peer, ()) = tokio::join!(served, asked);
}
