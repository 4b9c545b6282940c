//! Listings: objects in both versions of the protocol, uploads, parts.

use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};

use super::{Store, signed};
use crate::s3::listing::{
    Entry, ListRequest, Page, Resume, decode_token, encode_token, list, url_encode,
};
use crate::s3::server::Profile;

/// S3's greatest page.
const MAX_PAGE: i32 = 1000;

pub(super) async fn second_version(
    store: &Store,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<ListObjectsV2Output> {
    let input = request.input;
    let resume = match (&input.continuation_token, &input.start_after) {
        (Some(token), _) => decode_token(token).ok_or_else(|| {
            s3_error!(InvalidArgument, "the continuation token is not one of ours")
        })?,
        (None, Some(key)) => start_after(store, key),
        (None, None) => Resume::Start,
    };
    let max_keys = page_size(input.max_keys)?;
    let page = store.read(&input.bucket, |bucket| {
        Ok(list(
            &bucket.objects,
            &ListRequest {
                prefix: input.prefix.as_deref().unwrap_or(""),
                delimiter: input.delimiter.as_deref(),
                resume,
                max_entries: max_keys,
            },
        ))
    })?;
    let names = Names::new(input.encoding_type.as_ref());
    let key_count = i32::try_from(page.entries.len()).ok();
    let (is_truncated, next) = (page.truncated, page.next());
    let (contents, common_prefixes) = split(page, names);
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: names.opt(input.prefix),
        delimiter: names.opt(input.delimiter),
        start_after: names.opt(input.start_after),
        encoding_type: input.encoding_type,
        max_keys: i32::try_from(max_keys).ok(),
        key_count,
        is_truncated: Some(is_truncated),
        continuation_token: input.continuation_token,
        next_continuation_token: next.as_ref().and_then(encode_token),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        request_charged: None,
    })
}

fn start_after(store: &Store, key: &str) -> Resume {
    match store.profile() {
        Profile::Aws => Resume::After(key.to_owned()),
        Profile::Minio => Resume::Past(key.to_owned()),
    }
}

pub(super) async fn first_version(
    store: &Store,
    request: S3Request<ListObjectsInput>,
) -> S3Result<ListObjectsOutput> {
    let input = request.input;
    let max_keys = page_size(input.max_keys)?;
    // The marker is what a page ended with, so it passes its group in every store.
    let resume = input.marker.clone().map_or(Resume::Start, Resume::Past);
    let page = store.read(&input.bucket, |bucket| {
        Ok(list(
            &bucket.objects,
            &ListRequest {
                prefix: input.prefix.as_deref().unwrap_or(""),
                delimiter: input.delimiter.as_deref(),
                resume,
                max_entries: max_keys,
            },
        ))
    })?;
    let names = Names::new(input.encoding_type.as_ref());
    let is_truncated = page.truncated;
    let last = page.entries.last().filter(|_| is_truncated);
    let next_marker = last.map(|entry| names.one(entry.name()));
    let (contents, common_prefixes) = split(page, names);
    Ok(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: names.opt(input.prefix),
        delimiter: names.opt(input.delimiter),
        marker: names.opt(input.marker),
        encoding_type: input.encoding_type,
        max_keys: i32::try_from(max_keys).ok(),
        is_truncated: Some(is_truncated),
        next_marker,
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        request_charged: None,
    })
}

fn page_size(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    usize::try_from(asked).map_err(|_| s3_error!(InvalidArgument, "a page size below zero"))
}

/// How names are written into an answer.
#[derive(Clone, Copy)]
struct Names {
    url: bool,
}

impl Names {
    fn new(encoding: Option<&EncodingType>) -> Self {
        Self {
            url: encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL),
        }
    }

    fn one(self, name: &str) -> String {
        if self.url {
            url_encode(name)
        } else {
            name.to_owned()
        }
    }

    fn opt(self, name: Option<String>) -> Option<String> {
        name.map(|name| self.one(&name))
    }
}

