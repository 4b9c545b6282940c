//! A wall clock that jumps backwards and forwards: what is there stays and stays right, and
//! writing goes on. Leases do not look at this clock at all.

use std::sync::atomic::{AtomicI64, Ordering};

use arustio_types::{Timestamp, WallClock};

use super::*;

/// A clock that somebody sets.
#[derive(Debug, Default)]
struct Jumping(AtomicI64);

impl WallClock for Jumping {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u64),
    Look(u64),
    /// The clock says so many milliseconds from now on.
    Set(i64),
    /// The disk fails once: it is left alone for a while by this clock.
    Fail,
}

fn step() -> impl Strategy<Value = Step> {
    let day = 86_400_000_i64;
    let times = prop_oneof![
        Just(0),
        Just(i64::MIN),
        Just(i64::MAX),
        -400 * day..400 * day,
        any::<i64>(),
    ];
    prop_oneof![
        4 => (0..6_u64).prop_map(Step::Put),
        4 => (0..6_u64).prop_map(Step::Look),
        3 => times.prop_map(Step::Set),
        1 => Just(Step::Fail),
    ]
}

async fn live(steps: Vec<Step>) {
    let clock = Arc::new(Jumping::default());
    let disk = FaultyDisk::new(Arc::new(MemDisk::new()), Seed::new(3));
    let config = config(4 << 20, 4 << 20);
    let memory = MemoryTier::new(&config.memory, Arc::clone(&clock) as _);
    let backend = Arc::new(disk.clone());
    let on_disk = DiskTier::with_backend(backend, config.disk.unwrap(), Arc::clone(&clock) as _);
    on_disk.recovered().await;
    let store = TieredStore::new(memory, on_disk);
    let mut kept = [false; 6];
    for step in steps {
        match step {
            Step::Put(index) => {
                let outcome = put(&store, small_key(1, index), 0..LEN).await;
                let taken = [WriteOutcome::Stored, WriteOutcome::AlreadyPresent];
                assert!(taken.contains(&outcome), "{outcome:?}");
                kept[index as usize] = true;
            }
            // There is room for all of them in memory: none may go because it looks old.
            Step::Look(index) => {
                let expected = if kept[index as usize] { LEN } else { 0 };
                assert_eq!(there(&store, small_key(1, index), 0..LEN).await, expected);
            }
            Step::Set(millis) => clock.0.store(millis, Ordering::SeqCst),
            Step::Fail => disk.write_errors(1),
        }
    }
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_clock_that_jumps_loses_nothing_and_changes_nothing(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(live(steps));
    }
}
