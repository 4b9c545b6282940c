//! Strategies that generate any command, outcome, query and answer, for property tests
//! here and in other crates (feature `testing`).
//!
//! Durations are whole milliseconds, as they travel.

use std::collections::BTreeMap;
use std::time::Duration;

use arustio_types::cluster::{ClusterView, DataEndpoints, NodeChange, NodeEntry, NodeInfo};
use arustio_types::content::Identity;
use arustio_types::meta::command::{
    AttributeChange, BeginWrite, CommitWrite, CreateMode, Owed, PendingOn, Principal, Proof,
    Refusal, WriteGrant,
};
use arustio_types::meta::credential::{Credential, SecretOptions};
use arustio_types::meta::effect::{Effect, EffectKind, TreeRename};
use arustio_types::meta::entries::{Entries, Shared};
use arustio_types::meta::intent::Intent;
use arustio_types::meta::merge::{KeyRange, Merge, MergeEntry, MergeKind, MergeReport};
use arustio_types::meta::mount::{MountCapabilities, MountEntry, MountSpec, WriteType};
use arustio_types::meta::query::{Absent, DetachedFile, Page, UsagePart};
use arustio_types::meta::setting::{Origin, PathConf, SyncInterval};
use arustio_types::meta::status::{
    Content, Derivation, FileKind, FileStatus, Freshness, Persistence,
};
use arustio_types::meta::sync::{SyncRequest, SyncTarget, SyncTurn};
use arustio_types::meta::{Answer, Command, Consistency, Outcome, Query, RequestContext};
use arustio_types::{
    BlockSize, ClusterId, ContentId, EffectId, ErrorKind, FsPath, Incarnation, InodeId, IntentId,
    LogIndex, MountId, NodeId, ObjectVersion, RequestId, SessionId, Source, Timestamp, UfsKey,
    WriteId,
};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

const TEXT: &str = "[a-zA-Z0-9 äß☃.:-]{0,12}";
const NAME: &str = "[a-zA-Z0-9äß☃-][a-zA-Z0-9 äß☃-]{0,8}";

/// Any valid path, the root included.
pub fn path() -> impl Strategy<Value = FsPath> {
    vec(NAME, 0..4).prop_map(|names| {
        FsPath::new(&format!("/{}", names.join("/"))).expect("the names break no rule")
    })
}

/// Whole milliseconds.
pub fn duration() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|millis| Duration::from_millis(millis.into()))
}

/// Any time.
pub fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

/// Any key, also those that cannot be paths.
pub fn key() -> impl Strategy<Value = UfsKey> {
    "[a-z/. ☃]{0,16}".prop_map(|key| UfsKey::new(&key))
}

/// Any object version.
pub fn version() -> impl Strategy<Value = ObjectVersion> {
    (TEXT, of(TEXT)).prop_map(|(identity, version_id)| ObjectVersion {
        identity: Identity::new(&identity),
        version_id,
    })
}

/// Any block size.
pub fn block_size() -> impl Strategy<Value = BlockSize> {
    (BlockSize::MIN.log2()..=BlockSize::MAX.log2())
        .prop_map(|log2| BlockSize::from_log2(log2).expect("within the bounds"))
}

fn write_id() -> impl Strategy<Value = WriteId> {
    any::<u128>().prop_map(WriteId::new)
}

fn content() -> impl Strategy<Value = ContentId> {
    any::<u128>().prop_map(ContentId::new)
}

fn index() -> impl Strategy<Value = LogIndex> {
    any::<u64>().prop_map(LogIndex::new)
}

fn inode() -> impl Strategy<Value = InodeId> {
    any::<u64>().prop_map(InodeId::new)
}

fn mount_id() -> impl Strategy<Value = MountId> {
    any::<u64>().prop_map(MountId::new)
}

fn intent_id() -> impl Strategy<Value = IntentId> {
    any::<u64>().prop_map(IntentId::new)
}

