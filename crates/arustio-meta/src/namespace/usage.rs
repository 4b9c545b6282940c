//! What lies at and below a path, from the sums that directories keep of their own names.
//!
//! A walk over directories that reads no record of a file (but in directories of a release
//! that did not count). It stops after a bounded number of names and goes on from a path,
//! so that what changes meanwhile can move it but never break it.

use std::collections::VecDeque;

use arustio_types::meta::FileKind;
use arustio_types::meta::query::{MAX_UNLOADED, UsagePart};
use arustio_types::{FsPath, InodeId};

use super::resolve::{self, Place};
use super::txn::{Read, Txn};
use crate::engine::record::{DentryRecord, Direct, InodeRecord, Loaded};

/// Names that one answer looks at.
const MOST_NAMES: usize = 4_000;
/// Names read at once.
const PAGE: usize = 256;

/// A directory whose names are being looked at.
struct Frame {
    place: Place,
    /// It keeps no sums: its files have to be read.
    uncounted: bool,
    queue: VecDeque<(String, DentryRecord)>,
    /// Where the next page starts; `None` after the last.
    next: Option<String>,
}

impl Frame {
    fn pop(&mut self, txn: &Txn<'_>) -> Read<Option<(String, DentryRecord)>> {
        if self.queue.is_empty() {
            let Some(start) = self.next.take() else {
                return Ok(None);
            };
            let names = txn.names(self.place.id, &start, PAGE)?;
            if let (PAGE, Some((last, _))) = (names.len(), names.last()) {
                self.next = Some(format!("{last}\0"));
            }
            self.queue.extend(names);
        }
        Ok(self.queue.pop_front())
    }
}

struct Walk<'t, 'e> {
    txn: &'t Txn<'e>,
    part: UsagePart,
    stack: Vec<Frame>,
}

/// Counts a part of what lies at and below a place.
pub(crate) fn part(txn: &Txn<'_>, place: Place, after: Option<&FsPath>) -> Read<UsagePart> {
    let mut walk = Walk {
        txn,
        part: UsagePart::default(),
        stack: Vec::new(),
    };
    match (&place.inode, after) {
        (InodeRecord::File(file), _) => {
            walk.part.files = 1;
            walk.part.bytes = file.size;
        }
        (InodeRecord::Dir(_), None) => walk.enter(place),
        (InodeRecord::Dir(_), Some(after)) => walk.resume(place, after)?,
    }
    walk.run()?;
    Ok(walk.part)
}

impl Walk<'_, '_> {
    /// Adds a directory and what it says of its names; those are looked at where there is
    /// more to find.
    fn enter(&mut self, place: Place) {
        let Some(dir) = place.dir() else { return };
        self.part.directories += 1;
        if let Some(direct) = dir.direct {
            self.part.files += dir.children.saturating_sub(direct.directories);
            self.part.bytes = self.part.bytes.wrapping_add(direct.bytes);
        }
        let unloaded = place.under.is_some() && dir.loaded != Loaded::Complete;
        if unloaded && self.part.unloaded.len() < MAX_UNLOADED {
            self.part.unloaded.push(place.path.clone());
        }
        self.look_into(place, String::new());
    }

    fn look_into(&mut self, place: Place, start: String) {
        let direct = place.dir().and_then(|dir| dir.direct);
        if direct.is_some_and(|direct| direct.directories == 0) {
            return;
        }
        self.stack.push(Frame {
            uncounted: direct.is_none(),
            place,
            queue: VecDeque::new(),
            next: Some(start),
        });
    }

    /// Goes on behind a path whose own record was counted, and whose names were not.
    fn resume(&mut self, root: Place, after: &FsPath) -> Read<()> {
        let mut dir = root;
        let relative = after.relative_to(&dir.path).unwrap_or_default().to_owned();
        for name in relative.split('/').filter(|name| !name.is_empty()) {
            let child = resolve::child(self.txn, &dir, name)?;
            self.look_into(dir, format!("{name}\0"));
            match child.filter(|child| child.dir().is_some()) {
                Some(child) => dir = child,
                None => return Ok(()),
            }
        }
        self.look_into(dir, String::new());
        Ok(())
    }

    fn run(&mut self) -> Read<()> {
        let mut left = MOST_NAMES;
        while let Some(frame) = self.stack.last_mut() {
            let Some((name, entry)) = frame.pop(self.txn)? else {
                self.stack.pop();
                continue;
            };
            // What is too deep for a path can be counted and not named.
            let path = frame.place.path.join(&name).ok();
            if entry.kind == FileKind::Directory {
                let dir = frame.place.clone();
                match &path {
                    Some(_) => {
                        if let Some(child) = resolve::child(self.txn, &dir, &name)? {
                            self.enter(child);
                        }
                    }
                    None => self.part.directories += 1,
                }
            } else if frame.uncounted {
                self.count_file(entry.child)?;
            }
            left = left.saturating_sub(1);
            if left == 0 && path.is_some() {
                self.part.next = path;
                return Ok(());
            }
        }
        Ok(())
    }

    fn count_file(&mut self, id: InodeId) -> Read<()> {
        let share = Direct::of(&self.txn.named_inode(id)?);
        self.part.files += 1;
        self.part.bytes = self.part.bytes.wrapping_add(share.bytes);
        Ok(())
    }
}
