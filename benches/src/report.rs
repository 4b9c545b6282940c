//! Ratios, their spread, and the line that a row prints.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

/// One line of a row.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    /// Which row of docs/performance.md.
    pub(crate) row: &'static str,
    /// What was done.
    pub(crate) workload: &'static str,
    /// With what.
    pub(crate) params: Value,
    /// Ours, the median.
    pub(crate) rate: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// Median latency, where it is what counts.
    pub(crate) p50_us: Option<f64>,
    /// The slowest hundredth.
    pub(crate) p99_us: Option<f64>,
    /// What it is held against; null where a figure is only stated.
    pub(crate) limit: Value,
    /// Others, measured in the same run.
    pub(crate) peers: Vec<Value>,
    /// Higher is better, 1 is the limit.
    pub(crate) ratio: Option<f64>,
    /// Half the interquartile range of the ratio over its median.
    pub(crate) spread: f64,
    /// CPU of client and servers together, where it was measured.
    pub(crate) cpu_s_per_gib: Option<f64>,
    /// The same for one operation, in microseconds.
    pub(crate) cpu_us_per_op: Option<f64>,
    /// Below it the row fails.
    pub(crate) floor: Option<f64>,
    /// What we want.
    pub(crate) goal: Option<f64>,
    /// The spread is too large to say anything.
    pub(crate) unmeasurable: bool,
}

/// Above it a ratio says nothing.
const MAX_SPREAD: f64 = 0.15;

impl Line {
    /// A figure that is only stated.
    pub(crate) fn stated(
        row: &'static str,
        workload: &'static str,
        params: Value,
        rate: f64,
        unit: &'static str,
    ) -> Self {
        Self {
            row,
            workload,
            params,
            rate,
            unit,
            p50_us: None,
            p99_us: None,
            limit: Value::Null,
            peers: Vec::new(),
            ratio: None,
            spread: 0.0,
            cpu_s_per_gib: None,
            cpu_us_per_op: None,
            floor: None,
            goal: None,
            unmeasurable: false,
        }
    }

    /// Held against a limit, round by round.
    pub(crate) fn against(mut self, name: &str, limits: &[f64], ratios: &[f64]) -> Result<Self> {
        let limit = median(limits)?;
        self.limit = json!({"name": name, "rate": limit});
        self.ratio = Some(median(ratios)?);
        self.spread = spread(ratios)?;
        self.unmeasurable = self.spread > MAX_SPREAD;
        Ok(self)
    }

    /// With a floor and a goal.
    pub(crate) fn bounded(mut self, floor: f64, goal: f64) -> Self {
        self.floor = Some(floor);
        self.goal = Some(goal);
        self
    }

    /// Whether the row failed: not measurable, or below its floor by more than noise.
    pub(crate) fn failed(&self) -> bool {
        let below = match (self.ratio, self.floor) {
            (Some(ratio), Some(floor)) => ratio < floor * (1.0 - self.spread),
            _ => false,
        };
        below || (self.unmeasurable && self.floor.is_some())
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let rate = human(self.rate, self.unit);
        let ratio = self.ratio.map_or_else(String::new, |ratio| {
            let floor = self
                .floor
                .map_or_else(|| "stated".to_owned(), |f| format!("floor {f}"));
            format!("  ratio {ratio:.3} +- {:.3} ({floor})", self.spread)
        });
        let limit = match (self.limit["name"].as_str(), self.limit["rate"].as_f64()) {
            (Some(name), Some(limit)) => format!(" of {name} {}", human(limit, self.unit)),
            _ => String::new(),
        };
        let cpu = match (self.cpu_s_per_gib, self.cpu_us_per_op) {
            (Some(cpu), _) => format!("  {cpu:.2} CPU s/GiB"),
            (None, Some(cpu)) => format!("  {cpu:.1} CPU us/op"),
            (None, None) => String::new(),
        };
        let verdict = if self.failed() { "  FAILED" } else { "" };
        format!(
            "row {:>2} {:<16} {rate}{ratio}{limit}{cpu}{verdict}  {}",
            self.row, self.workload, self.params
        )
    }
}

fn human(value: f64, unit: &str) -> String {
    match unit {
        "B/s" => format!("{:.0} MB/s", value / 1e6),
        "B" => format!("{:.1} MiB", value / f64::from(1 << 20)),
        "op/s" | "entries/s" => format!("{value:.0} {unit}"),
        unit => format!("{value:.3} {unit}"),
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn quantile(values: &[f64], share: f64) -> Result<f64> {
    let sorted = sorted(values);
    let last = sorted
        .len()
        .checked_sub(1)
        .context("nothing was measured")?;
    let at = share * last as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    let between = at - at.floor();
    Ok(sorted[low] * (1.0 - between) + sorted[high] * between)
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> Result<f64> {
    quantile(values, 0.5)
}

fn spread(values: &[f64]) -> Result<f64> {
    let half = (quantile(values, 0.75)? - quantile(values, 0.25)?) / 2.0;
    Ok(half / median(values)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_half_the_interquartile_range_over_the_median() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(median(&values).unwrap(), 3.0);
        assert!((spread(&values).unwrap() - 1.0 / 3.0).abs() < 1e-9);
        assert!(median(&[]).is_err());
    }

    #[test]
    fn a_row_fails_below_its_floor_or_when_nothing_can_be_said() {
        let line = |ratios: &[f64]| {
            Line::stated("7", "write", Value::Null, 1.0, "B/s")
                .against("plain", &[1.0], ratios)
                .unwrap()
                .bounded(0.9, 1.0)
        };
        assert!(!line(&[0.95, 0.96, 0.97]).failed());
        assert!(line(&[0.50, 0.51, 0.52]).failed());
        assert!(line(&[0.5, 1.0, 2.0]).failed());
    }
}
