//! Bounds the requests in flight, and adapts the bound to what the store bears (U6).
//!
//! Additive increase, multiplicative decrease, like TCP: while the bound is used up and
//! answers are good it grows by one per round; when the store says that it is busy, or
//! does not answer in time, it shrinks to seven tenths, once per round. A round is as
//! many answers as the bound is high, so no clock is needed.
//!
//! A permit is held until the answer begins. Bodies are not counted: a reader that
//! holds many bodies open while it asks for one more must not wait for itself.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::UfsKey;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::capability::Capabilities;
use crate::config::LimitConfig;
use crate::error::{Result, UfsError};
use crate::ufs::{
    CopyOptions, DeleteOptions, DeleteRequest, DeleteResult, Deleted, Description, ListOptions,
    ListPage, ObjectEntry, Payload, ReadBody, ReadOptions, RenameOptions, UnderFileSystem,
    UploadEntry, WriteOptions, Written,
};
use crate::upload::{AbortOptions, CompleteOptions, Upload, UploadId, UploadOptions};

/// A store with a bounded number of requests in flight.
#[derive(Debug)]
pub struct Limit {
    inner: Arc<dyn UnderFileSystem>,
    gate: Arc<Gate>,
}

impl Limit {
    /// Bounds `inner` by `config`.
    pub fn new(inner: Arc<dyn UnderFileSystem>, config: LimitConfig) -> Self {
        Self {
            inner,
            gate: Arc::new(Gate::new(config)),
        }
    }

    /// The bound now.
    pub fn bound(&self) -> u32 {
        self.gate.state.lock().bound
    }
}

#[derive(Debug)]
struct Gate {
    config: LimitConfig,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bound: u32,
    /// Permits to take away when they come back.
    owed: u32,
    /// Answers since the bound last changed.
    answers: u32,
}

/// What one answer does to the bound.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Grow,
    Shrink(u32),
}

impl State {
    fn answered(&mut self, config: &LimitConfig, congested: bool, used_up: bool) -> Step {
        self.answers = self.answers.saturating_add(1);
        if self.answers < self.bound && !(congested && self.answers == 1) {
            return Step::Keep;
        }
        if congested {
            let lower = (self.bound * 7 / 10).max(config.fewest.max(1));
            let fewer = self.bound.saturating_sub(lower);
            (self.bound, self.answers) = (lower, 0);
            return Step::Shrink(fewer);
        }
        if used_up && self.bound < config.most {
            (self.bound, self.answers) = (self.bound + 1, 0);
            return Step::Grow;
        }
        Step::Keep
    }
}

impl Gate {
    fn new(config: LimitConfig) -> Self {
        let bound = config.start.clamp(config.fewest.max(1), config.most.max(1));
        Self {
            config,
            permits: Arc::new(Semaphore::new(bound as usize)),
            state: Mutex::new(State {
                bound,
                owed: 0,
                answers: 0,
            }),
        }
    }

    async fn enter(&self) -> OwnedSemaphorePermit {
        let permits = Arc::clone(&self.permits);
        permits
            .acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }

    async fn pass<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let permit = self.enter().await;
        let used_up = self.permits.available_permits() == 0;
        let result = request.await;
        self.leave(permit, result.as_ref().err(), used_up);
        result
    }

    fn leave(&self, permit: OwnedSemaphorePermit, error: Option<&UfsError>, used_up: bool) {
        let congested = error.is_some_and(is_congestion);
        let mut state = self.state.lock();
        match state.answered(&self.config, congested, used_up) {
            Step::Keep => {}
            Step::Grow if state.owed > 0 => state.owed -= 1,
            Step::Grow => self.permits.add_permits(1),
            Step::Shrink(fewer) => state.owed += fewer,
        }
        if state.owed > 0 {
            state.owed -= 1;
            permit.forget();
        }
    }
}

fn is_congestion(error: &UfsError) -> bool {
    matches!(error, UfsError::Busy { .. } | UfsError::Timeout { .. })
}

