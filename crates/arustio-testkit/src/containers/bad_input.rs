//! What goes wrong on people's machines, and what they read then.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::compose::{MOUNT, Project};
use super::quick_start::EXPECTED;
use super::{Stage, eventually};

const QUICK_START: &str = "docker-compose.yml";
const SOON: Duration = Duration::from_secs(30);

/// The acts, in order; the quick start runs and is mounted.
pub(super) async fn play(stage: &Stage) -> Result<()> {
    let project = stage.quick_start();
    wrong_credentials(stage, &project).await?;
    a_store_that_is_late(stage, &project).await?;
    project.logs_are_clean(&EXPECTED).await?;
    project.remove().await?;
    nothing_runs(stage, &project).await?;
    a_port_is_taken(stage, &project).await?;
    a_volume_is_not_writable(stage, &project).await?;
    a_name_that_nobody_knows(stage, &project).await
}

async fn unmount(project: &Project) -> Result<()> {
    let words = [
        "docker-compose",
        "exec",
        "-T",
        "arustio",
        "arustio",
        "fs",
        "unmount",
        "/data",
    ];
    project.run(&words).await?.ok()?;
    Ok(())
}

/// With the mount there and without it.
async fn wrong_credentials(stage: &Stage, project: &Project) -> Result<()> {
    says_which_credential(project).await?;
    let right = project.mount().await?.ok()?;
    right.says("is mounted")?.in_one_line()?;
    unmount(project).await?;
    says_which_credential(project).await?;
    stage
        .steps
        .ok("wrong credentials in mount.sh, mounted or not: one line that says which");
    Ok(())
}

async fn says_which_credential(project: &Project) -> Result<()> {
    for (variable, wrong) in [
        ("MINIO_ROOT_PASSWORD", "not-the-password"),
        ("MINIO_ROOT_USER", "nobody-of-that-name"),
    ] {
        let project = project.clone().with(variable, wrong);
        let told = project.mount().await?.failed()?;
        let told = told.in_one_line()?.says(variable)?;
        ensure!(
            !told.said.contains("not-the-password"),
            "it prints the password"
        );
    }
    Ok(())
}

/// MinIO comes up after `mount.sh` was started.
async fn a_store_that_is_late(stage: &Stage, project: &Project) -> Result<()> {
    project
        .run(&["docker-compose", "stop", "minio"])
        .await?
        .ok()?;
    let hasty = project.clone().with("ARUSTIO_WAIT", "3");
    let gave_up = hasty.mount().await?.failed()?;
    gave_up
        .says("waiting for MinIO")?
        .says("gave up after 3 s")?;
    let start = async {
        let start = ["docker-compose", "start", "minio"];
        project.run(&start).await?.ok().map(drop)
    };
    let mounted = project.run_and_meanwhile(&[MOUNT], "waiting for MinIO", start);
    mounted.await?.ok()?.says("mounted s3://arustio on /data")?;
    stage
        .steps
        .ok("MinIO not up yet: mount.sh says what it waits for, mounts, or gives up in time");
    Ok(())
}

async fn nothing_runs(stage: &Stage, project: &Project) -> Result<()> {
    let told = project.mount().await?.failed()?.in_one_line()?;
    told.says("up -d")?;
    stage
        .steps
        .ok("mount.sh without containers: one line that says how to start them");
    Ok(())
}

async fn a_port_is_taken(stage: &Stage, project: &Project) -> Result<()> {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:7411").await;
    let taken = taken.context("the proof needs the port 7411 for itself")?;
    let told = project
        .run(&["docker-compose", "up", "-d"])
        .await?
        .failed()?;
    told.says("127.0.0.1:7411")?.says("in use")?;
    drop(taken);
    project.up().await?;
    project.mount().await?.ok()?;
    project.remove().await?;
    stage
        .steps
        .ok("a port that is taken: up says which; once it is free up and mount.sh work");
    Ok(())
}

/// A compose file over another one.
pub(super) fn with_more(
    stage: &Stage,
    project: &Project,
    (below, name): (&str, &str),
    text: &str,
) -> Result<Project> {
    let file: PathBuf = stage.folder.join(name);
    std::fs::write(&file, text)?;
    let files = format!("{below}:{}", file.display());
    Ok(project.clone().with("COMPOSE_FILE", &files))
}

/// Starts a server alone, and waits until its log has all of these words in one line.
pub(super) async fn logs(project: &Project, service: &str, words: &[&str]) -> Result<()> {
    project
        .run(&["docker-compose", "up", "-d", service])
        .await?
        .ok()?;
    let said = eventually("the log says what is wrong", SOON, async || {
        let logs = project.logs().await?;
        Ok(logs
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word))))
    });
    let said = said.await;
    let logs = project.logs().await.unwrap_or_default();
    said.with_context(|| format!("expected {words:?} in:\n{logs}"))?;
    project.remove().await?;
    Ok(())
}

async fn a_volume_is_not_writable(stage: &Stage, project: &Project) -> Result<()> {
    let file = "services:\n  arustio:\n    volumes: [\"arustio-data:/var/lib/arustio:ro\"]\n";
    let readonly = with_more(stage, project, (QUICK_START, "readonly.yml"), file)?;
    logs(
        &readonly,
        "arustio",
        &["error[", "/var/lib/arustio", "Read-only file system"],
    )
    .await?;
    let folder = stage.folder.join("of-root");
    std::fs::create_dir_all(&folder)?;
    let file = format!(
        "services:\n  arustio:\n    volumes: [\"{}:/var/lib/arustio\"]\n",
        folder.display()
    );
    let foreign = with_more(stage, project, (QUICK_START, "foreign.yml"), &file)?;
    logs(
        &foreign,
        "arustio",
        &["error[", "/var/lib/arustio", "Permission denied"],
    )
    .await?;
    stage
        .steps
        .ok("a volume that is not writable: the server names the folder and the reason");
    Ok(())
}

async fn a_name_that_nobody_knows(stage: &Stage, project: &Project) -> Result<()> {
    let file = "services:\n  arustio:\n    command: [\"--insecure\", \"--role\", \"block\", \
                \"--metadata\", \"nowhere.invalid:7411\", \"--advertise\", \"127.0.0.1:7411\"]\n";
    let block = with_more(stage, project, (QUICK_START, "nowhere.yml"), file)?;
    logs(&block, "arustio", &["waiting", "nowhere.invalid:7411"]).await?;
    stage
        .steps
        .ok("an address that resolves to nothing: a block node waits, and says for which");
    Ok(())
}
