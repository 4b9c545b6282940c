//! A snapshot on its way in: checked piece by piece, staged, and resumed after a break.
//!
//! Everything that comes from the network is measured before it is believed: names are
//! names in one folder, sizes are announced, bounded and held against the free space, every
//! piece and every file carries a checksum. A file is appended to only where the sender
//! stands at its end, and a part that an earlier try left is offered to the sender with its
//! checksum. What is incomplete is never given on: the next try of the same copy goes on
//! with it, and any other copy removes it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arustio_proto::failure::Failure;
use arustio_proto::raft::v1 as wire;
use arustio_types::{ByteSize, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// More files than a checkpoint has.
const MOST_FILES: usize = 1 << 16;
/// Longer than any name that an engine gives.
const LONGEST_NAME: usize = 255;
/// More than any state can have.
const MOST_BYTES: u64 = 16 << 40;
/// First part of the name of a folder that is not complete.
const PARTIAL: &str = "arriving-";
/// Bytes that are read at a time to check what is there.
const PIECE: usize = 1 << 20;

/// The place of arrivals: one at a time.
#[derive(Debug)]
pub(crate) struct Arrivals {
    turn: Arc<Semaphore>,
    /// Numbers the folders that are complete.
    number: AtomicU64,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            number: AtomicU64::new(0),
        }
    }
}

/// A snapshot that is arriving.
#[derive(Debug)]
pub(crate) struct Arrival {
    root: PathBuf,
    folder: PathBuf,
    whole: PathBuf,
    files: Vec<wire::SnapshotFile>,
    /// What earlier tries left of each file.
    parts: Vec<wire::SnapshotPart>,
    /// The file that is being written.
    at: usize,
    open: Option<Open>,
    _turn: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    crc32c: u32,
}

impl Arrivals {
    /// Begins an arrival in this folder; `free` says how many bytes the disk has left.
    /// Reads what an earlier try left, so it blocks.
    pub(crate) fn begin(
        &self,
        root: &Path,
        header: &wire::SnapshotHeader,
        free: impl FnOnce(&Path) -> io::Result<ByteSize>,
    ) -> Result<Arrival, Failure> {
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            let message = "another snapshot is arriving here; repeat later";
            return Err(Failure::new(ErrorKind::Unavailable, message));
        };
        let total = check(&header.files)?;
        let id = header.id.map(u128::from).unwrap_or_default();
        let name = format!("{PARTIAL}{id:032x}");
        forget_others(root, &name).map_err(disk("remove an older snapshot", root))?;
        let folder = root.join(&name);
        fs::create_dir_all(&folder).map_err(disk("make a folder for a snapshot", &folder))?;
        let parts = parts(&folder, &header.files).map_err(disk("look at a snapshot", &folder))?;
        let there: u64 = parts.iter().map(|part| part.bytes).sum();
        let free = free(root).map_err(disk("measure the free space", root))?;
        if total - there > free.get() {
            let message = format!(
                "no space left for a snapshot in {}: it takes {}, {} are free",
                root.display(),
                ByteSize(total - there).human(),
                free.human()
            );
            return Err(Failure::new(ErrorKind::NoSpace, message));
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        Ok(Arrival {
            root: root.to_owned(),
            folder,
            whole: root.join(format!("arrived-{number}")),
            files: header.files.clone(),
            parts,
            at: 0,
            open: None,
            _turn: turn,
        })
    }
}

/// Sizes and names; returns the sum of the sizes.
fn check(files: &[wire::SnapshotFile]) -> Result<u64, Failure> {
    if files.is_empty() || files.len() > MOST_FILES {
        return Err(refused(format!("a snapshot of {} files", files.len())));
    }
    let mut names = BTreeSet::new();
    let mut total: u64 = 0;
    for file in files {
        if !is_plain(&file.name) {
            return Err(refused(format!("the name {:?}", file.name)));
        }
        if !names.insert(file.name.as_str()) {
            return Err(refused(format!("two files with the name {:?}", file.name)));
        }
        total = total.saturating_add(file.bytes);
    }
    match total <= MOST_BYTES {
        true => Ok(total),
        false => Err(refused(format!("a snapshot of {total} bytes"))),
    }
}

/// A name in one folder, and nothing that a file system could take for more.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.bytes().all(plain)
        && name.bytes().any(|byte| byte != b'.')
}

fn refused(what: impl std::fmt::Display) -> Failure {
    Failure::new(
        ErrorKind::InvalidArgument,
        format!("refused from another metadata server: {what}"),
    )
}

fn disk(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.to_owned();
    move |error| {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Internal,
        };
        Failure::new(
            kind,
            format!("cannot {action} in {}: {error}", path.display()),
        )
    }
}

