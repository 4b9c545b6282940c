//! Whether a history of calls is linearizable: whether some order of them explains every
//! answer and keeps calls that did not overlap in their order.

use std::collections::HashSet;

use arustio_types::ContentId;

/// What was asked for, of names by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Create(usize),
    Stat(usize),
    Delete(usize),
    Rename(usize, usize),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Made(ContentId),
    Seen(Option<ContentId>),
    Done,
    NotFound,
    Exists,
    /// Refused for a reason that says nothing about the names.
    Nothing,
}

/// A call and its answer, in the time of a counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) call: Call,
    pub(crate) answer: Answer,
    pub(crate) called: u64,
    pub(crate) returned: u64,
}

type State = Vec<Option<ContentId>>;

/// The state after an event, if it could have been answered so in this state.
fn apply(state: &State, event: &Event) -> Option<State> {
    let mut next = state.clone();
    let fits = match (event.call, event.answer) {
        (_, Answer::Nothing) => true,
        (Call::Create(at), Answer::Made(content)) => next[at].replace(content).is_none(),
        (Call::Create(at), Answer::Exists) => state[at].is_some(),
        (Call::Stat(at), Answer::Seen(content)) => content.is_some() && state[at] == content,
        (Call::Stat(at), Answer::NotFound) => state[at].is_none(),
        (Call::Delete(at), Answer::Done) => next[at].take().is_some(),
        (Call::Delete(at), Answer::NotFound) => state[at].is_none(),
        (Call::Rename(from, to), Answer::Done) => {
            let free = state[to].is_none();
            next[to] = next[from].take();
            free && next[to].is_some()
        }
        (Call::Rename(from, _), Answer::NotFound) => state[from].is_none(),
        (Call::Rename(_, to), Answer::Exists) => state[to].is_some(),
        _ => false,
    };
    fits.then_some(next)
}

/// Searches for an order; tries every one, but no situation twice.
pub(crate) fn linearizable(names: usize, events: &[Event]) -> bool {
    assert!(events.len() <= 64, "the set of done events is a u64");
    let all = u64::MAX >> (64 - events.len() as u32);
    let mut tried = HashSet::new();
    let mut open = vec![(0u64, vec![None; names])];
    while let Some((done, state)) = open.pop() {
        if done == all {
            return true;
        }
        if !tried.insert((done, state.clone())) {
            continue;
        }
        let left = |i: &usize| done & (1 << i) == 0;
        let left = || (0..events.len()).filter(left);
        // Whoever was called after another one had returned comes after it.
        let bound = left().map(|i| events[i].returned).min().unwrap_or(u64::MAX);
        for i in left().filter(|i| events[*i].called <= bound) {
            if let Some(next) = apply(&state, &events[i]) {
                open.push((done | 1 << i, next));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(call: Call, answer: Answer, called: u64, returned: u64) -> Event {
        Event {
            call,
            answer,
            called,
            returned,
        }
    }

    #[test]
    fn an_acknowledged_name_that_is_not_seen_is_no_history() {
        let made = event(Call::Create(0), Answer::Made(ContentId::new(1)), 0, 1);
        let missed = |called| event(Call::Stat(0), Answer::NotFound, called, 3);
        assert!(!linearizable(1, &[made, missed(2)]));
        // While it is being made both are possible.
        assert!(linearizable(1, &[made, missed(0)]));
    }

    #[test]
    fn a_name_that_comes_back_is_no_history() {
        let one = ContentId::new(1);
        let events = [
            event(Call::Create(0), Answer::Made(one), 0, 1),
            event(Call::Rename(0, 1), Answer::Done, 2, 3),
            event(Call::Stat(1), Answer::Seen(Some(one)), 4, 5),
            event(Call::Stat(0), Answer::Seen(Some(one)), 6, 7),
        ];
        assert!(linearizable(2, &events[..3]));
        assert!(!linearizable(2, &events));
    }
}