/// Lets a stream's items through one at a time, each under a permit.
fn gated<T: Send + 'static>(
    gate: &Arc<Gate>,
    stream: BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    let gate = Arc::clone(gate);
    futures::stream::unfold(stream, move |mut stream| {
        let gate = Arc::clone(&gate);
        async move {
            let permit = gate.enter().await;
            let item = stream.next().await;
            let error = item.as_ref().and_then(|item| item.as_ref().err());
            gate.leave(permit, error, false);
            item.map(|item| (item, stream))
        }
    })
    .boxed()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UnderFileSystem for Limit {
    fn describe(&self) -> &Description {
        self.inner.describe()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn head(&self, key: &UfsKey) -> Result<Option<ObjectEntry>> {
        self.gate.pass(self.inner.head(key)).await
    }

    async fn read(&self, key: &UfsKey, options: ReadOptions) -> Result<ReadBody> {
        self.gate.pass(self.inner.read(key, options)).await
    }

    async fn write(
        &self,
        key: &UfsKey,
        payload: Payload,
        options: WriteOptions,
    ) -> Result<Written> {
        self.gate
            .pass(self.inner.write(key, payload, options))
            .await
    }

    async fn begin_upload(&self, key: &UfsKey, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let upload = self
            .gate
            .pass(self.inner.begin_upload(key, options))
            .await?;
        Ok(Box::new(LimitedUpload {
            inner: upload,
            gate: Arc::clone(&self.gate),
        }))
    }

    fn list_uploads(&self, prefix: &UfsKey) -> BoxStream<'static, Result<UploadEntry>> {
        gated(&self.gate, self.inner.list_uploads(prefix))
    }

    async fn abort_upload(
        &self,
        key: &UfsKey,
        upload: &UploadId,
        options: AbortOptions,
    ) -> Result<()> {
        let request = self.inner.abort_upload(key, upload, options);
        self.gate.pass(request).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListPage>> {
        gated(&self.gate, self.inner.list(options))
    }

    async fn delete(&self, key: &UfsKey, options: DeleteOptions) -> Result<Deleted> {
        self.gate.pass(self.inner.delete(key, options)).await
    }

    fn delete_many(
        &self,
        requests: BoxStream<'static, DeleteRequest>,
        deadline: Duration,
    ) -> BoxStream<'static, DeleteResult> {
        // Already bounded by the store itself.
        self.inner.delete_many(requests, deadline)
    }

    async fn copy(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: CopyOptions,
    ) -> Result<Written> {
        self.gate
            .pass(self.inner.copy(source, target, options))
            .await
    }

    async fn rename(
        &self,
        source: &UfsKey,
        target: &UfsKey,
        options: RenameOptions,
    ) -> Result<Written> {
        self.gate
            .pass(self.inner.rename(source, target, options))
            .await
    }
}

/// An upload whose parts pass the gate.
#[derive(Debug)]
struct LimitedUpload {
    inner: Box<dyn Upload>,
    gate: Arc<Gate>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for LimitedUpload {
    fn id(&self) -> &UploadId {
        self.inner.id()
    }

    async fn put_part(&self, number: u32, payload: Payload, deadline: Duration) -> Result<()> {
        self.gate
            .pass(self.inner.put_part(number, payload, deadline))
            .await
    }

    async fn complete(&self, options: CompleteOptions) -> Result<Written> {
        self.gate.pass(self.inner.complete(options)).await
    }

    async fn abort(&self, options: AbortOptions) -> Result<()> {
        self.gate.pass(self.inner.abort(options)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: LimitConfig = LimitConfig {
        fewest: 2,
        start: 10,
        most: 12,
    };

    fn state(bound: u32) -> State {
        State {
            bound,
            owed: 0,
            answers: 0,
        }
    }

    #[test]
    fn u6_the_bound_shrinks_at_once_and_once_per_round() {
        let mut state = state(10);
        assert_eq!(state.answered(&CONFIG, true, true), Step::Shrink(3));
        assert_eq!(state.bound, 7);
        // The rest of the round was sent before the bound shrank.
        assert_eq!(state.answered(&CONFIG, false, true), Step::Keep);
        for _ in 0..5 {
            assert_eq!(state.answered(&CONFIG, true, true), Step::Keep);
        }
        assert_eq!(state.answered(&CONFIG, true, true), Step::Shrink(3));
    }

    #[test]
    fn u6_the_bound_grows_only_while_it_is_used_up() {
        let mut state = state(10);
        for _ in 0..40 {
            assert_eq!(state.answered(&CONFIG, false, false), Step::Keep);
        }
        assert_eq!(state.answered(&CONFIG, false, true), Step::Grow);
        let steps: Vec<_> = (0..60)
            .map(|_| state.answered(&CONFIG, false, true))
            .collect();
        assert_eq!(steps.iter().filter(|step| **step == Step::Grow).count(), 1);
        assert_eq!(state.bound, 12);
    }

    #[tokio::test]
    async fn permits_that_are_owed_do_not_come_back() {
        let gate = Gate::new(CONFIG);
        let at = crate::error::Place::new(&Arc::from("mem://t"), &UfsKey::default());
        let busy = || UfsError::Busy {
            at: at.clone(),
            detail: String::new(),
        };
        for _ in 0..40 {
            let refused: Result<()> = gate.pass(async { Err(busy()) }).await;
            assert!(refused.is_err());
        }
        assert_eq!(gate.state.lock().bound, 2);
        assert_eq!(gate.permits.available_permits(), 2);
    }
}
