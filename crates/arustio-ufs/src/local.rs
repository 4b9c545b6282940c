//! A directory as a store, with the same promises.
//!
//! Bytes are written under a temporary name, synced, and renamed into place, so that a
//! reader sees a whole object or none. Temporary files lie below `.arustio-tmp/` at the
//! root of the mount, which no listing shows; each says which key and write id it is
//! for, so that what a dead writer left is found like an upload. The write id of an
//! object stands in an extended attribute of the file.
//!
//! An identity is device, inode, ctime, mtime and size, read by `fstat` on the open file
//! before and after each piece of a read. A clock's tick may hide two changes, so that a
//! file that changed less than two seconds ago is *young*: read, never cached (U8).
//!
//! Directories are objects of their own here: `a/` is a marker wherever `a` is a
//! directory. Deleting the marker of a directory that is not empty changes nothing, as
//! the prefix stays on any store.
//!
//! Symbolic links are never followed, and are told in listings as skipped.
//!
//! Conditions on *absence* are kept by the kernel. A condition on a *version* is compared
//! immediately before the rename or unlink, under a lock that every Arustio process on
//! this host takes; other programs do not take it, and the capabilities say so.

mod commit;
mod tree;
mod upload;
mod walk;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::{ObjectVersion, UfsKey, WallClock};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;

use self::commit::Staged;
use self::tree::{Name, Tree};
use self::upload::LocalUpload;
use crate::capability::{Capabilities, IdentityKind, Support};
use crate::error::{Place, Result, UfsError};
use crate::registry::{OpenRequest, UfsProvider};
use crate::ufs::{
    CopyOptions, DeleteOptions, DeleteRequest, DeleteResult, Deleted, Description, ListOptions,
    ListPage, ObjectEntry, Payload, ReadBody, ReadOptions, RenameOptions, UnderFileSystem,
    UploadEntry, WriteOptions, Written, resolve_range,
};
use crate::upload::{AbortOptions, Upload, UploadId, UploadOptions};
use crate::uri::Scheme;

/// Bytes read at once.
const PIECE: u64 = 1 << 20;

/// Opens `file://` and `local://`.
#[derive(Debug)]
pub struct LocalProvider {
    clock: Arc<dyn WallClock>,
}

impl LocalProvider {
    /// A provider; the clock tells which identities are young.
    pub fn new(clock: Arc<dyn WallClock>) -> Self {
        Self { clock }
    }
}

impl UfsProvider for LocalProvider {
    fn schemes(&self) -> &[Scheme] {
        &[Scheme::File]
    }

    fn open(&self, request: &OpenRequest) -> Result<Arc<dyn UnderFileSystem>> {
        let root = PathBuf::from(format!("/{}", request.uri.path()));
        Ok(Arc::new(LocalUfs::open(root, Arc::clone(&self.clock))?))
    }
}

/// A directory of this machine.
#[derive(Debug, Clone)]
pub struct LocalUfs {
    tree: Arc<Tree>,
    description: Description,
}

impl LocalUfs {
    /// Opens a directory, which must exist.
    pub fn open(root: PathBuf, clock: Arc<dyn WallClock>) -> Result<Self> {
        let text: Arc<str> = Arc::from(format!("file://{}", root.display()));
        let tree = Tree::open(&root, Arc::clone(&text), clock)?;
        Ok(Self {
            tree: Arc::new(tree),
            description: Description {
                scheme: "file",
                root: text,
                endpoint: None,
            },
        })
    }

    fn place(&self, key: &UfsKey) -> Place {
        self.description.place(key)
    }

    /// Runs work that may wait for the disk where nobody else waits with it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Tree>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        blocking(&self.tree, work).await
    }
}

async fn blocking<T: Send + 'static>(
    tree: &Arc<Tree>,
    work: impl FnOnce(&Arc<Tree>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let tree = Arc::clone(tree);
    let done = tokio::task::spawn_blocking(move || work(&tree)).await;
    done.unwrap_or_else(|failed| {
        // Only a panic ends the task early, since nobody cancels it.
        std::panic::resume_unwind(failed.into_panic())
    })
}

