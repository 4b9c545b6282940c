//! The S3 operations over the store: one line for each here, their bodies by
//! subject in the modules below.
//!
//! Operations that are not here are answered 501 by `s3s`.

mod bucket;
mod copy;
mod list;
mod multipart;
mod object;

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::exchange::Exchange;
use super::gate::exchange_of;
use super::store::Store;

/// The store as `s3s` calls it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) store: Arc<Store>,
}

/// Writes one method of [`S3`] for each line: the operation, its input and
/// output, and the function that does it.
macro_rules! operations {
    ($($name:ident($input:ty) -> $output:ty = $does:path;)*) => {
        #[async_trait::async_trait]
        impl S3 for Service {
            $(async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                $does(&self.store, request).await.map(S3Response::new)
            })*
        }
    };
}

operations! {
    list_buckets(ListBucketsInput) -> ListBucketsOutput = bucket::list;
    create_bucket(CreateBucketInput) -> CreateBucketOutput = bucket::create;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = bucket::head;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = bucket::location;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = bucket::delete;
    get_object(GetObjectInput) -> GetObjectOutput = object::get;
    head_object(HeadObjectInput) -> HeadObjectOutput = object::head;
    put_object(PutObjectInput) -> PutObjectOutput = object::put;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = object::delete;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = object::delete_many;
    copy_object(CopyObjectInput) -> CopyObjectOutput = copy::copy;
    list_objects(ListObjectsInput) -> ListObjectsOutput = list::first_version;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = list::second_version;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput
        = multipart::create;
    upload_part(UploadPartInput) -> UploadPartOutput = multipart::part;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput = copy::part;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput
        = multipart::complete;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput
        = multipart::abort;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput
        = list::uploads;
    list_parts(ListPartsInput) -> ListPartsOutput = list::parts;
}

/// The exchange to which a request belongs.
fn exchange<T>(request: &S3Request<T>) -> S3Result<Arc<Exchange>> {
    exchange_of(&request.extensions)
        .ok_or_else(|| s3_error!(InternalError, "the request came by another door"))
}

/// There are no versions here; the only one that can be named is `null`.
fn check_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(_) => Err(s3_error!(NoSuchVersion)),
    }
}

/// A length as the protocol has it.
fn signed(len: u64) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}
