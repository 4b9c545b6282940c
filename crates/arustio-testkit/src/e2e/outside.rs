//! A program that somebody else has built with our library, outside the workspace.

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::stage::Stage;
use super::table::Tally;

pub(crate) async fn play(stage: &mut Stage) -> Result<()> {
    match stage.options.outside.is_some() {
        true => stage.step("a stranger's program", run).await,
        false => {
            eprintln!("  no stranger's program was given with --outside");
            Ok(())
        }
    }
}

async fn run(stage: &mut Stage) -> Result<Tally> {
    let program = stage.options.outside.as_ref().context("no program")?;
    let folder = stage.path("stranger");
    std::fs::create_dir_all(&folder)?;
    let servers = stage.cluster.plan().metadata().join(",");
    let mut command = Command::new(program);
    let done = command
        .arg(servers)
        .arg(&folder)
        .kill_on_drop(true)
        .output();
    let done = done.await.with_context(|| program.display().to_string())?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(
        done.status.success(),
        "it ended with {}: {}",
        done.status,
        said.trim()
    );
    Ok(Tally::operations(1))
}
