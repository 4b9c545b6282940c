//! Intents and effects.

use arustio_types::meta::command::{Owed, Proof};
use arustio_types::meta::effect::{Effect, EffectKind, TreeRename};
use arustio_types::meta::intent::Intent;
use arustio_types::{EffectId, InodeId, IntentId, LogIndex, MountId, SessionId};

use super::ConvertError;
use super::field::{
    MAX_TEXT, bits, content_id, key, optional, path, required, small, text, texts, version,
    write_id,
};
use crate::meta::v1 as wire;

/// Uploads of one intent.
const MAX_UPLOADS: usize = 4096;

impl From<&Owed> for wire::Owed {
    fn from(owed: &Owed) -> Self {
        use wire::owed::Kind;
        let kind = match owed {
            Owed::Intent(id) => Kind::Intent(id.get()),
            Owed::Effect(id) => Kind::Effect(id.get()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::Owed> for Owed {
    type Error = ConvertError;
    fn try_from(owed: wire::Owed) -> Result<Self, ConvertError> {
        use wire::owed::Kind;
        Ok(match required(owed.kind, "owed")? {
            Kind::Intent(id) => Self::Intent(IntentId::new(id)),
            Kind::Effect(id) => Self::Effect(EffectId::new(id)),
        })
    }
}

impl From<&Proof> for wire::Proof {
    fn from(proof: &Proof) -> Self {
        Self {
            path: proof.path.as_str().to_owned(),
            seen: proof.seen.get(),
        }
    }
}

impl TryFrom<wire::Proof> for Proof {
    type Error = ConvertError;
    fn try_from(proof: wire::Proof) -> Result<Self, ConvertError> {
        Ok(Self {
            path: path(&proof.path, "proof.path")?,
            seen: LogIndex::new(proof.seen),
        })
    }
}

impl From<&Intent> for wire::Intent {
    fn from(intent: &Intent) -> Self {
        Self {
            id: intent.id.get(),
            mount: intent.mount.get(),
            path: intent.path.as_str().to_owned(),
            key: intent.key.as_str().to_owned(),
            expected: intent.expected.as_ref().map(Into::into),
            write_id: bits(intent.write_id.get()),
            content: bits(intent.content.get()),
            block_size_log2: intent.block_size_log2.into(),
            upload_ids: intent.upload_ids.clone(),
            holder: intent.holder.get(),
            unanswered_until: intent.unanswered_until,
            published: intent.published,
            begun_at: intent.begun_at.get(),
            begun_time: intent.begun_time,
        }
    }
}

impl TryFrom<wire::Intent> for Intent {
    type Error = ConvertError;
    fn try_from(intent: wire::Intent) -> Result<Self, ConvertError> {
        Ok(Self {
            id: IntentId::new(intent.id),
            mount: MountId::new(intent.mount),
            path: path(&intent.path, "intent.path")?,
            key: key(&intent.key, "intent.key")?,
            expected: optional(intent.expected)?,
            write_id: write_id(intent.write_id, "intent.write_id")?,
            content: content_id(intent.content, "intent.content")?,
            block_size_log2: small(intent.block_size_log2, "intent.block_size")?,
            upload_ids: texts(intent.upload_ids, MAX_UPLOADS, "intent.upload_ids")?,
            holder: SessionId::new(intent.holder),
            unanswered_until: intent.unanswered_until,
            published: intent.published,
            begun_at: LogIndex::new(intent.begun_at),
            begun_time: intent.begun_time,
        })
    }
}

impl From<&Effect> for wire::Effect {
    fn from(effect: &Effect) -> Self {
        Self {
            id: effect.id.get(),
            mount: effect.mount.get(),
            executor: effect.executor.get(),
            unanswered_until: effect.unanswered_until,
            recorded_at: effect.recorded_at.get(),
            recorded_time: effect.recorded_time,
            last_error: effect.last_error.clone(),
            kind: Some((&effect.kind).into()),
        }
    }
}

impl TryFrom<wire::Effect> for Effect {
    type Error = ConvertError;
    fn try_from(effect: wire::Effect) -> Result<Self, ConvertError> {
        let last_error = effect.last_error;
        Ok(Self {
            id: EffectId::new(effect.id),
            mount: MountId::new(effect.mount),
            kind: required(effect.kind, "effect.kind")?.try_into()?,
            executor: SessionId::new(effect.executor),
            unanswered_until: effect.unanswered_until,
            recorded_at: LogIndex::new(effect.recorded_at),
            recorded_time: effect.recorded_time,
            last_error: last_error
                .map(|error| text(error, MAX_TEXT, "effect.last_error"))
                .transpose()?,
        })
    }
}

impl From<&EffectKind> for wire::effect::Kind {
    fn from(kind: &EffectKind) -> Self {
        match kind {
            EffectKind::Delete { key, version } => Self::Delete(wire::EffectDelete {
                key: key.as_str().to_owned(),
                version: Some(version.into()),
            }),
            EffectKind::DeleteTree { prefix, root } => Self::DeleteTree(wire::EffectDeleteTree {
                prefix: prefix.as_str().to_owned(),
                root: root.get(),
            }),
            EffectKind::Rename {
                from,
                version,
                to,
                expected,
                write_id,
                inode,
                old_path,
                new_path,
            } => Self::Rename(wire::EffectRename {
                from: from.as_str().to_owned(),
                version: Some(version.into()),
                to: to.as_str().to_owned(),
                expected: expected.as_ref().map(Into::into),
                write_id: bits(write_id.get()),
                inode: inode.get(),
                old_path: old_path.as_str().to_owned(),
                new_path: new_path.as_str().to_owned(),
            }),
            EffectKind::RenameTree(tree) => Self::RenameTree(wire::EffectRenameTree {
                from: tree.from.as_str().to_owned(),
                to: tree.to.as_str().to_owned(),
                root: tree.root.get(),
                write_id: bits(tree.write_id.get()),
                old_path: tree.old_path.as_str().to_owned(),
                new_path: tree.new_path.as_str().to_owned(),
                after: tree.after.clone(),
                moved: tree.moved,
            }),
            EffectKind::PutMarker { key, dir, write_id } => {
                Self::PutMarker(wire::EffectPutMarker {
                    key: key.as_str().to_owned(),
                    dir: dir.get(),
                    write_id: bits(write_id.get()),
                })
            }
        }
    }
}

impl TryFrom<wire::effect::Kind> for EffectKind {
    type Error = ConvertError;
    fn try_from(kind: wire::effect::Kind) -> Result<Self, ConvertError> {
        use wire::effect::Kind;
        Ok(match kind {
            Kind::Delete(delete) => Self::Delete {
                key: key(&delete.key, "effect.delete.key")?,
                version: version(delete.version, "effect.delete.version")?,
            },
            Kind::DeleteTree(tree) => Self::DeleteTree {
                prefix: key(&tree.prefix, "effect.delete_tree.prefix")?,
                root: InodeId::new(tree.root),
            },
            Kind::Rename(rename) => Self::Rename {
                from: key(&rename.from, "effect.rename.from")?,
                version: version(rename.version, "effect.rename.version")?,
                to: key(&rename.to, "effect.rename.to")?,
                expected: optional(rename.expected)?,
                write_id: write_id(rename.write_id, "effect.rename.write_id")?,
                inode: InodeId::new(rename.inode),
                old_path: path(&rename.old_path, "effect.rename.old_path")?,
                new_path: path(&rename.new_path, "effect.rename.new_path")?,
            },
            Kind::RenameTree(tree) => Self::RenameTree(TreeRename {
                from: key(&tree.from, "effect.rename_tree.from")?,
                to: key(&tree.to, "effect.rename_tree.to")?,
                root: InodeId::new(tree.root),
                write_id: write_id(tree.write_id, "effect.rename_tree.write_id")?,
                old_path: path(&tree.old_path, "effect.rename_tree.old_path")?,
                new_path: path(&tree.new_path, "effect.rename_tree.new_path")?,
                after: tree
                    .after
                    .map(|after| text(after, MAX_TEXT, "effect.rename_tree.after"))
                    .transpose()?,
                moved: tree.moved,
            }),
            Kind::PutMarker(marker) => Self::PutMarker {
                key: key(&marker.key, "effect.put_marker.key")?,
                dir: InodeId::new(marker.dir),
                write_id: write_id(marker.write_id, "effect.put_marker.write_id")?,
            },
        })
    }
}