fn effect_id() -> impl Strategy<Value = EffectId> {
    any::<u64>().prop_map(EffectId::new)
}

fn source() -> impl Strategy<Value = Source> {
    (key(), version()).prop_map(|(key, version)| Source { key, version })
}

fn write_type() -> impl Strategy<Value = WriteType> {
    prop_oneof![
        Just(WriteType::Through),
        Just(WriteType::CacheThrough),
        Just(WriteType::AsyncThrough),
        Just(WriteType::MustCache),
    ]
}

fn owed() -> impl Strategy<Value = Owed> {
    prop_oneof![
        intent_id().prop_map(Owed::Intent),
        effect_id().prop_map(Owed::Effect),
    ]
}

fn proofs() -> impl Strategy<Value = Vec<Proof>> {
    vec(
        (path(), index()).prop_map(|(path, seen)| Proof { path, seen }),
        0..3,
    )
}

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(TEXT, TEXT, 0..4)
}

/// A credential that may be recorded.
pub fn sealed_credential() -> impl Strategy<Value = Credential> {
    prop_oneof![
        Just(Credential::Provider),
        vec(any::<u8>(), 0..40).prop_map(Credential::Sealed),
    ]
}

fn secrets() -> impl Strategy<Value = SecretOptions> {
    texts().prop_map(SecretOptions::new)
}

fn capabilities() -> impl Strategy<Value = MountCapabilities> {
    (any::<[bool; 10]>(), TEXT).prop_map(|(bits, line)| MountCapabilities {
        create_only: bits[0],
        replace_if: bits[1],
        complete_if: bits[2],
        read_if: bits[3],
        copy_source_if: bits[4],
        copy_dest_if: bits[5],
        delete_if: bits[6],
        atomic_rename: bits[7],
        strong_identity: bits[8],
        probed: bits[9],
        line,
    })
}

/// A mount whose credential may be recorded.
pub fn mount_spec() -> impl Strategy<Value = MountSpec> {
    (
        (path(), TEXT, texts(), sealed_credential()),
        (any::<bool>(), any::<bool>(), capabilities(), of(TEXT)),
    )
        .prop_map(|((path, uri, options, credential), rest)| MountSpec {
            path,
            uri,
            options,
            credential,
            readonly: rest.0,
            shared: rest.1,
            capabilities: rest.2,
            bound_to: rest.3,
        })
}

fn mount_entry() -> impl Strategy<Value = MountEntry> {
    (mount_id(), any::<u32>(), inode(), mount_spec()).prop_map(|(id, generation, root, spec)| {
        MountEntry {
            id,
            generation,
            root,
            spec,
        }
    })
}

fn origin() -> impl Strategy<Value = Origin> {
    (TEXT, path()).prop_map(|(key, path)| Origin { key, path })
}

fn path_conf() -> impl Strategy<Value = PathConf> {
    let interval = prop_oneof![
        duration().prop_map(SyncInterval::Every),
        Just(SyncInterval::Never),
    ];
    (of(write_type()), of(interval), of(block_size())).prop_map(
        |(write_type, sync_interval, block_size)| PathConf {
            write_type,
            sync_interval,
            block_size,
        },
    )
}

/// Any status.
pub fn status() -> impl Strategy<Value = FileStatus> {
    let kind = prop_oneof![Just(FileKind::File), Just(FileKind::Directory)];
    let persistence = prop_oneof![
        Just(Persistence::Persisted),
        Just(Persistence::ToBePersisted),
        Just(Persistence::NotPersisted),
    ];
    (
        (
            path(),
            inode(),
            kind,
            any::<u64>(),
            timestamp(),
            any::<u32>(),
        ),
        (TEXT, TEXT, of(content()), block_size(), of(source())),
        (persistence, of(mount_id()), any::<bool>(), any::<bool>()),
        (index(), of(timestamp()), of(freshness())),
    )
        .prop_map(|(first, second, third, fourth)| FileStatus {
            path: first.0,
            inode: first.1,
            kind: first.2,
            size: first.3,
            modified: first.4,
            mode: first.5,
            owner: second.0,
            group: second.1,
            content: second.2.map_or(Content::None, Content::Named),
            block_size: second.3,
            source: second.4,
            persistence: third.0,
            mount: third.1,
            mount_point: third.2,
            loaded: third.3,
            changed_at: fourth.0,
            checked_at: fourth.1,
            freshness: fourth.2,
        })
}

