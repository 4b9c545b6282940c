//! Everything that can change the namespace, and what came of it.
//!
//! Commands take paths and are checked and done in one place at one instant. What
//! needs chance or time carries it: the proposer mints content ids and write ids,
//! the leader stamps replicated time. A refusal is an [`Outcome`], not an error:
//! it is recorded for the request and given again when the request is repeated.

use std::time::Duration;

use crate::block::BlockSize;
use crate::cluster::{DataEndpoints, NodeChange};
use crate::content::{ContentId, ObjectVersion, UfsKey, WriteId};
use crate::error::ErrorKind;
use crate::id::{
    ClusterId, EffectId, Incarnation, InodeId, IntentId, LogIndex, MountId, NodeId, RequestId,
    SessionId,
};
use crate::meta::effect::Effect;
use crate::meta::intent::Intent;
use crate::meta::merge::{Merge, MergeReport};
use crate::meta::mount::{MountEntry, MountSpec, WriteType};
use crate::meta::setting::PathConf;
use crate::meta::status::FileStatus;
use crate::path::FsPath;
use crate::time::Timestamp;

/// Proofs that one command may carry.
pub const MAX_PROOFS: usize = 20_000;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Principal {
    /// User name; empty where nobody was authenticated.
    pub user: String,
    /// Groups of the user, the primary one first.
    pub groups: Vec<String>,
}

/// What travels with every command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestContext {
    /// The cluster that the client believes to speak to.
    pub cluster: ClusterId,
    /// Its incarnation; a restored cluster refuses clients of the lost one (N9).
    pub incarnation: Incarnation,
    /// The Raft group; 0, as long as there is one.
    pub group: u32,
    /// Which request of which session; sequence 0 for commands outside a session.
    pub id: RequestId,
    /// How long the client will wait, from when it sent this.
    pub deadline: Duration,
    /// Who asks.
    pub principal: Principal,
    /// Wall clock of the proposer, for modification times only.
    pub now: Timestamp,
}

/// A name whose absence (or a directory whose emptiness) was proven in the UFS by
/// a merge that the sender has just proposed (L3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The path that was looked at.
    pub path: FsPath,
    /// Read before the UFS was asked.
    pub seen: LogIndex,
}

/// How a writer wants to find its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateMode {
    /// There must be no such name.
    Exclusive,
    /// Create it, or replace the version that is there when the intent is recorded.
    Overwrite,
}

