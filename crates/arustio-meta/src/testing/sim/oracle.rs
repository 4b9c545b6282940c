//! What clients were told: histories of calls on names, judged at the end.

use std::collections::BTreeSet;

use crate::testing::history::{self, Answer, Call, Event, Verdict};

use super::invariants::{Checked, Finding};

/// Calls after which names of their own are used; a shorter history is checked faster.
const ENOUGH: usize = 36;
/// Situations after which a search is given up.
const MOST: usize = 400_000;
/// Names of a history.
pub(super) const NAMES: usize = 3;

/// What a name leads to: the number that its maker gave it.
pub(super) type Token = u128;

/// One call of a history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(usize, usize);

/// Histories of one kind of names, one after the other.
#[derive(Debug, Default)]
pub(super) struct Histories {
    all: Vec<Vec<Event<Token>>>,
    clock: u64,
}

impl Histories {
    /// The names that are in use now.
    pub(super) fn current(&mut self) -> usize {
        if self.all.last().is_none_or(|last| last.len() >= ENOUGH) {
            self.all.push(Vec::new());
        }
        self.all.len() - 1
    }

    pub(super) fn call(&mut self, history: usize, call: Call<Token>) -> Ticket {
        self.clock += 1;
        let events = &mut self.all[history];
        events.push(Event {
            call,
            answer: Answer::Unknown,
            called: self.clock,
            returned: u64::MAX,
        });
        Ticket(history, events.len() - 1)
    }

    pub(super) fn answer(&mut self, Ticket(history, at): Ticket, answer: Answer<Token>) {
        self.clock += 1;
        let event = &mut self.all[history][at];
        (event.answer, event.returned) = (answer, self.clock);
    }

    pub(super) fn calls(&self) -> usize {
        self.all.iter().map(Vec::len).sum()
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Judges all but those with one of these writes, which were not done as the protocol
    /// demands; returns how many could not be decided.
    pub(super) fn check(&self, unsound: &BTreeSet<Token>) -> Checked<usize> {
        let mut undecided = 0;
        let writes = |event: &Event<Token>| match event.call {
            Call::Create(_, token) | Call::Write(_, token) => unsound.contains(&token),
            _ => false,
        };
        let judged = self.all.iter().enumerate();
        for (number, events) in judged.filter(|(_, events)| !events.iter().any(writes)) {
            match history::check(NAMES, events, MOST) {
                Verdict::Linearizable => {}
                Verdict::Undecided => undecided += 1,
                Verdict::Not => {
                    let events: Vec<_> =
                        events.iter().map(|event| format!("  {event:?}")).collect();
                    let what =
                        format!("no order explains history {number}:\n{}", events.join("\n"));
                    return Err(Finding::new("what clients saw is linearizable", what));
                }
            }
        }
        Ok(undecided)
    }
}