/// Any freshness of whole milliseconds, as they travel.
pub fn freshness() -> impl Strategy<Value = Freshness> {
    let millis = || any::<u32>().prop_map(|millis| Duration::from_millis(millis.into()));
    let interval = prop_oneof![
        Just(SyncInterval::Never),
        millis().prop_map(SyncInterval::Every),
    ];
    (interval, of(millis()), of(inode())).prop_map(|(interval, age, dir)| Freshness {
        interval,
        age,
        dir,
    })
}

/// Any intent.
pub fn intent() -> impl Strategy<Value = Intent> {
    (
        (intent_id(), mount_id(), path(), key(), of(version())),
        (write_id(), content(), any::<u8>(), vec(TEXT, 0..3)),
        (
            any::<u64>(),
            any::<u64>(),
            any::<bool>(),
            index(),
            any::<u64>(),
        ),
    )
        .prop_map(|(first, second, third)| Intent {
            id: first.0,
            mount: first.1,
            path: first.2,
            key: first.3,
            expected: first.4,
            write_id: second.0,
            content: second.1,
            block_size_log2: second.2,
            upload_ids: second.3,
            holder: SessionId::new(third.0),
            unanswered_until: third.1,
            published: third.2,
            begun_at: third.3,
            begun_time: third.4,
        })
}

fn effect_kind() -> impl Strategy<Value = EffectKind> {
    prop_oneof![
        (key(), version()).prop_map(|(key, version)| EffectKind::Delete { key, version }),
        (key(), inode()).prop_map(|(prefix, root)| EffectKind::DeleteTree { prefix, root }),
        (
            (key(), version(), key(), of(version())),
            (write_id(), inode(), path(), path()),
        )
            .prop_map(|(objects, names)| EffectKind::Rename {
                from: objects.0,
                version: objects.1,
                to: objects.2,
                expected: objects.3,
                write_id: names.0,
                inode: names.1,
                old_path: names.2,
                new_path: names.3,
            }),
        (
            (key(), key(), inode(), write_id()),
            (path(), path(), of(TEXT), any::<u64>()),
        )
            .prop_map(|(first, second)| EffectKind::RenameTree(TreeRename {
                from: first.0,
                to: first.1,
                root: first.2,
                write_id: first.3,
                old_path: second.0,
                new_path: second.1,
                after: second.2,
                moved: second.3,
            })),
        (key(), inode(), write_id()).prop_map(|(key, dir, write_id)| EffectKind::PutMarker {
            key,
            dir,
            write_id
        }),
    ]
}

/// Any effect.
pub fn effect() -> impl Strategy<Value = Effect> {
    (
        (effect_id(), mount_id(), effect_kind(), any::<u64>()),
        (any::<u64>(), index(), any::<u64>(), of(TEXT)),
    )
        .prop_map(|(first, second)| Effect {
            id: first.0,
            mount: first.1,
            kind: first.2,
            executor: SessionId::new(first.3),
            unanswered_until: second.0,
            recorded_at: second.1,
            recorded_time: second.2,
            last_error: second.3,
        })
}

fn effects() -> impl Strategy<Value = Vec<Effect>> {
    vec(effect(), 0..3)
}

