//! A store seen from a prefix: the key prefix of a URI counts.
//!
//! Pure translation of keys, both ways; errors name the prefix as part of the root.

use std::sync::Arc;
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
use crate::upload::{AbortOptions, Upload, UploadId, UploadOptions};

/// A store whose every key lies below a prefix.
#[derive(Debug)]
pub struct Rooted {
    inner: Arc<dyn UnderFileSystem>,
    prefix: Arc<str>,
    description: Description,
}

impl Rooted {
    /// Shows the part of a store below `prefix`, which is empty or ends in `/`.
    pub fn wrap(inner: Arc<dyn UnderFileSystem>, prefix: &str) -> Arc<dyn UnderFileSystem> {
        if prefix.is_empty() {
            return inner;
        }
        let outer = inner.describe();
        let root = format!("{}/{}", outer.root, prefix.trim_end_matches('/'));
        let description = Description {
            root: Arc::from(root),
            ..outer.clone()
        };
        Arc::new(Self {
            inner,
            prefix: Arc::from(prefix),
            description,
        })
    }

    fn down(&self, key: &UfsKey) -> UfsKey {
        UfsKey::new(&format!("{}{key}", self.prefix))
    }

    fn entry_up(&self, mut entry: ObjectEntry) -> ObjectEntry {
        entry.key = up(&self.prefix, &entry.key);
        entry
    }
}

/// A key of the store as it is seen from below the prefix.
fn up(prefix: &str, key: &UfsKey) -> UfsKey {
    UfsKey::new(key.as_str().strip_prefix(prefix).unwrap_or_default())
}

fn page_up(prefix: &str, mut page: ListPage) -> ListPage {
    for entry in &mut page.entries {
        entry.key = up(prefix, &entry.key);
    }
    for common in page.common_prefixes.iter_mut().chain(&mut page.next) {
        *common = up(prefix, common);
    }
    page
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UnderFileSystem for Rooted {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>> {
        let found = self.inner.head(&self.down(key)).await?;
        Ok(found.map(|entry| self.entry_up(entry)))
    }

    async fn read(&self, key: &UfsKey, options: ReadOptions) -> Result<ReadBody> {
        let mut read = self.inner.read(&self.down(key), options).await?;
        read.entry = self.entry_up(read.entry);
        Ok(read)
    }

    async fn write(
        &self,
        key: &UfsKey,
        payload: Payload,
        options: WriteOptions,
    ) -> Result<Written> {
        self.inner.write(&self.down(key), payload, options).await
    }

    async fn begin_upload(&self, key: &UfsKey, options: UploadOptions) -> Result<Box<dyn Upload>> {
        self.inner.begin_upload(&self.down(key), options).await
    }

    fn list_uploads(&self, prefix: &UfsKey) -> BoxStream<'static, Result<UploadEntry>> {
        let root = Arc::clone(&self.prefix);
        let found = self.inner.list_uploads(&self.down(prefix));
        found
            .map(move |upload| {
                let mut upload = upload?;
                upload.key = up(&root, &upload.key);
                Ok(upload)
            })
            .boxed()
    }

    async fn abort_upload(
        &self,
        key: &UfsKey,
        upload: &UploadId,
        options: AbortOptions,
    ) -> Result<()> {
        self.inner
            .abort_upload(&self.down(key), upload, options)
            .await
    }

    fn list(&self, mut options: ListOptions) -> BoxStream<'static, Result<ListPage>> {
        options.prefix = self.down(&options.prefix);
        options.start_after = options.start_after.map(|key| self.down(&key));
        let root = Arc::clone(&self.prefix);
        let pages = self.inner.list(options);
        pages.map(move |page| Ok(page_up(&root, page?))).boxed()
    }

    async fn delete(&self, key: &UfsKey, options: DeleteOptions) -> Result<Deleted> {
        self.inner.delete(&self.down(key), options).await
    }

    fn delete_many(
        &self,
        requests: BoxStream<'static, DeleteRequest>,
        deadline: Duration,
    ) -> BoxStream<'static, DeleteResult> {
        let root = Arc::clone(&self.prefix);
        let requests = requests.map(move |mut request| {
            request.key = UfsKey::new(&format!("{root}{}", request.key));
            request
        });
        let root = Arc::clone(&self.prefix);
        let results = self.inner.delete_many(requests.boxed(), deadline);
        results
            .map(move |mut done| {
                done.request.key = up(&root, &done.request.key);
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
        let (source, target) = (self.down(source), self.down(target));
        self.inner.copy(&source, &target, options).await
    }

    async fn rename(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: RenameOptions,
    ) -> Result<Written> {
        let (source, target) = (self.down(source), self.down(target));
        self.inner.rename(&source, &target, options).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arustio_types::{ManualClock, Timestamp};

    use super::*;
    use crate::memory::{MemoryStore, MemoryUfs};
    use crate::testing::conformance::{self, Bench};

    #[tokio::test]
    async fn a_rooted_store_conforms_and_names_its_root() {
        let clock = ManualClock::new(Timestamp::from_millis(1));
        let store = MemoryStore::new(1, Arc::new(clock));
        let ufs = Arc::new(MemoryUfs::new("t", Arc::clone(&store)));
        let rooted = Rooted::wrap(ufs, "some/prefix/");
        assert_eq!(&*rooted.describe().root, "mem://t/some/prefix");
        conformance::all(&Bench::new(Arc::clone(&rooted), "")).await;
        conformance::hostile_keys_break_nobody(&Bench::new(rooted, "x/")).await;
    }
}