/// When a mutation has to be over.
#[derive(Debug, Clone, Copy)]
struct Until {
    start: Instant,
    deadline: Duration,
}

impl Until {
    fn new(deadline: Duration) -> Self {
        Self {
            start: Instant::now(),
            deadline,
        }
    }

    /// Nothing is made visible after the deadline (P5).
    fn check(self, at: Place) -> Result<()> {
        if self.start.elapsed() < self.deadline {
            return Ok(());
        }
        Err(UfsError::Timeout {
            at,
            after: self.deadline,
            unanswered: false,
        })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UnderFileSystem for LocalUfs {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            replace_if: Support::Checked,
            delete_if: Support::Checked,
            atomic_rename: false,
            identity: IdentityKind::Unique,
            write_id: self.tree.has_attributes(),
            ..Capabilities::full()
        }
    }

    async fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>> {
        let key = key.clone();
        self.blocking(move |tree| tree.head(&key)).await
    }

    async fn read(&self, key: &UfsKey, options: ReadOptions) -> Result<ReadBody> {
        let at = self.place(key);
        let (wanted, required) = (key.clone(), options.required);
        let (file, entry) = self
            .blocking(move |tree| open_version(tree, &wanted, required))
            .await?;
        let range = resolve_range(at, options.range, entry.size)?;
        let version = entry.version.clone();
        let body = Body {
            tree: Arc::clone(&self.tree),
            file: file.map(|file| Arc::new(std::fs::File::from(file))),
            key: key.clone(),
            version,
            position: range.start,
            end: range.end,
        };
        Ok(ReadBody {
            entry,
            range,
            body: body.stream(),
        })
    }

    async fn write(
        &self,
        key: &UfsKey,
        payload: Payload,
        options: WriteOptions,
    ) -> Result<Written> {
        let until = Until::new(options.deadline);
        let key = key.clone();
        self.blocking(move |tree| {
            if let Name::Directory(path) = tree.name(&key)? {
                return tree.make_directory(&key, &path, payload.len(), &options, until);
            }
            let staged = Staged::begin(tree, &key, options.write_id)?;
            let data = staged.data()?;
            let mut position = 0;
            for piece in payload.pieces() {
                let written = data.write_all_at(piece, position);
                written.map_err(|error| tree.failed(&key, error))?;
                position += piece.len() as u64;
            }
            staged.commit(&data, &options.mode, until)
        })
        .await
    }

    async fn begin_upload(&self, key: &UfsKey, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let wanted = key.clone();
        let begun = self.blocking(move |tree| Staged::begin(tree, &wanted, options.write_id));
        Ok(Box::new(LocalUpload::new(
            Arc::clone(&self.tree),
            begun.await?,
        )))
    }

    fn list_uploads(&self, prefix: &UfsKey) -> BoxStream<'static, Result<UploadEntry>> {
        let (tree, prefix) = (Arc::clone(&self.tree), prefix.clone());
        let found = async move {
            let found = blocking(&tree, move |tree| commit::uploads(tree, &prefix)).await;
            match found {
                Ok(found) => futures::stream::iter(found.into_iter().map(Ok)).boxed(),
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            }
        };
        futures::stream::once(found).flatten().boxed()
    }

    async fn abort_upload(
        &self,
        key: &UfsKey,
        upload: &UploadId,
        _options: AbortOptions,
    ) -> Result<()> {
        let (key, upload) = (key.clone(), upload.clone());
        self.blocking(move |tree| commit::abort(tree, &key, &upload))
            .await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListPage>> {
        walk::pages(Arc::clone(&self.tree), options)
    }

    async fn delete(&self, key: &UfsKey, options: DeleteOptions) -> Result<Deleted> {
        let until = Until::new(options.deadline);
        let key = key.clone();
        self.blocking(move |tree| tree.delete(&key, options.required.as_ref(), until))
            .await
    }

    fn delete_many(
        &self,
        requests: BoxStream<'static, DeleteRequest>,
        deadline: Duration,
    ) -> BoxStream<'static, DeleteResult> {
        let ufs = self.clone();
        requests
            .then(move |request| {
                let ufs = ufs.clone();
                async move {
                    let options = DeleteOptions::new(request.required.clone(), deadline);
                    let result = ufs.delete(&request.key, options).await;
                    DeleteResult { request, result }
                }
            })
            .boxed()
    }

    async fn copy(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: CopyOptions,
    ) -> Result<Written> {
        let until = Until::new(options.deadline);
        let (source, target) = (source.clone(), target.clone());
        self.blocking(move |tree| copy(tree, &source, &target, options, until))
            .await
    }

    async fn rename(
        &self,
        source: &UfsKey,
        _target: &UfsKey,
        _options: RenameOptions,
    ) -> Result<Written> {
        // A rename cannot change the write id in the same step.
        Err(UfsError::Unsupported {
            at: self.place(source),
            what: "a rename in one step",
            instead: "copy it and delete the source",
        })
    }
}

