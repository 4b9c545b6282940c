//! Single objects: read, describe, write, delete.

use std::ops::Range as ByteRange;
use std::sync::Arc;

use futures::StreamExt;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, StdError, s3_error};

use super::{Store, check_version, exchange, signed};
use crate::s3::blob::{Blob, BlobWriter, Md5Sum};
use crate::s3::condition::Conditions;
use crate::s3::server::Profile;
use crate::s3::store::{Attributes, Object as Stored};

pub(super) async fn get(
    store: &Store,
    request: S3Request<GetObjectInput>,
) -> S3Result<GetObjectOutput> {
    let input = request.input;
    check_version(input.version_id.as_deref())?;
    let object = store.object(&input.bucket, &input.key)?;
    let conditions = Conditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
    };
    conditions.check_read(&object)?;
    let (range, content_range) = resolve(input.range, object.blob.len())?;
    let attributes = object.attributes.clone();
    Ok(GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        body: Some(StreamingBlob::new(object.blob.stream(range.clone()))),
        content_length: Some(signed(range.end - range.start)),
        content_range,
        e_tag: Some(ETag::Strong(object.etag.clone())),
        last_modified: Some(object.modified.into()),
        content_type: attributes.content_type,
        content_encoding: attributes.content_encoding,
        content_disposition: attributes.content_disposition,
        content_language: attributes.content_language,
        cache_control: attributes.cache_control,
        metadata: Some(attributes.metadata),
        ..Default::default()
    })
}

pub(super) async fn head(
    store: &Store,
    request: S3Request<HeadObjectInput>,
) -> S3Result<HeadObjectOutput> {
    let input = request.input;
    check_version(input.version_id.as_deref())?;
    let object = store.object(&input.bucket, &input.key)?;
    let conditions = Conditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
    };
    conditions.check_read(&object)?;
    let (range, content_range) = resolve(input.range, object.blob.len())?;
    let attributes = object.attributes.clone();
    Ok(HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(signed(range.end - range.start)),
        content_range,
        e_tag: Some(ETag::Strong(object.etag.clone())),
        last_modified: Some(object.modified.into()),
        content_type: attributes.content_type,
        content_encoding: attributes.content_encoding,
        content_disposition: attributes.content_disposition,
        content_language: attributes.content_language,
        cache_control: attributes.cache_control,
        metadata: Some(attributes.metadata),
        ..Default::default()
    })
}

/// The bytes that are asked for, and the header that says so.
fn resolve(range: Option<Range>, len: u64) -> S3Result<(ByteRange<u64>, Option<String>)> {
    let Some(range) = range else {
        return Ok((0..len, None));
    };
    let range = range.check(len).map_err(|_| s3_error!(InvalidRange))?;
    if range.is_empty() {
        return Err(s3_error!(InvalidRange));
    }
    let header = format!("bytes {}-{}/{len}", range.start, range.end - 1);
    Ok((range, Some(header)))
}

pub(super) async fn put(
    store: &Store,
    request: S3Request<PutObjectInput>,
) -> S3Result<PutObjectOutput> {
    let exchange = exchange(&request)?;
    let input = request.input;
    store.read(&input.bucket, |_| Ok(()))?;
    let body = Received {
        body: input.body,
        content_length: input.content_length,
        content_md5: input.content_md5,
    };
    let (blob, md5) = body.collect().await?;
    let attributes = Attributes {
        content_type: input.content_type,
        content_encoding: input.content_encoding,
        content_disposition: input.content_disposition,
        content_language: input.content_language,
        cache_control: input.cache_control,
        metadata: input.metadata.unwrap_or_default(),
    };
    let conditions = Conditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
    };
    exchange.before_apply().await?;
    let object = Arc::new(Stored::new(blob, md5, attributes));
    let etag = object.etag.clone();
    store.write(&input.bucket, |bucket| {
        bucket.put(input.key, object, &conditions)
    })?;
    Ok(PutObjectOutput {
        e_tag: Some(ETag::Strong(etag)),
        ..Default::default()
    })
}

/// A body as it arrives, and what was said about it.
pub(super) struct Received {
    pub(super) body: Option<StreamingBlob>,
    pub(super) content_length: Option<i64>,
    pub(super) content_md5: Option<String>,
}

impl Received {
    /// Takes all of it; anything but the bytes that were announced is refused.
    pub(super) async fn collect(self) -> S3Result<(Blob, Md5Sum)> {
        let expected = self.content_length.and_then(|len| u64::try_from(len).ok());
        let mut writer = BlobWriter::new(expected.unwrap_or(0));
        if let Some(mut body) = self.body {
            while let Some(data) = body.next().await {
                writer.push(&data.map_err(|error| broken_body(&error))?);
            }
        }
        if expected.is_some_and(|expected| expected != writer.len()) {
            return Err(s3_error!(IncompleteBody));
        }
        let (blob, md5) = writer.finish();
        match self.content_md5 {
            Some(said) if said != base64(md5) => Err(s3_error!(BadDigest)),
            Some(_) | None => Ok((blob, md5)),
        }
    }
}

/// `s3s` checks the body's SHA-256 in the stream and reports it as an error of
/// the stream, of a type that it keeps to itself.
fn broken_body(error: &StdError) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        let code = S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
        let mut error = S3Error::with_message(code, "the body is not the one that was signed");
        error.set_status_code(http::StatusCode::BAD_REQUEST);
        return error;
    }
    S3Error::with_message(S3ErrorCode::IncompleteBody, text)
}

fn base64(md5: Md5Sum) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(md5)
}

pub(super) async fn delete(
    store: &Store,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<DeleteObjectOutput> {
    let exchange = exchange(&request)?;
    let input = request.input;
    check_version(input.version_id.as_deref())?;
    let conditions = delete_conditions(store, input.if_match);
    exchange.before_apply().await?;
    store.write(&input.bucket, |bucket| {
        bucket.delete(&input.key, &conditions)
    })?;
    Ok(DeleteObjectOutput::default())
}

fn delete_conditions(store: &Store, if_match: Option<ETagCondition>) -> Conditions {
    let obeyed = match store.profile() {
        Profile::Aws => if_match,
        Profile::Minio => None,
    };
    Conditions {
        if_match: obeyed,
        if_none_match: None,
    }
}

pub(super) async fn delete_many(
    store: &Store,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<DeleteObjectsOutput> {
    let exchange = exchange(&request)?;
    let input = request.input;
    if input.delete.objects.len() > 1000 {
        return Err(s3_error!(MalformedXML, "more than 1000 keys"));
    }
    let quiet = input.delete.quiet.unwrap_or(false);
    exchange.before_apply().await?;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    store.write(&input.bucket, |bucket| {
        for named in input.delete.objects {
            let conditions = delete_conditions(store, named.e_tag.map(ETagCondition::ETag));
            match bucket.delete(&named.key, &conditions) {
                Ok(()) => deleted.push(named.key),
                Err(error) => errors.push(refusal(named.key, &error)),
            }
        }
        Ok(())
    })?;
    let entry = |key| DeletedObject {
        key: Some(key),
        ..Default::default()
    };
    Ok(DeleteObjectsOutput {
        deleted: (!quiet).then(|| deleted.into_iter().map(entry).collect()),
        errors: Some(errors),
        ..Default::default()
    })
}

fn refusal(key: String, error: &S3Error) -> Error {
    Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(key),
        message: error.message().map(str::to_owned),
        version_id: None,
    }
}
