//! Counts what is really asked of a store, by operation.
//!
//! It sits below the retries, so that amplification shows. Counters only rise; whoever
//! wants a rate takes two snapshots. Names of exported metrics are in
//! [`metrics`](crate::metrics).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arustio_types::UfsKey;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::capability::Capabilities;
use crate::error::Result;
use crate::ufs::{
    CopyOptions, DeleteOptions, DeleteRequest, DeleteResult, Deleted, Description, ListOptions,
    ListPage, ObjectEntry, Payload, ReadBody, ReadOptions, RenameOptions, UnderFileSystem,
    UploadEntry, WriteOptions, Written,
};
use crate::upload::{AbortOptions, CompleteOptions, Upload, UploadId, UploadOptions};

/// What is counted apart. The label of every metric of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Looking at one object.
    Head,
    /// Reading an object or a range.
    Read,
    /// Writing a whole object.
    Write,
    /// Beginning, completing or aborting an upload.
    Upload,
    /// Sending a part.
    Part,
    /// A page of a listing of objects or uploads.
    List,
    /// Deleting an object.
    Delete,
    /// Copying or renaming inside the store.
    Copy,
}

impl Operation {
    /// Every operation, in the order of its declaration.
    pub const ALL: [Self; 8] = [
        Self::Head,
        Self::Read,
        Self::Write,
        Self::Upload,
        Self::Part,
        Self::List,
        Self::Delete,
        Self::Copy,
    ];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Read => "read",
            Self::Write => "write",
            Self::Upload => "upload",
            Self::Part => "part",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Copy => "copy",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was counted of one operation, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests begun.
    pub requests: u64,
    /// Requests that failed, refusals included.
    pub errors: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

/// The counters of one store.
#[derive(Debug, Default)]
pub struct UfsMetrics {
    cells: [Cell; 8],
}

#[derive(Debug, Default)]
struct Cell {
    requests: AtomicU64,
    errors: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl UfsMetrics {
    /// What was counted of one operation so far.
    pub fn of(&self, operation: Operation) -> Counts {
        let cell = self.cell(operation);
        Counts {
            requests: cell.requests.load(Ordering::Relaxed),
            errors: cell.errors.load(Ordering::Relaxed),
            bytes_in: cell.bytes_in.load(Ordering::Relaxed),
            bytes_out: cell.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// What was counted of all operations so far.
    pub fn total(&self) -> Counts {
        Operation::ALL
            .iter()
            .fold(Counts::default(), |sum, operation| {
                let counts = self.of(*operation);
                Counts {
                    requests: sum.requests + counts.requests,
                    errors: sum.errors + counts.errors,
                    bytes_in: sum.bytes_in + counts.bytes_in,
                    bytes_out: sum.bytes_out + counts.bytes_out,
                }
            })
    }

    fn cell(&self, operation: Operation) -> &Cell {
        &self.cells[operation as usize]
    }

    fn begin(&self, operation: Operation) {
        self.cell(operation)
            .requests
            .fetch_add(1, Ordering::Relaxed);
    }

    fn sent(&self, operation: Operation, bytes: u64) {
        self.cell(operation)
            .bytes_out
            .fetch_add(bytes, Ordering::Relaxed);
    }

    fn received(&self, operation: Operation, bytes: usize) {
        let cell = self.cell(operation);
        cell.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn end<T>(&self, operation: Operation, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.cell(operation).errors.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

/// A store that counts what is asked of it.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn UnderFileSystem>,
    metrics: Arc<UfsMetrics>,
}

impl Metered {
    /// Counts into `metrics`.
    pub fn new(inner: Arc<dyn UnderFileSystem>, metrics: Arc<UfsMetrics>) -> Self {
        Self { inner, metrics }
    }

    async fn count<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.metrics.begin(operation);
        self.metrics.end(operation, request.await)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UnderFileSystem for Metered {
    fn describe(&self) -> &Description {
        self.inner.describe()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>> {
        self.count(Operation::Head, self.inner.head(key)).await
    }

    async fn read(&self, key: &UfsKey, options: ReadOptions) -> Result<ReadBody> {
        let request = self.inner.read(key, options);
        let mut read = self.count(Operation::Read, request).await?;
        let metrics = Arc::clone(&self.metrics);
        let body = read.body.map(move |piece| match piece {
            Ok(piece) => {
                metrics.received(Operation::Read, piece.len());
                Ok(piece)
            }
            Err(error) => metrics.end(Operation::Read, Err(error)),
        });
        read.body = body.boxed();
        Ok(read)
    }

    async fn write(
        &self,
        key: &UfsKey,
        payload: Payload,
        options: WriteOptions,
    ) -> Result<Written> {
        self.metrics.sent(Operation::Write, payload.len());
        let request = self.inner.write(key, payload, options);
        self.count(Operation::Write, request).await
    }

    async fn begin_upload(&self, key: &UfsKey, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let request = self.inner.begin_upload(key, options);
        let upload = self.count(Operation::Upload, request).await?;
        Ok(Box::new(MeteredUpload {
            inner: upload,
            metrics: Arc::clone(&self.metrics),
        }))
    }

    fn list_uploads(&self, prefix: &UfsKey) -> BoxStream<'static, Result<UploadEntry>> {
        self.metrics.begin(Operation::List);
        let metrics = Arc::clone(&self.metrics);
        let found = self.inner.list_uploads(prefix);
        found
            .map(move |upload| metrics.end(Operation::List, upload))
            .boxed()
    }

    async fn abort_upload(
        &self,
        key: &UfsKey,
        upload: &UploadId,
        options: AbortOptions,
    ) -> Result<()> {
        let request = self.inner.abort_upload(key, upload, options);
        self.count(Operation::Upload, request).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListPage>> {
        let metrics = Arc::clone(&self.metrics);
        let pages = self.inner.list(options);
        pages
            .map(move |page| {
                metrics.begin(Operation::List);
                metrics.end(Operation::List, page)
            })
            .boxed()
    }

    async fn delete(&self, key: &UfsKey, options: DeleteOptions) -> Result<Deleted> {
        let request = self.inner.delete(key, options);
        self.count(Operation::Delete, request).await
    }

    fn delete_many(
        &self,
        requests: BoxStream<'static, DeleteRequest>,
        deadline: Duration,
    ) -> BoxStream<'static, DeleteResult> {
        let metrics = Arc::clone(&self.metrics);
        let results = self.inner.delete_many(requests, deadline);
        results
            .map(move |mut done| {
                metrics.begin(Operation::Delete);
                done.result = metrics.end(Operation::Delete, done.result);
                done
            })
            .boxed()
    }

    async fn copy(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: CopyOptions,
    ) -> Result<Written> {
        let request = self.inner.copy(source, target, options);
        self.count(Operation::Copy, request).await
    }

    async fn rename(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: RenameOptions,
    ) -> Result<Written> {
        let request = self.inner.rename(source, target, options);
        self.count(Operation::Copy, request).await
    }
}

/// An upload that is counted.
#[derive(Debug)]
struct MeteredUpload {
    inner: Box<dyn Upload>,
    metrics: Arc<UfsMetrics>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for MeteredUpload {
    fn id(&self) -> &UploadId {
        self.inner.id()
    }

    async fn put_part(&self, number: u32, payload: Payload, deadline: Duration) -> Result<()> {
        self.metrics.begin(Operation::Part);
        self.metrics.sent(Operation::Part, payload.len());
        let done = self.inner.put_part(number, payload, deadline).await;
        self.metrics.end(Operation::Part, done)
    }

    async fn complete(&self, options: CompleteOptions) -> Result<Written> {
        self.metrics.begin(Operation::Upload);
        let done = self.inner.complete(options).await;
        self.metrics.end(Operation::Upload, done)
    }

    async fn abort(&self, options: AbortOptions) -> Result<()> {
        self.metrics.begin(Operation::Upload);
        let done = self.inner.abort(options).await;
        self.metrics.end(Operation::Upload, done)
    }
}