/// Opens the version that is required, or whatever is there. A directory has no file.
fn open_version(
    tree: &Tree,
    key: &UfsKey,
    required: Option<ObjectVersion>,
) -> Result<(Option<OwnedFd>, ObjectEntry)> {
    let at = tree.place(key);
    match (tree.open_object(key)?, required) {
        (Some((_, entry)), Some(version)) if entry.version != version => {
            Err(UfsError::Stale { at })
        }
        (Some(found), _) => Ok(found),
        (None, Some(_)) => Err(UfsError::Stale { at }),
        (None, None) => Err(UfsError::NotFound { at }),
    }
}

fn copy(
    tree: &Arc<Tree>,
    source: &UfsKey,
    target: &UfsKey,
    options: CopyOptions,
    until: Until,
) -> Result<Written> {
    let version = options.source_version;
    let (file, _) = open_version(tree, source, Some(version.clone()))?;
    let (Some(file), Name::File(_)) = (file, tree.name(target)?) else {
        let Name::Directory(path) = tree.name(target)? else {
            let what = "a directory can be copied onto a directory only".to_owned();
            let at = tree.place(target);
            return Err(UfsError::InvalidArgument { at, what });
        };
        let options = WriteOptions::new(options.mode, options.write_id, options.deadline);
        return tree.make_directory(target, &path, 0, &options, until);
    };
    let staged = Staged::begin(tree, target, options.write_id)?;
    let mut data = staged.data()?;
    let mut file = std::fs::File::from(file);
    let copied = io::copy(&mut file, &mut data);
    copied.map_err(|error| tree.failed(target, error))?;
    if tree.version_of_file(source, &file)? != version {
        return Err(UfsError::Stale {
            at: tree.place(source),
        });
    }
    staged.commit(&data, &options.mode, until)
}

/// A body that is read piece by piece.
struct Body {
    tree: Arc<Tree>,
    file: Option<Arc<std::fs::File>>,
    key: UfsKey,
    version: ObjectVersion,
    position: u64,
    end: u64,
}

impl Body {
    fn stream(self) -> BoxStream<'static, Result<Bytes>> {
        futures::stream::unfold(Some(self), |body| async {
            let mut body = body?;
            if body.position >= body.end {
                return None;
            }
            let piece = body.piece().await;
            let next = piece.is_ok().then_some(body);
            Some((piece, next))
        })
        .boxed()
    }

    async fn piece(&mut self) -> Result<Bytes> {
        let Some(file) = self.file.clone() else {
            return Ok(Bytes::new());
        };
        let (key, version, position) = (self.key.clone(), self.version.clone(), self.position);
        let length = (self.end - position).min(PIECE);
        let piece = blocking(&self.tree, move |tree| {
            let mut bytes = BytesMut::zeroed(usize::try_from(length).unwrap_or(0));
            let read = file.read_exact_at(&mut bytes, position);
            let stale = || UfsError::Stale {
                at: tree.place(&key),
            };
            match read {
                Ok(()) if tree.version_of_file(&key, &file)? == version => Ok(bytes.freeze()),
                Ok(()) => Err(stale()),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(stale()),
                Err(error) => Err(tree.failed(&key, error)),
            }
        })
        .await?;
        self.position += piece.len() as u64;
        Ok(piece)
    }
}

#[cfg(test)]
mod tests;
