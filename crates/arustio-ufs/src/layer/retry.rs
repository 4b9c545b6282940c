//! Repeats what may be repeated, inside a deadline (U6).
//!
//! Jittered exponential back-off; a budget keeps the requests that are sent below three
//! for each one wanted, however much fails. The error that finally comes out says how
//! often and how long it was tried.
//!
//! Repeating a conditional write after a lost reply finds our own object in the way.
//! It is recognised by its write id (W2), never by equal bytes. That an earlier try got
//! no answer is never forgotten: it stays in the result, or in the error (P5).
//!
//! What is not repeated: beginning an upload whose reply was lost, because only the
//! caller can tell the lost upload from somebody else's (W3).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arustio_types::{Classify, RetryAdvice, UfsKey, WriteId};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;

use crate::capability::Capabilities;
use crate::config::RetryConfig;
use crate::error::{Result, UfsError};
use crate::ufs::{
    CopyOptions, DeleteOptions, DeleteRequest, DeleteResult, Deleted, Description, ListOptions,
    ListPage, ObjectEntry, Payload, ReadBody, ReadOptions, RenameOptions, UnderFileSystem,
    UploadEntry, WriteOptions, Written,
};
use crate::upload::{AbortOptions, CompleteOptions, Upload, UploadId, UploadOptions};

/// Retries in hand before the first request, in tenths.
const BUDGET_START: i64 = 200;
/// What each wanted request adds, in tenths of a retry: 1.5 keeps the sum below 3.
const BUDGET_INCOME: i64 = 15;
/// What a retry costs, in tenths.
const BUDGET_COST: i64 = 10;
/// Deletes in flight of one `delete_many`.
const DELETES_IN_FLIGHT: usize = 16;

/// A store whose failures are repeated.
#[derive(Debug, Clone)]
pub struct Retry {
    inner: Arc<dyn UnderFileSystem>,
    policy: Arc<Policy>,
}

impl Retry {
    /// Repeats by `config`; `seed` is random and feeds the jitter.
    pub fn new(inner: Arc<dyn UnderFileSystem>, config: RetryConfig, seed: u64) -> Self {
        Self {
            inner,
            policy: Arc::new(Policy {
                config,
                budget: AtomicI64::new(BUDGET_START),
                jitter: AtomicU64::new(seed),
            }),
        }
    }

    /// Looks whether the object that is in the way is our own write.
    async fn own(&self, key: &UfsKey, write_id: WriteId) -> Option<ObjectEntry> {
        let found = self.head(key).await.ok().flatten()?;
        (found.write_id == Some(write_id)).then_some(found)
    }

    /// What a conditional write means when it is refused: our own earlier try, or not.
    async fn settle(
        &self,
        tries: &Tries,
        key: &UfsKey,
        write_id: WriteId,
        error: UfsError,
    ) -> Result<Written> {
        if tries.count > 1
            && let Some(entry) = self.own(key, write_id).await
        {
            return Ok(Written {
                version: entry.version,
                unanswered: tries.unanswered,
            });
        }
        Err(tries.finish(error))
    }
}

#[derive(Debug)]
struct Policy {
    config: RetryConfig,
    budget: AtomicI64,
    jitter: AtomicU64,
}

