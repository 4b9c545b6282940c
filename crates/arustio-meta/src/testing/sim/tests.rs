//! The simulation itself: it is deterministic, it finds nothing, and it can find.

use super::*;

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [2, 3] {
        let one = run(seed, Setup::default()).unwrap();
        assert_eq!(one, run(seed, Setup::default()).unwrap());
        assert!(one.steps >= 1_000 && one.calls >= OPERATIONS);
        assert!(one.faults.scheduled() >= FAULTS);
    }
}

/// One seed a line, and what it has found.
const REGRESSIONS: &str = include_str!("../../../testdata/regressions/sim.txt");

#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let (seed, found) = line.split_once(' ').unwrap();
        assert!(
            !found.trim().is_empty(),
            "seed {seed} does not say what it has found"
        );
        let seed = seed.parse().unwrap();
        run(seed, Setup::default()).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// Breaks a rule and expects one of these checkers to notice within so many seeds.
fn is_noticed(broken: Mutation, first: u64, checkers: &[&str]) {
    const SEEDS: u64 = 12;
    let setup = Setup {
        broken: Some(broken),
        ..Setup::default()
    };
    let found = (first..first + SEEDS).find_map(|seed| run(seed, setup).err());
    let found = found.unwrap_or_else(|| panic!("nobody notices {}", broken.name()));
    let checker = found.finding.checker;
    assert!(checkers.contains(&checker), "{}: {found}", broken.name());
}

const COMMITTED: &str = "committed entries are never lost";
const RESTARTS: &str = "a member starts again";
const SURVIVE: &str = "acknowledged entries survive";
const VOTE: &str = "one vote per term";
const ONCE: &str = "a request takes effect once";
const ORDER: &str = "what clients saw is linearizable";
const BYTES: &str = "a file has its bytes";
const GIVEN_UP: &str = "nothing lands that was given up";
const EXECUTOR: &str = "one executor at a time";

#[test]
fn an_answer_before_the_commit_is_noticed() {
    is_noticed(Mutation::AnswerBeforeCommit, 3, &[COMMITTED, RESTARTS]);
}

#[test]
fn a_sync_that_is_left_out_is_noticed() {
    is_noticed(Mutation::SkipSync, 3, &[RESTARTS, SURVIVE, VOTE, COMMITTED]);
}

#[test]
fn sessions_that_forget_are_noticed() {
    is_noticed(Mutation::DropSessions, 1, &[ONCE]);
}

#[test]
fn reads_that_ask_nobody_are_noticed() {
    is_noticed(Mutation::ReadWithoutIndex, 1, &[ORDER]);
}

#[test]
fn promises_before_the_sync_are_noticed() {
    is_noticed(Mutation::PersistMessagesEarly, 3, &[SURVIVE, VOTE]);
}

#[test]
fn a_vote_that_a_snapshot_took_away_is_noticed() {
    is_noticed(Mutation::InstallOverVote, 20, &[VOTE]);
}

#[test]
fn merges_that_are_believed_late_are_noticed() {
    is_noticed(Mutation::MergeWithoutIndexes, 2, &[BYTES, ORDER]);
}

#[test]
fn two_executors_are_noticed() {
    is_noticed(Mutation::TwoExecutors, 2, &[EXECUTOR, GIVEN_UP, BYTES]);
}

#[test]
fn an_end_before_the_last_request_is_noticed() {
    is_noticed(Mutation::EndTooEarly, 1, &[GIVEN_UP, BYTES]);
}
