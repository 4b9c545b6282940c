//! A complete store in memory: versions, conditions, uploads.
//!
//! For tests, demonstrations and `mem://`. It is also the plainest statement of the
//! contract: every operation is one step under one lock. Nothing is durable, and
//! nothing is bounded but by memory.
//!
//! An identity is the store's random generation and a counter, so that no two writes,
//! in whatever store, share one.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::time::Duration;

use arustio_types::{ObjectVersion, Timestamp, UfsKey, WallClock, WriteId};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;

use crate::capability::Capabilities;
use crate::error::{Place, Result, UfsError};
use crate::ufs::{
    CopyOptions, DeleteOptions, DeleteRequest, DeleteResult, Deleted, Description, EntryKind,
    ListOptions, ListPage, ObjectEntry, Payload, ReadBody, ReadOptions, RenameOptions,
    UnderFileSystem, UploadEntry, WriteMode, WriteOptions, Written, resolve_range,
};
use crate::upload::{AbortOptions, CompleteOptions, Upload, UploadId, UploadOptions};

/// Names on one page of a listing.
const PAGE: usize = 1000;
/// Bytes in one piece of a body.
const PIECE: usize = 1 << 20;

/// The objects of one `mem://` authority, shared by everybody who opened it.
#[derive(Debug)]
pub struct MemoryStore {
    generation: u64,
    clock: Arc<dyn WallClock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counter: u64,
    objects: BTreeMap<UfsKey, Object>,
    uploads: BTreeMap<UploadId, Pending>,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    identity: u64,
    modified: Timestamp,
    write_id: WriteId,
}

#[derive(Debug)]
struct Pending {
    key: UfsKey,
    write_id: WriteId,
    begun: Timestamp,
    parts: BTreeMap<u32, Payload>,
}

impl MemoryStore {
    /// An empty store; `generation` is random, so that identities of two stores differ.
    pub fn new(generation: u64, clock: Arc<dyn WallClock>) -> Arc<Self> {
        Arc::new(Self {
            generation,
            clock,
            state: Mutex::default(),
        })
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.state.lock().objects.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn version(&self, object: &Object) -> ObjectVersion {
        ObjectVersion::new(&format!("{:016x}-{}", self.generation, object.identity))
    }

    fn entry(&self, key: &UfsKey, object: &Object) -> ObjectEntry {
        let size = object.bytes.len() as u64;
        ObjectEntry {
            key: key.clone(),
            kind: EntryKind::of(key, size),
            size,
            modified: object.modified,
            version: self.version(object),
            write_id: Some(object.write_id),
            young: false,
        }
    }

    /// Checks the condition of a write against what is there.
    fn admit(&self, state: &State, at: Place, key: &UfsKey, mode: &WriteMode) -> Result<()> {
        let found = state.objects.get(key);
        match (mode, found) {
            (WriteMode::Replace, _) | (WriteMode::CreateOnly, None) => Ok(()),
            (WriteMode::CreateOnly, Some(_)) => Err(UfsError::AlreadyExists { at }),
            (WriteMode::ReplaceIf(version), Some(object)) if self.version(object) == *version => {
                Ok(())
            }
            (WriteMode::ReplaceIf(_), _) => Err(UfsError::Conflict { at }),
        }
    }

    fn put(&self, state: &mut State, key: &UfsKey, bytes: Bytes, write_id: WriteId) -> Written {
        state.counter += 1;
        let object = Object {
            bytes,
            identity: state.counter,
            modified: self.clock.now(),
            write_id,
        };
        let version = self.version(&object);
        state.objects.insert(key.clone(), object);
        Written::answered(version)
    }

    /// One page behind `after`, with at most `limit` names.
    fn page(&self, options: &ListOptions, after: Option<&UfsKey>, limit: usize) -> ListPage {
        let state = self.state.lock();
        let prefix = options.prefix.as_str();
        let mut page = ListPage::default();
        let mut names = 0;
        let mut from = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.clone()),
            _ => Bound::Included(options.prefix.clone()),
        };
        while let Some((key, object)) = state.objects.range((from, Bound::Unbounded)).next() {
            if !key.as_str().starts_with(prefix) {
                return page;
            }
            from = Bound::Excluded(key.clone());
            let folded = options.fold(key);
            if let Some(common) = &folded {
                from = Bound::Included(behind_prefix(common));
                if after.is_some_and(|after| common <= after) {
                    continue;
                }
            }
            if names == limit {
                page.next = page.last_name();
                return page;
            }
            names += 1;
            match folded {
                Some(common) => page.common_prefixes.push(common),
                None => page.entries.push(self.entry(key, object)),
            }
        }
        page
    }
}

