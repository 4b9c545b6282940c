//! What S3 servers have counted: ours as JSON, MinIO as metrics in the text format of Prometheus.
//!
//! Both count by operation and since their start, so a look before and one after are needed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arustio_server::ask::{Answer, ask};
use serde_json::Value;
use tokio::time::timeout;

/// For one look.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where MinIO shows what it has counted up to this moment; the metrics of its version 2 are up
/// to ten seconds old.
const MINIO_METRICS: &str = "/minio/metrics/v3/api/requests";

/// Who counts, and where.
#[derive(Debug, Clone)]
pub(super) enum Counter {
    /// Our own server: the address of `GET /stats`.
    Builtin(String),
    /// MinIO: its endpoint.
    Minio(String),
}

impl Counter {
    /// The numbers of now; `None` where the server is too old to count like this.
    pub(super) async fn read(&self) -> Result<Option<Requests>> {
        match self {
            Self::Builtin(address) => Requests::of_stats(&stats(address).await?).map(Some),
            Self::Minio(endpoint) => match look(endpoint, MINIO_METRICS).await? {
                Answer { status: 404, .. } => Ok(None),
                Answer { status, text } => {
                    ensure!(status == 200, "MinIO shows no metrics: {status} {text}");
                    Requests::of_metrics(&text).map(Some)
                }
            },
        }
    }
}

/// What the built-in S3 server has counted so far.
pub async fn stats(address: &str) -> Result<Value> {
    let answer = look(address, "/stats").await?;
    serde_json::from_str(&answer.text).context("its answer")
}

/// One answer of whoever listens at an address such as `http://127.0.0.1:1/anything`.
async fn look(address: &str, path: &str) -> Result<Answer> {
    let address = address.trim_start_matches("http://");
    let address = address.split('/').next().unwrap_or_default();
    let answer = timeout(PATIENCE, ask(address, path)).await;
    let answer = answer.with_context(|| format!("no answer from {address} in {PATIENCE:?}"))?;
    answer.with_context(|| format!("no answer from {address}"))
}

/// Requests of S3 by operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<String, u64>);

impl Requests {
    fn of_stats(counted: &Value) -> Result<Self> {
        let operations = counted["operations"].as_object();
        let operations = operations.context("its counters")?.iter();
        let counts = operations.filter_map(|(name, one)| {
            let requests = one["requests"].as_u64()?;
            Some((name.clone(), requests))
        });
        Ok(Self(counts.collect()))
    }

    /// Lines such as `minio_api_requests_total{name="GetObject",server="…",type="s3"} 2`.
    fn of_metrics(text: &str) -> Result<Self> {
        let mut found = Self::default();
        let lines = text.lines();
        let lines = lines.filter_map(|line| line.strip_prefix("minio_api_requests_total{"));
        for line in lines.filter(|line| line.contains("type=\"s3\"")) {
            let (labels, count) = line.rsplit_once("} ").context("a metric of MinIO")?;
            let name = labels.split(',').find_map(|label| {
                let name = label.strip_prefix("name=\"")?;
                name.strip_suffix('"')
            });
            let name = name.context("an operation of MinIO")?.to_owned();
            *found.0.entry(name).or_default() += count.trim().parse::<u64>()?;
        }
        Ok(found)
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Of one operation, as the server calls it.
    pub fn of(&self, operation: &str) -> u64 {
        self.0.get(operation).copied().unwrap_or_default()
    }

    /// Those that came after an earlier look.
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.0.iter().map(|(name, count)| {
            let before = before.of(name);
            (name.clone(), count.saturating_sub(before))
        });
        Self(counts.filter(|(_, count)| *count > 0).collect())
    }
}

impl std::iter::Sum for Requests {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut sum = Self::default();
        for (name, count) in all.flat_map(|one| one.0) {
            *sum.0.entry(name).or_default() += count;
        }
        sum
    }
}

/// `12 GetObject, 3 PutObject`.
impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self
            .0
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        f.write_str(&counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minio_tells_its_requests_by_operation() {
        let text = "# HELP minio_api_requests_total Total number of requests\n\
                    # TYPE minio_api_requests_total counter\n\
                    minio_api_requests_total{name=\"GetObject\",server=\"127.0.0.1:9\",type=\"s3\"} 2\n\
                    minio_api_requests_total{name=\"PutObject\",server=\"127.0.0.1:9\",type=\"s3\"} 1\n\
                    minio_api_requests_total{name=\"Health\",server=\"127.0.0.1:9\",type=\"minio\"} 7\n\
                    minio_api_requests_traffic_sent_bytes{server=\"127.0.0.1:9\",type=\"s3\"} 2\n";
        let counted = Requests::of_metrics(text).unwrap();
        assert_eq!(counted.to_string(), "2 GetObject, 1 PutObject");
        assert_eq!(counted.total(), 3);
        let nothing = Requests::of_metrics("").unwrap();
        assert_eq!(nothing, Requests::default());
        let wrong = "minio_api_requests_total{name=\"GetObject\",type=\"s3\"} many\n";
        assert!(Requests::of_metrics(wrong).is_err());
    }
}
