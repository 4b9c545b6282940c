//! Backups: what is written is restored as a new life of the cluster, and nothing else is.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "namespace_world/world.rs"]
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arustio_meta::backup::{self, BackupError, Summary};
use arustio_meta::engine::{EngineKind, Family, KvEngine, KvEngineExt, MemEngine, Scan};
use arustio_meta::inspect;
use arustio_meta::namespace::Namespace;
use arustio_meta::state_machine::{Entry, LogPosition, ReplicatedTime, StateMachine};
use arustio_meta::{ConsensusBuilder, MemberIdentity, MetaConfig, MetadataStore};
use arustio_types::meta::command::Owed;
use arustio_types::meta::credential::Credential;
use arustio_types::meta::{Answer, Command, Consistency, Outcome, Query, RequestContext};
use arustio_types::{
    Classify, ClusterId, ErrorKind, FsPath, Incarnation, IntentId, LogIndex, MountId, NodeId,
    RequestId, SessionId, Timestamp, WriteId,
};
use world::World;

const SCRIPT: [&str; 14] = [
    "c1 mount /data s3://bucket opt=region:eu credential=hushhush",
    "c1 mount /mem mem://b",
    "c1 merge /data a=A1 d/=M1 gone=G1",
    "c1 merge /data/d x=X1 y=Y1",
    "c1 begin /data/n proof=/data/n",
    "c1 commit i1 v=N1",
    "c1 begin /data/open proof=/data/open",
    "c1 mv /data/a /data/b proof=/data/b",
    "c1 rm /data/gone",
    "c1 rm /data/d r",
    "c1 conf /data set=block.size:1MiB",
    "c2 mkdir /plain",
    "node 77 127.0.0.1:7001 1",
    "time +5000",
];

fn lost_world() -> World {
    let mut world = World::default();
    for line in SCRIPT {
        world.run(line);
    }
    world
}

fn written(engine: &dyn KvEngine) -> (Vec<u8>, Summary) {
    let mut bytes = Vec::new();
    let made = Timestamp::from_millis(1_700_000_000_000);
    let summary = backup::write(engine, &mut bytes, made).unwrap();
    (bytes, summary)
}

fn reborn() -> MemberIdentity {
    MemberIdentity {
        cluster: ClusterId::default(),
        incarnation: Incarnation::new(2),
        member: NodeId::new(1),
    }
}

struct Target {
    log: Arc<MemEngine>,
    state: Arc<MemEngine>,
}

impl Target {
    fn empty() -> Self {
        Self {
            log: Arc::new(MemEngine::new(EngineKind::Log)),
            state: Arc::new(MemEngine::new(EngineKind::State)),
        }
    }

    fn restore(&self, mut bytes: &[u8]) -> Result<backup::Restored, BackupError> {
        backup::restore(&mut bytes, &*self.log, &*self.state, reborn())
    }

    fn namespace(&self) -> Namespace {
        let state = Arc::clone(&self.state);
        Namespace::open(state, ClusterId::new(7), Incarnation::new(2)).unwrap()
    }
}

