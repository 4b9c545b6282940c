//! Temporary files, and how they become objects.
//!
//! What is being written lies in a folder of its own below `.arustio-tmp/`: the file
//! `for`, with the write id and the key, and the file `data`. Making it visible is one
//! rename. Everything here blocks.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arustio_types::{Timestamp, UfsKey, WriteId};
use parking_lot::MutexGuard;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Until;
use super::tree::{Name, Tree, directory_flags};
use crate::error::{Result, UfsError};
use crate::key::file_key;
use crate::ufs::{UploadEntry, WriteMode, Written};
use crate::upload::UploadId;

/// The folder at the root that no listing shows.
pub(super) const TEMPORARY: &str = ".arustio-tmp";
/// Names the key and the write id.
const FOR: &str = "for";
/// Holds the bytes.
const DATA: &str = "data";
/// Taken from a comparison to the change that follows it, by every process.
const LOCK: &str = "lock";
/// Longest content of `for` that is read.
const LONGEST_FOR: usize = 16 << 10;

/// An object that is being written.
#[derive(Debug)]
pub(super) struct Staged {
    tree: Arc<Tree>,
    key: UfsKey,
    path: String,
    id: UploadId,
    folder: OwnedFd,
    write_id: WriteId,
    /// The folder is still there and has to go.
    open: AtomicBool,
}

impl Staged {
    /// Begins a temporary file for a key.
    pub(super) fn begin(tree: &Arc<Tree>, key: &UfsKey, write_id: WriteId) -> Result<Self> {
        let Name::File(path) = tree.name(key)? else {
            let what = "a directory cannot hold bytes".to_owned();
            let at = tree.place(key);
            return Err(UfsError::InvalidArgument { at, what });
        };
        let here = |error: io::Error| tree.failed(key, error);
        let top = temporary(tree).map_err(|error| here(error.into()))?;
        let (id, folder) = new_folder(&top, write_id).map_err(|error| here(error.into()))?;
        let staged = Self {
            tree: Arc::clone(tree),
            key: key.clone(),
            path,
            id,
            folder,
            write_id,
            open: AtomicBool::new(true),
        };
        let text = format!("{write_id}\n{key}");
        let file = staged.create(FOR)?;
        io::Write::write_all(&mut &file, text.as_bytes()).map_err(here)?;
        Ok(staged)
    }

    pub(super) fn id(&self) -> &UploadId {
        &self.id
    }

    pub(super) fn key(&self) -> &UfsKey {
        &self.key
    }

    pub(super) fn failed(&self, error: io::Error) -> UfsError {
        self.tree.failed(&self.key, error)
    }

    /// Gives another file of the folder the place of the bytes.
    pub(super) fn replace_data(&self, name: &str) -> Result<()> {
        let renamed = rustix::fs::renameat(&self.folder, name, &self.folder, DATA);
        renamed.map_err(|error| self.failed(error.into()))
    }

    /// The file that the bytes go into.
    pub(super) fn data(&self) -> Result<File> {
        self.create(DATA)
    }

    /// One more file beside it.
    pub(super) fn create(&self, name: &str) -> Result<File> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o666);
        let made = rustix::fs::openat(&self.folder, name, flags, mode);
        let made = made.map_err(|error| self.tree.failed(&self.key, error.into()))?;
        Ok(File::from(made))
    }

    /// Makes `data`, which is the file [`DATA`], the object.
    pub(super) fn commit(&self, data: &File, mode: &WriteMode, until: Until) -> Result<Written> {
        let here = |error: io::Error| self.tree.failed(&self.key, error);
        self.tree.set_write_id(&self.key, data, self.write_id)?;
        data.sync_data().map_err(here)?;
        let (folder, name) = self
            .tree
            .parent(&self.path, true)
            .map_err(|error| here(error.into()))?;
        let alone = exclusively(&self.tree, &self.key)?;
        until.check(self.tree.place(&self.key))?;
        self.take_name(&folder, name, mode)?;
        drop(alone);
        rustix::fs::fsync(&folder).map_err(|error| here(error.into()))?;
        self.remove();
        let version = self.tree.version_of_file(&self.key, data)?;
        Ok(Written::answered(version))
    }

    fn take_name(&self, folder: &OwnedFd, name: &str, mode: &WriteMode) -> Result<()> {
        let at = || self.tree.place(&self.key);
        let here = |error: Errno| self.tree.failed(&self.key, error.into());
        match mode {
            WriteMode::CreateOnly => return self.take_free_name(folder, name).map_err(here),
            WriteMode::Replace => {}
            WriteMode::ReplaceIf(version) => {
                if self.tree.current(&self.key, folder, name)?.as_ref() != Some(version) {
                    return Err(UfsError::Conflict { at: at() });
                }
            }
        }
        rustix::fs::renameat(&self.folder, DATA, folder, name).map_err(here)
    }

    fn take_free_name(&self, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.folder, DATA, folder, name, flags) {
            // Not on every file system.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::linkat(&self.folder, DATA, folder, name, AtFlags::empty())?;
                rustix::fs::unlinkat(&self.folder, DATA, AtFlags::empty())
            }
            done => done,
        }
    }

    /// Removes the folder, as far as that goes.
    pub(super) fn remove(&self) {
        if !self.open.swap(false, Ordering::SeqCst) {
            return;
        }
        if let Err(error) = remove_folder(&self.tree, self.id.as_str()) {
            let error = io::Error::from(error);
            tracing::warn!(%error, id = %self.id, "a temporary folder could not be removed");
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Held from a comparison to the change that follows it.
pub(super) struct Alone<'a> {
    _here: MutexGuard<'a, ()>,
    _everywhere: OwnedFd,
}

/// Keeps every other Arustio process of this host from changing anything meanwhile.
pub(super) fn exclusively<'a>(tree: &'a Tree, key: &UfsKey) -> Result<Alone<'a>> {
    let here = tree.commits.lock();
    let lock = || {
        let top = temporary(tree)?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&top, LOCK, flags, Mode::from_raw_mode(0o666))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    };
    let everywhere = lock().map_err(|error: Errno| tree.failed(key, error.into()))?;
    Ok(Alone {
        _here: here,
        _everywhere: everywhere,
    })
}