impl Policy {
    /// Begins a wanted request.
    fn begin(self: &Arc<Self>, deadline: Duration) -> Tries {
        let income = |budget: i64| Some((budget + BUDGET_INCOME).min(BUDGET_START));
        let updated = self
            .budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, income);
        debug_assert!(updated.is_ok(), "the update never refuses");
        Tries {
            policy: Arc::clone(self),
            start: Instant::now(),
            deadline,
            count: 1,
            unanswered: false,
        }
    }

    fn reads(self: &Arc<Self>) -> Tries {
        self.begin(self.config.read_deadline)
    }

    /// Takes a retry out of the budget.
    fn spend(&self) -> bool {
        let cost = |budget: i64| (budget >= BUDGET_COST).then_some(budget - BUDGET_COST);
        let spent = self
            .budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, cost);
        spent.is_ok()
    }

    /// The pause before try `count + 1`: between half and all of the exponential step.
    fn pause(&self, count: u32) -> Duration {
        let doubled = self
            .config
            .first_pause
            .saturating_mul(1 << count.min(16).saturating_sub(1));
        let step = doubled.min(self.config.longest_pause);
        let random = splitmix(self.jitter.fetch_add(1, Ordering::Relaxed));
        step.mul_f64(0.5 + 0.5 * (random >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// A number that looks random, from a counter.
fn splitmix(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The tries of one wanted request.
#[derive(Debug)]
struct Tries {
    policy: Arc<Policy>,
    start: Instant,
    deadline: Duration,
    count: u32,
    unanswered: bool,
}

impl Tries {
    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.start.elapsed())
    }

    /// Waits for the next try, or says that there is none.
    async fn again(&mut self, error: UfsError) -> Result<()> {
        self.unanswered |= error.unanswered();
        let pause = self.policy.pause(self.count);
        let hopeless = error.advice() == RetryAdvice::Never
            || self.count >= self.policy.config.attempts
            || self.left() <= pause;
        if hopeless || !self.policy.spend() {
            return Err(self.finish(error));
        }
        tracing::debug!(%error, attempt = self.count, ?pause, "request is repeated");
        tokio::time::sleep(pause).await;
        self.count += 1;
        Ok(())
    }

    /// The error that comes out: how often, how long, and what is still open.
    fn finish(&self, error: UfsError) -> UfsError {
        let unanswered = self.unanswered || error.unanswered();
        let refused = error.advice() == RetryAdvice::Never;
        if refused && unanswered == error.unanswered() {
            return error;
        }
        UfsError::Exhausted {
            attempts: self.count,
            elapsed: self.start.elapsed(),
            last: Box::new(error),
            unanswered,
        }
    }

    fn written(&self, written: Written) -> Written {
        Written {
            unanswered: written.unanswered || self.unanswered,
            ..written
        }
    }
}

/// A lost condition, which may be our own earlier try.
fn is_lost_condition(error: &UfsError) -> bool {
    matches!(
        error,
        UfsError::AlreadyExists { .. } | UfsError::Conflict { .. }
    )
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UnderFileSystem for Retry {
    fn describe(&self) -> &Description {
        self.inner.describe()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>> {
        let mut tries = self.policy.reads();
        loop {
            match self.inner.head(key).await {
                Ok(found) => return Ok(found),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn read(&self, key: &UfsKey, options: ReadOptions) -> Result<ReadBody> {
        let mut tries = self.policy.reads();
        loop {
            match self.inner.read(key, options.clone()).await {
                Ok(read) => return Ok(resumed(self.clone(), key.clone(), read, tries)),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn write(
        &self,
        key: &UfsKey,
        payload: Payload,
        options: WriteOptions,
    ) -> Result<Written> {
        let mut tries = self.policy.begin(options.deadline);
        loop {
            let mut attempt = options.clone();
            attempt.deadline = tries.left();
            match self.inner.write(key, payload.clone(), attempt).await {
                Ok(written) => return Ok(tries.written(written)),
                Err(error) if is_lost_condition(&error) => {
                    return self.settle(&tries, key, options.write_id, error).await;
                }
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn begin_upload(&self, key: &UfsKey, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let mut tries = self.policy.begin(options.deadline);
        loop {
            let mut attempt = options.clone();
            attempt.deadline = tries.left();
            match self.inner.begin_upload(key, attempt).await {
                Ok(upload) => {
                    return Ok(Box::new(RetriedUpload {
                        inner: upload,
                        ufs: self.clone(),
                        key: key.clone(),
                        write_id: options.write_id,
                    }));
                }
                Err(error) if error.unanswered() => return Err(tries.finish(error)),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    fn list_uploads(&self, prefix: &UfsKey) -> BoxStream<'static, Result<UploadEntry>> {
        // Asked again as a whole by whoever needs it: the order of uploads is not stable.
        self.inner.list_uploads(prefix)
    }

    async fn abort_upload(
        &self,
        key: &UfsKey,
        upload: &UploadId,
        options: AbortOptions,
    ) -> Result<()> {
        let mut tries = self.policy.begin(options.deadline);
        loop {
            let attempt = AbortOptions {
                deadline: tries.left(),
            };
            match self.inner.abort_upload(key, upload, attempt).await {
                Ok(()) => return Ok(()),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListPage>> {
        let pages = Pages {
            body: self.inner.list(options.clone()),
            ufs: self.clone(),
            options,
            tries: None,
        };
        futures::stream::unfold(Some(pages), |pages| async {
            let mut pages = pages?;
            match pages.next().await? {
                Ok(page) => Some((Ok(page), Some(pages))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    async fn delete(&self, key: &UfsKey, options: DeleteOptions) -> Result<Deleted> {
        let mut tries = self.policy.begin(options.deadline);
        loop {
            let mut attempt = options.clone();
            attempt.deadline = tries.left();
            match self.inner.delete(key, attempt).await {
                Ok(deleted) => {
                    let unanswered = deleted.unanswered || tries.unanswered;
                    return Ok(Deleted { unanswered });
                }
                Err(error) => tries.again(error).await?,
            }
        }
    }

    fn delete_many(
        &self,
        requests: BoxStream<'static, DeleteRequest>,
        deadline: Duration,
    ) -> BoxStream<'static, DeleteResult> {
        let ufs = self.clone();
        requests
            .map(move |request| {
                let ufs = ufs.clone();
                async move {
                    let options = DeleteOptions::new(request.required.clone(), deadline);
                    let result = ufs.delete(&request.key, options).await;
                    DeleteResult { request, result }
                }
            })
            .buffer_unordered(DELETES_IN_FLIGHT)
            .boxed()
    }

    async fn copy(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: CopyOptions,
    ) -> Result<Written> {
        let mut tries = self.policy.begin(options.deadline);
        loop {
            let mut attempt = options.clone();
            attempt.deadline = tries.left();
            match self.inner.copy(source, target, attempt).await {
                Ok(written) => return Ok(tries.written(written)),
                Err(error) if is_lost_condition(&error) => {
                    return self.settle(&tries, target, options.write_id, error).await;
                }
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn rename(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: RenameOptions,
    ) -> Result<Written> {
        let mut tries = self.policy.begin(options.deadline);
        loop {
            let mut attempt = options.clone();
            attempt.deadline = tries.left();
            match self.inner.rename(source, target, attempt).await {
                Ok(written) => return Ok(tries.written(written)),
                Err(error)
                    if is_lost_condition(&error) || matches!(error, UfsError::Stale { .. }) =>
                {
                    return self.settle(&tries, target, options.write_id, error).await;
                }
                Err(error) => tries.again(error).await?,
            }
        }
    }
}

/// A listing that goes on where it broke off.
struct Pages {
    body: BoxStream<'static, Result<ListPage>>,
    ufs: Retry,
    options: ListOptions,
    tries: Option<Tries>,
}

impl Pages {
    async fn next(&mut self) -> Option<Result<ListPage>> {
        loop {
            let page = match self.body.next().await? {
                Ok(page) => page,
                Err(error) => {
                    let policy = &self.ufs.policy;
                    let tries = self.tries.get_or_insert_with(|| policy.reads());
                    if let Err(error) = tries.again(error).await {
                        return Some(Err(error));
                    }
                    self.body = self.ufs.inner.list(self.options.clone());
                    continue;
                }
            };
            self.tries = None;
            if page.next.is_some() {
                self.options.start_after.clone_from(&page.next);
            }
            if let Some(limit) = &mut self.options.limit {
                *limit = limit.saturating_sub(page.names());
            }
            return Some(Ok(page));
        }
    }
}

/// A body that is asked for again from where it broke off, of the same version.
fn resumed(ufs: Retry, key: UfsKey, read: ReadBody, tries: Tries) -> ReadBody {
    let state = Body {
        body: read.body,
        ufs,
        key,
        entry: read.entry.clone(),
        position: read.range.start,
        end: read.range.end,
        tries,
    };
    let body = futures::stream::unfold(Some(state), |state| async {
        let mut state = state?;
        match state.next().await? {
            Ok(piece) => Some((Ok(piece), Some(state))),
            Err(error) => Some((Err(error), None)),
        }
    });
    ReadBody {
        entry: read.entry,
        range: read.range,
        body: body.boxed(),
    }
}

struct Body {
    body: BoxStream<'static, Result<Bytes>>,
    ufs: Retry,
    key: UfsKey,
    entry: ObjectEntry,
    position: u64,
    end: u64,
    tries: Tries,
}

impl Body {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            let error = match self.body.next().await {
                Some(Ok(piece)) => {
                    self.position += piece.len() as u64;
                    return Some(Ok(piece));
                }
                None if self.position >= self.end => return None,
                None => UfsError::Unavailable {
                    at: self.ufs.describe().place(&self.key),
                    cause: "the body ended early".to_owned(),
                    unanswered: false,
                },
                Some(Err(error)) => error,
            };
            if let Err(error) = self.reopen(error).await {
                return Some(Err(error));
            }
        }
    }

    async fn reopen(&mut self, mut error: UfsError) -> Result<()> {
        loop {
            self.tries.again(error).await?;
            let options = ReadOptions {
                range: Some(self.position..self.end),
                required: Some(self.entry.version.clone()),
            };
            match self.ufs.inner.read(&self.key, options).await {
                Ok(read) => {
                    self.body = read.body;
                    return Ok(());
                }
                Err(next) => error = next,
            }
        }
    }
}

/// An upload whose requests are repeated.
#[derive(Debug)]
struct RetriedUpload {
    inner: Box<dyn Upload>,
    ufs: Retry,
    key: UfsKey,
    write_id: WriteId,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for RetriedUpload {
    fn id(&self) -> &UploadId {
        self.inner.id()
    }

    async fn put_part(&self, number: u32, payload: Payload, deadline: Duration) -> Result<()> {
        let mut tries = self.ufs.policy.begin(deadline);
        loop {
            let sent = self.inner.put_part(number, payload.clone(), tries.left());
            match sent.await {
                Ok(()) => return Ok(()),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn complete(&self, options: CompleteOptions) -> Result<Written> {
        let mut tries = self.ufs.policy.begin(options.deadline);
        loop {
            let mut attempt = options.clone();
            attempt.deadline = tries.left();
            match self.inner.complete(attempt).await {
                Ok(written) => return Ok(tries.written(written)),
                Err(error)
                    if is_lost_condition(&error) || matches!(error, UfsError::NotFound { .. }) =>
                {
                    return self
                        .ufs
                        .settle(&tries, &self.key, self.write_id, error)
                        .await;
                }
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn abort(&self, options: AbortOptions) -> Result<()> {
        let mut tries = self.ufs.policy.begin(options.deadline);
        loop {
            let attempt = AbortOptions {
                deadline: tries.left(),
            };
            match self.inner.abort(attempt).await {
                Ok(()) => return Ok(()),
                Err(error) => tries.again(error).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests;
