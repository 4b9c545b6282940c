//! Copying inside a bucket under two conditions (U4).
//!
//! Where the store obeys both conditions of `CopyObject`, that is one request. Where it
//! ignores the one on the target, as MinIO does, the copy is an upload whose parts are
//! copied and whose completion is conditional. An empty object is written anew.
//!
//! Headers of the source that people see (type, encoding, their own metadata) go along;
//! the write id never does.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::{ObjectVersion, UfsKey};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderName, Method};
use tokio::time::Instant;

use super::fault::{Fault, Lost};
use super::s3::{
    Shared, WRITE_ID_HEADER, condition, condition_on_absent, lost, quoted, version_in, version_of,
    write_raw,
};
use super::s3_answers::{TagAnswer, parse};
use super::s3_requests::{Ask, within};
use super::s3_upload::S3Upload;
use crate::capability::Support;
use crate::error::{Result, UfsError};
use crate::ufs::{CopyOptions, Guard, Payload, WriteOptions, Written};
use crate::upload::{AbortOptions, CompleteOptions, Upload};

/// Bytes of one copied part; the store moves them, so that a big part costs us nothing.
const PART: u64 = 512 << 20;
/// Largest object of one `CopyObject`.
const LARGEST_AT_ONCE: u64 = 5 << 30;
/// Copied parts in flight.
const PARTS_IN_FLIGHT: usize = 4;
/// For giving up an upload after its copy failed.
const ABORT_DEADLINE: Duration = Duration::from_secs(5);
/// What goes along with the bytes, beside the user's own metadata.
const CARRIED: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];

/// The object that is copied.
struct Source<'a> {
    key: &'a UfsKey,
    size: u64,
    headers: HeaderMap,
}

/// Copies `source` to `target` as `options` say.
pub(super) async fn copy(
    shared: &Arc<Shared>,
    source: &UfsKey,
    target: &UfsKey,
    options: CopyOptions,
) -> Result<Written> {
    let start = Instant::now();
    let found = look(shared, source, &options.source_version).await?;
    let capabilities = &shared.capabilities;
    let obeys = capabilities.copy_source_if == Support::Atomic
        && capabilities.copy_target_if == Support::Atomic;
    let at_once = options.guard == Guard::StoreOnly || obeys;
    let job = Copy {
        shared,
        source: found,
        target,
        options,
        start,
    };
    if job.source.size == 0 && !at_once {
        return job.empty().await;
    }
    match at_once && job.source.size <= LARGEST_AT_ONCE {
        true => job.at_once().await,
        false => job.in_parts().await,
    }
}

/// The source, if it is the version that is wanted.
async fn look<'a>(shared: &Shared, key: &'a UfsKey, version: &ObjectVersion) -> Result<Source<'a>> {
    let stale = || UfsError::Stale {
        at: shared.place(key),
    };
    let headers = shared.head_raw(key).await?.ok_or_else(stale)?;
    let found = version_in(&headers);
    let found = found.map_err(|_| shared.bad_answer(key, "it has no ETag"))?;
    if found != *version {
        return Err(stale());
    }
    let size = headers
        .get("content-length")
        .and_then(|size| size.to_str().ok()?.parse().ok());
    let size = size.ok_or_else(|| shared.bad_answer(key, "it has no length"))?;
    Ok(Source {
        key,
        size,
        headers: carried(&headers),
    })
}

fn carried(headers: &HeaderMap) -> HeaderMap {
    let goes = |name: &HeaderName| {
        let name = name.as_str();
        (CARRIED.contains(&name) || name.starts_with("x-amz-meta-")) && name != WRITE_ID_HEADER
    };
    let pairs = headers.iter().filter(|(name, _)| goes(name));
    pairs
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

struct Copy<'a> {
    shared: &'a Arc<Shared>,
    source: Source<'a>,
    target: &'a UfsKey,
    options: CopyOptions,
    start: Instant,
}

