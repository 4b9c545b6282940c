//! Inodes and names: each name leads to one inode, each inode has one name, counts agree.

use std::ops::ControlFlow;

use arustio_types::InodeId;
use arustio_types::meta::FileKind;

use super::{Check, each, odd_key};
use crate::engine::record::{DentryRecord, DirRecord, Direct, InodeRecord, Record};
use crate::engine::{Family, Scan, key};
use crate::namespace::txn::Read;

/// Inodes whose names are counted in one scan of all names: 9 bytes each.
const STRETCH: usize = 4 << 20;

/// What the names of a directory were found to be.
#[derive(Debug, Default)]
struct Held {
    names: u64,
    direct: Direct,
}

impl Check<'_> {
    /// Every inode by itself, and every directory against its names.
    pub(super) fn inodes(&mut self) -> Read<()> {
        let engine = self.engine;
        let mut last = 0;
        each(engine, Family::Inodes, &[], &mut |at, value| {
            let id = key::parent_of_dentry(at).ok_or_else(|| odd_key(Family::Inodes))?;
            self.report.inodes += 1;
            last = id.get();
            let record = InodeRecord::decode_stored(value)?;
            self.inode(id, &record);
            match &record {
                InodeRecord::Dir(dir) => self.directory(id, dir),
                InodeRecord::File(_) => {
                    self.report.files += 1;
                    Ok(())
                }
            }
        })?;
        self.given("inode", last, self.counters.inode);
        if self.txn.inode(self.root)?.is_none() {
            self.report.wrong_inode(self.root, "the root is gone");
        }
        Ok(())
    }

    fn inode(&mut self, id: InodeId, record: &InodeRecord) {
        let (elsewhere, origin, mount) = match record {
            InodeRecord::File(file) => (file.key.is_some(), false, None),
            InodeRecord::Dir(dir) => {
                let marker = dir.marker.as_ref();
                let elsewhere = marker.is_some_and(|marker| marker.key.is_some());
                (elsewhere, dir.origin.is_some(), dir.mount)
            }
        };
        if origin != self.moving_trees.contains(&id) {
            let what = "its objects have another prefix, and no rename says so (or the reverse)";
            self.suspect(id, what.to_owned());
        }
        if elsewhere != self.moving.contains(&id) {
            let what = "its object lies elsewhere, and no rename says so (or the reverse)";
            self.suspect(id, what.to_owned());
        }
        if let Some(mount) = mount.filter(|mount| !self.mounts.contains_key(mount)) {
            self.suspect(
                id,
                format!("it is the mount point of {mount}, which is gone"),
            );
        }
    }

    fn directory(&mut self, id: InodeId, dir: &DirRecord) -> Read<()> {
        let held = self.held(id)?;
        if dir.children != held.names {
            let (says, holds) = (dir.children, held.names);
            self.suspect(id, format!("it counts {says} names and holds {holds}"));
        }
        if let Some(says) = dir.direct.filter(|says| *says != held.direct) {
            let holds = held.direct;
            self.suspect(
                id,
                format!(
                    "it counts {} directories and {} bytes and holds {} and {}",
                    says.directories, says.bytes, holds.directories, holds.bytes
                ),
            );
        }
        if dir.last_removed_at > self.applied.position.index {
            let what = "a name was removed from it later than anything was applied";
            self.report.wrong_inode(id, what);
        }
        Ok(())
    }

    fn held(&mut self, dir: InodeId) -> Read<Held> {
        let mut held = Held::default();
        let engine = self.engine;
        let prefix = key::dentries_of(dir);
        each(engine, Family::Dentries, &prefix, &mut |at, value| {
            let name = key::name_of_dentry(at).ok_or_else(|| odd_key(Family::Dentries))?;
            let entry = DentryRecord::decode_stored(value)?;
            held.names += 1;
            if entry.changed_at > self.applied.position.index {
                let what = format!("its name {name:?} changed later than anything was applied");
                self.report.wrong_inode(dir, what);
            }
            match self.txn.inode(entry.child)? {
                Some(child) => {
                    held.direct.add(Direct::of(&child));
                    if child.kind() != entry.kind {
                        let what = format!("its name {name:?} is of another kind than the inode");
                        self.report.wrong_inode(dir, what);
                    }
                }
                None => {
                    let what = format!("its name {name:?} leads nowhere");
                    self.report.wrong_inode(dir, what);
                }
            }
            Ok(())
        })?;
        Ok(held)
    }

    /// Counts the names that lead to each inode, for a stretch of inodes at a time. Says
    /// whether none has more than one.
    pub(super) fn names(&mut self) -> Read<bool> {
        self.parents()?;
        let mut once = true;
        let mut start = Some(Vec::new());
        while let Some(from) = start.take() {
            let ids = self.stretch(&from)?;
            if ids.len() == STRETCH {
                start = ids.last().map(|last| key::inode(InodeId::new(last + 1)));
            }
            once &= self.named(&ids)?;
        }
        Ok(once)
    }

    fn stretch(&self, from: &[u8]) -> Read<Vec<u64>> {
        let mut ids = Vec::new();
        let scan = Scan::range(from, None).limit(STRETCH);
        self.engine.scan(Family::Inodes, scan, &mut |at, _| {
            ids.extend(key::parent_of_dentry(at).map(InodeId::get));
            ControlFlow::Continue(())
        })?;
        Ok(ids)
    }

    fn named(&mut self, ids: &[u64]) -> Read<bool> {
        let mut counts = vec![0_u8; ids.len()];
        each(self.engine, Family::Dentries, &[], &mut |_, value| {
            let child = DentryRecord::decode_stored(value)?.child.get();
            if let Ok(at) = ids.binary_search(&child) {
                counts[at] = counts[at].saturating_add(1);
            }
            Ok(())
        })?;
        let mut once = true;
        for (id, named) in ids.iter().zip(counts) {
            let id = InodeId::new(*id);
            once &= named <= 1;
            let top = id == self.root || self.detached.contains(&id);
            match (top, named) {
                (true, 0) | (false, 1) => {}
                (true, _) => self
                    .report
                    .wrong_inode(id, "a name leads to it, and it is a top"),
                (false, 0) => self.report.wrong_inode(id, "no name leads to it"),
                (false, many) => {
                    self.report
                        .wrong_inode(id, format!("{many} names lead to it instead of one"));
                }
            }
        }
        Ok(once)
    }

    /// Every name lies in a directory that there is.
    fn parents(&mut self) -> Read<()> {
        let engine = self.engine;
        let mut known = None;
        each(engine, Family::Dentries, &[], &mut |at, _| {
            let parent = key::parent_of_dentry(at).ok_or_else(|| odd_key(Family::Dentries))?;
            self.report.names += 1;
            if known == Some(parent) {
                return Ok(());
            }
            known = Some(parent);
            let kind = self.txn.inode(parent)?.map(|inode| inode.kind());
            if kind != Some(FileKind::Directory) {
                let what = "it holds names and is no directory";
                self.report.wrong_inode(parent, what);
            }
            Ok(())
        })
    }
}
