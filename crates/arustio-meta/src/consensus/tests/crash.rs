//! A member that loses power at every write, with every prefix that the disk may have kept.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::{open_alone, propose};
use crate::engine::{EngineKind, MemEngine};
use crate::error::FatalError;
use crate::state_machine::StateMachine as _;
use crate::testing::faulty::{Fault, Faults, FaultyEngine};
use crate::testing::register::Register;

/// Requests in groups, so that group commit and compaction both happen.
const GROUPS: u64 = 16;
const GROUP: u64 = 3;

struct Disk {
    log: Arc<MemEngine>,
    state: Arc<MemEngine>,
}

impl Disk {
    fn new() -> Self {
        Self {
            log: Arc::new(MemEngine::crashing(EngineKind::Log)),
            state: Arc::new(MemEngine::crashing(EngineKind::State)),
        }
    }

    fn open(&self) -> Result<Arc<RwLock<Register>>, FatalError> {
        let (log, state) = (Arc::clone(&self.log), Arc::clone(&self.state));
        open_alone(log, state, 1).map(|(_, machine)| machine)
    }

    fn crash(&self, kept_log: usize, kept_state: usize) -> Self {
        Self {
            log: Arc::new(self.log.after_crash(kept_log)),
            state: Arc::new(self.state.after_crash(kept_state)),
        }
    }
}

/// What the client knows: numbers up to `acknowledged` are in, the next group may be.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    acknowledged: u64,
    trace: u64,
}

/// Appends the numbers after `known.acknowledged` until all are in or the member dies.
fn work(disk: &Disk, faults: &Arc<Faults>, mut known: Known) -> Known {
    let log = Arc::new(FaultyEngine::new(Arc::clone(&disk.log), Arc::clone(faults)));
    let state = Arc::new(FaultyEngine::new(
        Arc::clone(&disk.state),
        Arc::clone(faults),
    ));
    let Ok((mut member, machine)) = open_alone(log, state, 42) else {
        return known;
    };
    while known.acknowledged < GROUPS * GROUP {
        let first = known.acknowledged + 1;
        let answers: Vec<_> = (first..first + GROUP)
            .map(|sequence| propose(&mut member, 9, sequence))
            .collect();
        let ran = member.run(Duration::from_millis(first));
        for (sequence, mut answer) in (first..).zip(answers) {
            let Ok(Ok(proposed)) = answer.try_recv() else {
                continue;
            };
            assert_eq!(
                proposed.outcome, sequence,
                "the list is as long as its last number"
            );
            known.acknowledged = sequence;
            known.trace = known.trace.rotate_left(5) ^ proposed.position.index.get();
        }
        if ran.is_err() {
            return known;
        }
    }
    let time = machine.read().applied().time.millis();
    known.trace = known.trace.rotate_left(5) ^ time;
    known
}

fn check(disk: &Disk) {
    let machine = disk.open().unwrap();
    let list = machine.read().query(0).unwrap();
    let expected: Vec<u64> = (1..=GROUPS * GROUP).collect();
    assert_eq!(list, expected, "everything once and in order");
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_applied_twice() {
    let whole = Arc::new(Faults::default());
    let disk = Disk::new();
    let known = work(&disk, &whole, Known::default());
    assert_eq!(known.acknowledged, GROUPS * GROUP);
    check(&disk);

    let mut crashes = 0;
    for write in 1..=whole.writes() {
        for fault in [Fault::Before, Fault::After] {
            crashes += crash_at(write, fault);
        }
    }
    assert!(crashes > 200, "only {crashes} crashes were tried");
}

/// Dies at one write, then goes on from everything that the disk may have kept.
fn crash_at(write: u64, fault: Fault) -> u32 {
    let faults = Arc::new(Faults::default());
    faults.fail_at(write, fault);
    let disk = Disk::new();
    let known = work(&disk, &faults, Known::default());
    let mut tried = 0;
    for kept_log in 0..=disk.log.unsynced() {
        for kept_state in some_of(disk.state.unsynced()) {
            let after = disk.crash(kept_log, kept_state);
            let list = recovered(&after);
            assert!(
                list.len() as u64 >= known.acknowledged,
                "write {write} {fault:?}: {} acknowledged, {} found",
                known.acknowledged,
                list.len(),
            );
            // The client repeats what was not answered, with the same ids.
            let whole = work(&after, &Arc::new(Faults::default()), known);
            assert_eq!(whole.acknowledged, GROUPS * GROUP);
            check(&after);
            tried += 1;
        }
    }
    tried
}

/// None, one, the middle, all but one, all.
fn some_of(count: usize) -> Vec<usize> {
    let mut some = vec![0, 1, count / 2, count.saturating_sub(1), count];
    some.retain(|kept| *kept <= count);
    some.sort_unstable();
    some.dedup();
    some
}

fn recovered(disk: &Disk) -> Vec<u64> {
    let copy = disk.crash(disk.log.unsynced(), disk.state.unsynced());
    let machine = copy.open().unwrap();
    machine.read().query(0).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_trace_and_the_same_bytes() {
    let run = || {
        let disk = Disk::new();
        let known = work(&disk, &Arc::new(Faults::default()), Known::default());
        (
            known.trace,
            disk.log.fingerprint(),
            disk.state.fingerprint(),
        )
    };
    assert_eq!(run(), run());
}

#[test]
fn replicated_time_follows_the_clock_of_a_leader_and_never_goes_back() {
    let disk = Disk::new();
    let time_after = |clocks: [u64; 3]| {
        let (log, state) = (Arc::clone(&disk.log), Arc::clone(&disk.state));
        let (mut member, machine) = open_alone(log, state, 1).unwrap();
        clocks.map(|clock| {
            let _answer = propose(&mut member, 0, 0);
            member.run(Duration::from_millis(clock)).unwrap();
            machine.read().applied().time.millis()
        })
    };
    // The clock of a process starts anywhere; what counts is how far it goes.
    assert_eq!(time_after([500, 600, 550]), [0, 100, 100]);
    assert_eq!(time_after([7, 10, 1_007]), [100, 103, 1_100]);
    assert_eq!(time_after([0, 0, 1]), [1_100, 1_100, 1_101]);
}

#[test]
fn a_log_that_lost_what_the_state_has_applied_is_refused() {
    let disk = Disk::new();
    work(&disk, &Arc::new(Faults::default()), Known::default());
    let without_log = Disk {
        state: Arc::clone(&disk.state),
        ..Disk::new()
    };
    let error = without_log.open().unwrap_err();
    assert!(
        error.to_string().contains("acknowledged entries were lost"),
        "{error}"
    );
    let without_state = Disk {
        log: Arc::clone(&disk.log),
        ..Disk::new()
    };
    let error = without_state.open().unwrap_err();
    assert!(
        error.to_string().contains("do not belong together"),
        "{error}"
    );
}