fn merge() -> impl Strategy<Value = Merge> {
    let file = (any::<u64>(), version(), timestamp(), of(write_id())).prop_map(
        |(size, version, modified, write_id)| MergeKind::File {
            size,
            version,
            modified,
            write_id,
        },
    );
    let directory = of(version()).prop_map(|marker| MergeKind::Directory { marker });
    let entry =
        (NAME, prop_oneof![file, directory]).prop_map(|(name, kind)| MergeEntry { name, kind });
    (
        (path(), inode(), mount_id(), index()),
        (TEXT, of(TEXT), vec(entry, 0..4)),
    )
        .prop_map(|(first, second)| Merge {
            dir: first.0,
            dir_inode: first.1,
            mount: first.2,
            seen: first.3,
            range: KeyRange {
                from: second.0,
                to: second.1,
            },
            entries: second.2,
        })
}

fn merge_report() -> impl Strategy<Value = MergeReport> {
    (any::<[u32; 3]>(), vec(NAME, 0..3), any::<bool>()).prop_map(|(counts, skipped, moved_on)| {
        MergeReport {
            added: counts[0].into(),
            changed: counts[1].into(),
            removed: counts[2].into(),
            skipped,
            moved_on,
        }
    })
}

fn error_kind() -> impl Strategy<Value = ErrorKind> {
    prop::sample::select(ErrorKind::ALL)
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (error_kind(), of(path()), TEXT).prop_map(|(kind, path, message)| Refusal {
        kind,
        path,
        message,
    })
}

/// Any context.
pub fn context() -> impl Strategy<Value = RequestContext> {
    (
        (any::<u128>(), any::<u64>(), any::<u32>(), any::<[u64; 3]>()),
        (duration(), TEXT, vec(TEXT, 0..3), timestamp()),
    )
        .prop_map(|(first, second)| RequestContext {
            cluster: ClusterId::new(first.0),
            incarnation: Incarnation::new(first.1),
            group: first.2,
            id: RequestId {
                session: SessionId::new(first.3[0]),
                sequence: first.3[1],
                first_unacked: first.3[2],
            },
            deadline: second.0,
            principal: Principal {
                user: second.1,
                groups: second.2,
            },
            now: second.3,
        })
}

/// Any command that may be recorded.
pub fn command() -> impl Strategy<Value = Command> {
    prop_oneof![session_command(), name_command(), owed_command()]
}

fn session_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (any::<u128>(), duration()).prop_map(|(nonce, ttl)| Command::OpenSession { nonce, ttl }),
        Just(Command::KeepSession),
        Just(Command::CloseSession),
        mount_spec().prop_map(Command::Mount),
        mount_spec().prop_map(Command::UpdateMount),
        (path(), any::<bool>()).prop_map(|(path, force)| Command::Unmount { path, force }),
        (any::<u128>(), TEXT, any::<u32>(), endpoints()).prop_map(
            |(instance, address, weight, data)| Command::RegisterNode {
                instance,
                address,
                weight,
                data,
            }
        ),
        (any::<u64>(), node_change()).prop_map(|(node, change)| Command::ChangeNode {
            node: NodeId::new(node),
            change,
        }),
    ]
}

fn node_change() -> impl Strategy<Value = NodeChange> {
    prop_oneof![
        any::<u32>().prop_map(NodeChange::Weight),
        any::<bool>().prop_map(NodeChange::Draining),
        Just(NodeChange::Remove),
    ]
}

fn node_info() -> impl Strategy<Value = NodeInfo> {
    (any::<(u64, u32, bool)>(), TEXT, endpoints()).prop_map(
        |((id, weight, draining), address, data)| NodeInfo {
            id: NodeId::new(id),
            address,
            weight,
            draining,
            data,
        },
    )
}

fn node_entry() -> impl Strategy<Value = NodeEntry> {
    (node_info(), any::<u128>(), any::<bool>()).prop_map(|(node, instance, removed)| NodeEntry {
        node,
        instance,
        removed,
    })
}

