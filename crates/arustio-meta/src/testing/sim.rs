//! Whole groups played from a seed: synchronous members over disks that crash, a network
//! that loses, doubles and reorders, clients that repeat, and an object store whose
//! requests travel on after their sender has died.
//!
//! ```text
//!  clients --requests--> members (the real ones, over the real namespace) --> truth
//!     |                     ^ messages, snapshots, crashes, clocks, changes     |
//!     +--- requests ---> store <------------------- judged by ------------------+
//! ```
//!
//! Everything happens on one calendar of virtual time; every chance comes from one seed,
//! so the same seed gives the same [`Report::trace`] and a failure can be replayed with
//! every line of what happened. Faults come until enough has been done (at least 1,000
//! steps, 100 calls and 10 faults); then they stop, and everything must heal: a leader,
//! all members level, everybody answered, everything owed done, namespace and store
//! equal. The invariants are asked after each step, the histories of what clients saw at
//! the end.
//!
//! What it deliberately does not play: the transport's bytes, RocksDB, directories under
//! a mount, and stores that disobey conditions.

mod calendar;
mod client;
mod flavour;
mod invariants;
mod network;
mod oracle;
mod port;
mod server;
mod store;
pub mod tally;
mod truth;
mod watched;
mod world;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use invariants::Finding;
pub use tally::Tally;

use crate::testing::Mutation;
use flavour::Flavour;
use world::World;

/// Calls of clients in a seed, at least.
pub const OPERATIONS: u64 = 100;
/// Faults from the schedule of a seed, at least.
pub const FAULTS: u64 = 10;

/// What is played.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Members that found the group, 3 or 5; unset: three for even seeds, five for odd.
    pub peers: Option<u8>,
    /// Steps before the faults may stop.
    pub steps: u64,
    /// A rule that is broken, to see who notices.
    pub broken: Option<Mutation>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            peers: None,
            steps: 1_500,
            broken: None,
        }
    }
}

/// What a seed has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// The same for the same seed.
    pub trace: u64,
    /// Events.
    pub steps: u64,
    /// Things that clients did.
    pub operations: u64,
    /// Those that stand in a history.
    pub calls: u64,
    /// Histories that were judged.
    pub histories: u64,
    /// Histories whose search was given up.
    pub undecided: u64,
    /// Entries that the group has decided on.
    pub entries: u64,
    /// What went wrong on purpose.
    pub faults: Tally,
    /// How long it took, there.
    pub virtual_time: Duration,
}

/// A seed that found something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// After so many steps.
    pub step: u64,
    /// What.
    pub finding: Finding,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            step,
            finding,
        } = self;
        write!(f, "seed {seed}, step {step}: {finding}")
    }
}

/// Plays a seed.
pub fn run(seed: u64, setup: Setup) -> Result<Report, Box<Failure>> {
    play(World::new(seed, setup, None), seed)
}

/// Plays a seed and tells everything that happens, a line each.
pub fn tell(seed: u64, setup: Setup, teller: &mut dyn FnMut(&str)) -> Result<Report, Box<Failure>> {
    play(World::new(seed, setup, Some(teller)), seed)
}

fn play(mut world: World<'_>, seed: u64) -> Result<Report, Box<Failure>> {
    world.play().map_err(|finding| {
        Box::new(Failure {
            seed,
            step: world.steps(),
            finding,
        })
    })
}
