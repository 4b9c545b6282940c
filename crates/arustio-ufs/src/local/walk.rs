//! Listing a tree of directories in the byte order of keys.
//!
//! A directory sorts as its name with a `/` behind it, which puts its contents exactly
//! where their keys belong: `a.txt` before `a/b`. One directory is read and sorted at a
//! time; files are looked at only when their page is made.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use arustio_types::UfsKey;
use futures::StreamExt;
use futures::stream::BoxStream;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::blocking;
use super::commit::TEMPORARY;
use super::tree::Tree;
use crate::error::Result;
use crate::ufs::{ListOptions, ListPage, Skipped};

/// Names on one page.
const PAGE: usize = 1000;
/// Deeper trees than paths can state are not followed.
const DEEPEST: usize = 4096;

/// The pages of a listing.
pub(super) fn pages(tree: Arc<Tree>, options: ListOptions) -> BoxStream<'static, Result<ListPage>> {
    let left = options.limit.map_or(usize::MAX, |limit| limit.max(1));
    let walk = Walk {
        options,
        left,
        stack: None,
    };
    futures::stream::unfold(Some((tree, walk)), |state| async {
        let (tree, mut walk) = state?;
        let done = blocking(&tree, move |tree| {
            let page = walk.page(tree)?;
            Ok((page, walk))
        });
        match done.await {
            Ok((page, walk)) => {
                let on = page.next.is_some() && walk.left > 0;
                Some((Ok(page), on.then_some((tree, walk))))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// Where a listing stands.
struct Walk {
    options: ListOptions,
    left: usize,
    /// Directories that are being listed, the innermost last; `None` before the first.
    stack: Option<Vec<Level>>,
}

/// A directory that is being listed: what is left of it, in reverse order.
struct Level {
    /// The key prefix of its entries: empty, or ending in `/`.
    prefix: String,
    folder: OwnedFd,
    names: Vec<Found>,
}

/// A name in a directory.
struct Found {
    /// With a `/` behind it for a directory.
    sort: String,
    directory: bool,
}

impl Found {
    fn name(&self) -> &str {
        self.sort.strip_suffix('/').unwrap_or(&self.sort)
    }
}

impl Walk {
    fn page(&mut self, tree: &Tree) -> Result<ListPage> {
        let mut page = ListPage::default();
        let most = self.left.min(PAGE);
        let mut stack = match self.stack.take() {
            Some(stack) => stack,
            None => self.start(tree, &mut page)?,
        };
        while let Some(level) = stack.last_mut() {
            let Some(found) = level.names.pop() else {
                stack.pop();
                continue;
            };
            let key = format!("{}{}", level.prefix, found.sort);
            if !self.wanted(&key) {
                continue;
            }
            if page.names() == most {
                level.names.push(found);
                page.next = page.last_name();
                break;
            }
            let key = UfsKey::new(&key);
            if found.directory && self.folds(&key) {
                self.push_common(&mut page, key);
                continue;
            }
            self.push_entry(tree, &mut page, level, &found, &key)?;
            if found.directory && stack.len() < DEEPEST {
                let next = self.level(tree, key.as_str(), &mut page)?;
                stack.extend(next);
            }
        }
        self.left -= page.names().min(self.left);
        self.stack = Some(stack);
        Ok(page)
    }

    /// The directory that holds everything with the prefix, and its own marker.
    fn start(&self, tree: &Tree, page: &mut ListPage) -> Result<Vec<Level>> {
        let prefix = self.options.prefix.as_str();
        let folder = match prefix.rfind('/') {
            Some(slash) => &prefix[..=slash],
            None => "",
        };
        if !folder.is_empty()
            && folder == prefix
            && self.is_behind(folder)
            && let Some(marker) = tree.head(&UfsKey::new(folder))?
        {
            page.entries.push(marker);
        }
        let level = self.level(tree, folder, page)?;
        Ok(level.into_iter().collect())
    }

    fn is_behind(&self, key: &str) -> bool {
        self.options
            .start_after
            .as_ref()
            .is_none_or(|after| key > after.as_str())
    }

    /// Whether a name, or something below it, belongs into the listing.
    fn wanted(&self, key: &str) -> bool {
        let prefix = self.options.prefix.as_str();
        if !key.starts_with(prefix) {
            return false;
        }
        let holds_start = self.options.start_after.as_ref();
        let holds_start = holds_start.is_some_and(|after| after.as_str().starts_with(key));
        let descends = key.ends_with('/') && !self.options.delimiter;
        self.is_behind(key) || (descends && holds_start)
    }

    fn folds(&self, key: &UfsKey) -> bool {
        self.options.fold(key).is_some()
    }

    fn push_common(&self, page: &mut ListPage, key: UfsKey) {
        page.common_prefixes.push(key);
    }

    fn push_entry(
        &self,
        tree: &Tree,
        page: &mut ListPage,
        level: &Level,
        found: &Found,
        key: &UfsKey,
    ) -> Result<()> {
        if !self.is_behind(key.as_str()) {
            return Ok(());
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        match rustix::fs::statat(&level.folder, found.name(), flags) {
            Ok(stat) => page.entries.push(tree.entry(key, &stat)),
            // Gone since the directory was read.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(tree.failed(key, error.into())),
        }
        Ok(())
    }

    /// Reads and sorts a directory; `None` when it is not there.
    fn level(&self, tree: &Tree, prefix: &str, page: &mut ListPage) -> Result<Option<Level>> {
        let key = UfsKey::new(prefix);
        let here = |error: Errno| tree.failed(&key, error.into());
        if key.as_str().split('/').any(|part| part == "..") {
            return Ok(None);
        }
        let folder = match tree.directory(prefix, false) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(here(error)),
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&folder).map_err(here)? {
            let entry = entry.map_err(here)?;
            let raw = entry.file_name().to_bytes();
            if raw == b"." || raw == b".." || (prefix.is_empty() && raw == TEMPORARY.as_bytes()) {
                continue;
            }
            match classify(&folder, entry.file_name(), entry.file_type()) {
                Ok(found) => names.push(found),
                Err(reason) => {
                    let name = format!("{prefix}{}", String::from_utf8_lossy(raw));
                    if self.wanted(&name) {
                        page.skipped.push(Skipped { name, reason });
                    }
                }
            }
        }
        names.sort_unstable_by(|a, b| b.sort.cmp(&a.sort));
        Ok(Some(Level {
            prefix: prefix.to_owned(),
            folder,
            names,
        }))
    }
}

/// A name of a directory, or why it is left out.
fn classify(
    folder: &OwnedFd,
    name: &std::ffi::CStr,
    listed: FileType,
) -> Result<Found, &'static str> {
    let text = name.to_str().map_err(|_| "the name is not UTF-8")?;
    let kind = match listed {
        FileType::Unknown => {
            let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
            stat.map_or(FileType::Unknown, |stat| {
                FileType::from_raw_mode(stat.st_mode)
            })
        }
        known => known,
    };
    match kind {
        FileType::Directory => Ok(Found {
            sort: format!("{text}/"),
            directory: true,
        }),
        FileType::RegularFile => Ok(Found {
            sort: text.to_owned(),
            directory: false,
        }),
        FileType::Symlink => Err("a symbolic link, which is not followed"),
        _ => Err("neither a file nor a directory"),
    }
}