/// The folder of temporary files, made where it is missing.
fn temporary(tree: &Tree) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(&tree.root, TEMPORARY, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    rustix::fs::openat(&tree.root, TEMPORARY, directory_flags(), Mode::empty())
}

/// A folder named after the write id; a second attempt of the same one gets a number.
fn new_folder(top: &OwnedFd, write_id: WriteId) -> Result<(UploadId, OwnedFd), Errno> {
    for attempt in 0..1000u32 {
        let name = format!("{write_id}-{attempt}");
        match rustix::fs::mkdirat(top, name.as_str(), Mode::from_raw_mode(0o777)) {
            Ok(()) => {
                let flags = directory_flags();
                let folder = rustix::fs::openat(top, name.as_str(), flags, Mode::empty())?;
                return Ok((UploadId::new(&name), folder));
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}

/// Whether a name is that of a temporary folder, so that nothing else is removed.
fn is_folder_name(name: &str) -> bool {
    let Some((id, attempt)) = name.split_once('-') else {
        return false;
    };
    id.parse::<WriteId>().is_ok() && attempt.parse::<u32>().is_ok()
}

fn remove_folder(tree: &Tree, name: &str) -> Result<(), Errno> {
    let top = temporary(tree)?;
    let folder = match rustix::fs::openat(&top, name, directory_flags(), Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    // What says whose it is goes last, so that a half-removed one is found again.
    let mut names = names_in(&folder)?;
    names.sort_by_key(|name| name == FOR);
    for entry in names {
        match rustix::fs::unlinkat(&folder, entry.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    match rustix::fs::unlinkat(&top, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn names_in(folder: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// What writers began and did not finish.
pub(super) fn uploads(tree: &Tree, prefix: &UfsKey) -> Result<Vec<UploadEntry>> {
    let here = |error: Errno| tree.failed(prefix, error.into());
    let top = match rustix::fs::openat(&tree.root, TEMPORARY, directory_flags(), Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        opened => opened.map_err(here)?,
    };
    let names = names_in(&top).map_err(here)?;
    let folders = names.iter().filter(|name| is_folder_name(name));
    let found = folders.filter_map(|name| describe(&top, name));
    Ok(found
        .filter(|upload| upload.key.as_str().starts_with(prefix.as_str()))
        .collect())
}

fn describe(top: &OwnedFd, name: &str) -> Option<UploadEntry> {
    let folder = rustix::fs::openat(top, name, directory_flags(), Mode::empty()).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, FOR, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let mut text = vec![0; LONGEST_FOR];
    let length = rustix::io::read(&file, &mut text).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    let (write_id, key) = text.split_once('\n')?;
    Some(UploadEntry {
        key: file_key(key),
        id: UploadId::new(name),
        begun: Timestamp::from_millis((stat.st_mtime as i64).saturating_mul(1000)),
        write_id: write_id.parse().ok(),
    })
}

/// Ends what a writer began; an absent one is success.
pub(super) fn abort(tree: &Tree, key: &UfsKey, id: &UploadId) -> Result<()> {
    if !is_folder_name(id.as_str()) {
        return Ok(());
    }
    remove_folder(tree, id.as_str()).map_err(|error| tree.failed(key, error.into()))
}
