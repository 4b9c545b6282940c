//! Copies inside the store: whole objects, and ranges that become parts.

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};

use super::multipart::check_part_number;
use super::{Store, check_version, exchange};
use crate::s3::condition::Conditions;
use crate::s3::outside::now;
use crate::s3::server::Profile;
use crate::s3::store::{Attributes, Object as Stored};
use crate::s3::upload::Part as StoredPart;

pub(super) async fn copy(
    store: &Store,
    request: S3Request<CopyObjectInput>,
) -> S3Result<CopyObjectOutput> {
    let exchange = exchange(&request)?;
    let destination = destination_conditions(store, &request)?;
    let input = request.input;
    let source_conditions = Conditions {
        if_match: input.copy_source_if_match,
        if_none_match: input.copy_source_if_none_match,
    };
    let source = find_source(store, &input.copy_source, &source_conditions)?;
    let replaces = input
        .metadata_directive
        .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
    let attributes = if replaces {
        Attributes {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            metadata: input.metadata.unwrap_or_default(),
        }
    } else {
        source.attributes.clone()
    };
    // A copy is one object whatever its source was: its tag is the plain MD5.
    let md5 = source.blob.md5().await;
    let object = Arc::new(Stored::new(source.blob.clone(), md5, attributes));
    let (etag, modified) = (object.etag.clone(), object.modified);
    exchange.before_apply().await?;
    store.write(&input.bucket, |bucket| {
        bucket.put(input.key, object, &destination)
    })?;
    Ok(CopyObjectOutput {
        copy_object_result: Some(CopyObjectResult {
            e_tag: Some(ETag::Strong(etag)),
            last_modified: Some(modified.into()),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// The typed input knows no condition on the destination; the headers do.
fn destination_conditions(
    store: &Store,
    request: &S3Request<CopyObjectInput>,
) -> S3Result<Conditions> {
    match store.profile() {
        Profile::Aws => Conditions::from_headers(&request.headers),
        Profile::Minio => Ok(Conditions::default()),
    }
}

fn find_source(
    store: &Store,
    source: &CopySource,
    conditions: &Conditions,
) -> S3Result<Arc<Stored>> {
    let CopySource::Bucket {
        bucket,
        key,
        version_id,
    } = source
    else {
        return Err(s3_error!(
            NotImplemented,
            "the source is not a bucket and a key"
        ));
    };
    check_version(version_id.as_deref())?;
    let object = store.object(bucket, key)?;
    conditions.check_source(&object)?;
    Ok(object)
}

pub(super) async fn part(
    store: &Store,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<UploadPartCopyOutput> {
    let exchange = exchange(&request)?;
    let input = request.input;
    check_part_number(input.part_number)?;
    let conditions = Conditions {
        if_match: input.copy_source_if_match,
        if_none_match: input.copy_source_if_none_match,
    };
    let source = find_source(store, &input.copy_source, &conditions)?;
    let range = source_range(input.copy_source_range.as_deref(), source.blob.len())?;
    let blob = source.blob.slice(range);
    let md5 = blob.md5().await;
    let part = StoredPart::new(blob, md5);
    let etag = part.etag();
    exchange.before_apply().await?;
    store.write(&input.bucket, |bucket| {
        let upload = bucket.uploads.get_mut(&input.key, &input.upload_id)?;
        upload.parts.insert(input.part_number, part);
        Ok(())
    })?;
    Ok(UploadPartCopyOutput {
        copy_part_result: Some(CopyPartResult {
            e_tag: Some(ETag::Strong(etag)),
            last_modified: Some(now().into()),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// Unlike a read's, this range needs both ends and must lie inside the object.
fn source_range(range: Option<&str>, len: u64) -> S3Result<std::ops::Range<u64>> {
    let Some(range) = range else {
        return Ok(0..len);
    };
    match Range::parse(range) {
        Ok(Range::Int {
            first,
            last: Some(last),
        }) if last < len => Ok(first..last + 1),
        Ok(Range::Int { last: Some(_), .. }) => Err(s3_error!(InvalidRange)),
        Ok(_) | Err(_) => Err(s3_error!(
            InvalidArgument,
            "x-amz-copy-source-range must be bytes=first-last"
        )),
    }
}
