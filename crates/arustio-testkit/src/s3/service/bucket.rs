//! Buckets: creating, finding and removing them.

use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};

use super::{Store, exchange};

pub(super) async fn list(
    store: &Store,
    _: S3Request<ListBucketsInput>,
) -> S3Result<ListBucketsOutput> {
    let describe = |(name, created): (String, std::time::SystemTime)| Bucket {
        name: Some(name),
        creation_date: Some(created.into()),
        bucket_region: None,
    };
    Ok(ListBucketsOutput {
        buckets: Some(store.buckets().into_iter().map(describe).collect()),
        ..Default::default()
    })
}

pub(super) async fn create(
    store: &Store,
    request: S3Request<CreateBucketInput>,
) -> S3Result<CreateBucketOutput> {
    exchange(&request)?.before_apply().await?;
    let name = request.input.bucket;
    if !store.create_bucket(&name) {
        return Err(s3_error!(BucketAlreadyOwnedByYou));
    }
    Ok(CreateBucketOutput {
        location: Some(format!("/{name}")),
    })
}

pub(super) async fn head(
    store: &Store,
    request: S3Request<HeadBucketInput>,
) -> S3Result<HeadBucketOutput> {
    store.read(&request.input.bucket, |_| Ok(()))?;
    Ok(HeadBucketOutput::default())
}

pub(super) async fn location(
    store: &Store,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<GetBucketLocationOutput> {
    store.read(&request.input.bucket, |_| Ok(()))?;
    Ok(GetBucketLocationOutput::default())
}

pub(super) async fn delete(
    store: &Store,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<DeleteBucketOutput> {
    exchange(&request)?.before_apply().await?;
    store.delete_bucket(&request.input.bucket)?;
    Ok(DeleteBucketOutput::default())
}