fn endpoints() -> impl Strategy<Value = DataEndpoints> {
    (of(TEXT), of(TEXT), of(TEXT)).prop_map(|(frames, socket, host)| DataEndpoints {
        frames,
        socket,
        host,
    })
}

fn name_command() -> impl Strategy<Value = Command> {
    let change = (of(any::<u32>()), of(TEXT), of(TEXT), of(timestamp())).prop_map(
        |(mode, owner, group, modified)| AttributeChange {
            mode,
            owner,
            group,
            modified,
        },
    );
    prop_oneof![
        (path(), any::<bool>(), any::<bool>(), write_id(), proofs()).prop_map(
            |(path, parents, exist_ok, write_id, proofs)| Command::Mkdir {
                path,
                parents,
                exist_ok,
                write_id,
                proofs,
            }
        ),
        begin_write().prop_map(Command::BeginWrite),
        (intent_id(), TEXT)
            .prop_map(|(intent, upload_id)| Command::RecordUpload { intent, upload_id }),
        (
            intent_id(),
            any::<u64>(),
            version(),
            timestamp(),
            of(duration())
        )
            .prop_map(|(intent, length, version, modified, unanswered)| {
                Command::CommitWrite(CommitWrite {
                    intent,
                    length,
                    version,
                    modified,
                    unanswered,
                })
            }),
        intent_id().prop_map(|intent| Command::AbortWrite { intent }),
        (path(), any::<bool>(), any::<bool>(), proofs()).prop_map(
            |(path, recursive, arustio_only, proofs)| Command::Delete {
                path,
                recursive,
                arustio_only,
                proofs,
            }
        ),
        (path(), path(), any::<bool>(), write_id(), proofs()).prop_map(
            |(from, to, replace, write_id, proofs)| Command::Rename {
                from,
                to,
                replace,
                write_id,
                proofs,
            }
        ),
        (path(), change).prop_map(|(path, change)| Command::SetAttributes { path, change }),
        (path(), path_conf(), vec(TEXT, 0..3)).prop_map(|(path, set, unset)| Command::SetConf {
            path,
            set,
            unset
        }),
    ]
}

fn begin_write() -> impl Strategy<Value = BeginWrite> {
    let mode = prop_oneof![Just(CreateMode::Exclusive), Just(CreateMode::Overwrite)];
    (
        (path(), mode, any::<bool>(), write_id()),
        (content(), of(write_type()), of(block_size()), proofs()),
    )
        .prop_map(|(first, second)| BeginWrite {
            path: first.0,
            mode: first.1,
            parents: first.2,
            write_id: first.3,
            content: second.0,
            write_type: second.1,
            block_size: second.2,
            proofs: second.3,
        })
}

fn owed_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (owed(), duration()).prop_map(|(owed, at_most)| Command::NoteUnanswered { owed, at_most }),
        merge().prop_map(Command::Merge),
        owed().prop_map(|owed| Command::Claim { owed }),
        (effect_id(), version())
            .prop_map(|(effect, version)| Command::CopySettled { effect, version }),
        (effect_id(), of(version()))
            .prop_map(|(effect, marker)| Command::FinishEffect { effect, marker }),
        (effect_id(), vec(inode(), 0..4))
            .prop_map(|(effect, inodes)| Command::FreeDetached { effect, inodes }),
        effect_id().prop_map(|effect| Command::ExpandRename { effect }),
        effect_id().prop_map(|effect| Command::UndoRename { effect }),
        effect_id().prop_map(|effect| Command::DropRename { effect }),
        (effect_id(), TEXT).prop_map(|(effect, error)| Command::EffectFailed { effect, error }),
    ]
}

/// Any outcome.
pub fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![done_outcome(), owed_outcome(), refused_outcome()]
}

