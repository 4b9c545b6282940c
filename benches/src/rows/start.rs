//! Row 16, start-up.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::report::{Line, median};
use crate::stage::Stage;

/// From nothing to a first answer, and the round trip of `ls`.
pub(crate) async fn start_up(stage: &Stage, rounds: usize) -> Result<Vec<Line>> {
    let (mut ready, mut served, mut listed) = (vec![], vec![], vec![]);
    for round in 0..rounds {
        let (line, answer) = stage.cold_start(round).await?;
        ready.push(line.as_secs_f64());
        served.push(answer.as_secs_f64());
        let started = Instant::now();
        stage.cli().output(&["fs", "ls", "/"]).await?;
        listed.push(started.elapsed().as_secs_f64());
    }
    let allowed =
        |limit: f64, times: &[f64]| -> Vec<f64> { times.iter().map(|time| limit / time).collect() };
    let params = json!({"ready_s": median(&ready)?});
    Ok(vec![
        Line::stated("16", "start-up", params, median(&served)?, "s")
            .against("allowed 1 s", &[1.0], &allowed(1.0, &served))?
            .bounded(1.0, 5.0),
        Line::stated("16", "ls", json!({}), median(&listed)?, "s")
            .against("allowed 50 ms", &[0.05], &allowed(0.05, &listed))?
            .bounded(1.0, 5.0),
    ])
}
