//! `bench`: the same measurements that our tables are made of, for everybody.
//!
//! Each prints one result: a rate, latencies where single requests are what counts,
//! and the CPU time of this process, since client and servers often share a machine.
//! With `--json` one object per line: `workload`, `params`, `rate`, `unit`, `p50_us`,
//! `p99_us`, `p999_us`, `seconds`, `cpu_s`, `peak_rss`; `cpu_us_per_op` where operations
//! are counted, of what was measured without what was made ready for it; `limit`, with
//! `name`, `rate` and `ratio`, unless it is left out. Fields are added, never renamed.
//!
//! The limit is what this machine does without us, measured for a second right after the
//! workload: honest where servers and store are on this machine, and no more than a scale
//! where they are not, since the network in between is not measured.

mod data;
mod epoch;
mod limit;
mod meta;
mod mix;
pub(crate) mod rate;
mod scratch;

use std::time::{Duration, Instant};

use arustio_client::{FsError, Transport};
use arustio_types::unit::parse_duration;
use arustio_types::{ByteSize, ErrorKind};
use serde_json::{Value, json};

use self::limit::{Beside, Limit};
use crate::args::{
    BenchCommand, BenchEpoch, BenchMeta, BenchMix, BenchRead, BenchWrite, Global, Wire,
};
use crate::connect::Connection;
use crate::local::fs_path;
use crate::output::Output;
use crate::process::Cost;

/// One measurement.
#[derive(Debug)]
struct Measured {
    workload: &'static str,
    params: Value,
    /// Bytes or operations.
    amount: u64,
    unit: &'static str,
    elapsed: Duration,
    /// CPU time of this process in `elapsed`, where single operations are what counts.
    cpu: Option<Duration>,
    /// Of single requests, in microseconds.
    latencies: Vec<u32>,
    /// What it is held against; `None` for a part of a measurement.
    beside: Option<Beside>,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.amount as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// CPU time of this process for one operation, in microseconds.
    fn cpu_micros(&self) -> Option<f64> {
        let micros = self.cpu?.as_secs_f64() * 1e6;
        Some(micros / self.amount.max(1) as f64)
    }

    /// The latency below which a share of the requests stayed.
    fn quantile(&self, share: f64) -> Option<u32> {
        let last = self.latencies.len().checked_sub(1)?;
        let at = (share * last as f64).round() as usize;
        self.latencies.get(at.min(last)).copied()
    }

    fn show(mut self, out: &mut Output, cost: &Cost, limit: Option<&Limit>) -> Result<(), FsError> {
        self.latencies.sort_unstable();
        if out.is_json() {
            return out.object(&json!({
                "workload": self.workload,
                "params": self.params,
                "rate": self.rate(),
                "unit": self.unit,
                "p50_us": self.quantile(0.5),
                "p99_us": self.quantile(0.99),
                "p999_us": self.quantile(0.999),
                "seconds": self.elapsed.as_secs_f64(),
                "cpu_s": cost.cpu.as_secs_f64(),
                "cpu_us_per_op": self.cpu_micros(),
                "peak_rss": cost.peak_rss,
                "limit": limit.map(|limit| limit.json(self.rate())),
            }));
        }
        out.line(&self.text(cost))?;
        match limit {
            Some(limit) => out.line(&limit.text(self.rate())),
            None => Ok(()),
        }
    }

    /// One line for people.
    fn text(&self, cost: &Cost) -> String {
        let rate = match self.unit {
            "B/s" => format!("{}/s", ByteSize(self.rate() as u64).human()),
            _ => format!("{:.0} {}", self.rate(), self.unit),
        };
        let quantiles = [0.5, 0.99, 0.999].map(|share| self.quantile(share));
        let latency = match quantiles {
            [Some(p50), Some(p99), Some(p999)] => {
                format!(", p50 {p50} us, p99 {p99} us, p999 {p999} us")
            }
            _ => String::new(),
        };
        let each = self.cpu_micros();
        let each = each.map_or_else(String::new, |each| format!(" ({each:.0} us each)"));
        format!(
            "{} {}: {rate}{latency}; {:.2} s, CPU {:.2} s{each}, peak memory {}",
            self.workload,
            self.params,
            self.elapsed.as_secs_f64(),
            cost.cpu.as_secs_f64(),
            ByteSize(cost.peak_rss).human()
        )
    }
}

/// Runs a workload and shows what came of it, beside its limit.
pub(crate) async fn run(
    connection: &Connection,
    global: &Global,
    workload: BenchCommand,
    limit: bool,
) -> Result<u8, FsError> {
    let all = measure(connection, workload).await?;
    let mut out = Output::new(global.json);
    // What the limit costs is not ours.
    let cost = crate::process::cost();
    let mut limits = limit::Limits::new(limit);
    for measured in all {
        let limit = match measured.beside {
            Some(beside) => limits.beside(beside).await?,
            None => None,
        };
        measured.show(&mut out, &cost, limit.as_ref())?;
    }
    out.flush()?;
    Ok(0)
}