fn stat(namespace: &Namespace, path: &str) -> arustio_types::meta::FileStatus {
    let path = FsPath::new(path).unwrap();
    match namespace.query(Query::Stat { path }).unwrap() {
        Answer::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

/// A client of the restored cluster, straight at the state machine.
struct Direct {
    namespace: Namespace,
    index: u64,
    now: u64,
}

impl Direct {
    fn new(namespace: Namespace) -> Self {
        let applied = namespace.applied();
        Self {
            index: applied.position.index.get(),
            now: applied.time.millis(),
            namespace,
        }
    }

    fn apply(&mut self, session: u64, sequence: u64, command: &Command) -> Outcome {
        self.index += 1;
        let context = RequestContext {
            id: RequestId {
                session: SessionId::new(session),
                sequence,
                first_unacked: sequence,
            },
            ..RequestContext::default()
        };
        let payload = Namespace::encode(&context, command);
        let entry = Entry {
            position: LogPosition {
                index: LogIndex::new(self.index),
                term: 2,
            },
            time: ReplicatedTime::from_millis(self.now),
            payload: &payload,
            members: None,
        };
        let mut outcomes = self.namespace.apply(&[entry]).unwrap();
        outcomes.pop().flatten().unwrap()
    }

    fn open(&mut self) -> u64 {
        let open = Command::OpenSession {
            nonce: 99,
            ttl: Duration::from_secs(86_000),
        };
        match self.apply(0, 0, &open) {
            Outcome::SessionOpened { session } => session.get(),
            other => panic!("{other:?}"),
        }
    }
}

fn mkdir(path: &str) -> Command {
    Command::Mkdir {
        path: FsPath::new(path).unwrap(),
        parents: false,
        exist_ok: false,
        write_id: WriteId::new(1),
        proofs: Vec::new(),
    }
}

#[test]
fn n9_a_restored_cluster_has_the_same_names_and_no_number_twice() {
    let lost = lost_world();
    let (bytes, summary) = written(&*lost.engine);
    assert_eq!(summary.header.cluster, ClusterId::new(7));
    let target = Target::empty();
    let restored = target.restore(&bytes).unwrap();
    assert_eq!(restored.summary, summary);
    assert!(restored.verified.is_sound(), "{:?}", restored.verified);
    let before = lost.namespace.verify().unwrap();
    assert_eq!(restored.verified.inodes, before.inodes);
    assert_eq!(restored.verified.names, before.names);
    assert_eq!(restored.verified.intents, before.intents);
    assert_eq!(restored.verified.effects, before.effects);
    assert_eq!(restored.verified.sessions, 0);

    let namespace = target.namespace();
    // A content that its writer named is the same; one that follows from an object is not
    // taken for anything that the lost future cached.
    let (old, new) = (
        stat(&lost.namespace, "/data/n"),
        stat(&namespace, "/data/n"),
    );
    assert_eq!(old.content_id(), new.content_id());
    assert_eq!(
        namespace.identity(),
        (ClusterId::new(7), Incarnation::new(2))
    );

    let mut direct = Direct::new(namespace);
    // Sessions of the lost future are unknown, and their numbers are not given again.
    assert_eq!(direct.apply(1, 90, &mkdir("/x")), Outcome::SessionExpired);
    let session = direct.open();
    assert!(session > 1 << 32);
    let made = direct.apply(session, 1, &mkdir("/x"));
    assert!(matches!(made, Outcome::DirectoryMade { .. }), "{made:?}");
    assert!(stat(&direct.namespace, "/x").inode.get() > 1 << 32);
    assert!(direct.namespace.verify().unwrap().is_sound());
}

#[test]
fn n9_contents_that_follow_from_objects_are_new_after_a_restore() {
    let mut lost = World::default();
    lost.run("c1 mount /data mem://b");
    lost.run("c1 merge /data a=A1");
    let (bytes, _) = written(&*lost.engine);
    let target = Target::empty();
    target.restore(&bytes).unwrap();
    let (old, new) = (
        stat(&lost.namespace, "/data/a"),
        stat(&target.namespace(), "/data/a"),
    );
    assert_eq!(old.source, new.source);
    assert_ne!(old.content_id(), new.content_id());
}

#[test]
fn p5_what_was_owed_is_taken_over_when_the_lost_clients_are_surely_silent() {
    let lost = lost_world();
    let (bytes, _) = written(&*lost.engine);
    let target = Target::empty();
    target.restore(&bytes).unwrap();
    let mut direct = Direct::new(target.namespace());
    let session = direct.open();
    let claim = Command::Claim {
        owed: Owed::Intent(IntentId::new(2)),
    };
    let waits = direct.apply(session, 1, &claim);
    let Outcome::Pending(pending) = waits else {
        panic!("{waits:?}");
    };
    assert_eq!(pending.claimable_in, Duration::from_secs(60));
    direct.now += 60_000;
    let claimed = direct.apply(session, 2, &claim);
    assert!(matches!(claimed, Outcome::IntentClaimed(_)), "{claimed:?}");
    assert!(direct.namespace.verify().unwrap().is_sound());
}

#[test]
fn c1_a_backup_has_no_credential_and_says_which_mounts_had_one() {
    let lost = lost_world();
    let (bytes, summary) = written(&*lost.engine);
    assert!(!bytes.windows(8).any(|part| part == b"hushhush"));
    assert_eq!(summary.header.sealed, [MountId::new(1)]);
    let target = Target::empty();
    let restored = target.restore(&bytes).unwrap();
    assert_eq!(restored.without_credential, [FsPath::new("/data").unwrap()]);
    let found = target
        .namespace()
        .sealed_credential(MountId::new(1))
        .unwrap();
    assert_eq!(found, Credential::Sealed(Vec::new()));
}

#[tokio::test]
async fn n9_a_restored_member_leads_its_group_of_one_from_the_position_of_the_backup() {
    let lost = lost_world();
    let (bytes, summary) = written(&*lost.engine);
    let target = Target::empty();
    target.restore(&bytes).unwrap();
    let identity = MemberIdentity {
        cluster: ClusterId::new(7),
        ..reborn()
    };
    let config = MetaConfig::default().validate().unwrap();
    let log = Arc::clone(&target.log) as Arc<dyn KvEngine>;
    let store = ConsensusBuilder::new(config, identity, log, target.namespace(), 5)
        .start()
        .unwrap();
    let open = Command::OpenSession {
        nonce: 1,
        ttl: Duration::from_secs(60),
    };
    let context = RequestContext {
        cluster: identity.cluster,
        incarnation: identity.incarnation,
        deadline: Duration::from_secs(20),
        ..RequestContext::default()
    };
    let opened = store.propose(context.clone(), open.clone()).await.unwrap();
    assert!(opened.position.index > summary.header.applied.position.index);
    // A client of the lost life is told so.
    let old = RequestContext {
        incarnation: Incarnation::new(1),
        ..context
    };
    let error = store.propose(old, open).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale);
    let found = store
        .query(Query::Mounts, Consistency::Linearizable.into())
        .await;
    assert!(matches!(found.unwrap(), Answer::Mounts(mounts) if mounts.len() == 2));
    store.close().await.unwrap();
}

/// Nothing that was refused may pass for a state.
fn refused(bytes: &[u8]) -> BackupError {
    let target = Target::empty();
    let error = target.restore(bytes).unwrap_err();
    let identity = target.state.get(Family::Meta, b"identity").unwrap();
    assert_eq!(identity, None);
    let mut again = bytes;
    assert_eq!(
        backup::check(&mut again).unwrap_err().to_string(),
        error.to_string()
    );
    error
}

#[test]
fn a_backup_that_is_cut_anywhere_is_refused() {
    let (bytes, _) = written(&*lost_world().engine);
    for length in 0..bytes.len() {
        let error = refused(&bytes[..length]);
        match length < 8 {
            true => assert!(matches!(error, BackupError::NotABackup)),
            false => assert!(
                matches!(error, BackupError::Cut { .. }),
                "{length}: {error}"
            ),
        }
    }
}

#[test]
fn a_backup_with_any_flipped_bit_is_refused() {
    let (bytes, _) = written(&*lost_world().engine);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let error = refused(&damaged);
        assert_ne!(error.kind(), ErrorKind::Internal, "{at}: {error}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(refused(&longer).to_string().contains("something follows"));
}

#[test]
fn a_backup_of_a_later_release_and_other_files_are_refused_with_advice() {
    let (bytes, _) = written(&*lost_world().engine);
    let mut newer = bytes.clone();
    newer[11] = 2;
    let error = refused(&newer);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("format 2"), "{error}");
    let error = refused(b"{\"not\": \"a backup\"}");
    assert!(
        error.to_string().contains("admin metadata backup"),
        "{error}"
    );
}

#[test]
fn a_backup_is_not_restored_over_anything() {
    let lost = lost_world();
    let (bytes, _) = written(&*lost.engine);
    let target = Target::empty();
    target.restore(&bytes).unwrap();
    let error = target.restore(&bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("empty data folder"), "{error}");
}

/// The file that the first release would have written, byte for byte.
#[test]
fn a_backup_of_the_first_format_is_still_read_and_restored() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/backup");
    let path = folder.join("format1.backup");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, written(&*lost_world().engine).0).unwrap();
    }
    let stored = std::fs::read(&path).unwrap();
    let summary = backup::check(&mut &stored[..]).unwrap();
    assert_eq!(summary.header.cluster, ClusterId::new(7));
    let restored = Target::empty().restore(&stored).unwrap();
    assert!(restored.verified.is_sound(), "{:?}", restored.verified);
    assert!(restored.verified.inodes > 0);
}