impl Copy<'_> {
    fn left(&self) -> Duration {
        self.options.deadline.saturating_sub(self.start.elapsed())
    }

    /// One `CopyObject`, with both conditions in the store's hands.
    async fn at_once(&self) -> Result<Written> {
        let from = self.shared.requests.copy_source(self.source.key);
        let tag = quoted(&self.options.source_version);
        let write_id = self.options.write_id.to_string();
        let condition = condition(&self.options.mode);
        let mut headers = vec![
            ("x-amz-copy-source", from.as_str()),
            ("x-amz-copy-source-if-match", tag.as_str()),
            ("x-amz-metadata-directive", "REPLACE"),
            (WRITE_ID_HEADER, write_id.as_str()),
        ];
        headers.extend(
            condition
                .as_ref()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let ask = Ask {
            method: Method::PUT,
            key: Some(self.target),
            headers: &headers,
            carried: self.source.headers.clone(),
            encrypts: true,
            ..Ask::default()
        };
        let done = within(self.left(), async {
            parse::<TagAnswer>(&self.shared.requests.ask(ask).await?)
        });
        match done.await {
            Ok(done) => Ok(Written::answered(version_of(&done.e_tag, None))),
            Err(fault) => Err(self.refused(fault).await),
        }
    }

    /// Which of the two conditions was lost.
    async fn refused(&self, fault: Fault) -> UfsError {
        let mode = &self.options.mode;
        let precondition = matches!(&fault, Fault::Refused(no) if no.status == 412);
        if precondition
            && let Err(error) =
                look(self.shared, self.source.key, &self.options.source_version).await
        {
            return error;
        }
        let context = self.shared.context(self.target, true, lost(mode));
        condition_on_absent(context.explain(fault), mode)
    }

    /// An upload of copied parts, completed under the condition on the target.
    async fn in_parts(&self) -> Result<Written> {
        let (target, write_id) = (self.target, self.options.write_id);
        let headers = self.source.headers.clone();
        let upload = S3Upload::begin(self.shared, target, write_id, headers, self.left()).await?;
        let done = self.fill_and_complete(&upload).await;
        if done.is_err() {
            // Also when the completion got no answer: if it is still to come it finds no
            // upload then, and if it came there is none to abort.
            let options = AbortOptions {
                deadline: ABORT_DEADLINE,
            };
            if let Err(error) = upload.abort(options).await {
                tracing::warn!(%error, "the upload of a failed copy could not be aborted");
            }
        }
        done
    }

    async fn fill_and_complete(&self, upload: &S3Upload) -> Result<Written> {
        let ranges = ranges(self.source.size);
        let single = ranges.len() == 1;
        futures::stream::iter(ranges)
            .map(|(number, first, last)| {
                let range = (!single).then(|| format!("bytes={first}-{last}"));
                async move { self.copy_part(upload, number, range).await }
            })
            .buffer_unordered(PARTS_IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        if self.shared.capabilities.copy_source_if != Support::Atomic {
            look(self.shared, self.source.key, &self.options.source_version).await?;
        }
        let mut options = CompleteOptions::new(self.options.mode.clone(), self.left());
        options.guard = self.options.guard;
        upload.complete(options).await
    }

    async fn copy_part(&self, upload: &S3Upload, number: u32, range: Option<String>) -> Result<()> {
        let from = self.shared.requests.copy_source(self.source.key);
        let tag = quoted(&self.options.source_version);
        let mut headers = vec![
            ("x-amz-copy-source", from.as_str()),
            ("x-amz-copy-source-if-match", tag.as_str()),
        ];
        headers.extend(
            range
                .as_deref()
                .map(|range| ("x-amz-copy-source-range", range)),
        );
        let text = number.to_string();
        let ask = Ask {
            method: Method::PUT,
            key: Some(self.target),
            query: &[("partNumber", &text), ("uploadId", upload.id().as_str())],
            headers: &headers,
            ..Ask::default()
        };
        let copied = within(self.left(), async {
            parse::<TagAnswer>(&self.shared.requests.ask(ask).await?)
        });
        // A part is part of nothing yet: only the source can be refused.
        let context = self.shared.context(self.source.key, true, Lost::Stale);
        let copied = copied.await.map_err(|fault| match context.explain(fault) {
            UfsError::NotFound { at } => UfsError::Stale { at },
            error => error,
        })?;
        upload.took(number, copied.e_tag);
        Ok(())
    }

    /// A new object, under the condition on the target alone: of nothing there is nothing
    /// that the source could have changed. Not an upload, since MinIO begins none under the
    /// key of a directory.
    async fn empty(&self) -> Result<Written> {
        let (shared, mode, guard) = (self.shared, &self.options.mode, self.options.guard);
        shared.look_before_write(self.target, mode, guard).await?;
        let options = WriteOptions::new(mode.clone(), self.options.write_id, self.left());
        let carried = self.source.headers.clone();
        let written = write_raw(shared, self.target, Payload::default(), &options, carried);
        match written.await {
            Ok(version) => Ok(Written::answered(version)),
            Err(fault) => Err(self.refused(fault).await),
        }
    }
}

/// Number, first and last byte of each part.
fn ranges(size: u64) -> Vec<(u32, u64, u64)> {
    // At most 10,000 parts, whatever the size.
    let part = PART.max(size.div_ceil(10_000));
    let starts = (0..size).step_by(usize::try_from(part).unwrap_or(usize::MAX));
    let numbered = (1..).zip(starts);
    numbered
        .map(|(number, first)| (number, first, (first + part).min(size) - 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_byte_once() {
        assert_eq!(ranges(1), [(1, 0, 0)]);
        assert_eq!(ranges(PART), [(1, 0, PART - 1)]);
        assert_eq!(ranges(PART + 1), [(1, 0, PART - 1), (2, PART, PART)]);
        assert!(ranges(5 << 40).len() <= 10_000);
    }

    #[test]
    fn a_copy_takes_what_people_see_and_not_the_write_id() {
        let mut headers = HeaderMap::new();
        for name in ["content-type", "x-amz-meta-colour", "etag", WRITE_ID_HEADER] {
            headers.insert(HeaderName::from_static(name), "x".parse().unwrap());
        }
        let carried = carried(&headers);
        let names: Vec<_> = carried.keys().map(HeaderName::as_str).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(!carried.contains_key(WRITE_ID_HEADER));
    }
}
