//! The table at the end: a row for each step.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use arustio_types::ByteSize;

use crate::processes::Requests;

/// What a step did, as whoever did it counts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Files and names.
    pub(crate) operations: u64,
    /// Bytes that were written or read, and compared.
    pub(crate) bytes: u64,
    /// Requests to metadata servers that were repeated inside clients.
    pub(crate) repeats: u64,
}

impl Tally {
    /// So many operations.
    pub(crate) fn operations(operations: u64) -> Self {
        Self {
            operations,
            ..Self::default()
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.repeats += other.repeats;
    }
}

/// A step that has ended.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) step: &'static str,
    pub(crate) tally: Tally,
    pub(crate) time: Duration,
    /// Requests that the store has counted, where it does.
    pub(crate) requests: Option<Requests>,
}

impl Row {
    fn cells(&self) -> [String; 6] {
        [
            self.step.to_owned(),
            self.tally.operations.to_string(),
            ByteSize(self.tally.bytes).human(),
            format!("{:.1} s", self.time.as_secs_f64()),
            self.tally.repeats.to_string(),
            self.requests
                .as_ref()
                .map_or_else(|| "-".to_owned(), |requests| requests.total().to_string()),
        ]
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    /// Adds a row, and shows it at once to whoever waits.
    pub(crate) fn add(&mut self, row: Row) {
        let [step, operations, bytes, time, repeats, _] = row.cells();
        eprintln!("  {step:<44} {operations:>6} ops {bytes:>9} {time:>7}, {repeats} retries");
        if let Some(requests) = row
            .requests
            .as_ref()
            .filter(|requests| requests.total() > 0)
        {
            eprintln!("    {requests}");
        }
        self.0.push(row);
    }

    fn sum(&self) -> Row {
        let mut tally = Tally::default();
        self.0.iter().for_each(|row| tally += row.tally);
        let requests = self.0.iter().map(|row| row.requests.clone());
        let requests: Option<Vec<Requests>> = requests.collect();
        Row {
            step: "all",
            tally,
            time: self.0.iter().map(|row| row.time).sum(),
            requests: requests.map(|all| all.into_iter().sum()),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header([
            "step",
            "operations",
            "bytes",
            "time",
            "retries",
            "UFS requests",
        ]);
        for row in self.0.iter().chain([&self.sum()]) {
            table.add_row(row.cells());
        }
        write!(f, "{table}")
    }
}
