//! The seam to an under file system.
//!
//! [`UnderFileSystem`] has the few methods that a backend must have, each with an
//! options struct; [`UfsExt`] has the sugar. Keys are raw ([`UfsKey`]), relative to the
//! root that the backend was opened with, and are never decoded, folded or normalised.
//!
//! What it deliberately is not: a file system. There are no directories, no handles and
//! no appends; `key` says how paths map to keys.
//!
//! Vocabulary: a *version* tells one state of an object from every other one; a *write
//! id* stands in the object and tells our own repeated write from somebody else's; a
//! *mode* is the condition under which a write may take the name; a *deadline* is how
//! long a mutating request may live (nothing that we send may act after it).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::{ObjectVersion, Timestamp, UfsKey, WriteId};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::capability::Capabilities;
use crate::error::{Place, Result, UfsError};
use crate::upload::{AbortOptions, Upload, UploadId, UploadOptions};

/// A store of objects under keys.
///
/// # Contract
///
/// *Who calls.* Any task, concurrently; implementations are shared behind an `Arc`.
///
/// *Durable and visible.* When [`write`](Self::write), [`Upload::complete`] or
/// [`copy`](Self::copy) returned a version, the object is durable in the store, and
/// whole: a reader never sees part of a write.
///
/// *Versions.* A read with a required version gives bytes of that version or
/// [`UfsError::Stale`], also when the object is gone; it never mixes versions. The
/// identity is the one field that list, head, read and write all return.
///
/// *Conditions.* A create-only write of a taken name is [`UfsError::AlreadyExists`]; a
/// replace or delete of another version than the required one is
/// [`UfsError::Conflict`]. Neither changes anything.
///
/// *Time.* No mutating request acts after the `deadline` it was given, counted from the
/// call; whatever is still open then is abandoned and its connection closed.
/// [`UfsError::unanswered`] says whether a failed request may still take effect until
/// then; [`Written::unanswered`] and [`Deleted::unanswered`] say the same of an earlier
/// try of a request that then succeeded.
///
/// *Retries.* Callers do not loop: the layers of this crate do, within the deadline.
///
/// *Dropping a future* abandons the request: a mutation may or may not have happened,
/// and may happen until its deadline. Reads and lists may be dropped freely.
///
/// *Absence.* [`head`](Self::head) of an absent key is `Ok(None)`, deleting one is
/// success, reading one without a required version is [`UfsError::NotFound`].
#[async_trait]
pub trait UnderFileSystem: Send + Sync + fmt::Debug + 'static {
    /// Scheme and root, without secrets.
    fn describe(&self) -> &Description;

    /// What this store can promise, as measured or as known of such stores.
    fn capabilities(&self) -> Capabilities;

    /// What stands under a key.
    async fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>>;

    /// Streams an object or a range of it. The body yields exactly the bytes of
    /// [`ReadBody::range`], or an error.
    async fn read(&self, key: &UfsKey, options: ReadOptions) -> Result<ReadBody>;

    /// Writes a whole object at once.
    async fn write(&self, key: &UfsKey, payload: Payload, options: WriteOptions)
    -> Result<Written>;

    /// Begins a large object that arrives in parts.
    async fn begin_upload(&self, key: &UfsKey, options: UploadOptions) -> Result<Box<dyn Upload>>;

    /// Uploads that were begun and neither completed nor aborted, of keys that start
    /// with `prefix`, whoever began them. Some stores find them only by the whole key.
    fn list_uploads(&self, prefix: &UfsKey) -> BoxStream<'static, Result<UploadEntry>>;

    /// Ends somebody's upload and frees its parts. An absent one is success.
    async fn abort_upload(
        &self,
        key: &UfsKey,
        upload: &UploadId,
        options: AbortOptions,
    ) -> Result<()>;

    /// Lists in byte order, page by page. Each page is complete for its range of keys,
    /// and an error ends the stream: what was listed before it stays true.
    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListPage>>;

    /// Deletes one object; an absent one is success.
    async fn delete(&self, key: &UfsKey, options: DeleteOptions) -> Result<Deleted>;

    /// Deletes many, with a bounded number in flight; the results come in any order,
    /// one for each request. Each request has the deadline for itself.
    fn delete_many(
        &self,
        requests: BoxStream<'static, DeleteRequest>,
        deadline: Duration,
    ) -> BoxStream<'static, DeleteResult>;

    /// Copies inside the store. A source that is not `source_version` any more is
    /// [`UfsError::Stale`]; the copy carries `write_id`, never its source's.
    async fn copy(&self, source: &UfsKey, target: &UfsKey, options: CopyOptions)
    -> Result<Written>;

    /// Renames atomically where [`Capabilities::atomic_rename`] says so, else
    /// [`UfsError::Unsupported`]. Conditions as for [`copy`](Self::copy).
    async fn rename(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: RenameOptions,
    ) -> Result<Written>;
}