/// The first key that does not start with a common prefix: its last `/` becomes `0`,
/// the next character in byte order.
fn behind_prefix(common: &UfsKey) -> UfsKey {
    let stem = common.as_str().strip_suffix('/').unwrap_or(common.as_str());
    UfsKey::new(&format!("{stem}0"))
}

/// A [`MemoryStore`] as an under file system.
#[derive(Debug, Clone)]
pub struct MemoryUfs {
    store: Arc<MemoryStore>,
    description: Description,
}

impl MemoryUfs {
    /// Opens a store that is called `mem://name`.
    pub fn new(name: &str, store: Arc<MemoryStore>) -> Self {
        Self {
            store,
            description: Description {
                scheme: "mem",
                root: Arc::from(format!("mem://{name}")),
                endpoint: None,
            },
        }
    }

    fn place(&self, key: &UfsKey) -> Place {
        self.description.place(key)
    }

    /// The object if it is the version that is required.
    fn exact(&self, state: &State, key: &UfsKey, version: &ObjectVersion) -> Result<Object> {
        match state.objects.get(key) {
            Some(object) if self.store.version(object) == *version => Ok(object.clone()),
            _ => Err(UfsError::Stale {
                at: self.place(key),
            }),
        }
    }

    fn delete_now(&self, key: &UfsKey, required: Option<&ObjectVersion>) -> Result<Deleted> {
        let mut state = self.store.state.lock();
        match (state.objects.get(key), required) {
            (None, _) => return Ok(Deleted::default()),
            (Some(object), Some(version)) if self.store.version(object) != *version => {
                return Err(UfsError::Conflict {
                    at: self.place(key),
                });
            }
            (Some(_), _) => {}
        }
        state.objects.remove(key);
        Ok(Deleted::default())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UnderFileSystem for MemoryUfs {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            measured: true,
            ..Capabilities::full()
        }
    }

    async fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>> {
        let state = self.store.state.lock();
        Ok(state
            .objects
            .get(key)
            .map(|object| self.store.entry(key, object)))
    }

    async fn read(&self, key: &UfsKey, options: ReadOptions) -> Result<ReadBody> {
        let state = self.store.state.lock();
        let object = match (&options.required, state.objects.get(key)) {
            (Some(version), _) => self.exact(&state, key, version)?,
            (None, Some(object)) => object.clone(),
            (None, None) => {
                return Err(UfsError::NotFound {
                    at: self.place(key),
                });
            }
        };
        drop(state);
        let entry = self.store.entry(key, &object);
        let range = resolve_range(self.place(key), options.range, entry.size)?;
        let body = pieces(object.bytes, range.clone());
        Ok(ReadBody { entry, range, body })
    }

    async fn write(
        &self,
        key: &UfsKey,
        payload: Payload,
        options: WriteOptions,
    ) -> Result<Written> {
        let bytes = payload.to_bytes();
        let mut state = self.store.state.lock();
        self.store
            .admit(&state, self.place(key), key, &options.mode)?;
        Ok(self.store.put(&mut state, key, bytes, options.write_id))
    }

    async fn begin_upload(&self, key: &UfsKey, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let mut state = self.store.state.lock();
        state.counter += 1;
        let id = UploadId::new(&format!("{:016x}-{}", self.store.generation, state.counter));
        let pending = Pending {
            key: key.clone(),
            write_id: options.write_id,
            begun: self.store.clock.now(),
            parts: BTreeMap::new(),
        };
        state.uploads.insert(id.clone(), pending);
        Ok(Box::new(MemoryUpload {
            ufs: self.clone(),
            key: key.clone(),
            id,
        }))
    }

