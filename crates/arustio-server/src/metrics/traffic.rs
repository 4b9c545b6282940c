//! What passes between a block node and its clients, by way.
//!
//! Bytes are those of payloads: headers and what TLS or HTTP adds are not counted. A block
//! whose descriptor is passed counts whole when it is passed, since nothing tells what its
//! client reads of it; so does one that a client hands in. Counters of a way are looked up once for each connection, so that an
//! answer costs an addition.

use std::fmt;
use std::sync::Arc;

use arustio_proto::frame::{Flags, Header, Operation, Status};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How bytes of blocks travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// In frames over TCP.
    Tcp,
    /// In frames over the UNIX socket.
    Unix,
    /// Over gRPC.
    Grpc,
}

impl Way {
    const ALL: [Self; 3] = [Self::Tcp, Self::Unix, Self::Grpc];

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Grpc => "grpc",
        }
    }
}

/// Blocks that are read, or brought, by their descriptors.
const PASSED: &str = "passed";

/// What frames are answered with, as labels.
const ANSWERS: [&str; 9] = [
    "ok",
    "miss",
    "you_fill",
    "busy",
    "rejected",
    "stale",
    "already_present",
    "unsupported",
    "failed",
];

const fn position(status: Status) -> usize {
    match status {
        Status::Ok => 0,
        Status::Miss => 1,
        Status::YouFill => 2,
        Status::Busy => 3,
        Status::Rejected => 4,
        Status::Stale => 5,
        Status::AlreadyPresent => 6,
        Status::Unsupported | Status::UnknownVersion | Status::UnknownOperation => 7,
        Status::Failed(_) => 8,
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BytesLabels {
    wire: &'static str,
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    wire: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WireLabel {
    wire: &'static str,
}

/// The counters of all ways.
#[derive(Clone, Default)]
pub(super) struct BlockTraffic {
    bytes: Family<BytesLabels, Counter>,
    answers: Family<AnswerLabels, Counter>,
    connections: Family<WireLabel, Gauge>,
}

impl BlockTraffic {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let traffic = Self::default();
        registry.register(
            "arustio_server_block_bytes",
            "Bytes of blocks by way and direction; passed are those of blocks lent or brought by descriptor",
            traffic.bytes.clone(),
        );
        registry.register(
            "arustio_server_block_answers",
            "Answers in frames by way and status",
            traffic.answers.clone(),
        );
        registry.register(
            "arustio_server_block_connections",
            "Connections of frames that are open",
            traffic.connections.clone(),
        );
        // All of them are there from the start, so that none appears out of nowhere.
        for way in Way::ALL {
            traffic.of(way);
        }
        traffic
    }

    fn count(&self, wire: &'static str, direction: &'static str) -> Counter {
        let labels = BytesLabels { wire, direction };
        self.bytes.get_or_create(&labels).clone()
    }

    pub(super) fn of(&self, way: Way) -> Traffic {
        let wire = way.name();
        let frames = way != Way::Grpc;
        let answer = |status| {
            let labels = AnswerLabels { wire, status };
            self.answers.get_or_create(&labels).clone()
        };
        let open = || self.connections.get_or_create(&WireLabel { wire }).clone();
        Traffic(Arc::new(Counted {
            taken: self.count(wire, "in"),
            given: self.count(wire, "out"),
            passed: self.count(PASSED, "out"),
            handed_in: self.count(PASSED, "in"),
            answers: frames.then(|| ANSWERS.map(answer)),
            open: frames.then(open),
        }))
    }
}

struct Counted {
    taken: Counter,
    given: Counter,
    passed: Counter,
    handed_in: Counter,
    answers: Option<[Counter; 9]>,
    open: Option<Gauge>,
}

/// The counters of one way. Clones share them.
#[derive(Clone)]
pub(crate) struct Traffic(Arc<Counted>);

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic").finish_non_exhaustive()
    }
}

impl Traffic {
    /// Bytes of a block came.
    pub(crate) fn taken(&self, bytes: u64) {
        self.0.taken.inc_by(bytes);
    }

    /// Bytes of a block go.
    pub(crate) fn given(&self, bytes: u64) {
        self.0.given.inc_by(bytes);
    }

    /// Bytes of a block come in a file.
    pub(crate) fn handed_in(&self, bytes: u64) {
        self.0.handed_in.inc_by(bytes);
    }

    /// A frame is sent.
    pub(crate) fn answered(&self, header: &Header) {
        match header.operation {
            Operation::Read if header.status == Status::Ok => {
                self.given(header.payload_length.into());
            }
            Operation::Pass if header.status == Status::Ok => {
                self.0.passed.inc_by(header.length);
            }
            _ => {}
        }
        // The last frame of an answer says what came of it.
        if let Some(answers) = &self.0.answers
            && !header.flags.has(Flags::MORE)
        {
            answers[position(header.status)].inc();
        }
    }

    /// A connection counts as open until this is dropped.
    pub(crate) fn opened(&self) -> Opened {
        if let Some(open) = &self.0.open {
            open.inc();
        }
        Opened(self.clone())
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Opened(Traffic);

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(open) = &self.0.0.open {
            open.dec();
        }
    }
}
