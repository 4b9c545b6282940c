//! What the rules cost: slices of committed commands as they are applied, and questions,
//! over each engine and before any consensus or network.
#![expect(missing_docs, reason = "criterion's macros make undocumented items")]

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arustio_meta::engine::{EngineKind, KvEngine, MemEngine};
#[cfg(feature = "rocksdb")]
use arustio_meta::engine::{RocksConfig, RocksEngine};
use arustio_meta::namespace::Namespace;
use arustio_meta::state_machine::{Entry, LogPosition, ReplicatedTime, StateMachine as _};
use arustio_types::meta::{Command, Outcome, Query, RequestContext};
use arustio_types::{ClusterId, FsPath, Incarnation, LogIndex, RequestId, SessionId, WriteId};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// Commands in one slice: a lone writer, some, a busy round.
const SLICES: [u64; 3] = [1, 16, 256];
/// Entries of the directory that is looked at.
const ENTRIES: u64 = 10_000;
/// Entries of a page.
const PAGES: [usize; 2] = [100, 1_000];

/// A namespace, and the one session that changes it.
struct World {
    namespace: Namespace,
    last: u64,
    session: SessionId,
    sequence: u64,
    made: u64,
}

fn path(text: &str) -> FsPath {
    FsPath::new(text).expect("it is a path")
}

fn mkdir(text: &str) -> Command {
    Command::Mkdir {
        path: path(text),
        parents: false,
        exist_ok: false,
        write_id: WriteId::new(1),
        proofs: Vec::new(),
    }
}

impl World {
    /// One directory to write into, and one that has entries already.
    fn new(engine: Arc<dyn KvEngine>) -> Self {
        let opened = Namespace::open(engine, ClusterId::new(1), Incarnation::new(1));
        let mut world = Self {
            namespace: opened.expect("an empty namespace opens"),
            last: 0,
            session: SessionId::default(),
            sequence: 0,
            made: 0,
        };
        let open = Command::OpenSession {
            nonce: 1,
            ttl: Duration::from_secs(3_600),
        };
        let payload = Namespace::encode(&RequestContext::default(), &open);
        let opened = world.apply(&[payload]).into_iter().flatten();
        let session = |outcome| match outcome {
            Outcome::SessionOpened { session } => Some(session),
            _ => None,
        };
        let mut sessions = opened.filter_map(session);
        world.session = sessions.next().expect("a session is opened");
        world.fill();
        world
    }

    fn fill(&mut self) {
        let mut commands = vec![mkdir("/new"), mkdir("/full"), mkdir("/full/moved")];
        let entries = (1..ENTRIES).map(|number| mkdir(&format!("/full/entry-{number:06}")));
        commands.extend(entries);
        let payloads: Vec<_> = commands.iter().map(|one| self.encode(one)).collect();
        for some in payloads.chunks(256) {
            self.apply(some);
        }
    }

    fn encode(&mut self, command: &Command) -> Vec<u8> {
        self.sequence += 1;
        let id = RequestId {
            session: self.session,
            sequence: self.sequence,
            first_unacked: self.sequence,
        };
        let context = RequestContext {
            id,
            ..RequestContext::default()
        };
        Namespace::encode(&context, command)
    }

    fn creations(&mut self, count: u64) -> Vec<Vec<u8>> {
        let numbers = self.made..self.made + count;
        self.made += count;
        let create = |number| self.encode(&mkdir(&format!("/new/entry-{number:012}")));
        numbers.map(create).collect()
    }

    /// There, and back the next time.
    fn rename(&mut self) -> Vec<Vec<u8>> {
        let (there, back) = (path("/full/moved"), path("/new/moved"));
        self.made += 1;
        let (from, to) = match self.made % 2 {
            1 => (there, back),
            _ => (back, there),
        };
        let rename = Command::Rename {
            from,
            to,
            replace: false,
            write_id: WriteId::new(1),
            proofs: Vec::new(),
        };
        vec![self.encode(&rename)]
    }

    /// Applies a slice; everything in it has to succeed.
    fn apply(&mut self, payloads: &[Vec<u8>]) -> Vec<Option<Outcome>> {
        let entry = |(index, payload)| Entry {
            position: LogPosition {
                index: LogIndex::new(index),
                term: 1,
            },
            time: ReplicatedTime::from_millis(1),
            payload,
            members: None,
        };
        let payloads = payloads.iter().map(Vec::as_slice);
        let entries: Vec<_> = (self.last + 1..).zip(payloads).map(entry).collect();
        let outcomes = self.namespace.apply(&entries).expect("entries apply");
        self.last += entries.len() as u64;
        let refused = |outcome: &&Option<Outcome>| {
            matches!(outcome, Some(Outcome::Refused(_) | Outcome::SessionExpired))
        };
        let refused = outcomes.iter().find(refused);
        assert!(refused.is_none(), "{refused:?}");
        outcomes
    }
}

fn changes(c: &mut Criterion, name: &str, world: &mut World) {
    let mut group = c.benchmark_group(format!("namespace/{name}"));
    let world = RefCell::new(world);
    for slice in SLICES {
        group.throughput(Throughput::Elements(slice));
        group.bench_function(format!("create {slice}"), |b| {
            let setup = || world.borrow_mut().creations(slice);
            let apply = |payloads: Vec<_>| world.borrow_mut().apply(&payloads);
            b.iter_batched(setup, apply, BatchSize::SmallInput);
        });
    }
    // An even number has been made, so that the first move is one there.
    world.borrow_mut().made &= !1;
    group.throughput(Throughput::Elements(1));
    group.bench_function("rename 1", |b| {
        let setup = || world.borrow_mut().rename();
        let apply = |payloads: Vec<_>| world.borrow_mut().apply(&payloads);
        b.iter_batched(setup, apply, BatchSize::SmallInput);
    });
    group.finish();
}

fn questions(c: &mut Criterion, name: &str, world: &World) {
    let mut group = c.benchmark_group(format!("namespace/{name}"));
    let ask = |query: Query| world.namespace.query(query).expect("it answers");
    let stat = Query::Stat {
        path: path("/full/entry-004711"),
    };
    group.bench_function("stat", |b| b.iter(|| ask(black_box(stat.clone()))));
    for limit in PAGES {
        let list = Query::List {
            path: path("/full"),
            after: Some("entry-004711".to_owned()),
            limit,
        };
        group.throughput(Throughput::Elements(limit as u64));
        group.bench_function(format!("list page of {limit}"), |b| {
            b.iter(|| ask(black_box(list.clone())));
        });
    }
    group.finish();
}

fn all(c: &mut Criterion, name: &str, engine: Arc<dyn KvEngine>) {
    let mut world = World::new(engine);
    questions(c, name, &world);
    changes(c, name, &mut world);
}

fn namespace(c: &mut Criterion) {
    all(c, "memory", Arc::new(MemEngine::new(EngineKind::State)));
    #[cfg(feature = "rocksdb")]
    {
        let folder = tempfile::tempdir().expect("a folder for a benchmark");
        let config = RocksConfig::default_for(EngineKind::State);
        let path = folder.path().join("state");
        let engine = RocksEngine::open(EngineKind::State, &path, config);
        all(c, "rocksdb", Arc::new(engine.expect("a new engine opens")));
    }
}

criterion_group!(benches, namespace);
criterion_main!(benches);