    fn list_uploads(&self, prefix: &UfsKey) -> BoxStream<'static, Result<UploadEntry>> {
        let state = self.store.state.lock();
        let found: Vec<_> = state
            .uploads
            .iter()
            .filter(|(_, pending)| pending.key.as_str().starts_with(prefix.as_str()))
            .map(|(id, pending)| {
                Ok(UploadEntry {
                    key: pending.key.clone(),
                    id: id.clone(),
                    begun: pending.begun,
                    write_id: Some(pending.write_id),
                })
            })
            .collect();
        futures::stream::iter(found).boxed()
    }

    async fn abort_upload(
        &self,
        key: &UfsKey,
        upload: &UploadId,
        _options: AbortOptions,
    ) -> Result<()> {
        let mut state = self.store.state.lock();
        if state
            .uploads
            .get(upload)
            .is_some_and(|pending| pending.key == *key)
        {
            state.uploads.remove(upload);
        }
        Ok(())
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListPage>> {
        let store = Arc::clone(&self.store);
        let left = options.limit.map_or(usize::MAX, |limit| limit.max(1));
        let start = Some((options.start_after.clone(), left));
        futures::stream::unfold(start, move |cursor| {
            let page = cursor.map(|(after, left)| {
                let page = store.page(&options, after.as_ref(), left.min(PAGE));
                let left = left - page.names();
                let next = page.next.clone().filter(|_| left > 0);
                (Ok(page), next.map(|name| (Some(name), left)))
            });
            futures::future::ready(page)
        })
        .boxed()
    }

    async fn delete(&self, key: &UfsKey, options: DeleteOptions) -> Result<Deleted> {
        self.delete_now(key, options.required.as_ref())
    }

    fn delete_many(
        &self,
        requests: BoxStream<'static, DeleteRequest>,
        _deadline: Duration,
    ) -> BoxStream<'static, DeleteResult> {
        let ufs = self.clone();
        requests
            .map(move |request| {
                let result = ufs.delete_now(&request.key, request.required.as_ref());
                DeleteResult { request, result }
            })
            .boxed()
    }

    async fn copy(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: CopyOptions,
    ) -> Result<Written> {
        let mut state = self.store.state.lock();
        let object = self.exact(&state, source, &options.source_version)?;
        self.store
            .admit(&state, self.place(target), target, &options.mode)?;
        Ok(self
            .store
            .put(&mut state, target, object.bytes, options.write_id))
    }

    async fn rename(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: RenameOptions,
    ) -> Result<Written> {
        let mut state = self.store.state.lock();
        let object = self.exact(&state, source, &options.source_version)?;
        self.store
            .admit(&state, self.place(target), target, &options.mode)?;
        state.objects.remove(source);
        Ok(self
            .store
            .put(&mut state, target, object.bytes, options.write_id))
    }
}

/// The bytes of a range in pieces, so that readers meet more than one.
fn pieces(bytes: Bytes, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    let to_index = |at: u64| usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
    let mut wanted = bytes.slice(to_index(range.start)..to_index(range.end));
    futures::stream::iter(std::iter::from_fn(move || {
        let length = wanted.len().min(PIECE);
        (length > 0).then(|| Ok(wanted.split_to(length)))
    }))
    .boxed()
}

/// An upload into a [`MemoryStore`].
#[derive(Debug)]
struct MemoryUpload {
    ufs: MemoryUfs,
    key: UfsKey,
    id: UploadId,
}

#[async_trait]
impl Upload for MemoryUpload {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn put_part(&self, number: u32, payload: Payload, _deadline: Duration) -> Result<()> {
        let at = self.ufs.place(&self.key);
        let mut state = self.ufs.store.state.lock();
        let pending = state
            .uploads
            .get_mut(&self.id)
            .ok_or(UfsError::NotFound { at })?;
        pending.parts.insert(number, payload);
        Ok(())
    }

    async fn complete(&self, options: CompleteOptions) -> Result<Written> {
        let at = self.ufs.place(&self.key);
        let store = &self.ufs.store;
        let mut state = store.state.lock();
        let Some(pending) = state.uploads.get(&self.id) else {
            return Err(UfsError::NotFound { at });
        };
        if pending
            .parts
            .keys()
            .copied()
            .ne(1..=pending.parts.len() as u32)
        {
            let what = "a part is missing".to_owned();
            return Err(UfsError::InvalidArgument { at, what });
        }
        store.admit(&state, at, &self.key, &options.mode)?;
        let write_id = pending.write_id;
        let parts = pending.parts.values();
        let bytes: Vec<Bytes> = parts.flat_map(|part| part.pieces().to_vec()).collect();
        state.uploads.remove(&self.id);
        let bytes = Payload::from(bytes).to_bytes();
        Ok(store.put(&mut state, &self.key, bytes, write_id))
    }

    async fn abort(&self, _options: AbortOptions) -> Result<()> {
        self.ufs.store.state.lock().uploads.remove(&self.id);
        Ok(())
    }
}

impl Drop for MemoryUpload {
    fn drop(&mut self) {
        self.ufs.store.state.lock().uploads.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
