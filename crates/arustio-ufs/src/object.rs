//! Object stores over HTTP, and the only place that names the crate `object_store`.
//!
//! For S3 that crate reads, looks, writes and sends parts, wherever its `Path` can state
//! the key. What it lacks, or does without a condition, stands in `s3_requests`: listing
//! (its own fails a whole page for one key such as `a//b`), conditional completion, copy
//! and delete, and the uploads of others. Both go through one HTTP client and one signer,
//! and both report refusals as the same typed value (`http`), so that there is one
//! mapping of errors.
//!
//! Its own retries are off: [`Retry`](crate::layer::Retry) is the one layer that repeats.

mod fault;
mod http;
mod s3;
mod s3_answers;
mod s3_copy;
mod s3_list;
mod s3_requests;
mod s3_settings;
mod s3_upload;

pub use s3::{S3Provider, S3Ufs};