async fn measure(
    connection: &Connection,
    workload: BenchCommand,
) -> Result<Vec<Measured>, FsError> {
    match workload {
        BenchCommand::Read(args) => {
            let measured = data::read(connection, args.try_into()?).await?;
            Ok(vec![measured])
        }
        BenchCommand::Write(args) => {
            let measured = data::write(connection, args.try_into()?).await?;
            Ok(vec![measured])
        }
        BenchCommand::Meta(args) => {
            let measured = meta::run(connection, args.try_into()?).await?;
            Ok(vec![measured])
        }
        BenchCommand::Epoch(args) => epoch::run(connection, args.try_into()?).await,
        BenchCommand::Mix(args) => mix::run(connection, args.try_into()?).await,
    }
}

impl TryFrom<BenchRead> for data::ReadPlan {
    type Error = FsError;

    fn try_from(args: BenchRead) -> Result<Self, FsError> {
        if args.local && args.transport == Some(Wire::Grpc) {
            let message = "--local reads by descriptors, which come in frames: leave out \
                           --transport grpc";
            return Err(FsError::new(ErrorKind::InvalidArgument, message));
        }
        Ok(Self {
            path: fs_path(&args.path)?,
            request: size(&args.request)?,
            streams: at_least_one(args.streams, "streams")?,
            order: match (args.random, args.read_at) {
                (true, _) => data::Order::Random,
                (false, true) => data::Order::Offsets,
                (false, false) => data::Order::Stream,
            },
            total: args.total.as_deref().map(size).transpose()?,
            rate: args.rate,
            cache: !args.no_cache,
            fill: !args.no_fill,
            cold: args.cold,
            transport: args.transport.map(wire),
            local: match (args.local, args.no_local || args.transport.is_some()) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            },
        })
    }
}

impl TryFrom<BenchWrite> for data::WritePlan {
    type Error = FsError;

    fn try_from(args: BenchWrite) -> Result<Self, FsError> {
        Ok(Self {
            directory: fs_path(&args.path)?,
            bytes: size(&args.size)?,
            streams: at_least_one(args.streams, "streams")?,
            write_type: args.write_type.parse().map_err(invalid)?,
            keep: args.keep,
        })
    }
}

impl TryFrom<BenchMeta> for meta::Plan {
    type Error = FsError;

    fn try_from(args: BenchMeta) -> Result<Self, FsError> {
        let connections = args.connections;
        Ok(Self {
            op: args.op,
            directory: fs_path(&args.path)?,
            clients: at_least_one(args.clients, "clients")?,
            connections: connections
                .map(|number| at_least_one(number, "connections"))
                .transpose()?,
            files: args.files,
            count: args.count,
            keep: args.keep,
            duration: parse_duration(&args.duration).map_err(invalid)?,
        })
    }
}

impl TryFrom<BenchEpoch> for epoch::Plan {
    type Error = FsError;

    fn try_from(args: BenchEpoch) -> Result<Self, FsError> {
        Ok(Self {
            directory: fs_path(&args.path)?,
            streams: at_least_one(args.streams, "streams")?,
            epochs: args.epochs,
            local: !args.no_local,
        })
    }
}

impl TryFrom<BenchMix> for mix::Plan {
    type Error = FsError;

    fn try_from(args: BenchMix) -> Result<Self, FsError> {
        Ok(Self {
            weights: [args.read, args.write, args.stat],
            bytes: size(&args.size)?,
            files: at_least_one(args.files, "files")?,
            streams: at_least_one(args.streams, "streams")?,
            duration: parse_duration(&args.duration).map_err(invalid)?,
            write_type: args.write_type.parse().map_err(invalid)?,
            keep: args.keep,
            directory: fs_path(&args.path)?,
        })
    }
}

fn wire(wire: Wire) -> Transport {
    match wire {
        Wire::Framed => Transport::Framed,
        Wire::Grpc => Transport::Grpc,
    }
}

fn invalid(error: impl std::error::Error) -> FsError {
    FsError::new(ErrorKind::InvalidArgument, error.to_string())
}

fn size(text: &str) -> Result<u64, FsError> {
    text.parse::<ByteSize>().map(ByteSize::get).map_err(invalid)
}

fn at_least_one(number: usize, what: &str) -> Result<usize, FsError> {
    if number == 0 {
        let message = format!("--{what} must be at least 1");
        return Err(FsError::new(ErrorKind::InvalidArgument, message));
    }
    Ok(number)
}

/// Whole microseconds since `start`.
fn micros_since(start: Instant) -> u32 {
    u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_come_from_the_sorted_latencies() {
        let measured = Measured {
            workload: "stat",
            params: Value::Null,
            amount: 100,
            unit: "op/s",
            elapsed: Duration::from_secs(2),
            cpu: Some(Duration::from_millis(1)),
            latencies: (1..=100).collect(),
            beside: None,
        };
        assert_eq!(measured.quantile(0.0), Some(1));
        assert_eq!(measured.quantile(1.0), Some(100));
        assert!((measured.rate() - 50.0).abs() < 1e-9);
        assert_eq!(measured.cpu_micros(), Some(10.0));
    }
}
