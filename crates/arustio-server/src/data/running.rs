//! Reads of one peer that are worked on, so that it can give them up.
//!
//! A read is entered when its work begins, and leaves when its answer was handed to the
//! connection. Giving up ends the work, takes out of the connection what it has not begun to
//! send, and gives back the leases that the answer had, also when the answer has left
//! already: the peer says that nobody waits for it, so nobody uses them.
//!
//! One lock, held while an answer is handed over, so that none slips past a `Cancel`; the
//! outbox's own is taken inside it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arustio_block::LeaseId;
use arustio_client::block::framed::outbox::Outbox;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::request::Reply;
use crate::metrics::Traffic;

/// Answers with leases that are remembered: a peer that gives up does it soon.
const REMEMBERED: usize = 64;

/// The reads of one peer.
#[derive(Debug)]
pub(super) struct Running {
    outbox: Arc<Outbox>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    reads: HashMap<u64, CancellationToken>,
    /// What the last answers granted, by request.
    granted: VecDeque<(u64, Vec<LeaseId>)>,
}

impl State {
    fn remember(&mut self, request: u64, leases: Vec<LeaseId>) {
        if leases.is_empty() {
            return;
        }
        if self.granted.len() >= REMEMBERED {
            self.granted.pop_front();
        }
        self.granted.push_back((request, leases));
    }

    fn recall(&mut self, request: u64) -> Vec<LeaseId> {
        let found = self.granted.iter().position(|(known, _)| *known == request);
        let found = found.and_then(|at| self.granted.remove(at));
        found.map(|(_, leases)| leases).unwrap_or_default()
    }
}

impl Running {
    /// Nothing runs yet.
    pub(super) fn new(outbox: Arc<Outbox>) -> Arc<Self> {
        Arc::new(Self {
            outbox,
            state: Mutex::default(),
        })
    }

    /// Enters a read. Its id is the peer's business: of two that have the same, the later
    /// one is given up.
    pub(super) fn enter(self: &Arc<Self>, request: u64) -> Working {
        let given_up = CancellationToken::new();
        let token = given_up.clone();
        self.state.lock().reads.insert(request, token);
        Working {
            running: Arc::clone(self),
            request,
            given_up,
        }
    }

    /// Nobody waits for the answer to this read any more; the leases that it had, to be
    /// given back.
    pub(super) fn give_up(&self, request: u64) -> Vec<LeaseId> {
        let mut state = self.state.lock();
        if let Some(read) = state.reads.remove(&request) {
            read.cancel();
        }
        self.outbox.give_up(request);
        state.recall(request)
    }
}

/// A read that is worked on.
#[derive(Debug)]
pub(super) struct Working {
    running: Arc<Running>,
    request: u64,
    given_up: CancellationToken,
}

impl Working {
    /// Whether nobody waits for it any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.is_cancelled()
    }

    /// What comes of the work; `None` when nobody waits for it any more.
    pub(super) async fn until_given_up<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.given_up.run_until_cancelled(work).await
    }

    /// Hands the answer over, and remembers what it grants. Leases that come back are for
    /// nobody, and to be given back.
    #[must_use]
    pub(super) fn answer(
        self,
        reply: Reply,
        leases: Vec<LeaseId>,
        traffic: &Traffic,
    ) -> Vec<LeaseId> {
        let mut state = self.running.state.lock();
        if self.is_given_up() {
            return leases;
        }
        state.remember(self.request, leases);
        // A peer that is gone needs no answer.
        let _ = reply.send(&self.running.outbox, traffic);
        Vec::new()
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.is_given_up() {
            self.running.state.lock().reads.remove(&self.request);
        }
    }
}
