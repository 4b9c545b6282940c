//! What a UFS said, and what that did.

use arustio_types::content::WriteId;
use arustio_types::meta::merge::{KeyRange, MAX_MERGE, Merge, MergeEntry, MergeKind, MergeReport};
use arustio_types::{InodeId, LogIndex, MountId};

use super::ConvertError;
use super::field::{
    MAX_LIST, MAX_TEXT, bits, list, messages, optional, path, raw_bits, required, text, texts,
    timestamp, version,
};
use crate::meta::v1 as wire;

impl From<&Merge> for wire::Merge {
    fn from(merge: &Merge) -> Self {
        Self {
            dir: merge.dir.as_str().to_owned(),
            dir_inode: merge.dir_inode.get(),
            mount: merge.mount.get(),
            seen: merge.seen.get(),
            range_from: merge.range.from.clone(),
            range_to: merge.range.to.clone(),
            entries: messages(&merge.entries),
        }
    }
}

impl TryFrom<wire::Merge> for Merge {
    type Error = ConvertError;
    fn try_from(merge: wire::Merge) -> Result<Self, ConvertError> {
        let range_to = merge.range_to;
        Ok(Self {
            dir: path(&merge.dir, "merge.dir")?,
            dir_inode: InodeId::new(merge.dir_inode),
            mount: MountId::new(merge.mount),
            seen: LogIndex::new(merge.seen),
            range: KeyRange {
                from: text(merge.range_from, MAX_TEXT, "merge.range.from")?,
                to: range_to
                    .map(|to| text(to, MAX_TEXT, "merge.range.to"))
                    .transpose()?,
            },
            entries: list(merge.entries, MAX_MERGE, "merge.entries")?,
        })
    }
}

impl From<&MergeEntry> for wire::MergeEntry {
    fn from(entry: &MergeEntry) -> Self {
        use wire::merge_entry::Kind;
        let kind = match &entry.kind {
            MergeKind::File {
                size,
                version,
                modified,
                write_id,
            } => Kind::File(wire::MergeFile {
                size: *size,
                version: Some(version.into()),
                modified: modified.millis(),
                write_id: write_id.and_then(|id| bits(id.get())),
            }),
            MergeKind::Directory { marker } => Kind::Directory(wire::MergeDirectory {
                marker: marker.as_ref().map(Into::into),
            }),
        };
        Self {
            name: entry.name.clone(),
            kind: Some(kind),
        }
    }
}

impl TryFrom<wire::MergeEntry> for MergeEntry {
    type Error = ConvertError;
    fn try_from(entry: wire::MergeEntry) -> Result<Self, ConvertError> {
        use wire::merge_entry::Kind;
        let kind = match required(entry.kind, "merge.entry.kind")? {
            Kind::File(file) => MergeKind::File {
                size: file.size,
                version: version(file.version, "merge.entry.version")?,
                modified: timestamp(file.modified),
                write_id: file.write_id.map(|bits| WriteId::new(raw_bits(bits))),
            },
            Kind::Directory(directory) => MergeKind::Directory {
                marker: optional(directory.marker)?,
            },
        };
        Ok(Self {
            name: text(entry.name, MAX_TEXT, "merge.entry.name")?,
            kind,
        })
    }
}

impl From<&MergeReport> for wire::MergeReport {
    fn from(report: &MergeReport) -> Self {
        Self {
            added: report.added,
            changed: report.changed,
            removed: report.removed,
            skipped: report.skipped.clone(),
            moved_on: report.moved_on,
        }
    }
}

impl TryFrom<wire::MergeReport> for MergeReport {
    type Error = ConvertError;
    fn try_from(report: wire::MergeReport) -> Result<Self, ConvertError> {
        Ok(Self {
            added: report.added,
            changed: report.changed,
            removed: report.removed,
            skipped: texts(report.skipped, MAX_LIST, "merged.skipped")?,
            moved_on: report.moved_on,
        })
    }
}
