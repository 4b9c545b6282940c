//! The objects of all buckets, in memory, behind one lock.
//!
//! Every change is made by one method that checks its condition and swaps an
//! `Arc` under the write lock; bodies are collected and digested before, so the
//! lock is only ever held for a map operation.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use s3s::{S3Result, s3_error};

use super::blob::{Blob, Md5Sum};
use super::condition::Conditions;
use super::outside::now;
use super::server::Profile;
use super::upload::Uploads;

/// One version of one object; never changes.
#[derive(Debug)]
pub(crate) struct Object {
    /// The bytes.
    pub(crate) blob: Blob,
    /// The entity tag without quotes.
    pub(crate) etag: String,
    /// When it became visible.
    pub(crate) modified: SystemTime,
    /// What came with it.
    pub(crate) attributes: Attributes,
}

impl Object {
    /// An object whose tag is the MD5 of its bytes.
    pub(crate) fn new(blob: Blob, md5: Md5Sum, attributes: Attributes) -> Self {
        Self::with_etag(blob, hex::encode(md5), attributes)
    }

    /// An object with a tag of another form.
    pub(crate) fn with_etag(blob: Blob, etag: String, attributes: Attributes) -> Self {
        Self {
            blob,
            etag,
            modified: now(),
            attributes,
        }
    }
}

/// What a writer says about an object and a reader gets back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) cache_control: Option<String>,
    /// `x-amz-meta-*`, names without the prefix.
    pub(crate) metadata: HashMap<String, String>,
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) created: SystemTime,
    /// In byte order of the keys, which is S3's order.
    pub(crate) objects: BTreeMap<String, Arc<Object>>,
    pub(crate) uploads: Uploads,
}

impl Bucket {
    fn new() -> Self {
        Self {
            created: now(),
            objects: BTreeMap::new(),
            uploads: Uploads::default(),
        }
    }

    /// Puts `object` under `key` if the conditions hold.
    pub(crate) fn put(
        &mut self,
        key: String,
        object: Arc<Object>,
        conditions: &Conditions,
    ) -> S3Result<()> {
        conditions.check_write(self.objects.get(&key).map(AsRef::as_ref))?;
        self.objects.insert(key, object);
        Ok(())
    }

    /// Removes the object under `key` if the conditions hold; an absent one is
    /// removed already.
    pub(crate) fn delete(&mut self, key: &str, conditions: &Conditions) -> S3Result<()> {
        conditions.check_delete(self.objects.get(key).map(AsRef::as_ref))?;
        self.objects.remove(key);
        Ok(())
    }
}

/// All buckets and the rules that hold for them.
#[derive(Debug)]
pub(crate) struct Store {
    profile: Profile,
    min_part_bytes: u64,
    buckets: RwLock<BTreeMap<String, Bucket>>,
}

impl Store {
    /// A store with no bucket.
    pub(crate) fn new(profile: Profile, min_part_bytes: u64) -> Self {
        Self {
            profile,
            min_part_bytes,
            buckets: RwLock::default(),
        }
    }

    /// Whose habits it follows.
    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    /// The least size of every part but the last.
    pub(crate) fn min_part_bytes(&self) -> u64 {
        self.min_part_bytes
    }

    /// Creates a bucket; false if it was there.
    pub(crate) fn create_bucket(&self, name: &str) -> bool {
        let mut buckets = self.buckets.write();
        if buckets.contains_key(name) {
            return false;
        }
        buckets.insert(name.to_owned(), Bucket::new());
        true
    }

    /// Removes a bucket that holds no object and no upload.
    pub(crate) fn delete_bucket(&self, name: &str) -> S3Result<()> {
        let mut buckets = self.buckets.write();
        let bucket = buckets.get(name).ok_or_else(|| s3_error!(NoSuchBucket))?;
        if !bucket.objects.is_empty() || !bucket.uploads.is_empty() {
            return Err(s3_error!(BucketNotEmpty));
        }
        buckets.remove(name);
        Ok(())
    }

    /// The names of the buckets and when each was created.
    pub(crate) fn buckets(&self) -> Vec<(String, SystemTime)> {
        let buckets = self.buckets.read();
        let named = buckets.iter();
        named
            .map(|(name, bucket)| (name.clone(), bucket.created))
            .collect()
    }

    /// Looks at a bucket.
    pub(crate) fn read<T>(
        &self,
        bucket: &str,
        look: impl FnOnce(&Bucket) -> S3Result<T>,
    ) -> S3Result<T> {
        let buckets = self.buckets.read();
        look(buckets.get(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?)
    }

    /// Changes a bucket; nobody sees a half-made change.
    pub(crate) fn write<T>(
        &self,
        bucket: &str,
        change: impl FnOnce(&mut Bucket) -> S3Result<T>,
    ) -> S3Result<T> {
        let mut buckets = self.buckets.write();
        change(
            buckets
                .get_mut(bucket)
                .ok_or_else(|| s3_error!(NoSuchBucket))?,
        )
    }

    /// The object that is under `key` now.
    pub(crate) fn object(&self, bucket: &str, key: &str) -> S3Result<Arc<Object>> {
        self.read(bucket, |bucket| {
            let object = bucket.objects.get(key);
            object.map(Arc::clone).ok_or_else(|| s3_error!(NoSuchKey))
        })
    }
}
