//! Every record reads back, every sample of a released format is still readable, and no
//! bytes make decoding panic.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arustio_types::cluster::DataEndpoints;
use arustio_types::meta::credential::Credential;
use arustio_types::meta::effect::{Effect, EffectKind, TreeRename};
use arustio_types::meta::intent::Intent;
use arustio_types::meta::mount::{MountCapabilities, MountEntry, MountSpec, WriteType};
use arustio_types::meta::setting::{PathConf, SyncInterval};
use arustio_types::meta::status::Persistence;
use arustio_types::{
    BlockSize, ClusterId, ContentId, EffectId, FsPath, Incarnation, InodeId, IntentId, LogIndex,
    MountId, NodeId, ObjectVersion, SessionId, Timestamp, UfsKey, WriteId,
};
use proptest::prelude::*;

use super::*;
use crate::state_machine::{Applied, LogPosition, ReplicatedTime};

fn attributes(mode: u32, owner: &str) -> Attributes {
    Attributes {
        mode,
        owner: owner.to_owned(),
        group: String::new(),
        modified: Timestamp::from_millis(1_700_000_000_123),
    }
}

fn file() -> InodeRecord {
    InodeRecord::File(FileRecord {
        attributes: attributes(0o644, ""),
        size: 1 << 30,
        version: Some(ObjectVersion::new("9b2cf535f27731c974343645a3985328")),
        key: None,
        content: None,
        block_size: None,
        persistence: Persistence::Persisted,
    })
}

fn moved_file() -> InodeRecord {
    let mut version = ObjectVersion::new("e1");
    version.version_id = Some("v7".to_owned());
    InodeRecord::File(FileRecord {
        attributes: attributes(0o600, "ann"),
        size: 7,
        version: Some(version),
        key: Some(UfsKey::new("old/name")),
        content: Some(ContentId::new(0xfeed)),
        block_size: Some(BlockSize::DEFAULT),
        persistence: Persistence::ToBePersisted,
    })
}

fn dir() -> InodeRecord {
    InodeRecord::Dir(DirRecord {
        attributes: attributes(0o755, ""),
        children: 300,
        loaded: Loaded::Complete,
        last_removed_at: LogIndex::new(70_000),
        origin: None,
        marker: None,
        mount: None,
        direct: None,
    })
}

fn counted_dir() -> InodeRecord {
    let InodeRecord::Dir(dir) = dir() else {
        unreachable!("it is a directory");
    };
    let direct = Some(Direct {
        directories: 40,
        bytes: 5 << 40,
    });
    InodeRecord::Dir(DirRecord { direct, ..dir })
}

fn mounted_dir() -> InodeRecord {
    InodeRecord::Dir(DirRecord {
        attributes: attributes(0o700, "ann"),
        children: 0,
        loaded: Loaded::Below("m/".to_owned()),
        last_removed_at: LogIndex::new(1),
        origin: Some(UfsKey::new("from/")),
        marker: Some(Marker {
            version: ObjectVersion::new("m1"),
            key: Some(UfsKey::new("old/")),
        }),
        mount: Some(MountId::new(4)),
        direct: None,
    })
}

fn intent() -> Intent {
    Intent {
        id: IntentId::new(9),
        mount: MountId::new(4),
        path: FsPath::new("/data/a").unwrap(),
        key: UfsKey::new("a"),
        expected: Some(ObjectVersion::new("e0")),
        write_id: WriteId::new(1),
        content: ContentId::new(2),
        block_size_log2: 22,
        upload_ids: vec!["up-1".to_owned()],
        holder: SessionId::new(3),
        unanswered_until: 60_000,
        published: true,
        begun_at: LogIndex::new(5),
        begun_time: 100,
    }
}

fn effect(kind: EffectKind) -> Effect {
    Effect {
        id: EffectId::new(11),
        mount: MountId::new(4),
        kind,
        executor: SessionId::new(3),
        unanswered_until: 0,
        recorded_at: LogIndex::new(12),
        recorded_time: 13,
        last_error: Some("503 Slow Down".to_owned()),
    }
}

fn rename() -> EffectKind {
    EffectKind::Rename {
        from: UfsKey::new("a"),
        version: ObjectVersion::new("e1"),
        to: UfsKey::new("b"),
        expected: None,
        write_id: WriteId::new(77),
        inode: InodeId::new(8),
        old_path: FsPath::new("/data/a").unwrap(),
        new_path: FsPath::new("/data/b").unwrap(),
    }
}

fn mount() -> MountEntry {
    MountEntry {
        id: MountId::new(4),
        generation: 2,
        root: InodeId::new(6),
        spec: MountSpec {
            path: FsPath::new("/data").unwrap(),
            uri: "s3://bucket/prefix".to_owned(),
            options: BTreeMap::from([("endpoint".to_owned(), "http://127.0.0.1:9000".to_owned())]),
            credential: Credential::Provider,
            readonly: true,
            shared: false,
            capabilities: MountCapabilities {
                create_only: true,
                delete_if: true,
                probed: true,
                line: "create-only, delete-if".to_owned(),
                ..MountCapabilities::default()
            },
            bound_to: Some("host-1".to_owned()),
        },
    }
}

