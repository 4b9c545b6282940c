//! Walking a subtree, bounded, and freeing those that no name leads to.
//!
//! Taking a subtree out of the namespace costs one name. Its records are freed
//! afterwards, a few with each command that is applied, so that no command is long and
//! every replica frees the same ones at the same entry.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use arustio_types::meta::FileKind;
use arustio_types::{FsPath, InodeId, LogIndex};

use super::txn::{Read, Txn};
use crate::engine::record::{InodeRecord, Loaded};
use crate::engine::{Family, key};

/// Names read at once.
const PAGE: usize = 256;
/// Records freed with each command.
const FREED_PER_COMMAND: usize = 256;

/// A name met on a walk.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) parent: InodeId,
    pub(crate) name: String,
    pub(crate) id: InodeId,
    pub(crate) kind: FileKind,
    pub(crate) changed_at: LogIndex,
    /// Below the root of the walk, without `/` at either end.
    pub(crate) relative: String,
}

struct Frame {
    id: InodeId,
    /// Empty for the root, otherwise with a `/` at its end.
    prefix: String,
    /// The directory's own node; `None` for the root.
    node: Option<Node>,
    queue: VecDeque<Node>,
    /// Where the next page starts; `None` after the last.
    next: Option<String>,
}

impl Frame {
    fn new(id: InodeId, prefix: String, node: Option<Node>) -> Self {
        Self {
            id,
            prefix,
            node,
            queue: VecDeque::new(),
            next: Some(String::new()),
        }
    }

    fn pop(&mut self, txn: &Txn<'_>) -> Read<Option<Node>> {
        if self.queue.is_empty() {
            let Some(start) = self.next.take() else {
                return Ok(None);
            };
            let names = txn.names(self.id, &start, PAGE)?;
            if let (PAGE, Some((last, _))) = (names.len(), names.last()) {
                self.next = Some(format!("{last}\0"));
            }
            self.queue
                .extend(names.into_iter().map(|(name, entry)| Node {
                    parent: self.id,
                    relative: format!("{}{name}", self.prefix),
                    name,
                    id: entry.child,
                    kind: entry.kind,
                    changed_at: entry.changed_at,
                }));
        }
        Ok(self.queue.pop_front())
    }
}

/// Visits everything below a directory, children before the directory that holds them,
/// in name order. Memory grows with depth, not with size.
pub(crate) fn walk(
    txn: &Txn<'_>,
    root: InodeId,
    visit: &mut dyn FnMut(Node) -> Read<ControlFlow<()>>,
) -> Read<()> {
    walk_after(txn, root, None, visit)
}