/// What a store is called: for messages and for telling mounts apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The canonical scheme, such as `s3`.
    pub scheme: &'static str,
    /// Scheme, authority and root, such as `s3://bucket/prefix`; no secrets.
    pub root: Arc<str>,
    /// The endpoint where it is not the scheme's own, such as `http://minio:9000`.
    pub endpoint: Option<String>,
}

impl Description {
    /// The place of a key, for messages.
    pub fn place(&self, key: &UfsKey) -> Place {
        Place::new(&self.root, key)
    }
}

/// What list, head and read say of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    /// The object, relative to the root.
    pub key: UfsKey,
    /// Object or directory marker.
    pub kind: EntryKind,
    /// Length in bytes.
    pub size: u64,
    /// When the store says it was last changed.
    pub modified: Timestamp,
    /// What tells this state from every other one.
    pub version: ObjectVersion,
    /// The write id that stands in the object; lists usually do not know it.
    pub write_id: Option<WriteId>,
    /// The identity is too young to be trusted: read it, do not cache it (U8).
    pub young: bool,
}

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Bytes.
    Object,
    /// An empty object whose key ends in `/`: a directory that exists by itself.
    Marker,
}

impl EntryKind {
    /// What an object of this key and size is.
    pub fn of(key: &UfsKey, size: u64) -> Self {
        if size == 0 && key.as_str().ends_with('/') {
            Self::Marker
        } else {
            Self::Object
        }
    }
}

/// How to read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The bytes wanted; all of them when `None`. An end behind the object is cut to
    /// its length; an empty range, or a start at or behind the end, is
    /// [`UfsError::InvalidRange`].
    pub range: Option<Range<u64>>,
    /// The only version to read; anything else is [`UfsError::Stale`].
    pub required: Option<ObjectVersion>,
}

/// The bytes of an object of `size` that a read asked for.
pub(crate) fn resolve_range(
    at: Place,
    wanted: Option<Range<u64>>,
    size: u64,
) -> Result<Range<u64>> {
    let Some(Range { start, end }) = wanted else {
        return Ok(0..size);
    };
    if start >= end || start >= size {
        return Err(UfsError::InvalidRange {
            at,
            start,
            end,
            size,
        });
    }
    Ok(start..end.min(size))
}

/// An object's description and the bytes asked for.
pub struct ReadBody {
    /// What was read.
    pub entry: ObjectEntry,
    /// The bytes that [`body`](Self::body) yields.
    pub range: Range<u64>,
    /// The bytes, in order, in pieces of any size.
    pub body: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for ReadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBody")
            .field("entry", &self.entry)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// Bytes to write, in pieces that need not be contiguous. Cheap to clone.
#[derive(Clone, Default)]
pub struct Payload(Arc<[Bytes]>);

impl Payload {
    /// The length of all pieces.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.0
    }

