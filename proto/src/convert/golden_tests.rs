//! Golden samples: the bytes of every released format, decodable for ever.
//!
//! `testdata/format-1.txt` holds one line per sample: name, tab, hexadecimal bytes. Once
//! released a line is never changed; a new format gets a file of its own, and this test
//! goes on reading the old ones. `ARUSTIO_UPDATE_GOLDEN=1` appends samples that are
//! missing from the newest file.

use std::time::Duration;

use arustio_types::block::BlockSize;
use arustio_types::cluster::{DataEndpoints, NodeChange};
use arustio_types::content::{ObjectVersion, UfsKey, WriteId};
use arustio_types::meta::command::{
    AttributeChange, BeginWrite, CommitWrite, CreateMode, Owed, PendingOn, Principal, Proof,
    Refusal, WriteGrant,
};
use arustio_types::meta::effect::{Effect, EffectKind, TreeRename};
use arustio_types::meta::entries::{Entries, Shared};
use arustio_types::meta::intent::Intent;
use arustio_types::meta::merge::{KeyRange, Merge, MergeEntry, MergeKind, MergeReport};
use arustio_types::meta::mount::{MountCapabilities, MountEntry, MountSpec, WriteType};
use arustio_types::meta::query::Page;
use arustio_types::meta::setting::{PathConf, SyncInterval};
use arustio_types::meta::status::{Content, Derivation, FileKind, FileStatus, Persistence};
use arustio_types::{
    ClusterId, ContentId, EffectId, FsPath, Incarnation, InodeId, IntentId, LogIndex, MountId,
    NodeId, RequestId, SessionId, Source, Timestamp,
};

use super::*;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/format-1.txt");

#[test]
fn every_sample_of_format_1_still_has_the_same_bytes() {
    let mut text = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    let mut missing = Vec::new();
    for (name, bytes) in samples() {
        match text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}\t")))
        {
            Some(golden) => assert_eq!(golden, hex(&bytes), "the bytes of {name} changed"),
            None => missing.push(format!("{name}\t{}\n", hex(&bytes))),
        }
    }
    let update = std::env::var_os("ARUSTIO_UPDATE_GOLDEN").is_some();
    assert!(update || missing.is_empty(), "no sample yet: {missing:?}");
    if !missing.is_empty() {
        text.extend(missing);
        std::fs::write(GOLDEN, text).unwrap();
    }
}