/// Compares with the sample of the first released format that can hold it, and writes it where
/// `UPDATE_GOLDEN` asks for that: only for a format that was never released.
fn golden<R: Record + PartialEq + std::fmt::Debug>(name: &str, record: &R) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/records");
    let path = folder.join(format!("{name}.v{}.hex", record.version()));
    let bytes = record.encode();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, format!("{hex}\n")).unwrap();
    }
    let sample = std::fs::read_to_string(&path).unwrap();
    let stored: Vec<u8> = sample
        .trim()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    assert_eq!(&R::decode(&stored).unwrap(), record, "{name}");
    assert_eq!(hex, sample.trim(), "{name} is written in another form");
    for cut in 0..bytes.len() {
        assert!(R::decode(&bytes[..cut]).is_err(), "{name} cut at {cut}");
    }
    let newer = [&[R::VERSION + 1], &bytes[1..]].concat();
    assert_eq!(R::decode(&newer), Err(RecordError::Newer(R::VERSION + 1)));
    let longer = [&bytes[..], &[0]].concat();
    assert!(R::decode(&longer).is_err(), "{name} with a byte too many");
}

#[test]
fn records_of_every_released_format_are_still_read() {
    let name = DentryRecord {
        child: InodeId::new(200),
        kind: arustio_types::meta::FileKind::Directory,
        changed_at: LogIndex::new(70_000),
    };
    golden("dentry", &name);
    golden("file", &file());
    golden("moved-file", &moved_file());
    golden("dir", &dir());
    golden("mounted-dir", &mounted_dir());
    golden("counted-dir", &counted_dir());
    golden("intent", &intent());
    golden("rename", &effect(rename()));
    golden(
        "delete",
        &effect(EffectKind::Delete {
            key: UfsKey::new("a"),
            version: ObjectVersion::new("e1"),
        }),
    );
    golden(
        "delete-tree",
        &effect(EffectKind::DeleteTree {
            prefix: UfsKey::new("d/"),
            root: InodeId::new(8),
        }),
    );
    golden(
        "rename-tree",
        &effect(EffectKind::RenameTree(TreeRename {
            from: UfsKey::new("a/"),
            to: UfsKey::new("b/"),
            root: InodeId::new(8),
            write_id: WriteId::new(77),
            old_path: FsPath::new("/data/a").unwrap(),
            new_path: FsPath::new("/data/b").unwrap(),
            after: Some("c/d".to_owned()),
            moved: 300,
        })),
    );
    golden(
        "put-marker",
        &effect(EffectKind::PutMarker {
            key: UfsKey::new("d/"),
            dir: InodeId::new(8),
            write_id: WriteId::new(5),
        }),
    );
    golden("mount", &mount());
}

#[test]
fn records_beside_the_tree_of_every_released_format_are_still_read() {
    golden(
        "conf",
        &PathConf {
            write_type: Some(WriteType::Through),
            sync_interval: Some(SyncInterval::Never),
            block_size: Some(BlockSize::MIN),
        },
    );
    golden(
        "node",
        &NodeRecord {
            id: NodeId::new(1),
            instance: 99,
            address: "127.0.0.1:7000".to_owned(),
            weight: 1,
            data: DataEndpoints::default(),
            decided: Decided::default(),
        },
    );
    golden(
        "node",
        &NodeRecord {
            id: NodeId::new(1),
            instance: 99,
            address: "127.0.0.1:7000".to_owned(),
            weight: 1,
            data: DataEndpoints {
                frames: Some("127.0.0.1:7001".to_owned()),
                socket: Some("/data/block.sock".to_owned()),
                host: None,
            },
            decided: Decided::default(),
        },
    );
    golden(
        "node",
        &NodeRecord {
            id: NodeId::new(1),
            instance: 99,
            address: "127.0.0.1:7000".to_owned(),
            weight: 1,
            data: DataEndpoints::default(),
            decided: Decided {
                weight: Some(50),
                draining: true,
                removed: true,
            },
        },
    );
    golden(
        "session",
        &SessionRecord {
            nonce: 5,
            ttl: 60_000,
            expires_at: 61_000,
            closed: false,
            first_unacked: 3,
        },
    );
    golden("counters", &Counters::default());
    golden(
        "identity",
        &IdentityRecord {
            cluster: ClusterId::new(1),
            incarnation: Incarnation::new(2),
        },
    );
    golden(
        "applied",
        &Applied {
            position: LogPosition {
                index: LogIndex::new(10),
                term: 2,
            },
            time: ReplicatedTime::from_millis(1_000),
        },
    );
}

#[test]
fn a_usual_file_takes_few_bytes() {
    assert!(file().encode().len() <= 52, "{}", file().encode().len());
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let with_version = [&[1][..], &bytes].concat();
        let _ = InodeRecord::decode(&with_version);
        let _ = DentryRecord::decode(&with_version);
        let _ = Intent::decode(&with_version);
        let _ = Effect::decode(&with_version);
        let _ = MountEntry::decode(&with_version);
        let _ = PathConf::decode(&with_version);
        let _ = SessionRecord::decode(&with_version);
    }

    #[test]
    fn numbers_read_back(value: u64, signed: i64) {
        let mut writer = Writer::default();
        writer.number(value);
        writer.signed(signed);
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.number().unwrap(), value);
        prop_assert_eq!(reader.signed().unwrap(), signed);
    }
}