/// As [`walk`], from behind a name that was visited before, relative to the root. Whether
/// that is still there does not matter.
pub(crate) fn walk_after(
    txn: &Txn<'_>,
    root: InodeId,
    after: Option<&str>,
    visit: &mut dyn FnMut(Node) -> Read<ControlFlow<()>>,
) -> Read<()> {
    let mut stack = resume(txn, root, after)?;
    while let Some(frame) = stack.last_mut() {
        match frame.pop(txn)? {
            Some(node) if node.kind == FileKind::Directory => {
                let prefix = format!("{}/", node.relative);
                stack.push(Frame::new(node.id, prefix, Some(node)));
            }
            Some(node) => {
                if visit(node)?.is_break() {
                    return Ok(());
                }
            }
            None => {
                let done = stack.pop().and_then(|frame| frame.node);
                if let Some(node) = done
                    && visit(node)?.is_break()
                {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The directories that a walk was in when it had visited a name.
fn resume(txn: &Txn<'_>, root: InodeId, after: Option<&str>) -> Read<Vec<Frame>> {
    let mut stack = Vec::new();
    let mut frame = Frame::new(root, String::new(), None);
    let names = after.into_iter().flat_map(|after| after.split('/'));
    let mut names = names.peekable();
    while let Some(name) = names.next() {
        frame.next = Some(format!("{name}\0"));
        if names.peek().is_none() {
            break;
        }
        // Its children come before itself, so it is still to be visited.
        let Some(entry) = txn.dentry(frame.id, name)? else {
            break;
        };
        if entry.kind != FileKind::Directory {
            break;
        }
        let node = Node {
            parent: frame.id,
            name: name.to_owned(),
            id: entry.child,
            kind: entry.kind,
            changed_at: entry.changed_at,
            relative: format!("{}{name}", frame.prefix),
        };
        let inner = Frame::new(node.id, format!("{}/", node.relative), Some(node));
        stack.push(std::mem::replace(&mut frame, inner));
    }
    stack.push(frame);
    Ok(stack)
}

/// What a bounded look at a subtree found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Names below the root.
    pub(crate) names: u64,
    /// Objects that a UFS has for them, markers included.
    pub(crate) objects: u64,
    /// A directory whose listing is not complete.
    pub(crate) unloaded: Option<FsPath>,
    /// The latest change of a name.
    pub(crate) newest: LogIndex,
    /// Nothing was left out.
    pub(crate) complete: bool,
}

/// Looks at a subtree, at most at so many names.
pub(crate) fn survey(txn: &Txn<'_>, root: InodeId, path: &FsPath, limit: u64) -> Read<Survey> {
    let mut found = Survey {
        complete: true,
        ..Survey::default()
    };
    survey_dir(txn, root, path, &mut found)?;
    walk(txn, root, &mut |node| {
        if found.names == limit {
            found.complete = false;
            return Ok(ControlFlow::Break(()));
        }
        found.names += 1;
        found.newest = found.newest.max(node.changed_at);
        match node.kind {
            FileKind::File => found.objects += 1,
            FileKind::Directory => {
                if let Ok(path) = path.join_relative(&node.relative) {
                    survey_dir(txn, node.id, &path, &mut found)?;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

fn survey_dir(txn: &Txn<'_>, id: InodeId, path: &FsPath, found: &mut Survey) -> Read<()> {
    if let InodeRecord::Dir(dir) = txn.named_inode(id)? {
        found.objects += u64::from(dir.marker.is_some());
        if dir.loaded != Loaded::Complete && found.unloaded.is_none() {
            found.unloaded = Some(path.clone());
        }
    }
    Ok(())
}

/// Leaves a directory and everything below it, to which no name leads any more, to be
/// freed.
pub(crate) fn discard(txn: &mut Txn<'_>, root: InodeId) {
    txn.put_raw(Family::Jobs, key::garbage(root), Vec::new());
}

/// Frees a few records of what was discarded.
pub(crate) fn free_some(txn: &mut Txn<'_>) -> Read<()> {
    let mut budget = FREED_PER_COMMAND;
    while budget > 0 {
        let next = txn.keys(Family::Jobs, &key::all_garbage(), 1)?;
        let Some(root) = next.first().and_then(|at| key::tagged_number(at)) else {
            return Ok(());
        };
        let root = InodeId::new(root);
        let freed = free_below(txn, root, budget)?;
        if freed < budget {
            txn.delete_inode(root);
            txn.delete(Family::Jobs, key::garbage(root));
        }
        budget -= freed;
    }
    Ok(())
}

fn free_below(txn: &mut Txn<'_>, root: InodeId, limit: usize) -> Read<usize> {
    let mut doomed = Vec::new();
    walk(txn, root, &mut |node| {
        doomed.push(node);
        Ok(match doomed.len() == limit {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    for node in &doomed {
        free(txn, node);
    }
    Ok(doomed.len())
}

/// Frees one name of a detached tree. The counts of such trees are not kept.
pub(crate) fn free(txn: &mut Txn<'_>, node: &Node) {
    txn.delete(Family::Dentries, key::dentry(node.parent, &node.name));
    txn.delete_inode(node.id);
}
