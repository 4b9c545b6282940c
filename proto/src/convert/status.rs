//! Names, versions, sources, refusals.

use std::time::Duration;

use arustio_types::content::{Identity, MAX_IDENTITY};
use arustio_types::meta::command::Refusal;
use arustio_types::meta::status::{Content, FileKind, FileStatus, Freshness, Persistence};
use arustio_types::{ContentId, InodeId, LogIndex, MountId, ObjectVersion, Source};

use super::ConvertError;
use super::field::{
    MAX_TEXT, bits, block_size, bounded, error_kind, key, optional, path, raw_bits, required, text,
    timestamp, version,
};
use crate::meta::v1 as wire;

impl From<&ObjectVersion> for wire::ObjectVersion {
    fn from(version: &ObjectVersion) -> Self {
        Self {
            identity: version.identity.as_str().to_owned(),
            version_id: version.version_id.clone(),
        }
    }
}

impl TryFrom<wire::ObjectVersion> for ObjectVersion {
    type Error = ConvertError;
    fn try_from(version: wire::ObjectVersion) -> Result<Self, ConvertError> {
        bounded(version.identity.len(), MAX_IDENTITY, "version.identity")?;
        let version_id = version.version_id;
        Ok(Self {
            identity: Identity::new(&version.identity),
            version_id: version_id
                .map(|id| text(id, MAX_IDENTITY, "version.version_id"))
                .transpose()?,
        })
    }
}

impl From<&Source> for wire::Source {
    fn from(source: &Source) -> Self {
        Self {
            key: source.key.as_str().to_owned(),
            version: Some((&source.version).into()),
        }
    }
}

impl TryFrom<wire::Source> for Source {
    type Error = ConvertError;
    fn try_from(source: wire::Source) -> Result<Self, ConvertError> {
        Ok(Self {
            key: key(&source.key, "source.key")?,
            version: version(source.version, "source.version")?,
        })
    }
}

impl From<&FileStatus> for wire::FileStatus {
    fn from(status: &FileStatus) -> Self {
        Self {
            path: status.path.as_str().to_owned(),
            inode: status.inode.get(),
            kind: kind_code(status.kind),
            size: status.size,
            modified: status.modified.millis(),
            mode: status.mode,
            owner: status.owner.clone(),
            group: status.group.clone(),
            content: status.content_id().and_then(|content| bits(content.get())),
            block_size_log2: status.block_size.log2().into(),
            source: status.source.as_ref().map(Into::into),
            persistence: persistence_code(status.persistence),
            mount: status.mount.map(MountId::get),
            mount_point: status.mount_point,
            loaded: status.loaded,
            changed_at: status.changed_at.get(),
            checked_at: status.checked_at.map(|at| at.millis()),
            freshness: status.freshness.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::FileStatus> for FileStatus {
    type Error = ConvertError;
    fn try_from(status: wire::FileStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            path: path(&status.path, "status.path")?,
            inode: InodeId::new(status.inode),
            kind: kind(status.kind)?,
            size: status.size,
            modified: timestamp(status.modified),
            mode: status.mode,
            owner: text(status.owner, MAX_TEXT, "status.owner")?,
            group: text(status.group, MAX_TEXT, "status.group")?,
            content: match status.content {
                Some(bits) => Content::Named(ContentId::new(raw_bits(bits))),
                None => Content::None,
            },
            block_size: block_size(status.block_size_log2, "status.block_size")?,
            source: optional(status.source)?,
            persistence: persistence(status.persistence)?,
            mount: status.mount.map(MountId::new),
            mount_point: status.mount_point,
            loaded: status.loaded,
            changed_at: LogIndex::new(status.changed_at),
            checked_at: status.checked_at.map(timestamp),
            freshness: optional(status.freshness)?,
        })
    }
}

impl From<&Freshness> for wire::Freshness {
    fn from(freshness: &Freshness) -> Self {
        // Rounded up: knowledge is never taken for newer than it is.
        let whole = |age: Duration| age.as_nanos().div_ceil(1_000_000);
        Self {
            interval: Some((&freshness.interval).into()),
            age: freshness
                .age
                .map(|age| u64::try_from(whole(age)).unwrap_or(u64::MAX)),
            dir: freshness.dir.map(InodeId::get),
        }
    }
}

impl TryFrom<wire::Freshness> for Freshness {
    type Error = ConvertError;
    fn try_from(freshness: wire::Freshness) -> Result<Self, ConvertError> {
        Ok(Self {
            interval: required(freshness.interval, "freshness.interval")?.try_into()?,
            age: freshness.age.map(Duration::from_millis),
            dir: freshness.dir.map(InodeId::new),
        })
    }
}

impl From<&Refusal> for wire::Refusal {
    fn from(refusal: &Refusal) -> Self {
        Self {
            kind: refusal.kind.code(),
            path: refusal.path.as_ref().map(|path| path.as_str().to_owned()),
            message: refusal.message.clone(),
        }
    }
}

impl TryFrom<wire::Refusal> for Refusal {
    type Error = ConvertError;
    fn try_from(refusal: wire::Refusal) -> Result<Self, ConvertError> {
        let on = refusal.path.as_deref();
        Ok(Self {
            kind: error_kind(refusal.kind, "refusal.kind")?,
            path: on.map(|on| path(on, "refusal.path")).transpose()?,
            message: text(refusal.message, MAX_TEXT, "refusal.message")?,
        })
    }
}

fn kind_code(kind: FileKind) -> i32 {
    let code = match kind {
        FileKind::File => wire::FileKind::File,
        FileKind::Directory => wire::FileKind::Directory,
    };
    code.into()
}

fn kind(code: i32) -> Result<FileKind, ConvertError> {
    match wire::FileKind::try_from(code) {
        Ok(wire::FileKind::File) => Ok(FileKind::File),
        Ok(wire::FileKind::Directory) => Ok(FileKind::Directory),
        Ok(wire::FileKind::Unspecified) | Err(_) => Err(ConvertError::Value {
            field: "status.kind",
            value: i64::from(code),
        }),
    }
}

fn persistence_code(persistence: Persistence) -> i32 {
    let code = match persistence {
        Persistence::Persisted => wire::Persistence::Persisted,
        Persistence::ToBePersisted => wire::Persistence::ToBePersisted,
        Persistence::NotPersisted => wire::Persistence::NotPersisted,
    };
    code.into()
}

fn persistence(code: i32) -> Result<Persistence, ConvertError> {
    match wire::Persistence::try_from(code) {
        Ok(wire::Persistence::Persisted) => Ok(Persistence::Persisted),
        Ok(wire::Persistence::ToBePersisted) => Ok(Persistence::ToBePersisted),
        Ok(wire::Persistence::NotPersisted) => Ok(Persistence::NotPersisted),
        Ok(wire::Persistence::Unspecified) | Err(_) => Err(ConvertError::Value {
            field: "status.persistence",
            value: i64::from(code),
        }),
    }
}
