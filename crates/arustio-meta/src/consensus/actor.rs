//! The one thread and the one loop.
//!
//! Inputs come through a bounded channel. The loop takes everything that waits, up to one
//! batch, and lets the member do its rounds: while one sync runs, the next batch queues up
//! (group commit). A beat of the clock that was missed is not made up for: after the
//! machine stood still, nobody is deposed by a burst of beats.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use arustio_types::LogIndex;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::consensus::MonotonicClock;
use crate::consensus::member::{Input, Member};
use crate::consensus::membership::Membership;
use crate::error::{FatalError, StoreError};
use crate::state_machine::StateMachine;
use crate::store::{Role, StoreStatus};

/// Most inputs that are taken before a round, so that a flood of small ones cannot keep
/// the clock from beating.
const MAX_INPUTS: usize = 4096;

/// What the thread tells everybody.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) status: watch::Sender<StoreStatus>,
    pub(crate) members: watch::Sender<Arc<Membership>>,
    pub(crate) ended: watch::Sender<Option<End>>,
    pub(crate) stopping: AtomicBool,
    /// What is applied here is the newest there is: nobody else can be elected.
    pub(crate) newest: AtomicBool,
    pub(crate) commit: AtomicU64,
    pub(crate) applied: AtomicU64,
}

/// How the thread ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Stopped,
    Failed(Arc<FatalError>),
}

impl End {
    pub(crate) fn as_error(&self) -> StoreError {
        match self {
            End::Stopped => StoreError::Stopped,
            End::Failed(error) => StoreError::Failed(Arc::clone(error)),
        }
    }
}

impl Shared {
    pub(crate) fn new(status: StoreStatus, members: &Arc<Membership>) -> Self {
        Self {
            members: watch::Sender::new(Arc::clone(members)),
            status: watch::Sender::new(status),
            ended: watch::Sender::new(None),
            stopping: AtomicBool::new(false),
            newest: AtomicBool::new(false),
            commit: AtomicU64::new(status.commit.get()),
            applied: AtomicU64::new(status.applied.get()),
        }
    }

    fn publish(&self, status: StoreStatus, newest: bool, members: &Arc<Membership>) {
        self.members.send_if_modified(|known| {
            let changed = !Arc::ptr_eq(known, members) && known != members;
            known.clone_from(members);
            changed
        });
        self.commit.store(status.commit.get(), Ordering::Release);
        self.applied.store(status.applied.get(), Ordering::Release);
        self.newest.store(newest, Ordering::Release);
        self.status.send_if_modified(|known| {
            let changed =
                (known.role, known.term, known.leader) != (status.role, status.term, status.leader);
            *known = status;
            changed
        });
    }

    fn end(&self, end: End) {
        self.newest.store(false, Ordering::Release);
        self.status.send_modify(|status| {
            status.role = Role::Stopped;
            status.leader = None;
        });
        self.ended.send_replace(Some(end));
    }

    pub(crate) fn status(&self) -> StoreStatus {
        let mut status = *self.status.borrow();
        status.commit = LogIndex::new(self.commit.load(Ordering::Acquire));
        status.applied = LogIndex::new(self.applied.load(Ordering::Acquire));
        status
    }
}

/// The thread's own.
#[derive(Debug)]
pub(crate) struct Actor<S: StateMachine> {
    pub(crate) member: Member<S>,
    pub(crate) machine: Arc<RwLock<S>>,
    pub(crate) inbox: Receiver<Input<S::Outcome>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn MonotonicClock>,
    pub(crate) tick: Duration,
}

impl<S: StateMachine> Actor<S> {
    /// Starts the thread.
    pub(crate) fn spawn(self) -> Result<thread::JoinHandle<()>, FatalError> {
        thread::Builder::new()
            .name("consensus".to_owned())
            .spawn(move || self.live())
            .map_err(FatalError::Thread)
    }

    fn live(mut self) {
        // Should the loop panic, everybody who waits learns of it.
        let guard = Guard(Arc::clone(&self.shared));
        let end = match self.serve() {
            Ok(()) => End::Stopped,
            Err(error) => End::Failed(Arc::new(error)),
        };
        self.shared.end(end.clone());
        let error = end.as_error();
        self.member.end_all(&error);
        while let Ok(input) = self.inbox.try_recv() {
            self.member.take(input);
        }
        self.member.end_all(&error);
        drop(guard);
    }

    fn serve(&mut self) -> Result<(), FatalError> {
        self.member.start()?;
        self.round()?;
        let mut next_tick = self.clock.now() + self.tick;
        while !self.shared.stopping.load(Ordering::Acquire) {
            let now = self.clock.now();
            if now >= next_tick {
                self.member.tick();
                next_tick = now + self.tick;
            }
            match self.inbox.recv_timeout(next_tick.saturating_sub(now)) {
                Ok(input) => self.take_all(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.round()?;
        }
        self.machine.read().make_durable()?;
        Ok(())
    }

    fn take_all(&mut self, first: Input<S::Outcome>) {
        let mut room = self.member.take(first);
        for _ in 1..MAX_INPUTS {
            if !room {
                return;
            }
            let Ok(input) = self.inbox.try_recv() else {
                return;
            };
            room = self.member.take(input);
        }
    }

    fn round(&mut self) -> Result<(), FatalError> {
        self.member.run(self.clock.now())?;
        let newest = self.member.is_newest();
        let members = self.member.members();
        self.shared.publish(self.member.status(), newest, members);
        Ok(())
    }
}

struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end(End::Failed(Arc::new(FatalError::Panicked)));
        }
    }
}