fn done_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Done),
        any::<u64>().prop_map(|id| Outcome::SessionOpened {
            session: SessionId::new(id)
        }),
        (mount_entry(), any::<bool>())
            .prop_map(|(entry, already)| Outcome::Mounted { entry, already }),
        (mount_id(), vec(TEXT, 0..3))
            .prop_map(|(mount, abandoned)| Outcome::Unmounted { mount, abandoned }),
        write_grant().prop_map(Outcome::WriteBegun),
        status().prop_map(Outcome::Committed),
        merge_report().prop_map(Outcome::Merged),
        any::<u64>().prop_map(|id| Outcome::NodeRegistered(NodeId::new(id))),
    ]
}

fn write_grant() -> impl Strategy<Value = WriteGrant> {
    (
        (intent_id(), mount_id(), key(), of(version())),
        (content(), block_size(), write_type()),
    )
        .prop_map(|(first, second)| WriteGrant {
            intent: first.0,
            mount: first.1,
            key: first.2,
            expected: first.3,
            content: second.0,
            block_size: second.1,
            write_type: second.2,
        })
}

fn owed_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        (status(), effects())
            .prop_map(|(status, effects)| Outcome::DirectoryMade { status, effects }),
        (effects(), any::<u64>()).prop_map(|(effects, names)| Outcome::Deleted { effects, names }),
        effects().prop_map(|effects| Outcome::Renamed { effects }),
        intent().prop_map(Outcome::IntentClaimed),
        effect().prop_map(Outcome::EffectClaimed),
        effect().prop_map(Outcome::CopySettled),
    ]
}

fn refused_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        refusal().prop_map(Outcome::Refused),
        (path(), of(NAME)).prop_map(|(dir, name)| Outcome::NeedsSync { dir, name }),
        (TEXT, TEXT, owed(), duration()).prop_map(|(on, what, owed, claimable_in)| {
            Outcome::Pending(PendingOn {
                on,
                what,
                owed,
                claimable_in,
            })
        }),
        Just(Outcome::Superseded),
        Just(Outcome::SessionExpired),
    ]
}

/// Any consistency.
pub fn consistency() -> impl Strategy<Value = Consistency> {
    prop_oneof![
        Just(Consistency::Linearizable),
        index().prop_map(Consistency::AtLeast),
        Just(Consistency::Stale),
    ]
}

/// Any query.
pub fn query() -> impl Strategy<Value = Query> {
    let limit = || any::<u32>().prop_map(|limit| limit as usize);
    prop_oneof![
        path().prop_map(|path| Query::Stat { path }),
        (path(), of(NAME), limit()).prop_map(|(path, after, limit)| Query::List {
            path,
            after,
            limit
        }),
        Just(Query::Mounts),
        mount_id().prop_map(|mount| Query::OpenMount { mount }),
        path().prop_map(|path| Query::Conf { path }),
        (of(owed()), limit()).prop_map(|(after, limit)| Query::Pending { after, limit }),
        (inode(), of(inode()), limit()).prop_map(|(root, after, limit)| Query::Detached {
            root,
            after,
            limit
        }),
        (path(), of(path())).prop_map(|(path, after)| Query::Usage { path, after }),
        Just(Query::ClusterView),
        Just(Query::Nodes),
        Just(Query::Identity),
    ]
}

/// Any answer.
pub fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![name_answer(), table_answer()]
}

/// Any page of a directory. Of its entries some share with it what entries usually share,
/// others do not.
pub fn page() -> impl Strategy<Value = Page> {
    let derivation =
        (any::<u64>(), any::<u32>()).prop_map(|(incarnation, generation)| Derivation {
            incarnation: Incarnation::new(incarnation),
            generation,
        });
    let entry = (status(), NAME, any::<bool>());
    (
        (status(), vec(entry, 0..5), of(NAME), index()),
        (key(), of(derivation)),
    )
        .prop_map(|((dir, entries, next, position), (prefix, derivation))| {
            let usual =
                |(status, name, usual)| usual_entry(&dir, &prefix, derivation, status, name, usual);
            let statuses: Vec<FileStatus> = entries.into_iter().map(usual).collect();
            let shared = Shared::new(&dir, prefix.clone(), derivation);
            Page {
                entries: Entries::of(shared, &statuses).expect("the names break no rule"),
                dir,
                next,
                position,
            }
        })
}

