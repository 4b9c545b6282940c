//! Rows 8 and 9: linearizable reads and durable writes of the namespace, beside an echo
//! over the same transport and beside etcd.
//!
//! Ours, the echo and etcd take turns with the same clients, connections and sizes. What
//! was created is left where it is: removing it would go on in the background and be
//! measured with whatever comes next.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::append;
use crate::echo::{EchoLimit, Sizes};
use crate::etcd::{Etcd, Verb};
use crate::load::Shape;
use crate::report::{Line, median};
use crate::rows::Pace;
use crate::service::Service;
use crate::stage::Stage;
use crate::trio::Trio;

/// Seconds of one measurement of the disk.
const DISK_SECONDS: f64 = 0.5;

/// Everything that the two rows are held against.
struct Rivals {
    echo: EchoLimit,
    etcd: Option<Etcd>,
    sizes: Sizes,
    /// Bytes of one entry of the log, where writes are measured.
    entry: Option<usize>,
}

/// One row at one number of clients, round by round.
#[derive(Debug, Default)]
struct Rounds {
    ours: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
    limits: Vec<f64>,
    etcd: Vec<f64>,
    connections: u64,
    servers: usize,
    /// Syncs per second, where the disk is part of the limit.
    syncs: Vec<f64>,
}

/// What a row wants.
struct Wanted {
    row: &'static str,
    op: &'static str,
    verb: Verb,
    limit: &'static str,
    peer: &'static str,
    /// Floor and goal against the limit.
    against_limit: (f64, f64),
}

const STAT: Wanted = Wanted {
    row: "8",
    op: "stat",
    verb: Verb::Range,
    limit: "tonic unary echo",
    peer: "etcd range",
    against_limit: (0.6, 0.9),
};

const CREATE: Wanted = Wanted {
    row: "9",
    op: "create",
    verb: Verb::Put,
    limit: "min(clients x synced append, tonic unary echo)",
    peer: "etcd put",
    against_limit: (0.4, 0.7),
};

/// Against etcd, both rows.
const AGAINST_ETCD: (f64, f64) = (1.0, 1.5);

/// Row 8: linearizable stat.
pub(crate) async fn stat(stage: &Stage, pace: Pace) -> Result<Vec<Line>> {
    let rivals = Rivals {
        echo: EchoLimit::start().await?,
        etcd: Etcd::start(&stage.path("etcd")).await?,
        sizes: stage.loader().await?.stat_sizes().await?,
        entry: None,
    };
    let mut lines = Vec::new();
    for (clients, bounded) in [(1, false), (64, true), (256, true)] {
        let run = Run::new(stage, pace, &STAT, &rivals, clients);
        lines.extend(run.measure(&stage.service(), bounded).await?);
    }
    lines.extend(three(stage, pace, &STAT, &rivals, [64, 256]).await?);
    Ok(lines)
}

/// Row 9: durable create.
pub(crate) async fn create(stage: &Stage, pace: Pace) -> Result<Vec<Line>> {
    let (sizes, entry) = stage.loader().await?.create_sizes().await?;
    let rivals = Rivals {
        echo: EchoLimit::start().await?,
        etcd: Etcd::start(&stage.path("etcd")).await?,
        sizes,
        entry: Some(entry),
    };
    let mut lines = Vec::new();
    for clients in [16, 64, 256] {
        let run = Run::new(stage, pace, &CREATE, &rivals, clients);
        lines.extend(run.measure(&stage.service(), true).await?);
    }
    lines.extend(three(stage, pace, &CREATE, &rivals, [64, 256]).await?);
    Ok(lines)
}

/// The same with three servers; only stated, since they share the cores with everything.
async fn three(
    stage: &Stage,
    pace: Pace,
    wanted: &Wanted,
    rivals: &Rivals,
    clients: [usize; 2],
) -> Result<Vec<Line>> {
    let trio = Trio::start(stage.bin_dir()).await?;
    let mut lines = Vec::new();
    for clients in clients {
        let run = Run::new(stage, pace, wanted, rivals, clients);
        lines.extend(run.measure(&trio.service(), false).await?);
    }
    trio.stop().await?;
    Ok(lines)
}

/// One measurement of a row.
struct Run<'a> {
    stage: &'a Stage,
    pace: Pace,
    wanted: &'a Wanted,
    rivals: &'a Rivals,
    clients: usize,
}

