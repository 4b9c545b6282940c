//! The one table that the demonstration prints.

use std::fmt;
use std::time::Duration;

use arustio_types::ByteSize;
use serde_json::Value;

/// One operation.
#[derive(Debug)]
pub(crate) struct Row {
    label: String,
    elapsed: Duration,
    files: Option<u64>,
    bytes: Option<u64>,
    requests: Option<u64>,
    cache_bytes: Option<u64>,
}

impl Row {
    /// An operation that took so long.
    pub(crate) fn timed(label: &str, elapsed: Duration) -> Self {
        Self {
            label: label.to_owned(),
            elapsed,
            files: None,
            bytes: None,
            requests: None,
            cache_bytes: None,
        }
    }

    /// It moved so many bytes.
    pub(crate) fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// What the command said of itself with `--json`.
    pub(crate) fn summary(mut self, summary: &Value) -> Self {
        let number = |key: &str| summary.get(key).and_then(Value::as_u64);
        self.files = number("files");
        self.bytes = number("bytes").or(self.bytes);
        self.requests = number("ufs_requests");
        self.cache_bytes = number("cache_bytes");
        self
    }

    fn cells(&self) -> Vec<String> {
        let seconds = self.elapsed.as_secs_f64();
        let dash = || "-".to_owned();
        let rate = match (self.bytes, self.files) {
            (Some(bytes), Some(files)) if files > 1 => format!(
                "{:.0} MB/s, {:.0} files/s",
                bytes as f64 / 1e6 / seconds,
                files as f64 / seconds
            ),
            (Some(bytes), _) if bytes > 0 => format!("{:.0} MB/s", bytes as f64 / 1e6 / seconds),
            _ => dash(),
        };
        vec![
            self.label.clone(),
            self.bytes.map_or_else(dash, |b| ByteSize(b).human()),
            format!("{seconds:.2} s"),
            rate,
            self.requests.map_or_else(dash, |n| n.to_string()),
            self.cache_bytes.map_or_else(dash, |b| ByteSize(b).human()),
        ]
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    /// Adds a row, and shows it at once to whoever waits.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("  {:<32} {:>8.2} s", row.label, row.elapsed.as_secs_f64());
        self.0.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "operation",
            "bytes",
            "time",
            "rate",
            "UFS requests",
            "from cache",
        ]);
        for row in &self.0 {
            table.add_row(row.cells());
        }
        write!(f, "{table}")
    }
}