    /// All pieces as one; copies unless there is only one.
    pub fn to_bytes(&self) -> Bytes {
        match &*self.0 {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(Arc::from([bytes]))
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self(Arc::from(pieces))
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

/// The condition under which a write takes the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteMode {
    /// Only if nothing is there.
    CreateOnly,
    /// Whatever is there.
    Replace,
    /// Only if this version is there.
    ReplaceIf(ObjectVersion),
}

/// Who sees to a condition that the store may not obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guard {
    /// The store where it is known to obey, else a look immediately before as well.
    #[default]
    Careful,
    /// Only what the store itself does with the condition: for probing it (U7).
    StoreOnly,
}

/// How to write a whole object.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The condition.
    pub mode: WriteMode,
    /// Stands in the object; random for each attempt of the caller.
    pub write_id: WriteId,
    /// How long the request may live.
    pub deadline: Duration,
    /// Who sees to the condition.
    pub guard: Guard,
}

impl WriteOptions {
    /// A write that is careful about its condition.
    pub fn new(mode: WriteMode, write_id: WriteId, deadline: Duration) -> Self {
        Self {
            mode,
            write_id,
            deadline,
            guard: Guard::Careful,
        }
    }
}

/// What a write, a completed upload, a copy or a rename left in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The version that now stands there.
    pub version: ObjectVersion,
    /// An earlier try of the same request got no answer and may still act until the
    /// deadline of the call.
    pub unanswered: bool,
}

impl Written {
    /// A write that was answered at the first try.
    pub fn answered(version: ObjectVersion) -> Self {
        Self {
            version,
            unanswered: false,
        }
    }
}

/// How to delete.
#[derive(Debug, Clone)]
pub struct DeleteOptions {
    /// The only version to delete; another one is [`UfsError::Conflict`].
    pub required: Option<ObjectVersion>,
    /// How long the request may live.
    pub deadline: Duration,
    /// Who sees to the condition.
    pub guard: Guard,
}

impl DeleteOptions {
    /// A delete that is careful about its condition.
    pub fn new(required: Option<ObjectVersion>, deadline: Duration) -> Self {
        Self {
            required,
            deadline,
            guard: Guard::Careful,
        }
    }
}

/// A delete that was carried out, or found nothing to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// An earlier try of the same request got no answer and may still act until the
    /// deadline of the call.
    pub unanswered: bool,
}

/// One of many deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// The object.
    pub key: UfsKey,
    /// The only version to delete.
    pub required: Option<ObjectVersion>,
}

/// What came of one of many deletes.
#[derive(Debug)]
pub struct DeleteResult {
    /// What was asked for.
    pub request: DeleteRequest,
    /// What came of it.
    pub result: Result<Deleted>,
}

/// How to copy.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// The only version to copy; anything else is [`UfsError::Stale`].
    pub source_version: ObjectVersion,
    /// The condition on the target.
    pub mode: WriteMode,
    /// Stands in the copy.
    pub write_id: WriteId,
    /// How long each of its requests may live, counted from the call.
    pub deadline: Duration,
    /// Who sees to the conditions.
    pub guard: Guard,
}

/// How to rename.
#[derive(Debug, Clone)]
pub struct RenameOptions {
    /// The only version to rename; anything else is [`UfsError::Stale`].
    pub source_version: ObjectVersion,
    /// The condition on the target.
    pub mode: WriteMode,
    /// Stands in the object afterwards.
    pub write_id: WriteId,
    /// How long the request may live.
    pub deadline: Duration,
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Only keys that start with this; any text, not only directories.
    pub prefix: UfsKey,
    /// Fold keys with a `/` behind the prefix into one common prefix each.
    pub delimiter: bool,
    /// Only names behind this one in byte order; a key or a common prefix, so that
    /// [`ListPage::next`] can be given here.
    pub start_after: Option<UfsKey>,
    /// At most this many names in all; zero counts as one.
    pub limit: Option<usize>,
}

impl ListOptions {
    /// Everything below a prefix.
    pub fn all(prefix: &str) -> Self {
        Self {
            prefix: UfsKey::new(prefix),
            ..Self::default()
        }
    }

    /// One directory level; the prefix is empty or ends in `/`.
    pub fn level(prefix: &str) -> Self {
        Self {
            delimiter: true,
            ..Self::all(prefix)
        }
    }
}

