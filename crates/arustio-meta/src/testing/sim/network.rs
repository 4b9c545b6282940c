//! The network: each message may be lost, doubled, late, and so out of order; each
//! direction between two ends may be cut.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::tally::{Fault, Tally};

/// How bad it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// Messages of a thousand that are lost.
    pub(super) lost: u32,
    /// Messages of a thousand that arrive twice.
    pub(super) doubled: u32,
    /// Messages of a thousand that are late.
    pub(super) late: u32,
    /// How late at most.
    pub(super) latest: Duration,
}

impl Weather {
    /// Nothing goes wrong.
    pub(super) const FINE: Self = Self {
        lost: 0,
        doubled: 0,
        late: 0,
        latest: Duration::ZERO,
    };
}

/// Usual way of a message, in microseconds.
const USUAL: std::ops::Range<u64> = 300..6_000;

#[derive(Debug)]
pub(super) struct Network {
    pub(super) weather: Weather,
    /// From, to: nothing passes.
    cut: BTreeSet<(u64, u64)>,
    rng: StdRng,
}

impl Network {
    pub(super) fn new(weather: Weather, rng: StdRng) -> Self {
        Self {
            weather,
            cut: BTreeSet::new(),
            rng,
        }
    }

    pub(super) fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    pub(super) fn mend(&mut self) {
        self.cut.clear();
    }

    /// When the copies of a message arrive: none, one or two of them.
    pub(super) fn send(&mut self, from: u64, to: u64, tally: &mut Tally) -> Vec<Duration> {
        if self.cut.contains(&(from, to)) {
            tally.count(Fault::Cut);
            return Vec::new();
        }
        let dice = self.rng.random_range(0..1_000);
        if dice < self.weather.lost {
            tally.count(Fault::Lost);
            return Vec::new();
        }
        let mut ways = vec![self.way(tally)];
        if dice >= 1_000 - self.weather.doubled {
            tally.count(Fault::Doubled);
            ways.push(self.way(tally));
        }
        ways
    }

    fn way(&mut self, tally: &mut Tally) -> Duration {
        let usual = Duration::from_micros(self.rng.random_range(USUAL));
        if self.rng.random_range(0..1_000) >= self.weather.late {
            return usual;
        }
        tally.count(Fault::Late);
        usual + self.weather.latest.mul_f64(self.rng.random())
    }
}
