//! Whether a history of calls is linearizable: whether some order of them explains every
//! answer and keeps calls that did not overlap in their order (Wing and Gong's search, with
//! Lowe's memory of situations that were tried).
//!
//! A history is about a few names that calls may connect; histories of names that nothing
//! connects are checked apart, so that the search stays small. What a call did whose
//! answer never came is unknown: it may have taken effect at any time since it was called,
//! or may never do so.

use std::collections::HashSet;

/// Most calls of one history: the set of those that are placed is one number.
pub const MAX_EVENTS: usize = 128;

/// What was asked for, of names by their number. A token stands for what a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<T> {
    /// The name must be free, and leads to this from then on.
    Create(usize, T),
    /// The name leads to this from then on, whatever it led to.
    Write(usize, T),
    /// What does the name lead to?
    Stat(usize),
    /// Which names are there?
    List,
    /// The name goes.
    Delete(usize),
    /// The first name goes, the second leads where it led; the second must be free.
    Rename(usize, usize),
    /// As before, and what the second led to is replaced.
    Replace(usize, usize),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// It was done.
    Done,
    /// The name leads there.
    Seen(T),
    /// These names are there.
    Listed(Vec<usize>),
    /// There is no such name.
    NotFound,
    /// The name is taken.
    Exists,
    /// It was certainly not done, for a reason that says nothing about the names.
    Nothing,
    /// Nobody knows.
    Unknown,
}

/// A call and its answer, in the time of a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<T> {
    /// What was asked for.
    pub call: Call<T>,
    /// What came of it.
    pub answer: Answer<T>,
    /// When it was called.
    pub called: u64,
    /// When the answer came.
    pub returned: u64,
}

/// What a search has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none.
    Not,
    /// The search was given up.
    Undecided,
}

type State<T> = Vec<Option<T>>;

/// The state after an event, if it could have been answered so in this state.
fn apply<T: Copy + PartialEq>(state: &State<T>, event: &Event<T>) -> Option<State<T>> {
    let mut next = state.clone();
    let unknown = event.answer == Answer::Unknown;
    let done = event.answer == Answer::Done || unknown;
    let fits = match (event.call, &event.answer) {
        (_, Answer::Nothing) => true,
        (Call::Create(at, token), _) if done => next[at].replace(token).is_none(),
        (Call::Create(at, _), Answer::Exists) => state[at].is_some(),
        (Call::Write(at, token), _) if done => {
            next[at] = Some(token);
            true
        }
        (Call::Stat(at), Answer::Seen(token)) => state[at] == Some(*token),
        (Call::Stat(at), Answer::NotFound) => state[at].is_none(),
        (Call::List, Answer::Listed(names)) => {
            let there = (0..state.len()).filter(|at| state[*at].is_some());
            there.eq(names.iter().copied())
        }
        (Call::Delete(at), _) if done => next[at].take().is_some(),
        (Call::Delete(at), Answer::NotFound) => state[at].is_none(),
        (Call::Rename(from, to) | Call::Replace(from, to), _) if done => {
            let free = state[to].is_none() || matches!(event.call, Call::Replace(..));
            next[to] = next[from].take();
            free && next[to].is_some()
        }
        (Call::Rename(from, _) | Call::Replace(from, _), Answer::NotFound) => state[from].is_none(),
        (Call::Rename(_, to), Answer::Exists) => state[to].is_some(),
        _ => false,
    };
    fits.then_some(next)
}

