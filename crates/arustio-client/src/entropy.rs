//! Chance, as a component: ids, nonces and jitter come from one generator that a test
//! may seed.

use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A generator behind a short lock.
#[derive(Debug)]
pub struct Entropy(Mutex<StdRng>);

impl Entropy {
    /// Seeded by the operating system.
    pub fn from_os() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }

    /// Replayable.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// 128 random bits.
    pub fn bits(&self) -> u128 {
        self.0.lock().random()
    }

    /// Somewhere between half of `wait` and all of it.
    pub fn jitter(&self, wait: Duration) -> Duration {
        wait.mul_f64(self.0.lock().random_range(0.5..1.0))
    }
}
