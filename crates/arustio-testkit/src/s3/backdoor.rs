//! The back door: objects put, read and removed without a request.
//!
//! A test uses it to play the outsider who changes the bucket behind our back,
//! and to look at what is really there. Nothing here is counted, delayed or
//! failed, and no condition is asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::blob::Blob;
use super::condition::Conditions;
use super::store::{Attributes, Object, Store};

/// Direct access to the objects of one server; clones share them.
#[derive(Clone, Debug)]
pub struct Backdoor {
    store: Arc<Store>,
}

/// What is known of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The length in bytes.
    pub len: u64,
    /// The entity tag without quotes.
    pub etag: String,
    /// When it became visible.
    pub modified: SystemTime,
    /// `x-amz-meta-*`, names without the prefix.
    pub metadata: HashMap<String, String>,
}

/// A multipart upload under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadInfo {
    /// The key that it will have.
    pub key: String,
    /// Its id.
    pub upload_id: String,
    /// When it began.
    pub initiated: SystemTime,
    /// The numbers and lengths of the parts that have arrived.
    pub parts: Vec<(i32, u64)>,
}

impl Backdoor {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Puts an object, whatever was there; its entity tag without quotes. The
    /// bucket is created if need be. The bytes are shared, not copied.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) -> String {
        self.put_with_metadata(bucket, key, bytes, HashMap::new())
    }

    /// As [`Backdoor::put`], with `x-amz-meta-*` metadata.
    pub fn put_with_metadata(
        &self,
        bucket: &str,
        key: &str,
        bytes: impl Into<Bytes>,
        metadata: HashMap<String, String>,
    ) -> String {
        let blob = Blob::from_bytes(bytes.into());
        let md5 = blob.md5_now();
        let attributes = Attributes {
            metadata,
            ..Attributes::default()
        };
        let object = Arc::new(Object::new(blob, md5, attributes));
        let etag = object.etag.clone();
        self.store.create_bucket(bucket);
        let put = self.store.write(bucket, |bucket| {
            bucket.put(key.to_owned(), object, &Conditions::default())
        });
        // Fails only if somebody deletes the bucket in this very moment.
        drop(put);
        etag
    }

    /// The bytes of an object, if it is there.
    #[must_use]
    pub fn get(&self, bucket: &str, key: &str) -> Option<Bytes> {
        let object = self.store.object(bucket, key).ok()?;
        Some(object.blob.to_bytes())
    }

    /// The description of an object, if it is there.
    #[must_use]
    pub fn stat(&self, bucket: &str, key: &str) -> Option<ObjectInfo> {
        let object = self.store.object(bucket, key).ok()?;
        Some(ObjectInfo {
            len: object.blob.len(),
            etag: object.etag.clone(),
            modified: object.modified,
            metadata: object.attributes.metadata.clone(),
        })
    }

    /// Deletes an object; was it there?
    pub fn delete(&self, bucket: &str, key: &str) -> bool {
        let deleted = self
            .store
            .write(bucket, |bucket| Ok(bucket.objects.remove(key).is_some()));
        deleted.unwrap_or(false)
    }

    /// The keys that start with `prefix`, in byte order.
    #[must_use]
    pub fn list(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let keys = self.store.read(bucket, |bucket| {
            let from = bucket.objects.range(prefix.to_owned()..);
            let keys = from
                .map(|(key, _)| key)
                .take_while(|key| key.starts_with(prefix));
            Ok(keys.cloned().collect())
        });
        keys.unwrap_or_default()
    }

    /// The multipart uploads under way, in order of key and id.
    #[must_use]
    pub fn uploads(&self, bucket: &str) -> Vec<UploadInfo> {
        let uploads = self.store.read(bucket, |bucket| {
            let describe = |(key, id, upload): (&str, &str, &super::upload::Upload)| UploadInfo {
                key: key.to_owned(),
                upload_id: id.to_owned(),
                initiated: upload.initiated,
                parts: upload
                    .parts
                    .iter()
                    .map(|(number, part)| (*number, part.blob.len()))
                    .collect(),
            };
            Ok(bucket.uploads.iter().map(describe).collect())
        });
        uploads.unwrap_or_default()
    }

    /// Gives an upload up; was it there?
    pub fn abort_upload(&self, bucket: &str, key: &str, upload_id: &str) -> bool {
        let aborted = self
            .store
            .write(bucket, |bucket| bucket.uploads.remove(key, upload_id));
        aborted.is_ok()
    }
}