#[test]
fn every_stored_sample_is_read_as_what_it_was() {
    let known = samples();
    for line in std::fs::read_to_string(GOLDEN).unwrap().lines() {
        let (name, golden) = line.split_once('\t').unwrap();
        let bytes = unhex(golden);
        let again = match name.split_once('.').unwrap().0 {
            "command" => encode_command(&decode_command(&bytes).unwrap()).unwrap(),
            "outcome" => encode_outcome(&decode_outcome(&bytes).unwrap()),
            "entry" => {
                let (context, command) = decode_entry(&bytes).unwrap();
                encode_entry(&context, &command).unwrap()
            }
            "packed_page" => {
                let page: wire::PackedPage = decode(&bytes, MAX_OUTCOME, "a page").unwrap();
                let page = Page::try_from(page).unwrap();
                wire::PackedPage::from(&page).encode_to_vec()
            }
            other => panic!("no such kind of sample: {other}"),
        };
        assert_eq!(hex(&again), golden, "{name}");
        assert!(
            known.iter().any(|(known, _)| known == name),
            "{name} was dropped"
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn samples() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for (name, command) in commands() {
        found.push((format!("command.{name}"), encode_command(&command).unwrap()));
    }
    for (name, outcome) in outcomes() {
        found.push((format!("outcome.{name}"), encode_outcome(&outcome)));
    }
    for (name, page) in pages() {
        let packed = wire::PackedPage::from(&page).encode_to_vec();
        found.push((format!("packed_page.{name}"), packed));
    }
    let entry = encode_entry(&context(), &Command::KeepSession).unwrap();
    found.push(("entry.keep_session".to_owned(), entry));
    found
}

fn path(text: &str) -> FsPath {
    FsPath::new(text).unwrap()
}

fn context() -> RequestContext {
    RequestContext {
        cluster: ClusterId::new(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        incarnation: Incarnation::new(3),
        group: 0,
        id: RequestId {
            session: SessionId::new(5),
            sequence: 9,
            first_unacked: 7,
        },
        deadline: Duration::from_secs(30),
        principal: Principal {
            user: "ada".to_owned(),
            groups: vec!["staff".to_owned()],
        },
        now: Timestamp::from_millis(1_700_000_000_123),
    }
}

fn version() -> ObjectVersion {
    ObjectVersion {
        version_id: Some("v7".to_owned()),
        ..ObjectVersion::new("etag-1")
    }
}

fn spec() -> MountSpec {
    MountSpec {
        path: path("/data"),
        uri: "s3://bucket/prefix".to_owned(),
        options: [("endpoint".to_owned(), "http://localhost:9000".to_owned())].into(),
        credential: Credential::Sealed(vec![1, 2, 3]),
        readonly: false,
        shared: true,
        capabilities: MountCapabilities {
            create_only: true,
            strong_identity: true,
            line: "create-only".to_owned(),
            ..MountCapabilities::default()
        },
        bound_to: Some("host".to_owned()),
    }
}

fn proofs() -> Vec<Proof> {
    vec![Proof {
        path: path("/data/a"),
        seen: LogIndex::new(41),
    }]
}

fn merge() -> Merge {
    Merge {
        dir: path("/data"),
        dir_inode: InodeId::new(12),
        mount: MountId::new(2),
        seen: LogIndex::new(40),
        range: KeyRange {
            from: "a".to_owned(),
            to: Some("c".to_owned()),
        },
        entries: vec![
            MergeEntry {
                name: "a.txt".to_owned(),
                kind: MergeKind::File {
                    size: 3,
                    version: version(),
                    modified: Timestamp::from_millis(-1),
                    write_id: Some(WriteId::new(6)),
                },
            },
            MergeEntry {
                name: "b".to_owned(),
                kind: MergeKind::Directory { marker: None },
            },
        ],
    }
}

fn commands() -> Vec<(&'static str, Command)> {
    let mut all = name_commands();
    all.extend(owed_commands());
    all
}

fn name_commands() -> Vec<(&'static str, Command)> {
    vec![
        (
            "open_session",
            Command::OpenSession {
                nonce: 7,
                ttl: Duration::from_secs(60),
            },
        ),
        ("keep_session", Command::KeepSession),
        ("close_session", Command::CloseSession),
        ("mount", Command::Mount(spec())),
        ("update_mount", Command::UpdateMount(spec())),
        (
            "unmount",
            Command::Unmount {
                path: path("/data"),
                force: true,
            },
        ),
        (
            "mkdir",
            Command::Mkdir {
                path: path("/data/d"),
                parents: true,
                exist_ok: false,
                write_id: WriteId::new(8),
                proofs: proofs(),
            },
        ),
        (
            "begin_write",
            Command::BeginWrite(BeginWrite {
                path: path("/data/f"),
                mode: CreateMode::Exclusive,
                parents: false,
                write_id: WriteId::new(9),
                content: ContentId::new(10),
                write_type: Some(WriteType::Through),
                block_size: Some(BlockSize::DEFAULT),
                proofs: proofs(),
            }),
        ),
        (
            "record_upload",
            Command::RecordUpload {
                intent: IntentId::new(4),
                upload_id: "upload".to_owned(),
            },
        ),
        (
            "commit_write",
            Command::CommitWrite(CommitWrite {
                intent: IntentId::new(4),
                length: 1 << 40,
                version: version(),
                modified: Timestamp::from_millis(1_700_000_000_000),
                unanswered: Some(Duration::from_millis(1500)),
            }),
        ),
        (
            "abort_write",
            Command::AbortWrite {
                intent: IntentId::new(4),
            },
        ),
        (
            "delete",
            Command::Delete {
                path: path("/data/d"),
                recursive: true,
                arustio_only: false,
                proofs: proofs(),
            },
        ),
        (
            "rename",
            Command::Rename {
                from: path("/data/a"),
                to: path("/data/b"),
                replace: true,
                write_id: WriteId::new(11),
                proofs: proofs(),
            },
        ),
        (
            "set_attributes",
            Command::SetAttributes {
                path: path("/data/f"),
                change: AttributeChange {
                    mode: Some(0o640),
                    owner: Some("ada".to_owned()),
                    group: None,
                    modified: Some(Timestamp::from_millis(5)),
                },
            },
        ),
        (
            "set_conf",
            Command::SetConf {
                path: path("/data"),
                set: PathConf {
                    write_type: Some(WriteType::MustCache),
                    sync_interval: Some(SyncInterval::Never),
                    block_size: None,
                },
                unset: vec!["block.size".to_owned()],
            },
        ),
    ]
}

fn owed_commands() -> Vec<(&'static str, Command)> {
    let effect = EffectId::new(21);
    vec![
        (
            "note_unanswered",
            Command::NoteUnanswered {
                owed: Owed::Effect(effect),
                at_most: Duration::from_secs(60),
            },
        ),
        ("merge", Command::Merge(merge())),
        (
            "claim",
            Command::Claim {
                owed: Owed::Intent(IntentId::new(4)),
            },
        ),
        (
            "copy_settled",
            Command::CopySettled {
                effect,
                version: version(),
            },
        ),
        (
            "finish_effect",
            Command::FinishEffect {
                effect,
                marker: Some(version()),
            },
        ),
        (
            "free_detached",
            Command::FreeDetached {
                effect,
                inodes: vec![InodeId::new(30), InodeId::new(31)],
            },
        ),
        ("expand_rename", Command::ExpandRename { effect }),
        ("undo_rename", Command::UndoRename { effect }),
        ("drop_rename", Command::DropRename { effect }),
        (
            "effect_failed",
            Command::EffectFailed {
                effect,
                error: "access denied".to_owned(),
            },
        ),
        (
            "register_node",
            Command::RegisterNode {
                instance: 77,
                address: "127.0.0.1:7411".to_owned(),
                weight: 100,
                data: DataEndpoints::default(),
            },
        ),
        (
            "register_node_frames",
            Command::RegisterNode {
                instance: 77,
                address: "127.0.0.1:7411".to_owned(),
                weight: 100,
                data: DataEndpoints {
                    frames: Some("127.0.0.1:7412".to_owned()),
                    socket: Some("/var/lib/arustio/block.sock".to_owned()),
                    host: Some("3f0e".to_owned()),
                },
            },
        ),
        ("node_weight", change(NodeChange::Weight(50))),
        ("node_draining", change(NodeChange::Draining(true))),
        ("node_not_draining", change(NodeChange::Draining(false))),
        ("node_removed", change(NodeChange::Remove)),
    ]
}

fn change(change: NodeChange) -> Command {
    let node = NodeId::new(3);
    Command::ChangeNode { node, change }
}

fn pages() -> Vec<(&'static str, Page)> {
    let dir = FileStatus {
        path: path("/data"),
        kind: FileKind::Directory,
        size: 0,
        content: Content::None,
        source: None,
        loaded: true,
        ..status()
    };
    let derivation = Derivation {
        incarnation: Incarnation::new(3),
        generation: 1,
    };
    let shared = Shared::new(&dir, UfsKey::default(), Some(derivation));
    let page = |statuses: &[FileStatus]| Page {
        dir: dir.clone(),
        entries: Entries::of(shared.clone(), statuses).unwrap(),
        next: Some("g".to_owned()),
        position: LogIndex::new(50),
    };
    let usual = FileStatus {
        content: Content::Derived(derivation),
        ..status()
    };
    let unusual = FileStatus {
        path: path("/data/g"),
        mode: 0o600,
        block_size: BlockSize::MIN,
        persistence: Persistence::ToBePersisted,
        source: Some(Source {
            key: UfsKey::new("elsewhere"),
            version: version(),
        }),
        mount: Some(MountId::new(9)),
        checked_at: None,
        ..status()
    };
    let outside = FileStatus {
        mount: None,
        mount_point: true,
        ..dir.clone()
    };
    let outside = FileStatus {
        path: path("/data/z"),
        ..outside
    };
    let lost = FileStatus {
        path: path("/data/l"),
        persistence: Persistence::NotPersisted,
        source: None,
        ..status()
    };
    vec![
        ("empty", page(&[])),
        ("usual", page(std::slice::from_ref(&usual))),
        ("mixed", page(&[usual, unusual, lost, outside])),
    ]
}

fn status() -> FileStatus {
    FileStatus {
        path: path("/data/f"),
        inode: InodeId::new(30),
        kind: FileKind::File,
        size: 3,
        modified: Timestamp::from_millis(1_700_000_000_000),
        mode: 0o644,
        owner: "ada".to_owned(),
        group: "staff".to_owned(),
        content: Content::Named(ContentId::new(10)),
        block_size: BlockSize::DEFAULT,
        source: Some(Source {
            key: UfsKey::new("f"),
            version: version(),
        }),
        persistence: Persistence::Persisted,
        mount: Some(MountId::new(2)),
        mount_point: false,
        loaded: false,
        changed_at: LogIndex::new(44),
        checked_at: Some(Timestamp::from_millis(1_700_000_000_001)),
        freshness: None,
    }
}

fn effect(kind: EffectKind) -> Effect {
    Effect {
        id: EffectId::new(21),
        mount: MountId::new(2),
        kind,
        executor: SessionId::new(5),
        unanswered_until: 99,
        recorded_at: LogIndex::new(43),
        recorded_time: 90,
        last_error: Some("access denied".to_owned()),
    }
}

fn rename_effect() -> Effect {
    effect(EffectKind::Rename {
        from: UfsKey::new("a"),
        version: version(),
        to: UfsKey::new("b"),
        expected: None,
        write_id: WriteId::new(11),
        inode: InodeId::new(30),
        old_path: path("/data/a"),
        new_path: path("/data/b"),
    })
}

fn delete_effect() -> Effect {
    effect(EffectKind::Delete {
        key: UfsKey::new("a"),
        version: version(),
    })
}

fn outcomes() -> Vec<(&'static str, Outcome)> {
    let mut all = done_outcomes();
    all.extend(other_outcomes());
    all
}

fn done_outcomes() -> Vec<(&'static str, Outcome)> {
    let entry = MountEntry {
        id: MountId::new(2),
        generation: 1,
        root: InodeId::new(12),
        spec: spec(),
    };
    vec![
        ("done", Outcome::Done),
        (
            "session_opened",
            Outcome::SessionOpened {
                session: SessionId::new(5),
            },
        ),
        (
            "mounted",
            Outcome::Mounted {
                entry,
                already: true,
            },
        ),
        (
            "unmounted",
            Outcome::Unmounted {
                mount: MountId::new(2),
                abandoned: vec!["one".to_owned()],
            },
        ),
        (
            "directory_made",
            Outcome::DirectoryMade {
                status: status(),
                effects: vec![effect(EffectKind::PutMarker {
                    key: UfsKey::new("d/"),
                    dir: InodeId::new(31),
                    write_id: WriteId::new(8),
                })],
            },
        ),
        (
            "write_begun",
            Outcome::WriteBegun(WriteGrant {
                intent: IntentId::new(4),
                mount: MountId::new(2),
                key: UfsKey::new("f"),
                expected: Some(version()),
                content: ContentId::new(10),
                block_size: BlockSize::DEFAULT,
                write_type: WriteType::CacheThrough,
            }),
        ),
        ("committed", Outcome::Committed(status())),
        (
            "deleted",
            Outcome::Deleted {
                effects: vec![
                    delete_effect(),
                    effect(EffectKind::DeleteTree {
                        prefix: UfsKey::new("d/"),
                        root: InodeId::new(31),
                    }),
                ],
                names: 12,
            },
        ),
        (
            "renamed_tree",
            Outcome::Renamed {
                effects: vec![effect(EffectKind::RenameTree(TreeRename {
                    from: UfsKey::new("a/"),
                    to: UfsKey::new("b/"),
                    root: InodeId::new(31),
                    write_id: WriteId::new(11),
                    old_path: path("/data/a"),
                    new_path: path("/data/b"),
                    after: Some("c/d".to_owned()),
                    moved: 300,
                }))],
            },
        ),
        (
            "renamed",
            Outcome::Renamed {
                effects: vec![rename_effect()],
            },
        ),
        (
            "merged",
            Outcome::Merged(MergeReport {
                added: 1,
                changed: 2,
                removed: 3,
                skipped: vec!["x".to_owned()],
                moved_on: false,
            }),
        ),
        ("node_registered", Outcome::NodeRegistered(NodeId::new(6))),
    ]
}

fn other_outcomes() -> Vec<(&'static str, Outcome)> {
    let intent = Intent {
        id: IntentId::new(4),
        mount: MountId::new(2),
        path: path("/data/f"),
        key: UfsKey::new("f"),
        expected: Some(version()),
        write_id: WriteId::new(9),
        content: ContentId::new(10),
        block_size_log2: 22,
        upload_ids: vec!["upload".to_owned()],
        holder: SessionId::new(5),
        unanswered_until: 100,
        published: true,
        begun_at: LogIndex::new(42),
        begun_time: 80,
    };
    vec![
        ("intent_claimed", Outcome::IntentClaimed(intent)),
        ("effect_claimed", Outcome::EffectClaimed(rename_effect())),
        ("copy_settled", Outcome::CopySettled(delete_effect())),
        (
            "refused",
            Outcome::Refused(Refusal::on(
                ErrorKind::NotEmpty,
                &path("/data/d"),
                "the directory has entries",
            )),
        ),
        (
            "needs_sync",
            Outcome::NeedsSync {
                dir: path("/data"),
                name: Some("f".to_owned()),
            },
        ),
        (
            "pending",
            Outcome::Pending(PendingOn {
                on: "/data/f".to_owned(),
                what: "somebody writes it".to_owned(),
                owed: Owed::Intent(IntentId::new(4)),
                claimable_in: Duration::from_millis(2500),
            }),
        ),
        ("superseded", Outcome::Superseded),
        ("session_expired", Outcome::SessionExpired),
    ]
}
