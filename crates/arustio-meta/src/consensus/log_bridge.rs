//! Records of the Raft library's logger, given to `tracing`.
//!
//! The library logs through slog; nothing else in the house does. Its *info* is about
//! single messages and elections, which is *debug* by our promise of levels.

use std::fmt::{self, Write as _};

use slog::{Drain, KV as _, Level, Logger, Never, OwnedKVList, Record, o};

/// A logger that ends in `tracing`.
pub(crate) fn logger() -> Logger {
    Logger::root(Bridge, o!())
}

#[derive(Debug)]
struct Bridge;

impl Drain for Bridge {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error => {
                tracing::error!(target: "raft", "{}", text(record, values));
            }
            Level::Warning => tracing::warn!(target: "raft", "{}", text(record, values)),
            Level::Info => {
                if tracing::enabled!(target: "raft", tracing::Level::DEBUG) {
                    tracing::debug!(target: "raft", "{}", text(record, values));
                }
            }
            Level::Debug | Level::Trace => {
                if tracing::enabled!(target: "raft", tracing::Level::TRACE) {
                    tracing::trace!(target: "raft", "{}", text(record, values));
                }
            }
        }
        Ok(())
    }
}

fn text(record: &Record<'_>, values: &OwnedKVList) -> String {
    let mut line = Line(record.msg().to_string());
    // Writing into a string cannot fail, and a value that cannot be shown is left out.
    let _ = record.kv().serialize(record, &mut line);
    let _ = values.serialize(record, &mut line);
    line.0
}

struct Line(String);

impl slog::Serializer for Line {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}")?;
        Ok(())
    }
}