impl<'a> Run<'a> {
    fn new(
        stage: &'a Stage,
        pace: Pace,
        wanted: &'a Wanted,
        rivals: &'a Rivals,
        clients: usize,
    ) -> Self {
        Self {
            stage,
            pace,
            wanted,
            rivals,
            clients,
        }
    }

    async fn measure(&self, service: &Service<'_>, bounded: bool) -> Result<Vec<Line>> {
        let mut rounds = Rounds {
            servers: service.servers,
            ..Rounds::default()
        };
        for _ in 0..self.pace.rounds {
            let op = self.wanted.op;
            rounds.ours(service, self.pace, op, self.clients).await?;
            let shape = Shape {
                clients: self.clients,
                connections: usize::try_from(rounds.connections)?,
                seconds: self.pace.seconds,
            };
            rounds.limit(self.stage, self.rivals, &shape).await?;
            if let Some(etcd) = &self.rivals.etcd {
                let load = etcd.load(self.wanted.verb, self.rivals.sizes, &shape);
                rounds.etcd.push(number(&load.await?, "rate")?);
            }
        }
        rounds.lines(self.wanted, self.rivals.sizes, self.clients, bounded)
    }
}

impl Rounds {
    async fn ours(
        &mut self,
        service: &Service<'_>,
        pace: Pace,
        op: &str,
        clients: usize,
    ) -> Result<()> {
        let (clients, duration) = (clients.to_string(), format!("{}ms", pace.millis()));
        let command = [
            "bench",
            "meta",
            "--op",
            op,
            "--clients",
            &clients,
            "--duration",
            &duration,
            "--keep",
            "/",
        ];
        let before = service.cpu_seconds()?;
        let said = service.measure(&command).await?;
        let cpu = service.cpu_seconds()? - before;
        let rate = number(&said, "rate")?;
        self.cpu
            .push(cpu * 1e6 / (rate * number(&said, "seconds")?));
        self.ours.push(rate);
        self.p50.push(number(&said, "p50_us")?);
        self.p99.push(number(&said, "p99_us")?);
        let connections = said["params"]["connections"].as_u64();
        self.connections = connections.context("no number of connections")?;
        Ok(())
    }

    async fn limit(&mut self, stage: &Stage, rivals: &Rivals, shape: &Shape) -> Result<()> {
        let echo = number(&rivals.echo.load(rivals.sizes, shape).await?, "rate")?;
        let Some(entry) = rivals.entry else {
            self.limits.push(echo);
            return Ok(());
        };
        // At best all clients wait for the same sync.
        let batch = entry * shape.clients;
        let syncs = append::rate(&stage.path("append"), batch, DISK_SECONDS).await?;
        self.syncs.push(syncs);
        self.limits.push(echo.min(syncs * shape.clients as f64));
        Ok(())
    }

    fn lines(
        &self,
        wanted: &Wanted,
        sizes: Sizes,
        clients: usize,
        bounded: bool,
    ) -> Result<Vec<Line>> {
        let mut params = json!({
            "clients": clients,
            "connections": self.connections,
            "servers": self.servers,
            "request_bytes": sizes.request,
            "answer_bytes": sizes.answer,
        });
        if !self.syncs.is_empty() {
            params["syncs_per_s"] = median(&self.syncs)?.round().into();
        }
        let mut line = Line::stated(wanted.row, wanted.op, params, median(&self.ours)?, "op/s");
        line.p50_us = Some(median(&self.p50)?);
        line.p99_us = Some(median(&self.p99)?);
        line.cpu_us_per_op = Some(median(&self.cpu)?);
        let bound = |line: Line, (floor, goal): (f64, f64)| match bounded {
            true => line.bounded(floor, goal),
            false => line,
        };
        let mut first = line.clone();
        if !self.etcd.is_empty() {
            let rate = median(&self.etcd)?;
            first.peers = vec![json!({"name": wanted.peer, "rate": rate})];
        }
        let first = first.against(wanted.limit, &self.limits, &self.ratios(&self.limits))?;
        let mut lines = vec![bound(first, wanted.against_limit)];
        if !self.etcd.is_empty() {
            let second = line.against(wanted.peer, &self.etcd, &self.ratios(&self.etcd))?;
            lines.push(bound(second, AGAINST_ETCD));
        }
        Ok(lines)
    }

    fn ratios(&self, others: &[f64]) -> Vec<f64> {
        let pairs = self.ours.iter().zip(others);
        pairs.map(|(ours, other)| ours / other).collect()
    }
}

fn number(value: &Value, key: &str) -> Result<f64> {
    value[key]
        .as_f64()
        .with_context(|| format!("no {key} in {value}"))
}
