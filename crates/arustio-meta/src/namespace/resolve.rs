//! From a path to what stands there, at the instant of the command.
//!
//! A walk from the root over names. Mount points are directories whose record names a
//! mount; the last one on the way decides where the path's objects lie (longest prefix
//! wins, N7).

use std::sync::Arc;

use arustio_types::meta::command::Refusal;
use arustio_types::meta::mount::MountEntry;
use arustio_types::{ErrorKind, FsPath, InodeId, LogIndex, MountId, UfsKey};

use super::txn::{Read, Step, Txn};
use crate::engine::record::{DentryRecord, DirRecord, FileRecord, InodeRecord};
use crate::error::StateMachineError;

/// The mount that a path lies in.
#[derive(Debug, Clone)]
pub(crate) struct Under {
    pub(crate) entry: Arc<MountEntry>,
    /// The directory above whose objects are still being moved, where there is one.
    origin: Option<Arc<Origin>>,
}

/// A directory that has its new name before its objects have theirs (P3).
#[derive(Debug)]
struct Origin {
    /// The directory, where it is now.
    dir: FsPath,
    /// What the keys of its objects still start with.
    prefix: UfsKey,
}

impl Under {
    pub(crate) fn new(entry: MountEntry) -> Self {
        Self {
            entry: Arc::new(entry),
            origin: None,
        }
    }

    pub(crate) fn id(&self) -> MountId {
        self.entry.id
    }

    /// Takes note of a directory on the way whose objects lie elsewhere.
    fn passing(&mut self, dir: &FsPath, origin: Option<&UfsKey>) {
        if let Some(prefix) = origin {
            self.origin = Some(Arc::new(Origin {
                dir: dir.clone(),
                prefix: prefix.clone(),
            }));
        }
    }

    /// Where the bytes of a file lie whose record does not say.
    pub(crate) fn file_at(&self, path: &FsPath) -> UfsKey {
        self.moving(path, "").unwrap_or_else(|| self.file_key(path))
    }

    /// Where the marker of a directory lies whose record does not say.
    pub(crate) fn marker_at(&self, path: &FsPath) -> UfsKey {
        self.moving(path, "/").unwrap_or_else(|| self.dir_key(path))
    }

    /// What the keys of a directory's names start with, where their records do not say.
    pub(crate) fn prefix_of_names(&self, dir: &FsPath) -> UfsKey {
        let origin = self.origin.as_ref();
        let moving = origin.and_then(|origin| Some((origin, dir.relative_to(&origin.dir)?)));
        match moving {
            None => self.dir_key(dir),
            Some((origin, "")) => origin.prefix.clone(),
            Some((origin, relative)) => UfsKey::new(&format!("{}{relative}/", origin.prefix)),
        }
    }

    fn moving(&self, path: &FsPath, end: &str) -> Option<UfsKey> {
        let origin = self.origin.as_ref()?;
        let prefix = &origin.prefix;
        match path.relative_to(&origin.dir)? {
            "" => Some(prefix.clone()),
            relative => Some(UfsKey::new(&format!("{prefix}{relative}{end}"))),
        }
    }

    /// The path below the mount point; the key of a file.
    pub(crate) fn relative<'p>(&self, path: &'p FsPath) -> &'p str {
        path.relative_to(&self.entry.spec.path).unwrap_or_default()
    }

    pub(crate) fn file_key(&self, path: &FsPath) -> UfsKey {
        UfsKey::new(self.relative(path))
    }

    /// The prefix of everything in a directory, which is also the key of its marker;
    /// empty for the mount point.
    pub(crate) fn dir_key(&self, path: &FsPath) -> UfsKey {
        match self.relative(path) {
            "" => UfsKey::new(""),
            relative => UfsKey::new(&format!("{relative}/")),
        }
    }

    /// The path whose file or directory this key is; `None` where a key is no path.
    pub(crate) fn path_of(&self, key: &UfsKey) -> Option<FsPath> {
        let relative = key.as_str();
        let relative = relative.strip_suffix('/').unwrap_or(relative);
        self.entry.spec.path.join_relative(relative).ok()
    }
}

/// Something that is there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) path: FsPath,
    pub(crate) id: InodeId,
    pub(crate) inode: InodeRecord,
    /// Of the name; the birth of the root is 0.
    pub(crate) changed_at: LogIndex,
    /// The directory that holds the name; `None` for `/`.
    pub(crate) parent: Option<InodeId>,
    pub(crate) under: Option<Under>,
}

impl Place {
    pub(crate) fn dir(&self) -> Option<&DirRecord> {
        match &self.inode {
            InodeRecord::Dir(dir) => Some(dir),
            InodeRecord::File(_) => None,
        }
    }

