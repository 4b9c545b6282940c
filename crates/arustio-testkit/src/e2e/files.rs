//! The main job: mount, copy a tree of real files in, read it cold and warm from several clients.

use std::path::Path;

use anyhow::{Result, ensure};

use super::compare;
use super::stage::{BUCKET, MOUNT, PREFIX, Stage, close};
use super::table::Tally;
use super::tree::{Sum, Tree};
use crate::demo::data;

/// The first step: in its logs is how the cluster was started.
pub(crate) const MOUNT_STEP: &str = "mount a bucket and a directory";
/// Where the tree lies below the mount.
pub(crate) const TREE: &str = "tree";
/// A file of several blocks beside the small ones.
pub(crate) const BIG: &str = "big.bin";
const BIG_BYTES: u64 = 64 << 20;
/// Files that the command copies at once.
const THREADS: &str = "32";
/// Programs that read warm beside a command that reads everything, and the share of the files that
/// each of them reads: all of them would say no more, and take minutes.
const WARM: usize = 2;
const WARM_SHARE: usize = 3;

pub(crate) async fn play(stage: &mut Stage) -> Result<()> {
    stage.step(MOUNT_STEP, mount).await?;
    stage.step("copy the tree in", copy).await?;
    stage
        .step("compare with the bucket", async |stage: &mut Stage| {
            compare::bucket(stage, "").await
        })
        .await?;
    stage
        .step("read it cold, several clients at once", cold)
        .await?;
    stage
        .step("read it warm, several clients at once", warm)
        .await
}

async fn mount(stage: &mut Stage) -> Result<Tally> {
    let options = stage.store_options();
    let uri = format!("s3://{BUCKET}/{PREFIX}");
    let mut words = vec!["fs", "mount"];
    words.extend(options.iter().map(String::as_str));
    words.extend([MOUNT, &uri]);
    let mut tally = stage.arustio(&words).await?.tally();
    let local = stage.path("local");
    std::fs::create_dir_all(&local)?;
    let uri = format!("file://{}", local.display());
    tally += stage
        .arustio(&["fs", "mount", "/local", &uri])
        .await?
        .tally();
    // Into the bucket only, so that the first read is a cold one.
    let tree = format!("{MOUNT}/{TREE}");
    tally += stage.arustio(&["fs", "mkdir", &tree]).await?.tally();
    let conf = ["fs", "set-conf", &tree, "write.type=THROUGH"];
    tally += stage.arustio(&conf).await?.tally();
    Ok(tally)
}

async fn copy(stage: &mut Stage) -> Result<Tally> {
    let big = stage.path(BIG);
    data::write_big(&big, BIG_BYTES, 1)?;
    let target = format!("{MOUNT}/{TREE}");
    let mut words = vec!["fs", "copy-from-local", "-r", "--threads", THREADS];
    words.extend(
        stage
            .sources
            .folders
            .iter()
            .filter_map(|folder| folder.to_str()),
    );
    words.extend([text(&big), &target]);
    let said = stage.arustio(&words).await?;
    let copied = stage.sources.tree.clone().moved("", &format!("{TREE}/"));
    stage.model.extend(copied);
    stage
        .model
        .put(format!("{TREE}/{BIG}"), Sum::of_file(&big)?);
    std::fs::remove_file(&big)?;
    let files = said.number("files")?;
    ensure!(
        files == stage.model.len() as u64,
        "{files} files were copied"
    );
    Ok(said.tally())
}

/// Nothing is cached yet, and each file is asked for once, whoever reads it (R5).
async fn cold(stage: &mut Stage) -> Result<Tally> {
    let before = stage.store.requests().await?;
    let tally = read_by_all(stage, vec![stage.model.clone()]).await?;
    if let Some(requests) = stage.requests_since(before).await? {
        let files = stage.model.len() as u64;
        let reads = requests.of("GetObject");
        // Beside them the pieces of the large files, and readers that did not wait any longer.
        let most = files + files / 10 + 100;
        ensure!(
            reads <= most,
            "{reads} reads of {files} files, at most {most}: {requests}"
        );
    }
    Ok(tally)
}

async fn warm(stage: &mut Stage) -> Result<Tally> {
    let parts = (0..WARM).map(|first| stage.model.sample(WARM_SHARE, first));
    let parts = parts.collect();
    read_by_all(stage, parts).await
}

/// One command reads all of it while a program reads each of these parts.
async fn read_by_all(stage: &Stage, parts: Vec<Tree>) -> Result<Tally> {
    let mut clients = tokio::task::JoinSet::new();
    for part in parts {
        let fs = stage.client().await?;
        clients.spawn(async move {
            let (mut tally, _) = compare::read(&fs, &part).await?;
            close(fs, &mut tally).await?;
            anyhow::Ok(tally)
        });
    }
    let mut tally = download(stage).await?;
    while let Some(ended) = clients.join_next().await {
        tally += ended??;
    }
    Ok(tally)
}

/// The command copies the tree to a local folder.
async fn download(stage: &Stage) -> Result<Tally> {
    let target = stage.path("copy");
    let tree = format!("{MOUNT}/{TREE}");
    let words = [
        "fs",
        "copy-to-local",
        "-r",
        "--threads",
        THREADS,
        &tree,
        text(&target),
    ];
    let mut tally = stage.arustio(&words).await?.tally();
    let expected = stage.model.below(TREE).moved(&format!("{TREE}/"), "");
    tally.bytes = compare::folder(&target, &expected).await?.bytes;
    std::fs::remove_dir_all(&target)?;
    Ok(tally)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap_or("<not UTF-8>")
}