/// Something that changes the namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Opens a session; repeated with the same nonce it is the same session.
    OpenSession {
        /// Random, minted by the client.
        nonce: u128,
        /// Time without renewal after which the session is expired.
        ttl: Duration,
    },
    /// Renews the session, and with it the lease of every intent and effect it holds.
    KeepSession,
    /// Ends the session; what it still holds becomes free to be taken over once its
    /// lease would have ended.
    CloseSession,

    /// Mounts a UFS. Same URI and options at the same path again: `Mounted` with
    /// `already` set.
    Mount(MountSpec),
    /// Replaces options and credential of a mount in place.
    UpdateMount(MountSpec),
    /// Forgets a mount and its subtree; never touches the UFS (N8).
    Unmount {
        /// The mount point.
        path: FsPath,
        /// Abandon open intents and pending effects.
        force: bool,
    },

    /// Makes a directory; under a mount it owes the UFS a marker (U2).
    Mkdir {
        /// The directory.
        path: FsPath,
        /// Make missing parents.
        parents: bool,
        /// A directory that exists is success.
        exist_ok: bool,
        /// Identifies our own marker when the write is repeated.
        write_id: WriteId,
        /// What was proven absent.
        proofs: Vec<Proof>,
    },
    /// Records a writer's intent before its first UFS request (W3).
    BeginWrite(BeginWrite),
    /// Records the id of a multipart upload before its first part.
    RecordUpload {
        /// The writer's intent.
        intent: IntentId,
        /// As the UFS named it.
        upload_id: String,
    },
    /// Publishes the file: checks holder and expected version, sets content and
    /// source, clears the intent (W1).
    CommitWrite(CommitWrite),
    /// Clears an intent whose object is proven not to be there, now or later.
    AbortWrite {
        /// The intent.
        intent: IntentId,
    },
    /// Says that a request on the keys of an intent or effect got no answer and may
    /// still be carried out (P5).
    NoteUnanswered {
        /// The intent or effect.
        owed: Owed,
        /// From now, how long it may still arrive.
        at_most: Duration,
    },

    /// Removes a name; owes the UFS the removal of its objects.
    Delete {
        /// What to remove.
        path: FsPath,
        /// Also a directory with entries.
        recursive: bool,
        /// Forget it here and leave the UFS alone.
        arustio_only: bool,
        /// What was proven empty.
        proofs: Vec<Proof>,
    },
    /// Moves a name inside one mount; owes the UFS copies and removals (U4).
    Rename {
        /// From here.
        from: FsPath,
        /// To here.
        to: FsPath,
        /// Replace a file that is there.
        replace: bool,
        /// Seed of the write ids that the copies carry.
        write_id: WriteId,
        /// What was proven absent or loaded.
        proofs: Vec<Proof>,
    },
    /// Changes what is not derived from the UFS.
    SetAttributes {
        /// Of this.
        path: FsPath,
        /// What to change.
        change: AttributeChange,
    },
    /// Changes settings of a path.
    SetConf {
        /// Of this path and everything below.
        path: FsPath,
        /// Values to set.
        set: PathConf,
        /// Keys to return to what they inherit.
        unset: Vec<String>,
    },

    /// Brings what a UFS said about a key range into the namespace (L1, L2).
    Merge(Merge),

    /// Takes over an intent or effect whose holder's lease is over (P4, W3), or
    /// names the holder of a new one.
    Claim {
        /// Which one.
        owed: Owed,
    },
    /// The copy of a rename is verified: it is the source now, and the effect is
    /// from here on the removal of the old object (U4).
    CopySettled {
        /// The rename.
        effect: EffectId,
        /// The copy's version.
        version: ObjectVersion,
    },
    /// The work is done: deleted, or the marker written.
    FinishEffect {
        /// Which.
        effect: EffectId,
        /// Version of a marker that was written or found.
        marker: Option<ObjectVersion>,
    },
    /// Files of a detached tree whose objects are gone.
    FreeDetached {
        /// The removal of the tree.
        effect: EffectId,
        /// Which inodes were finished.
        inodes: Vec<InodeId>,
    },
    /// Gives the next objects of a directory that was moved an effect of their own.
    ExpandRename {
        /// The move of the tree.
        effect: EffectId,
    },
    /// The destination is somebody else's: the old name returns (U4).
    UndoRename {
        /// Which.
        effect: EffectId,
    },
    /// The source is gone without a copy: the name is dropped and reported (U4).
    DropRename {
        /// Which.
        effect: EffectId,
    },
    /// The UFS refused; the effect stays pending and says why.
    EffectFailed {
        /// Which.
        effect: EffectId,
        /// One line, without secrets.
        error: String,
    },

    /// A block node says who it is.
    RegisterNode {
        /// Minted with its data directory.
        instance: u128,
        /// Where its gRPC is reached.
        address: String,
        /// Share of blocks.
        weight: u32,
        /// Faster ways to its bytes.
        data: DataEndpoints,
    },
    /// An operator decides about a block node. It says what is to be, not what to alter,
    /// and so may be repeated.
    ChangeNode {
        /// Which.
        node: NodeId,
        /// What it is to be.
        change: NodeChange,
    },
}

/// An intent or an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owed {
    /// A writer's announcement.
    Intent(IntentId),
    /// Work owed to the UFS.
    Effect(EffectId),
}

/// Opens a name for writing.
#[derive(Debug, Clone, PartialEq)]
pub struct BeginWrite {
    /// The name.
    pub path: FsPath,
    /// What may be there.
    pub mode: CreateMode,
    /// Make missing parents.
    pub parents: bool,
    /// Random per attempt, stands in the object's metadata (W2).
    pub write_id: WriteId,
    /// Minted before the first byte is cached.
    pub content: ContentId,
    /// Overrides the path's setting.
    pub write_type: Option<WriteType>,
    /// Overrides the path's setting.
    pub block_size: Option<BlockSize>,
    /// What was proven absent.
    pub proofs: Vec<Proof>,
}