    pub(crate) fn file(&self) -> Option<&FileRecord> {
        match &self.inode {
            InodeRecord::File(file) => Some(file),
            InodeRecord::Dir(_) => None,
        }
    }

    pub(crate) fn is_mount_point(&self) -> bool {
        self.dir().is_some_and(|dir| dir.mount.is_some())
    }
}

/// Something that is not there.
#[derive(Debug, Clone)]
pub(crate) struct Missing {
    /// The deepest directory on the way.
    pub(crate) dir: Place,
    /// The components below it; the first is the one that is missing.
    pub(crate) names: Vec<String>,
}

impl Missing {
    /// The first name that is missing.
    pub(crate) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Whether only the last component is missing.
    pub(crate) fn parent_exists(&self) -> bool {
        self.names.len() == 1
    }
}

/// What a path leads to.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Here(Place),
    Missing(Missing),
    /// A file stands where a directory is needed.
    Blocked(Place),
}

/// The root of the namespace.
pub(crate) fn root(txn: &Txn<'_>) -> Read<Place> {
    let id = txn.root()?;
    let inode = txn.named_inode(id)?;
    let mut place = Place {
        path: FsPath::root(),
        id,
        inode,
        changed_at: LogIndex::new(0),
        parent: None,
        under: None,
    };
    place.under = mount_on(txn, &place)?;
    Ok(place)
}

/// Walks a path.
pub(crate) fn find(txn: &Txn<'_>, path: &FsPath) -> Read<Found> {
    let mut place = root(txn)?;
    let names: Vec<&str> = path.components().collect();
    for (at, name) in names.iter().enumerate() {
        if place.dir().is_none() {
            return Ok(Found::Blocked(place));
        }
        match child(txn, &place, name)? {
            Some(next) => place = next,
            None => {
                let names = names[at..].iter().map(|name| (*name).to_owned()).collect();
                return Ok(Found::Missing(Missing { dir: place, names }));
            }
        }
    }
    Ok(Found::Here(place))
}

/// One name in a directory.
pub(crate) fn child(txn: &Txn<'_>, dir: &Place, name: &str) -> Read<Option<Place>> {
    let Some(entry) = txn.dentry(dir.id, name)? else {
        return Ok(None);
    };
    let inode = txn.named_inode(entry.child)?;
    entered(txn, dir, name, &entry, inode).map(Some)
}

/// What a name of a directory leads to, once both records have been read.
pub(crate) fn entered(
    txn: &Txn<'_>,
    dir: &Place,
    name: &str,
    entry: &DentryRecord,
    inode: InodeRecord,
) -> Read<Place> {
    let mut place = Place {
        path: path_in(&dir.path, name)?,
        id: entry.child,
        inode,
        changed_at: entry.changed_at,
        parent: Some(dir.id),
        under: dir.under.clone(),
    };
    if let Some(own) = mount_on(txn, &place)? {
        place.under = Some(own);
    }
    if let (Some(under), InodeRecord::Dir(record)) = (&mut place.under, &place.inode) {
        under.passing(&place.path, record.origin.as_ref());
    }
    Ok(place)
}

/// The path of a stored name.
pub(crate) fn path_in(dir: &FsPath, name: &str) -> Read<FsPath> {
    dir.join(name).map_err(|error| StateMachineError::Corrupt {
        what: "a name of a directory",
        detail: error.to_string(),
    })
}

fn mount_on(txn: &Txn<'_>, place: &Place) -> Read<Option<Under>> {
    let Some(id) = place.dir().and_then(|dir| dir.mount) else {
        return Ok(None);
    };
    let entry = txn.mount(id)?.ok_or_else(|| StateMachineError::Corrupt {
        what: "a mount",
        detail: format!(
            "{} is the mount point of mount {id}, which has no record",
            place.path
        ),
    })?;
    Ok(Some(Under::new(entry)))
}

/// What is at a path, where a file on the way is the caller's mistake.
pub(crate) fn lookup(txn: &Txn<'_>, path: &FsPath) -> Step<Result<Place, Missing>> {
    match find(txn, path)? {
        Found::Here(place) => Ok(Ok(place)),
        Found::Missing(missing) => Ok(Err(missing)),
        Found::Blocked(file) => Err(blocked(path, &file).into()),
    }
}

/// The refusal for a path below a file.
pub(crate) fn blocked(path: &FsPath, file: &Place) -> Refusal {
    let message = format!("{} is a file, not a directory", file.path);
    Refusal::on(ErrorKind::NotADirectory, path, message)
}
