//! Multipart uploads: begin, parts, complete, abort.

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};

use super::object::Received;
use super::{Store, exchange};
use crate::s3::Profile;
use crate::s3::condition::Conditions;
use crate::s3::store::Attributes;
use crate::s3::upload::{MAX_PART_NUMBER, Part as StoredPart};

pub(super) async fn create(
    store: &Store,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<CreateMultipartUploadOutput> {
    let exchange = exchange(&request)?;
    let input = request.input;
    if store.profile() == Profile::Minio && input.key.ends_with('/') {
        return Err(s3_error!(
            InvalidArgument,
            "MinIO begins no uploads under the keys of directories"
        ));
    }
    let attributes = Attributes {
        content_type: input.content_type,
        content_encoding: input.content_encoding,
        content_disposition: input.content_disposition,
        content_language: input.content_language,
        cache_control: input.cache_control,
        metadata: input.metadata.unwrap_or_default(),
    };
    exchange.before_apply().await?;
    let upload_id = store.write(&input.bucket, |bucket| {
        Ok(bucket.uploads.begin(input.key.clone(), attributes))
    })?;
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(upload_id),
        ..Default::default()
    })
}

pub(super) fn check_part_number(number: i32) -> S3Result<()> {
    if (1..=MAX_PART_NUMBER).contains(&number) {
        return Ok(());
    }
    Err(s3_error!(
        InvalidArgument,
        "the part number is not between 1 and {}",
        MAX_PART_NUMBER
    ))
}

pub(super) async fn part(
    store: &Store,
    request: S3Request<UploadPartInput>,
) -> S3Result<UploadPartOutput> {
    let exchange = exchange(&request)?;
    let input = request.input;
    check_part_number(input.part_number)?;
    store.read(&input.bucket, |bucket| {
        bucket.uploads.get(&input.key, &input.upload_id).map(drop)
    })?;
    let body = Received {
        body: input.body,
        content_length: input.content_length,
        content_md5: input.content_md5,
    };
    let (blob, md5) = body.collect().await?;
    let part = StoredPart::new(blob, md5);
    let etag = part.etag();
    exchange.before_apply().await?;
    store.write(&input.bucket, |bucket| {
        let upload = bucket.uploads.get_mut(&input.key, &input.upload_id)?;
        upload.parts.insert(input.part_number, part);
        Ok(())
    })?;
    Ok(UploadPartOutput {
        e_tag: Some(ETag::Strong(etag)),
        ..Default::default()
    })
}

pub(super) async fn complete(
    store: &Store,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<CompleteMultipartUploadOutput> {
    let exchange = exchange(&request)?;
    let input = request.input;
    let conditions = Conditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
    };
    let named = named_parts(input.multipart_upload)?;
    exchange.before_apply().await?;
    let etag = store.write(&input.bucket, |bucket| {
        let upload = bucket.uploads.get(&input.key, &input.upload_id)?;
        let object = Arc::new(upload.assemble(&named, store.min_part_bytes())?);
        let etag = object.etag.clone();
        // A refused condition leaves the upload as it is.
        bucket.put(input.key.clone(), object, &conditions)?;
        bucket.uploads.remove(&input.key, &input.upload_id)?;
        Ok(etag)
    })?;
    Ok(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(ETag::Strong(etag)),
        ..Default::default()
    })
}

fn named_parts(named: Option<CompletedMultipartUpload>) -> S3Result<Vec<(i32, Option<String>)>> {
    let parts = named.and_then(|named| named.parts).unwrap_or_default();
    let name = |part: CompletedPart| {
        let number = part.part_number.ok_or_else(|| s3_error!(MalformedXML))?;
        Ok((number, part.e_tag.map(ETag::into_value)))
    };
    parts.into_iter().map(name).collect()
}

pub(super) async fn abort(
    store: &Store,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<AbortMultipartUploadOutput> {
    let exchange = exchange(&request)?;
    let input = request.input;
    exchange.before_apply().await?;
    store.write(&input.bucket, |bucket| {
        bucket.uploads.remove(&input.key, &input.upload_id)
    })?;
    Ok(AbortMultipartUploadOutput::default())
}