/// Publishes what was written.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitWrite {
    /// The writer's intent.
    pub intent: IntentId,
    /// Bytes of the file.
    pub length: u64,
    /// What the UFS holds now.
    pub version: ObjectVersion,
    /// Modification time as the UFS tells it.
    pub modified: Timestamp,
    /// An earlier try of this write got no answer and may still be carried out for
    /// so long: the file is published, the intent stays until then (P5).
    pub unanswered: Option<Duration>,
}

/// What a writer was given.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteGrant {
    /// Its intent.
    pub intent: IntentId,
    /// The mount it writes through.
    pub mount: MountId,
    /// The key it writes.
    pub key: UfsKey,
    /// The version it may replace; `None`: create only.
    pub expected: Option<ObjectVersion>,
    /// The content's id.
    pub content: ContentId,
    /// The cut of the content.
    pub block_size: BlockSize,
    /// How to write.
    pub write_type: WriteType,
}

/// A change of attributes; `None` leaves one as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttributeChange {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner's name.
    pub owner: Option<String>,
    /// Group's name.
    pub group: Option<String>,
    /// Modification time.
    pub modified: Option<Timestamp>,
}

/// What came of a command. The same on every replica.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done; nothing to tell.
    Done,
    /// The session is open.
    SessionOpened {
        /// Its id.
        session: SessionId,
    },
    /// The mount stands.
    Mounted {
        /// As it is now.
        entry: MountEntry,
        /// It stood before, with the same URI and options.
        already: bool,
    },
    /// The mount is gone.
    Unmounted {
        /// Which it was, so that its blocks can be forgotten.
        mount: MountId,
        /// What was abandoned, one line each.
        abandoned: Vec<String>,
    },
    /// The directory is there; effects write its markers.
    DirectoryMade {
        /// Its status.
        status: FileStatus,
        /// Owed markers, held by the caller.
        effects: Vec<Effect>,
    },
    /// The writer may start.
    WriteBegun(WriteGrant),
    /// The file is published.
    Committed(FileStatus),
    /// The names are gone; effects remove the objects.
    Deleted {
        /// Owed removals, held by the caller.
        effects: Vec<Effect>,
        /// Names that went.
        names: u64,
    },
    /// The name moved; effects move the objects.
    Renamed {
        /// Owed copies and removals, held by the caller.
        effects: Vec<Effect>,
    },
    /// The merge was applied.
    Merged(MergeReport),
    /// The intent is the caller's now.
    IntentClaimed(Intent),
    /// The effect is the caller's now.
    EffectClaimed(Effect),
    /// The copy is the source; the effect is now this removal.
    CopySettled(Effect),
    /// The node's number.
    NodeRegistered(NodeId),

    /// Refused; nothing changed.
    Refused(Refusal),
    /// The namespace would have to guess: look at the UFS, merge, repeat (L3).
    NeedsSync {
        /// The directory, which exists.
        dir: FsPath,
        /// The name in it, or the whole directory.
        name: Option<String>,
    },
    /// Something is owed on a key of this command: finish or await it, repeat (P2).
    Pending(PendingOn),
    /// Somebody else executes this effect or intent now, or it has ended (P4).
    Superseded,
    /// The session is unknown or expired (N2).
    SessionExpired,
}

/// What a command waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingOn {
    /// The path or key that it lies on.
    pub on: String,
    /// One line for people.
    pub what: String,
    /// Which one.
    pub owed: Owed,
    /// Until its holder's lease ends; zero when it can be claimed now.
    pub claimable_in: Duration,
}

/// Why nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the caller should do.
    pub kind: ErrorKind,
    /// On what.
    pub path: Option<FsPath>,
    /// What stood in the way and what to do, one sentence, without the path in front.
    pub message: String,
}

impl Refusal {
    /// A refusal on a path.
    pub fn on(kind: ErrorKind, path: &FsPath, message: impl Into<String>) -> Self {
        Self {
            kind,
            path: Some(path.clone()),
            message: message.into(),
        }
    }

    /// A refusal that is about no path.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            path: None,
            message: message.into(),
        }
    }
}