fn usual_entry(
    dir: &FileStatus,
    prefix: &UfsKey,
    derivation: Option<Derivation>,
    mut entry: FileStatus,
    name: String,
    usual: bool,
) -> FileStatus {
    entry.path = dir.path.join(&name).expect("the name breaks no rule");
    if !usual {
        return entry;
    }
    let slash = if entry.is_dir() { "/" } else { "" };
    if let Some(source) = &mut entry.source {
        source.key = UfsKey::new(&format!("{prefix}{name}{slash}"));
    }
    entry.content = derivation.map_or(Content::None, Content::Derived);
    entry.mount = dir.mount;
    entry.block_size = dir.block_size;
    entry.checked_at = dir.checked_at;
    entry
}

fn name_answer() -> impl Strategy<Value = Answer> {
    let absent = (path(), inode(), of(mount_id()), NAME, index()).prop_map(
        |(dir, dir_inode, mount, name, position)| Absent {
            dir,
            dir_inode,
            mount,
            name,
            position,
        },
    );
    prop_oneof![
        status().prop_map(Answer::Status),
        absent.prop_map(Answer::Absent),
        page().prop_map(Answer::Page),
        refusal().prop_map(Answer::Refused),
    ]
}

fn table_answer() -> impl Strategy<Value = Answer> {
    let file = (inode(), of(source())).prop_map(|(inode, source)| DetachedFile { inode, source });
    prop_oneof![
        vec(mount_entry(), 0..3).prop_map(Answer::Mounts),
        (mount_entry(), secrets())
            .prop_map(|(entry, secrets)| Answer::OpenedMount { entry, secrets }),
        (path_conf(), path_conf(), vec(origin(), 0..3)).prop_map(|(own, effective, origins)| {
            Answer::Conf {
                own,
                effective,
                origins,
            }
        }),
        (vec(intent(), 0..3), effects(), any::<u64>(), of(owed())).prop_map(
            |(intents, effects, now, next)| Answer::Pending {
                intents,
                effects,
                now,
                next,
            }
        ),
        (vec(file, 0..3), of(inode())).prop_map(|(files, next)| Answer::Detached { files, next }),
        (any::<[u64; 3]>(), vec(path(), 0..3), of(path()), index()).prop_map(
            |([files, directories, bytes], unloaded, next, position)| Answer::Usage(UsagePart {
                files,
                directories,
                bytes,
                unloaded,
                next,
                position,
            })
        ),
        (any::<u64>(), vec(node_info(), 0..3))
            .prop_map(|(epoch, nodes)| Answer::ClusterView(ClusterView { epoch, nodes })),
        vec(node_entry(), 0..3).prop_map(Answer::Nodes),
        (any::<u128>(), any::<u64>(), index()).prop_map(|(cluster, incarnation, applied)| {
            Answer::Identity {
                cluster: ClusterId::new(cluster),
                incarnation: Incarnation::new(incarnation),
                applied,
            }
        }),
    ]
}

/// Any question about whose turn it is.
pub fn sync_request() -> impl Strategy<Value = SyncRequest> {
    (inode(), of(NAME), of(duration())).prop_map(|(dir, name, max_age)| SyncRequest {
        target: SyncTarget { dir, name },
        max_age,
    })
}

/// Any answer to it.
pub fn sync_turn() -> impl Strategy<Value = SyncTurn> {
    prop_oneof![
        timestamp().prop_map(|checked_at| SyncTurn::Fresh { checked_at }),
        (any::<u64>(), index()).prop_map(|(ticket, seen)| SyncTurn::Yours { ticket, seen }),
        duration().prop_map(|retry_in| SyncTurn::Busy { retry_in }),
    ]
}
