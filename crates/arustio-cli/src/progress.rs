//! Progress of what may last longer than a second: on a terminal only.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const KNOWN: &str =
    "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
const UNKNOWN: &str = "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec} {elapsed}";
const WORDS: &str = "{msg} {spinner} {elapsed}";

/// Bytes that move, shown on stderr; silent where nobody looks.
#[derive(Debug, Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for `total` bytes, or a counter where the total is not known yet.
    pub(crate) fn new(quiet: bool, message: &str, total: Option<u64>) -> Self {
        let template = if total.is_some() { KNOWN } else { UNKNOWN };
        Self::of(template, quiet, message, total)
    }

    /// What goes on, where nothing is counted in bytes.
    pub(crate) fn words(quiet: bool, message: &str) -> Self {
        Self::of(WORDS, quiet, message, None)
    }

    fn of(template: &str, quiet: bool, message: &str, total: Option<u64>) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let target = ProgressDrawTarget::stderr_with_hz(4);
        let bar = ProgressBar::with_draw_target(total, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(message.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// Something else goes on.
    pub(crate) fn tell(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// More bytes have moved.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Shows a line above the bar, or just the line.
    pub(crate) fn say(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }

    /// Done: the bar goes.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
