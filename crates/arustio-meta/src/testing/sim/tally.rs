//! Faults by kind, counted.

use std::fmt;

macro_rules! faults {
    ($($name:ident: $scheduled:expr, $text:expr;)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is said in words by `name`")]
        pub enum Fault { $($name,)* }

        impl Fault {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// In words.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether it comes from the schedule; the others befall single messages.
            pub fn is_scheduled(self) -> bool {
                match self { $(Self::$name => $scheduled,)* }
            }
        }
    };
}

faults! {
    Lost: false, "messages lost";
    Doubled: false, "messages doubled";
    Late: false, "messages late";
    Cut: false, "messages into a partition";
    OneWay: true, "one-way partitions";
    Partition: true, "partitions";
    Crash: true, "crashes";
    CrashInRound: true, "crashes between two writes";
    CrashInInstall: true, "crashes in an installation";
    SlowDisk: true, "slow disks";
    Clock: true, "clocks changed";
    Transfer: true, "leadership handed over";
    Members: true, "changes of members";
    Snapshot: true, "snapshots asked for";
    ShipmentLost: false, "snapshots lost on the way";
    ClientDied: true, "clients died";
    ClientFroze: true, "clients frozen";
    NoAnswer: false, "store requests without answer";
    Travelling: false, "store requests that travelled on";
    Outsider: true, "objects changed by outsiders";
}

/// How often each kind has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(Vec<u64>);

impl Tally {
    /// One more.
    pub fn count(&mut self, fault: Fault) {
        self.0.resize(Fault::ALL.len(), 0);
        self.0[fault as usize] += 1;
    }

    /// How often this kind has happened.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(fault as usize).copied().unwrap_or(0)
    }

    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.0.resize(Fault::ALL.len(), 0);
        for (own, more) in self.0.iter_mut().zip(&other.0) {
            *own += more;
        }
    }

    /// Faults from the schedule.
    pub fn scheduled(&self) -> u64 {
        let scheduled = Fault::ALL.iter().filter(|fault| fault.is_scheduled());
        scheduled.map(|fault| self.of(*fault)).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in Fault::ALL {
            writeln!(f, "  {:<36} {:>12}", fault.name(), self.of(*fault))?;
        }
        Ok(())
    }
}
