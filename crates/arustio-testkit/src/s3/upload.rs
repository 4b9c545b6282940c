//! Multipart uploads: parts that belong to nothing yet, and how they become
//! one object.

use std::collections::BTreeMap;
use std::time::SystemTime;

use md5::{Digest, Md5};
use s3s::{S3Result, s3_error};

use super::blob::{Blob, Md5Sum};
use super::outside::{fresh_id, now};
use super::store::{Attributes, Object};

/// The greatest part number that S3 accepts.
pub(crate) const MAX_PART_NUMBER: i32 = 10_000;

/// One part that has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) blob: Blob,
    pub(crate) md5: Md5Sum,
    pub(crate) modified: SystemTime,
}

impl Part {
    /// A part that arrives now.
    pub(crate) fn new(blob: Blob, md5: Md5Sum) -> Self {
        Self {
            blob,
            md5,
            modified: now(),
        }
    }

    /// The tag under which the part is named at the end.
    pub(crate) fn etag(&self) -> String {
        hex::encode(self.md5)
    }
}

/// An upload under way.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) initiated: SystemTime,
    pub(crate) attributes: Attributes,
    pub(crate) parts: BTreeMap<i32, Part>,
}

impl Upload {
    /// An upload that begins now.
    pub(crate) fn new(attributes: Attributes) -> Self {
        Self {
            initiated: now(),
            attributes,
            parts: BTreeMap::new(),
        }
    }

    /// The object that the named parts make: (number, tag) in rising order.
    pub(crate) fn assemble(
        &self,
        named: &[(i32, Option<String>)],
        min_part_bytes: u64,
    ) -> S3Result<Object> {
        if named.is_empty() {
            return Err(s3_error!(MalformedXML, "no parts are named"));
        }
        if named.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let parts = self.named_parts(named)?;
        let all_but_last = &parts[..parts.len() - 1];
        if all_but_last
            .iter()
            .any(|part| part.blob.len() < min_part_bytes)
        {
            return Err(s3_error!(EntityTooSmall));
        }
        let mut digest = Md5::new();
        parts.iter().for_each(|part| digest.update(part.md5));
        let etag = format!("{}-{}", hex::encode(digest.finalize()), parts.len());
        let blob = Blob::concat(parts.iter().map(|part| &part.blob));
        Ok(Object::with_etag(blob, etag, self.attributes.clone()))
    }

    fn named_parts(&self, named: &[(i32, Option<String>)]) -> S3Result<Vec<&Part>> {
        let find = |(number, tag): &(i32, Option<String>)| {
            let part = self.parts.get(number);
            part.filter(|part| tag.as_ref().is_none_or(|tag| *tag == part.etag()))
                .ok_or_else(|| s3_error!(InvalidPart))
        };
        named.iter().map(find).collect()
    }
}

/// The uploads of one bucket, in the order in which they are listed.
#[derive(Debug, Default)]
pub(crate) struct Uploads(BTreeMap<(String, String), Upload>);

impl Uploads {
    /// Is none under way?
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins one under an id that nobody else has.
    pub(crate) fn begin(&mut self, key: String, attributes: Attributes) -> String {
        let id = fresh_id();
        self.0.insert((key, id.clone()), Upload::new(attributes));
        id
    }

    /// The upload of that key and id.
    pub(crate) fn get(&self, key: &str, id: &str) -> S3Result<&Upload> {
        let found = self.0.get(&(key.to_owned(), id.to_owned()));
        found.ok_or_else(|| s3_error!(NoSuchUpload))
    }

    /// The same, to add parts.
    pub(crate) fn get_mut(&mut self, key: &str, id: &str) -> S3Result<&mut Upload> {
        let found = self.0.get_mut(&(key.to_owned(), id.to_owned()));
        found.ok_or_else(|| s3_error!(NoSuchUpload))
    }

    /// Forgets an upload and its parts.
    pub(crate) fn remove(&mut self, key: &str, id: &str) -> S3Result<()> {
        let removed = self.0.remove(&(key.to_owned(), id.to_owned()));
        removed.map(drop).ok_or_else(|| s3_error!(NoSuchUpload))
    }

    /// (key, id, upload) in order of key, then id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, &Upload)> {
        self.0
            .iter()
            .map(|((key, id), upload)| (key.as_str(), id.as_str(), upload))
    }
}
