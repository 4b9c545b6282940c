//! Readers that wait for a position that is safe to read at.
//!
//! One question to the group serves everybody who waited when it was asked; whoever comes
//! later waits for the next one. The library forgets a question without a word while it
//! knows no leader that has committed in its term, so an unanswered question is asked
//! again, with the same tag: an answer to any of its repetitions is an answer. An answered
//! position is reached when the state machine has applied it.

use std::mem;

use arustio_types::LogIndex;
use tokio::sync::oneshot;

use crate::consensus::codec::Tag;
use crate::error::StoreError;

/// Told when the state is fresh enough.
pub(crate) type Ready = oneshot::Sender<Result<(), StoreError>>;

/// Beats of the clock after which an unanswered question is asked again.
const ASK_AGAIN_TICKS: u32 = 2;

/// The readers that wait.
#[derive(Debug)]
pub(crate) struct Reads {
    run: u64,
    number: u64,
    /// Came after the question that is out.
    waiting: Vec<Ready>,
    /// The question that is out, who waits for it, and since how many beats.
    asked: Option<(Tag, Vec<Ready>, u32)>,
    /// Wait for a position to be applied.
    placed: Vec<(LogIndex, Ready)>,
}

impl Reads {
    /// Nobody waits; `run` distinguishes this process from every other.
    pub(crate) fn new(run: u64) -> Self {
        Self {
            run,
            number: 0,
            waiting: Vec::new(),
            asked: None,
            placed: Vec::new(),
        }
    }

    /// A reader wants what is newest now.
    pub(crate) fn wait(&mut self, ready: Ready) {
        self.waiting.push(ready);
    }

    /// A reader wants at least a position.
    pub(crate) fn wait_for(&mut self, index: LogIndex, ready: Ready) {
        self.placed.push((index, ready));
    }

    /// The question to ask now, if somebody waits and none is out.
    pub(crate) fn question(&mut self) -> Option<Tag> {
        if !self.has_question() {
            return None;
        }
        self.number += 1;
        let tag = Tag {
            run: self.run,
            number: self.number,
        };
        self.asked = Some((tag, mem::take(&mut self.waiting), 0));
        Some(tag)
    }

    /// Whether a question can be asked now.
    pub(crate) fn has_question(&self) -> bool {
        self.asked.is_none() && !self.waiting.is_empty()
    }

    /// A beat has passed: the question to repeat, if it is time.
    pub(crate) fn tick(&mut self) -> Option<Tag> {
        let (tag, _, ticks) = self.asked.as_mut()?;
        *ticks += 1;
        (*ticks % ASK_AGAIN_TICKS == 0).then_some(*tag)
    }

    /// The group has answered a question with a position.
    pub(crate) fn answered(&mut self, tag: Tag, index: LogIndex) {
        if let Some((_, readers, _)) = self.asked.take_if(|(asked, ..)| *asked == tag) {
            let placed = readers.into_iter().map(|reader| (index, reader));
            self.placed.extend(placed);
        }
    }

    /// The state machine has applied a position.
    pub(crate) fn applied(&mut self, applied: LogIndex) {
        for (index, reader) in mem::take(&mut self.placed) {
            if index > applied {
                self.placed.push((index, reader));
            } else {
                let _ = reader.send(Ok(()));
            }
        }
    }

    /// Nobody can be answered any more.
    pub(crate) fn end_all(&mut self, error: &StoreError) {
        let asked = self
            .asked
            .take()
            .into_iter()
            .flat_map(|(_, readers, _)| readers);
        let placed = self.placed.drain(..).map(|(_, reader)| reader);
        for reader in self.waiting.drain(..).chain(asked).chain(placed) {
            let _ = reader.send(Err(error.clone()));
        }
    }

    /// Forgets readers whose callers have gone.
    pub(crate) fn sweep(&mut self) {
        self.waiting.retain(|reader| !reader.is_closed());
        self.placed.retain(|(_, reader)| !reader.is_closed());
        if let Some((_, readers, _)) = &mut self.asked {
            readers.retain(|reader| !reader.is_closed());
        }
        self.asked.take_if(|(_, readers, _)| readers.is_empty());
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        let asked = self
            .asked
            .as_ref()
            .map_or(0, |(_, readers, _)| readers.len());
        self.waiting.len() + asked + self.placed.len()
    }
}
