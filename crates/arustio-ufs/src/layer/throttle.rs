//! Makes a store as slow as it is told, for budgets and for tests.
//!
//! A pause before each request, and a byte rate for bodies and payloads. The pauses are
//! added to what the store itself takes and count against no deadline.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::UfsKey;
use async_trait::async_trait;
use bytes::Bytes;
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

/// How slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ThrottleConfig {
    /// Before each request.
    pub request_pause: Duration,
    /// Bytes a second for one body or payload; 0 is unlimited.
    pub bytes_per_second: u64,
}

impl ThrottleConfig {
    async fn request(self) {
        if !self.request_pause.is_zero() {
            tokio::time::sleep(self.request_pause).await;
        }
    }

    async fn bytes(self, bytes: u64) {
        if self.bytes_per_second > 0 {
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
            let pause = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            tokio::time::sleep(pause).await;
        }
    }
}

/// A store that is slowed down.
#[derive(Debug)]
pub struct Throttle {
    inner: Arc<dyn UnderFileSystem>,
    config: ThrottleConfig,
}

impl Throttle {
    /// Slows `inner` down by `config`.
    pub fn new(inner: Arc<dyn UnderFileSystem>, config: ThrottleConfig) -> Self {
        Self { inner, config }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UnderFileSystem for Throttle {
    fn describe(&self) -> &Description {
        self.inner.describe()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>> {
        self.config.request().await;
        self.inner.head(key).await
    }

    async fn read(&self, key: &UfsKey, options: ReadOptions) -> Result<ReadBody> {
        let config = self.config;
        config.request().await;
        let mut read = self.inner.read(key, options).await?;
        let body = read.body.then(move |piece: Result<Bytes>| async move {
            let piece = piece?;
            config.bytes(piece.len() as u64).await;
            Ok(piece)
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
        self.config.request().await;
        self.config.bytes(payload.len()).await;
        self.inner.write(key, payload, options).await
    }

    async fn begin_upload(&self, key: &UfsKey, options: UploadOptions) -> Result<Box<dyn Upload>> {
        self.config.request().await;
        let upload = self.inner.begin_upload(key, options).await?;
        Ok(Box::new(ThrottledUpload {
            inner: upload,
            config: self.config,
        }))
    }

    fn list_uploads(&self, prefix: &UfsKey) -> BoxStream<'static, Result<UploadEntry>> {
        self.inner.list_uploads(prefix)
    }

    async fn abort_upload(
        &self,
        key: &UfsKey,
        upload: &UploadId,
        options: AbortOptions,
    ) -> Result<()> {
        self.config.request().await;
        self.inner.abort_upload(key, upload, options).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListPage>> {
        let config = self.config;
        let pages = self.inner.list(options);
        pages
            .then(move |page| async move {
                config.request().await;
                page
            })
            .boxed()
    }

    async fn delete(&self, key: &UfsKey, options: DeleteOptions) -> Result<Deleted> {
        self.config.request().await;
        self.inner.delete(key, options).await
    }

    fn delete_many(
        &self,
        requests: BoxStream<'static, DeleteRequest>,
        deadline: Duration,
    ) -> BoxStream<'static, DeleteResult> {
        let config = self.config;
        let requests = requests.then(move |request| async move {
            config.request().await;
            request
        });
        self.inner.delete_many(requests.boxed(), deadline)
    }

    async fn copy(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: CopyOptions,
    ) -> Result<Written> {
        self.config.request().await;
        self.inner.copy(source, target, options).await
    }

    async fn rename(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: RenameOptions,
    ) -> Result<Written> {
        self.config.request().await;
        self.inner.rename(source, target, options).await
    }
}

/// An upload that is slowed down.
#[derive(Debug)]
struct ThrottledUpload {
    inner: Box<dyn Upload>,
    config: ThrottleConfig,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for ThrottledUpload {
    fn id(&self) -> &UploadId {
        self.inner.id()
    }

    async fn put_part(&self, number: u32, payload: Payload, deadline: Duration) -> Result<()> {
        self.config.request().await;
        self.config.bytes(payload.len()).await;
        self.inner.put_part(number, payload, deadline).await
    }

    async fn complete(&self, options: CompleteOptions) -> Result<Written> {
        self.config.request().await;
        self.inner.complete(options).await
    }

    async fn abort(&self, options: AbortOptions) -> Result<()> {
        self.config.request().await;
        self.inner.abort(options).await
    }
}
