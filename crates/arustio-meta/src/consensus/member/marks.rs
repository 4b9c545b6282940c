//! Comparing what the members hold: sums over their states at entries that all of them know.
//!
//! A *mark* is an entry of the log at which every member takes down the sum over its state.
//! Each regular mark carries what the leader had at the one before: a member that had
//! something else ends itself. A mark that an operator asks for carries nothing, so that
//! whoever differs lives on and says what it has.

use std::collections::VecDeque;
use std::mem;

use arustio_types::LogIndex;

use super::Member;
use crate::consensus::{Notice, StateMark};
use crate::error::{FatalError, StoreError};
use crate::state_machine::StateMachine;
use crate::store::Role;

/// Marks that are remembered: whoever asks for one gets an answer within seconds, and none
/// is made in less time than a round of the group takes.
const KEPT: usize = 64;

/// What was taken down, and who waits for it.
#[derive(Debug)]
pub(super) struct Marks {
    /// Oldest first.
    taken: VecDeque<StateMark>,
    /// Since when no mark was asked for.
    asked: LogIndex,
    /// Want a new one behind this entry.
    wanted: Vec<(LogIndex, Notice<StateMark>)>,
    /// The same, and one is on its way.
    proposed: Vec<(LogIndex, Notice<StateMark>)>,
    /// Want the one at this entry.
    waiting: Vec<(LogIndex, Notice<StateMark>)>,
}

impl Marks {
    pub(super) fn new(applied: LogIndex) -> Self {
        Self {
            taken: VecDeque::new(),
            asked: applied,
            wanted: Vec::new(),
            proposed: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn at(&self, index: LogIndex) -> Option<StateMark> {
        let mut taken = self.taken.iter();
        taken.find(|mark| mark.index == index).copied()
    }

    fn take(&mut self, mark: StateMark) {
        self.asked = mark.index;
        self.taken.push_back(mark);
        if self.taken.len() > KEPT {
            self.taken.pop_front();
        }
        let served = |(behind, _): &mut (LogIndex, _)| mark.index > *behind;
        for (_, notice) in self.proposed.extract_if(.., served) {
            let _ = notice.send(Ok(mark));
        }
        self.settle(mark.index);
    }

    /// Answers those whose entry is applied.
    fn settle(&mut self, applied: LogIndex) {
        for (index, notice) in mem::take(&mut self.waiting) {
            match self.at(index) {
                Some(mark) => drop(notice.send(Ok(mark))),
                None if index <= applied => drop(notice.send(Err(StoreError::NoMark { index }))),
                None => self.waiting.push((index, notice)),
            }
        }
    }

    /// The state was replaced by one that has come to this entry.
    pub(super) fn replaced(&mut self, applied: LogIndex) {
        self.taken.clear();
        self.asked = applied;
        self.settle(applied);
    }

    /// Nobody here orders entries any more.
    pub(super) fn end_wanted(&mut self, error: &StoreError) {
        for (_, notice) in self.wanted.drain(..).chain(self.proposed.drain(..)) {
            let _ = notice.send(Err(error.clone()));
        }
    }

    pub(super) fn end_all(&mut self, error: &StoreError) {
        self.end_wanted(error);
        for (_, notice) in self.waiting.drain(..) {
            let _ = notice.send(Err(error.clone()));
        }
    }

    /// Forgets those whose callers have gone.
    pub(super) fn sweep(&mut self) {
        for waiting in [&mut self.wanted, &mut self.proposed, &mut self.waiting] {
            waiting.retain(|(_, notice)| !notice.is_closed());
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.wanted.len() + self.proposed.len() + self.waiting.len()
    }
}

impl<S: StateMachine> Member<S> {
    /// Somebody wants a mark behind everything that is in the log now.
    pub(super) fn take_mark(&mut self, notice: Notice<StateMark>) {
        let status = self.peer.status();
        if status.role != Role::Leader {
            let leader = status.leader;
            let _ = notice.send(Err(StoreError::NotLeader { leader }));
            return;
        }
        let (_, last, _) = self.peer.log_range();
        self.marks.wanted.push((last, notice));
    }

    /// Somebody wants the mark at an entry.
    pub(super) fn mark_at(&mut self, index: LogIndex, notice: Notice<StateMark>) {
        self.marks.waiting.push((index, notice));
        self.marks.settle(self.applied);
    }

    /// A mark is applied: compares this replica with what the leader had at an earlier one,
    /// and takes down what it has now.
    pub(super) fn compare(&mut self, index: LogIndex, sum: u128) -> Result<(), FatalError> {
        if self.marks.at(index).is_some_and(|ours| ours.sum != sum) {
            return Err(FatalError::Diverged {
                member: self.peer.status().member,
                index,
            });
        }
        if let Some(sum) = self.machine.read().hash() {
            let index = self.applied;
            self.marks.take(StateMark { index, sum });
        }
        Ok(())
    }

    /// A leader has everybody take a mark every so many entries, and when it is asked to.
    pub(super) fn ask_for_check(&mut self) {
        let applied = self.applied.get();
        let since = applied - self.marks.asked.get().min(applied);
        let regular = since >= self.config.check_every;
        let due = regular || !self.marks.wanted.is_empty();
        if !self.led || !due || self.machine.read().hash().is_none() {
            return;
        }
        let last = self.marks.taken.back().filter(|_| regular);
        let (index, sum) = last.map(|mark| (mark.index, mark.sum)).unwrap_or_default();
        if self.peer.propose_check(index, sum).is_ok() {
            self.marks.asked = self.applied;
            let wanted = mem::take(&mut self.marks.wanted);
            self.marks.proposed.extend(wanted);
        }
    }
}