#[test]
fn a_dump_shows_every_record_once_and_no_secret() {
    let lost = lost_world();
    let families = EngineKind::State.families();
    let mut out = Vec::new();
    let lines = inspect::dump(&*lost.engine, families, &mut out).unwrap();
    let count = |family: &Family| {
        let pairs = lost.engine.scan_to_vec(*family, Scan::all()).unwrap();
        pairs.len() as u64
    };
    assert_eq!(lines, families.iter().map(count).sum::<u64>());
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("hushhush") && !text.contains("6875736868757368"));
    assert!(!text.contains("unreadable"), "{text}");
    assert!(text.contains(r#""credential":"sealed""#));
    let named = text
        .lines()
        .find(|line| line.contains(r#""name":"b""#))
        .unwrap();
    assert!(named.contains(r#""family":"dentries""#), "{named}");
}

#[test]
fn a_dump_of_a_path_shows_what_is_at_and_below_it_and_nothing_else() {
    let lost = lost_world();
    let dump = |path: &str| {
        let mut out = Vec::new();
        let path = FsPath::new(path).unwrap();
        let lines = inspect::dump_below(&*lost.engine, &path, &mut out)?;
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count() as u64, lines);
        Ok::<_, inspect::DumpError>(text)
    };
    let text = dump("/data").unwrap();
    for shown in [
        r#""name":"data""#,
        r#""name":"b""#,
        r#""family":"mounts""#,
        r#""path":"/data/open""#,
        r#""family":"effects""#,
        r#""settings":{"block.size""#,
    ] {
        assert!(text.contains(shown), "{shown} is missing: {text}");
    }
    for hidden in ["hushhush", "credential", "plain", "mem://b", "sessions"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    let text = dump("/plain").unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(dump("/").unwrap().contains(r#""name":"plain""#));
    let error = dump("/data/never").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_look_that_nobody_waits_for_any_more_ends() {
    let lost = lost_world();
    let watch = inspect::Watch::default();
    let watched = watch.over(&*lost.engine);
    let found = inspect::verify(&watched).unwrap();
    assert!(found.is_sound() && watch.seen() > found.records);
    assert_eq!(found.sum, lost.namespace.state_hash());
    assert_eq!(found.applied, lost.namespace.applied());
    assert_eq!(found.files + found.directories(), found.inodes);
    watch.stop();
    let error = inspect::verify(&watched).unwrap_err();
    assert!(error.to_string().contains("nobody waits"), "{error}");
    let made = Timestamp::from_millis(0);
    assert!(backup::write(&watched, &mut Vec::new(), made).is_err());
}
