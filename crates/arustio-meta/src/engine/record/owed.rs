//! Intents and effects as they are stored.

use arustio_types::meta::effect::{Effect, EffectKind, TreeRename};
use arustio_types::meta::intent::Intent;
use arustio_types::{
    ContentId, EffectId, FsPath, InodeId, IntentId, LogIndex, MountId, SessionId, UfsKey, WriteId,
};

use super::inode::{read_version, write_version};
use super::{Reader, Record, RecordError, Writer};

fn read_key(from: &mut Reader<'_>) -> Result<UfsKey, RecordError> {
    from.text("a key").map(UfsKey::new)
}

pub(super) fn read_path(from: &mut Reader<'_>) -> Result<FsPath, RecordError> {
    FsPath::new(from.text("a path")?).map_err(|_| RecordError::Range("a path"))
}

impl Record for Intent {
    const WHAT: &'static str = "an intent";

    fn write(&self, to: &mut Writer) {
        to.number(self.id.get());
        to.number(self.mount.get());
        to.text(self.path.as_str());
        to.text(self.key.as_str());
        to.option(self.expected.as_ref(), write_version);
        to.bits(self.write_id.get());
        to.bits(self.content.get());
        to.byte(self.block_size_log2);
        to.list(self.upload_ids.iter(), |to, id| to.text(id));
        to.number(self.holder.get());
        to.number(self.unanswered_until);
        to.flag(self.published);
        to.number(self.begun_at.get());
        to.number(self.begun_time);
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        Ok(Self {
            id: IntentId::new(from.number()?),
            mount: MountId::new(from.number()?),
            path: read_path(from)?,
            key: read_key(from)?,
            expected: from.option(read_version)?,
            write_id: WriteId::new(from.bits()?),
            content: ContentId::new(from.bits()?),
            block_size_log2: super::inode::read_block_size(from)?.log2(),
            upload_ids: from.list(|from| from.text("an upload id").map(str::to_owned))?,
            holder: SessionId::new(from.number()?),
            unanswered_until: from.number()?,
            published: from.flag()?,
            begun_at: LogIndex::new(from.number()?),
            begun_time: from.number()?,
        })
    }
}

const DELETE: u8 = 1;
const DELETE_TREE: u8 = 2;
const RENAME: u8 = 3;
const PUT_MARKER: u8 = 4;
const RENAME_TREE: u8 = 5;

impl Record for Effect {
    const WHAT: &'static str = "an effect";

    fn write(&self, to: &mut Writer) {
        to.number(self.id.get());
        to.number(self.mount.get());
        write_kind(&self.kind, to);
        to.number(self.executor.get());
        to.number(self.unanswered_until);
        to.number(self.recorded_at.get());
        to.number(self.recorded_time);
        to.option(self.last_error.as_ref(), |to, error| to.text(error));
    }

    fn read(from: &mut Reader<'_>, _version: u8) -> Result<Self, RecordError> {
        Ok(Self {
            id: EffectId::new(from.number()?),
            mount: MountId::new(from.number()?),
            kind: read_kind(from)?,
            executor: SessionId::new(from.number()?),
            unanswered_until: from.number()?,
            recorded_at: LogIndex::new(from.number()?),
            recorded_time: from.number()?,
            last_error: from.option(|from| from.text("an error").map(str::to_owned))?,
        })
    }
}

fn write_kind(kind: &EffectKind, to: &mut Writer) {
    match kind {
        EffectKind::Delete { key, version } => {
            to.byte(DELETE);
            to.text(key.as_str());
            write_version(to, version);
        }
        EffectKind::DeleteTree { prefix, root } => {
            to.byte(DELETE_TREE);
            to.text(prefix.as_str());
            to.number(root.get());
        }
        EffectKind::Rename {
            from,
            version,
            to: target,
            expected,
            write_id,
            inode,
            old_path,
            new_path,
        } => {
            to.byte(RENAME);
            to.text(from.as_str());
            write_version(to, version);
            to.text(target.as_str());
            to.option(expected.as_ref(), write_version);
            to.bits(write_id.get());
            to.number(inode.get());
            to.text(old_path.as_str());
            to.text(new_path.as_str());
        }
        EffectKind::RenameTree(tree) => {
            to.byte(RENAME_TREE);
            to.text(tree.from.as_str());
            to.text(tree.to.as_str());
            to.number(tree.root.get());
            to.bits(tree.write_id.get());
            to.text(tree.old_path.as_str());
            to.text(tree.new_path.as_str());
            to.option(tree.after.as_ref(), |to, after| to.text(after));
            to.number(tree.moved);
        }
        EffectKind::PutMarker { key, dir, write_id } => {
            to.byte(PUT_MARKER);
            to.text(key.as_str());
            to.number(dir.get());
            to.bits(write_id.get());
        }
    }
}

fn read_kind(from: &mut Reader<'_>) -> Result<EffectKind, RecordError> {
    Ok(match from.byte()? {
        DELETE => EffectKind::Delete {
            key: read_key(from)?,
            version: read_version(from)?,
        },
        DELETE_TREE => EffectKind::DeleteTree {
            prefix: read_key(from)?,
            root: InodeId::new(from.number()?),
        },
        RENAME => EffectKind::Rename {
            from: read_key(from)?,
            version: read_version(from)?,
            to: read_key(from)?,
            expected: from.option(read_version)?,
            write_id: WriteId::new(from.bits()?),
            inode: InodeId::new(from.number()?),
            old_path: read_path(from)?,
            new_path: read_path(from)?,
        },
        RENAME_TREE => EffectKind::RenameTree(TreeRename {
            from: read_key(from)?,
            to: read_key(from)?,
            root: InodeId::new(from.number()?),
            write_id: WriteId::new(from.bits()?),
            old_path: read_path(from)?,
            new_path: read_path(from)?,
            after: from.option(|from| from.text("a name").map(str::to_owned))?,
            moved: from.number()?,
        }),
        PUT_MARKER => EffectKind::PutMarker {
            key: read_key(from)?,
            dir: InodeId::new(from.number()?),
            write_id: WriteId::new(from.bits()?),
        },
        _ => return Err(RecordError::Range("the kind of an effect")),
    })
}
