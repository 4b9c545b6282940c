//! Three metadata servers and three block nodes, as `cluster.yml` says.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::compose::Project;
use super::quick_start::Client;
use super::{READY_AT_LAST, Stage, bad_input, eventually, judged};

/// Where the machine that runs the containers reaches the metadata servers.
const SERVERS: &str = "172.30.74.11:7411,172.30.74.12:7411,172.30.74.13:7411";

const USER: &str = "somebody";
const PASSWORD: &str = "a-password-of-our-own-4711";

/// MinIO about having one disk.
const EXPECTED: [&str; 1] = ["INFO: WARNING: Host local has more than 0 drives of set"];

/// The project with a user and a password.
pub(super) fn with_credentials(project: Project) -> Project {
    project
        .with("MINIO_ROOT_USER", USER)
        .with("MINIO_ROOT_PASSWORD", PASSWORD)
}

/// The acts, in order.
pub(super) async fn play(stage: &Stage) -> Result<()> {
    no_default_password(stage).await?;
    let project = with_credentials(stage.several());
    let played = acts(stage, &project).await;
    project.explained(played).await
}

async fn no_default_password(stage: &Stage) -> Result<()> {
    let bare = stage.several();
    let told = bare.run(&["docker-compose", "up", "-d"]).await?.failed()?;
    told.says("MINIO_ROOT_")?;
    let text = std::fs::read_to_string(stage.deploy.join("cluster.yml"))?;
    ensure!(
        !text.contains("minioadmin"),
        "cluster.yml has a default password"
    );
    stage
        .steps
        .ok("cluster.yml has no password of its own, and says which variable to set");
    Ok(())
}

async fn acts(stage: &Stage, project: &Project) -> Result<()> {
    let key = ["docker-compose", "run", "--rm", "key"];
    project
        .run(&key)
        .await?
        .ok()?
        .says("made the cluster key")?;
    a_member_that_nobody_knows(stage, project).await?;
    project.run(&key).await?.ok()?;
    let client = Client::new(stage, SERVERS)?;
    let (up, ready) = tokio::join!(project.up(), ready(&client));
    up?;
    let ready = judged(ready?)?;
    stage.steps.ok(&format!(
        "cluster.yml: three metadata servers and three block nodes ({ready})"
    ));
    mount_secretly(project).await?;
    stage
        .steps
        .ok("mount.sh: no secret on any command line that ps shows");
    client.round_trip("outside", USER, PASSWORD).await?;
    stage
        .steps
        .ok("a client outside writes and reads, at the addresses that are advertised");
    project.logs_are_clean(&EXPECTED).await?;
    stage
        .steps
        .ok("no WARN and no ERROR in a log, but MinIO's about its one disk");
    one_less(stage, project, &client).await?;
    project.down_and_up().await?;
    client.round_trip("after", USER, PASSWORD).await?;
    stage
        .steps
        .ok("down and up: the cluster and its mount are still there");
    Ok(())
}

/// Founders have to find each other: one that cannot says whom it looks for.
async fn a_member_that_nobody_knows(stage: &Stage, project: &Project) -> Result<()> {
    let file = "services:\n  meta1:\n    environment:\n      ARUSTIO_CLUSTER__MEMBERS: \
                \"1=172.30.74.11:7411,2=nowhere.invalid:7411,3=172.30.74.13:7411\"\n";
    let files = ("cluster.yml", "members.yml");
    let lost = bad_input::with_more(stage, project, files, file)?;
    bad_input::logs(&lost, "meta1", &["waiting", "nowhere.invalid:7411"]).await?;
    stage
        .steps
        .ok("an address that resolves to nothing: a founder waits, and says for whom");
    Ok(())
}

/// All block nodes are known, which only a leader can say.
async fn ready(client: &Client) -> Result<Duration> {
    eventually("three block nodes serve", READY_AT_LAST, async || {
        let nodes = client.arustio(&["admin", "node", "list"]).await?;
        Ok(nodes.code == 0 && nodes.out.matches("serves").count() == 3)
    })
    .await
}

/// Mounts, and reads every command line of the machine meanwhile.
async fn mount_secretly(project: &Project) -> Result<()> {
    let mount = project.mount();
    let watch = async {
        loop {
            if let Some(line) = command_line_with(PASSWORD) {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        mounted = mount => {
            mounted?.ok()?.says("mounted s3://arustio on /data")?;
            Ok(())
        }
        line = watch => bail!("the password is seen in the process list: {line}"),
    }
}

fn command_line_with(secret: &str) -> Option<String> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(secret).then_some(line)
    })
}

/// Two of three metadata servers are enough.
async fn one_less(stage: &Stage, project: &Project, client: &Client) -> Result<()> {
    project
        .run(&["docker-compose", "kill", "meta1"])
        .await?
        .ok()?;
    let lost = client.round_trip("one-less", USER, PASSWORD).await;
    lost.context("with one metadata server less")?;
    project
        .run(&["docker-compose", "start", "meta1"])
        .await?
        .ok()?;
    stage
        .steps
        .ok("meta1 killed: a client outside writes and reads on");
    Ok(())
}
