//! The simulation itself: it is deterministic, it finds nothing, and it can find.

use super::*;

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3] {
        let one = run(seed, Setup::default()).unwrap();
        assert_eq!(one, run(seed, Setup::default()).unwrap());
    }
}