/// Searches for an order in at most so many situations; tries none twice.
pub fn check<T>(names: usize, events: &[Event<T>], most: usize) -> Verdict
where
    T: Copy + PartialEq + Eq + std::hash::Hash,
{
    let tells = |event: &&Event<T>| {
        let asks = matches!(event.call, Call::Stat(_) | Call::List);
        event.answer != Answer::Nothing && !(asks && event.answer == Answer::Unknown)
    };
    let mut events: Vec<Event<T>> = events.iter().filter(tells).cloned().collect();
    for event in &mut events {
        if event.answer == Answer::Unknown {
            event.returned = u64::MAX;
        }
    }
    if events.len() > MAX_EVENTS {
        return Verdict::Undecided;
    }
    let must = |i: usize| u128::from(events[i].answer != Answer::Unknown) << i;
    let needed: u128 = (0..events.len()).map(must).sum();
    let mut tried = HashSet::new();
    let mut open = vec![(0u128, vec![None; names])];
    while let Some((done, state)) = open.pop() {
        if done & needed == needed {
            return Verdict::Linearizable;
        }
        if !tried.insert((done, state.clone())) {
            continue;
        }
        if tried.len() > most {
            return Verdict::Undecided;
        }
        let left = || (0..events.len()).filter(|i| done & (1 << i) == 0);
        // Whoever was called after another one had returned comes after it.
        let bound = left().map(|i| events[i].returned).min().unwrap_or(u64::MAX);
        // The earliest comes off the stack first.
        for i in left().filter(|i| events[*i].called <= bound).rev() {
            if let Some(next) = apply(&state, &events[i]) {
                open.push((done | 1 << i, next));
            }
        }
    }
    Verdict::Not
}

/// Whether there is an order; the history is small enough to be decided.
pub fn linearizable<T>(names: usize, events: &[Event<T>]) -> bool
where
    T: Copy + PartialEq + Eq + std::hash::Hash,
{
    check(names, events, usize::MAX) == Verdict::Linearizable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(call: Call<u8>, answer: Answer<u8>, called: u64, returned: u64) -> Event<u8> {
        Event {
            call,
            answer,
            called,
            returned,
        }
    }

    #[test]
    fn an_acknowledged_name_that_is_not_seen_is_no_history() {
        let made = event(Call::Create(0, 1), Answer::Done, 0, 1);
        let missed = |called| event(Call::Stat(0), Answer::NotFound, called, 3);
        assert!(!linearizable(1, &[made.clone(), missed(2)]));
        // While it is being made both are possible.
        assert!(linearizable(1, &[made, missed(0)]));
    }

    #[test]
    fn a_name_that_comes_back_is_no_history() {
        let events = [
            event(Call::Create(0, 1), Answer::Done, 0, 1),
            event(Call::Rename(0, 1), Answer::Done, 2, 3),
            event(Call::Stat(1), Answer::Seen(1), 4, 5),
            event(Call::Stat(0), Answer::Seen(1), 6, 7),
        ];
        assert!(linearizable(2, &events[..3]));
        assert!(!linearizable(2, &events));
    }

    #[test]
    fn a_call_without_an_answer_may_take_effect_late_or_never_but_not_twice() {
        let lost = event(Call::Create(0, 1), Answer::Unknown, 0, 1);
        let stat = |answer, called| event(Call::Stat(0), answer, called, called + 1);
        let seen = || stat(Answer::Seen(1), 8);
        assert!(linearizable(1, &[lost.clone(), stat(Answer::NotFound, 4)]));
        let late = [lost.clone(), stat(Answer::NotFound, 4), seen()];
        assert!(linearizable(1, &late));
        let gone = event(Call::Delete(0), Answer::Done, 5, 6);
        assert!(!linearizable(
            1,
            &[stat(Answer::Seen(1), 2), lost, gone, seen()]
        ));
    }

    #[test]
    fn a_list_sees_one_instant() {
        let events = [
            event(Call::Create(0, 1), Answer::Done, 0, 1),
            event(Call::Replace(0, 1), Answer::Done, 2, 9),
            event(Call::List, Answer::Listed(vec![1]), 3, 4),
        ];
        assert!(linearizable(2, &events));
        let both = event(Call::List, Answer::Listed(vec![0, 1]), 3, 4);
        assert!(!linearizable(
            2,
            &[events[0].clone(), events[1].clone(), both]
        ));
    }
}
