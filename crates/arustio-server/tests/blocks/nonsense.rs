//! Bytes that nobody can mean, at every port and in the middle of a connection: whoever sends
//! them is closed, a line is written about it at most, and everybody else is served on.

use arustio_proto::frame::{HEADER, Header, Operation};
use futures::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::daemon::Daemon;
use super::house::{PATIENT, bytes_of, forged, hello, key, whole_write};

/// Beginnings that other protocols have, and some that only look like ours.
fn beginnings() -> Vec<Vec<u8>> {
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // A frame that claims to be longer than any may be, and one for a stream nobody opened.
    let long = [0xff, 0xff, 0xff, 1, 4, 0, 0, 0, 1];
    let data = [0, 0, 4, 0, 0, 0, 0, 0, 99, 1, 2, 3, 4];
    let noise = bytes_of(&key(3, 3), 20_000);
    let (greeting, body) = hello(&Default::default());
    vec![
        noise.clone(),
        vec![0; 10_000],
        b"GET / HTTP/1.1\r\n".repeat(2000),
        [b"GET /", &vec![b'a'; 200_000][..]].concat(),
        b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        [&http2[..], &noise].concat(),
        [&http2[..], &settings, &long, &noise].concat(),
        [&http2[..], &settings, &data].concat(),
        [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise].concat(),
        [&greeting.encode()[..], &body, &noise].concat(),
        [&b"AFRM"[..], &noise].concat(),
    ]
}

/// Sends it and waits until the other side has closed.
async fn shout(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) {
    let shouted = async {
        // It may be closed before it has taken everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut sink = vec![0; 1 << 16];
        while matches!(stream.read(&mut sink).await, Ok(1..)) {}
    };
    let closed = timeout(2 * PATIENT, shouted).await;
    closed.unwrap_or_else(|_| panic!("not closed after {:?}", &bytes[..8]));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_at_any_port_is_closed_and_logged_once_at_most() {
    let daemon = Daemon::start(&[]);
    let mut good = daemon.peer().await;
    let mut sent = 0;
    for beginning in &beginnings() {
        let shouts = ["grpc", "frames", "http"].map(|port| async {
            shout(daemon.connect(port).await, beginning).await;
        });
        let socket = daemon.folder.path().join("data").join("block.sock");
        let neighbour = async {
            shout(UnixStream::connect(&socket).await.unwrap(), beginning).await;
        };
        tokio::join!(join_all(shouts), neighbour);
        sent += 4;
        assert!(good.is_served().await);
    }
    let log = daemon.log();
    assert!(log.lines().count() <= sent, "{log}");
    assert_eq!(daemon.metric("arustio_meta_leading").await, 1.0);
    daemon.peer().await;
    daemon.stop();
}

/// One frame: a header of any operation with any fields and a checksum that fits, and bytes
/// that are or are not what it says.
#[derive(Debug, Clone)]
struct Wild {
    operation: Operation,
    /// Where in the header, and what.
    fields: Vec<(usize, u8)>,
    payload: Vec<u8>,
    /// Whether length and checksum of the payload are right.
    honest: bool,
    /// About a block that is there.
    known: bool,
}

impl Wild {
    fn bytes(&self) -> Vec<u8> {
        let mut header = Header::request(self.operation, 5);
        if self.known {
            header = header.of(&key(1, 0));
        }
        if self.honest {
            header = header.with(&self.payload);
        }
        let mut raw = header.encode();
        // Magic and version stay, so that it is looked at.
        for (at, value) in &self.fields {
            raw[*at] = *value;
        }
        let raw = forged(
            &Header::decode(&header.encode()).unwrap_or(header),
            0,
            &raw[..HEADER - 4],
        );
        [&raw[..], &self.payload].concat()
    }
}

fn wild() -> impl Strategy<Value = Wild> {
    let fields = vec((6..HEADER - 12, any::<u8>()), 0..6);
    let payload = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 0..300)];
    let operation = select(&Operation::ALL[..]);
    (operation, fields, payload, any::<bool>(), any::<bool>()).prop_map(
        |(operation, fields, payload, honest, known)| Wild {
            operation,
            fields,
            payload,
            honest,
            known,
        },
    )
}

#[test]
fn any_frames_on_a_running_connection_harm_nobody_else() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (daemon, good) = runtime.block_on(async {
        let daemon = Daemon::start(&[("ARUSTIO_FRAMES__STALL_TIMEOUT", "200ms")]);
        let mut good = daemon.peer().await;
        good.ask(whole_write(&key(9, 0), 70_000)).await.unwrap();
        (daemon, tokio::sync::Mutex::new(good))
    });
    let memory = daemon.memory();
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    });
    let frames = (vec(wild(), 1..20), any::<bool>());
    let tried = runner.run(&frames, |(frames, local)| {
        let bytes: Vec<u8> = frames.iter().flat_map(Wild::bytes).collect();
        let (greeting, body) = hello(&Default::default());
        let bytes = [&greeting.encode()[..], &body, &bytes].concat();
        runtime.block_on(async {
            let socket = daemon.folder.path().join("data").join("block.sock");
            match local {
                true => shout(UnixStream::connect(socket).await.unwrap(), &bytes).await,
                false => shout(daemon.connect("frames").await, &bytes).await,
            }
            assert!(good.lock().await.is_served().await);
        });
        prop_assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
        Ok(())
    });
    tried.unwrap();
    let more = daemon.memory().saturating_sub(memory);
    assert!(more < 64 << 20, "{more} bytes");
    daemon.stop();
}