fn split(page: Page, names: Names) -> (Vec<Object>, Vec<CommonPrefix>) {
    let (mut contents, mut groups) = (Vec::new(), Vec::new());
    for entry in page.entries {
        match entry {
            Entry::Group(prefix) => groups.push(CommonPrefix {
                prefix: Some(names.one(&prefix)),
            }),
            Entry::Object(key, object) => contents.push(Object {
                key: Some(names.one(&key)),
                e_tag: Some(ETag::Strong(object.etag.clone())),
                last_modified: Some(object.modified.into()),
                size: Some(signed(object.blob.len())),
                storage_class: Some(ObjectStorageClass::from_static(
                    ObjectStorageClass::STANDARD,
                )),
                ..Default::default()
            }),
        }
    }
    (contents, groups)
}

pub(super) async fn uploads(
    store: &Store,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<ListMultipartUploadsOutput> {
    let input = request.input;
    if input
        .delimiter
        .as_deref()
        .is_some_and(|delimiter| !delimiter.is_empty())
    {
        return Err(s3_error!(
            NotImplemented,
            "uploads are listed without a delimiter"
        ));
    }
    let names = Names::new(input.encoding_type.as_ref());
    let max_uploads = page_size(input.max_uploads)?;
    let prefix = input.prefix.as_deref().unwrap_or("");
    let behind = |key: &str, id: &str| {
        let marker = input.key_marker.as_deref().unwrap_or("");
        match input.upload_id_marker.as_deref() {
            Some(marked) if !marked.is_empty() => (key, id) > (marker, marked),
            Some(_) | None => marker.is_empty() || key > marker,
        }
    };
    let mut found = store.read(&input.bucket, |bucket| {
        let all = bucket.uploads.iter();
        let wanted = all.filter(|(key, id, _)| key.starts_with(prefix) && behind(key, id));
        let described =
            wanted.map(|(key, id, upload)| (key.to_owned(), id.to_owned(), upload.initiated));
        Ok(described.take(max_uploads + 1).collect::<Vec<_>>())
    })?;
    let is_truncated = found.len() > max_uploads && max_uploads > 0;
    found.truncate(max_uploads);
    let last = found.last().filter(|_| is_truncated).cloned();
    let describe =
        |(key, id, initiated): (String, String, std::time::SystemTime)| MultipartUpload {
            key: Some(names.one(&key)),
            upload_id: Some(id),
            initiated: Some(initiated.into()),
            ..Default::default()
        };
    Ok(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: names.opt(input.prefix),
        key_marker: names.opt(input.key_marker),
        upload_id_marker: input.upload_id_marker,
        encoding_type: input.encoding_type,
        max_uploads: i32::try_from(max_uploads).ok(),
        is_truncated: Some(is_truncated),
        next_key_marker: last.as_ref().map(|(key, ..)| names.one(key)),
        next_upload_id_marker: last.map(|(_, id, _)| id),
        uploads: Some(found.into_iter().map(describe).collect()),
        ..Default::default()
    })
}

pub(super) async fn parts(
    store: &Store,
    request: S3Request<ListPartsInput>,
) -> S3Result<ListPartsOutput> {
    let input = request.input;
    let max_parts = page_size(input.max_parts)?;
    let behind = input.part_number_marker.unwrap_or(0);
    let mut parts = store.read(&input.bucket, |bucket| {
        let upload = bucket.uploads.get(&input.key, &input.upload_id)?;
        let wanted = upload.parts.iter().filter(|(number, _)| **number > behind);
        let describe = |(number, part): (&i32, &crate::s3::upload::Part)| Part {
            part_number: Some(*number),
            e_tag: Some(ETag::Strong(part.etag())),
            size: Some(signed(part.blob.len())),
            last_modified: Some(part.modified.into()),
            ..Default::default()
        };
        Ok(wanted.map(describe).take(max_parts + 1).collect::<Vec<_>>())
    })?;
    let is_truncated = parts.len() > max_parts;
    parts.truncate(max_parts);
    Ok(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        max_parts: i32::try_from(max_parts).ok(),
        part_number_marker: input.part_number_marker,
        is_truncated: Some(is_truncated),
        next_part_number_marker: parts
            .last()
            .filter(|_| is_truncated)
            .and_then(|part| part.part_number),
        parts: Some(parts),
        ..Default::default()
    })
}