impl ListOptions {
    /// The common prefix that a key below the prefix is folded into.
    pub(crate) fn fold(&self, key: &UfsKey) -> Option<UfsKey> {
        if !self.delimiter {
            return None;
        }
        let start = self.prefix.as_str().len();
        let slash = key.as_str().get(start..)?.find('/')?;
        Some(UfsKey::new(&key.as_str()[..=start + slash]))
    }
}

/// A run of names, complete between the page before it and [`next`](Self::next).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects in byte order.
    pub entries: Vec<ObjectEntry>,
    /// Common prefixes in byte order, each ending in `/`.
    pub common_prefixes: Vec<UfsKey>,
    /// Names that the store has and that no key can state.
    pub skipped: Vec<Skipped>,
    /// The last name that this page covers, when there may be more behind it. `None`:
    /// the listing is complete to the end of the prefix.
    pub next: Option<UfsKey>,
}

impl ListPage {
    /// How many entries and common prefixes there are.
    pub fn names(&self) -> usize {
        self.entries.len() + self.common_prefixes.len()
    }

    /// The last name in byte order.
    pub(crate) fn last_name(&self) -> Option<UfsKey> {
        let entry = self.entries.last().map(|entry| &entry.key);
        entry.max(self.common_prefixes.last()).cloned()
    }
}

/// A name that was left out of a listing, and why; for the report (U3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The name, with what is not UTF-8 replaced.
    pub name: String,
    /// Why it cannot be used.
    pub reason: &'static str,
}

/// An upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadEntry {
    /// The object that it would become.
    pub key: UfsKey,
    /// What to abort it by.
    pub id: UploadId,
    /// When it was begun, by the store's clock.
    pub begun: Timestamp,
    /// Its write id where the store tells it.
    pub write_id: Option<WriteId>,
}

/// What can be said with the methods of [`UnderFileSystem`].
///
/// # Contract
/// As that of the methods used. Implemented for every store; not meant to be
/// implemented by hand.
#[async_trait]
pub trait UfsExt: UnderFileSystem {
    /// Reads an object or a range of it into memory; refuses more than `at_most` bytes.
    async fn read_bytes(&self, key: &UfsKey, options: ReadOptions, at_most: u64) -> Result<Bytes> {
        let mut read = self.read(key, options).await?;
        let length = read.range.end - read.range.start;
        if length > at_most {
            return Err(UfsError::TooLarge {
                at: self.describe().place(key),
                size: length,
                largest: at_most,
            });
        }
        let mut pieces: Vec<Bytes> = Vec::new();
        while let Some(piece) = read.body.next().await {
            pieces.push(piece?);
        }
        Ok(Payload::from(pieces).to_bytes())
    }

    /// Whether something stands under the key.
    async fn exists(&self, key: &UfsKey) -> Result<bool> {
        Ok(self.head(key).await?.is_some())
    }

    /// Whether any key starts with the prefix; one request.
    async fn any_below(&self, prefix: &UfsKey) -> Result<bool> {
        let mut pages = self.list(ListOptions {
            prefix: prefix.clone(),
            limit: Some(1),
            ..ListOptions::default()
        });
        while let Some(page) = pages.next().await {
            let page = page?;
            if !page.entries.is_empty() || !page.skipped.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One page with all names of one directory level; for small directories.
    async fn list_level(&self, prefix: &UfsKey) -> Result<ListPage> {
        let mut pages = self.list(ListOptions::level(prefix.as_str()));
        let mut all = ListPage::default();
        while let Some(page) = pages.next().await {
            let mut page = page?;
            all.entries.append(&mut page.entries);
            all.common_prefixes.append(&mut page.common_prefixes);
            all.skipped.append(&mut page.skipped);
        }
        Ok(all)
    }

    /// Every object below a prefix, one by one.
    fn list_entries(&self, options: ListOptions) -> BoxStream<'static, Result<ObjectEntry>> {
        self.list(options)
            .flat_map(|page| match page {
                Ok(page) => futures::stream::iter(page.entries.into_iter().map(Ok)).boxed(),
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }
}

impl<T: UnderFileSystem + ?Sized> UfsExt for T {}