/// Removes what is left of other copies.
fn forget_others(root: &Path, name: &str) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let known = entry.file_name();
        let known = known.to_string_lossy();
        if known.starts_with(PARTIAL) && known != name {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// What an earlier try left, and files of it that no longer belong to the copy removed.
fn parts(folder: &Path, files: &[wire::SnapshotFile]) -> io::Result<Vec<wire::SnapshotPart>> {
    let mut parts = Vec::new();
    for (file, expected) in (0..).zip(files) {
        let path = folder.join(&expected.name);
        let found = match File::open(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if found.metadata()?.len() > expected.bytes {
            fs::remove_file(&path)?;
            continue;
        }
        let (bytes, crc32c) = sum(found)?;
        parts.push(wire::SnapshotPart {
            file,
            bytes,
            crc32c,
        });
    }
    Ok(parts)
}

/// Length and checksum of what a reader has.
pub(super) fn sum(mut from: impl io::Read) -> io::Result<(u64, u32)> {
    let mut buffer = vec![0; PIECE];
    let (mut bytes, mut crc32c) = (0, 0);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, crc32c));
        }
        bytes += read as u64;
        crc32c = crc32c::crc32c_append(crc32c, buffer.get(..read).unwrap_or_default());
    }
}

impl Arrival {
    /// What need not be sent again, if the sender has the same.
    pub(crate) fn have(&self) -> Vec<wire::SnapshotPart> {
        self.parts.clone()
    }

    /// Takes the next piece. Blocks on the disk.
    pub(crate) fn write(&mut self, piece: &wire::SnapshotData) -> Result<(), Failure> {
        let Some(expected) = self.files.get(self.at).cloned() else {
            return Err(refused("more pieces than its snapshot has"));
        };
        let name = &expected.name;
        if piece.file as usize != self.at {
            return Err(refused(format!(
                "a piece of file {} in place of {name}",
                piece.file
            )));
        }
        if crc32c::crc32c(&piece.bytes) != piece.crc32c {
            return Err(damaged(format!(
                "a piece of {name} does not match its checksum"
            )));
        }
        let path = self.folder.join(name);
        let failed = disk("write a snapshot", &self.folder);
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open(&path, piece.offset).map_err(&failed)?,
        };
        let end = open.bytes.saturating_add(piece.bytes.len() as u64);
        if piece.offset != open.bytes || end > expected.bytes {
            return Err(refused(format!(
                "bytes {} to {end} of {name}, which stands at {} of {}",
                piece.offset, open.bytes, expected.bytes
            )));
        }
        open.file.write_all(&piece.bytes).map_err(&failed)?;
        open.bytes = end;
        open.crc32c = crc32c::crc32c_append(open.crc32c, &piece.bytes);
        match piece.file_crc32c {
            None => self.open = Some(open),
            Some(_) if open.bytes != expected.bytes => {
                return Err(refused(format!(
                    "{name} ends at {} of {}",
                    open.bytes, expected.bytes
                )));
            }
            Some(crc32c) if crc32c != open.crc32c => {
                // Whatever of it is wrong: it is sent anew.
                fs::remove_file(&path).map_err(&failed)?;
                return Err(damaged(format!("{name} does not match its checksum")));
            }
            Some(_) => {
                open.file.sync_all().map_err(&failed)?;
                self.at += 1;
            }
        }
        Ok(())
    }

    /// Opens the current file where the sender stands: at its beginning, or where an earlier
    /// try has ended.
    fn open(&self, path: &Path, offset: u64) -> io::Result<Open> {
        let part = self.parts.iter().find(|part| part.file as usize == self.at);
        let part = part.filter(|part| offset != 0 && part.bytes == offset);
        let mut options = OpenOptions::new();
        let (bytes, crc32c) = match part {
            Some(part) => {
                options.append(true);
                (part.bytes, part.crc32c)
            }
            None => {
                options.write(true).create(true).truncate(true);
                (0, 0)
            }
        };
        let file = options.open(path)?;
        Ok(Open {
            file,
            bytes,
            crc32c,
        })
    }

    /// The folder, whole and synced.
    pub(crate) fn finish(self) -> Result<PathBuf, Failure> {
        if self.at < self.files.len() {
            let (at, files) = (self.at, self.files.len());
            return Err(refused(format!(
                "a snapshot that ends after {at} of {files} files"
            )));
        }
        let failed = disk("finish a snapshot", &self.root);
        let complete = || {
            for entry in fs::read_dir(&self.folder)? {
                let entry = entry?;
                let name = entry.file_name();
                if !self
                    .files
                    .iter()
                    .any(|file| name.to_str() == Some(&file.name))
                {
                    fs::remove_file(entry.path())?;
                }
            }
            File::open(&self.folder)?.sync_all()?;
            fs::rename(&self.folder, &self.whole)?;
            File::open(&self.root)?.sync_all()
        };
        complete().map_err(failed)?;
        Ok(self.whole)
    }
}

fn damaged(message: String) -> Failure {
    Failure::new(ErrorKind::Corrupt, message)
}

/// The free space of the disk that a folder lies on.
pub(crate) fn free_space(folder: &Path) -> io::Result<ByteSize> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(ByteSize(found.f_bavail.saturating_mul(found.f_frsize)))
}

#[cfg(test)]
mod tests;
