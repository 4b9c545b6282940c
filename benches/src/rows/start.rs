//! Row 16, start-up; and the loopback that warm reads are held against.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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

const LOOPBACK_BYTES: usize = 4 << 30;
const FRAME: usize = 1 << 20;

/// Bytes per second of one plain TCP connection over loopback, 1 MiB at a time.
pub(crate) async fn raw_loopback() -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let sender = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await?;
        let frame = vec![7; FRAME];
        for _ in 0..LOOPBACK_BYTES / FRAME {
            socket.write_all(&frame).await?;
        }
        socket.shutdown().await
    });
    let mut socket = TcpStream::connect(address).await?;
    let mut frame = vec![0; FRAME];
    let started = Instant::now();
    let mut bytes = 0;
    loop {
        let read = socket.read(&mut frame).await?;
        if read == 0 {
            break;
        }
        bytes += read;
    }
    let elapsed = started.elapsed();
    sender.await??;
    Ok(bytes as f64 / elapsed.as_secs_f64())
}
