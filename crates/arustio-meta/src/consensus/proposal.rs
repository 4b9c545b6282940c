//! Writers that wait for their command to be applied, and how their waiting ends.
//!
//! A writer is found by the tag of its entry, never by order: an entry that was proposed
//! twice, or that a later leader commits, answers the writer that proposed it, and entries
//! of other members answer nobody here. When leadership is lost every writer ends with
//! [`StoreError::LeadershipLost`]: its entry may still be committed by the next leader, so
//! its outcome is unknown and it repeats with the same request id.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::consensus::codec::Tag;
use crate::error::StoreError;
use crate::store::Proposed;

/// Where the outcome goes.
pub(crate) type Reply<O> = oneshot::Sender<Result<Proposed<O>, StoreError>>;

/// The writers that wait.
#[derive(Debug)]
pub(crate) struct Proposals<O> {
    run: u64,
    number: u64,
    waiting: HashMap<Tag, Reply<O>>,
}

impl<O> Proposals<O> {
    /// Nobody waits; `run` distinguishes this process from every other.
    pub(crate) fn new(run: u64) -> Self {
        Self {
            run,
            number: 0,
            waiting: HashMap::new(),
        }
    }

    /// A writer waits; its entry must carry the tag.
    pub(crate) fn wait(&mut self, reply: Reply<O>) -> Tag {
        self.number += 1;
        let tag = Tag {
            run: self.run,
            number: self.number,
        };
        self.waiting.insert(tag, reply);
        tag
    }

    /// The entry was applied.
    pub(crate) fn applied(&mut self, tag: Tag, proposed: Proposed<O>) {
        self.end(tag, Ok(proposed));
    }

    /// The entry was never taken.
    pub(crate) fn refused(&mut self, tag: Tag, error: StoreError) {
        self.end(tag, Err(error));
    }

    fn end(&mut self, tag: Tag, result: Result<Proposed<O>, StoreError>) {
        if let Some(reply) = self.waiting.remove(&tag) {
            // Whoever no longer listens has gone away by its own choice.
            let _ = reply.send(result);
        }
    }

    /// Nobody's outcome can be learned any more.
    pub(crate) fn end_all(&mut self, error: &StoreError) {
        for (_, reply) in self.waiting.drain() {
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// Forgets writers whose callers have gone.
    pub(crate) fn sweep(&mut self) {
        self.waiting.retain(|_, reply| !reply.is_closed());
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}
