//! Names change, here and behind our back, and the store follows.

use anyhow::{Context as _, Result, ensure};
use object_store::ObjectStoreExt as _;
use object_store::path::Path as Key;

use super::compare;
use super::files::{TREE, text};
use super::stage::{MOUNT, PREFIX, Stage, close, eventually};
use super::table::Tally;
use super::tree::{MANY, Sum, Tree};

/// Files that somebody changes, adds and removes without us.
const TOUCHED: usize = MANY / 3;

pub(crate) async fn play(stage: &mut Stage) -> Result<()> {
    stage
        .step("change the bucket behind our back, sync", behind)
        .await?;
    stage
        .step("rename a file and two directories", rename)
        .await?;
    stage.step("remove a file and a directory", remove).await?;
    stage.step("copy between the mounts", between).await
}

/// Folders of the tree with many files, the largest first.
fn folders(stage: &Stage) -> Vec<(String, Tree)> {
    let names = stage
        .sources
        .folders
        .iter()
        .filter_map(|folder| folder.file_name());
    let names = names.map(|name| format!("{TREE}/{}", name.to_string_lossy()));
    let parts = names.map(|name| (stage.model.below(&name), name));
    let parts = parts.filter(|(part, _)| part.len() >= MANY);
    let mut parts: Vec<_> = parts.map(|(part, name)| (name, part)).collect();
    parts.sort_by_key(|(_, part)| std::cmp::Reverse(part.len()));
    parts
}

/// A folder of the tree that no earlier step has used up.
pub(crate) fn folder(stage: &Stage, rank: usize) -> Result<(String, Tree)> {
    folders(stage)
        .into_iter()
        .nth(rank)
        .context("the tree has too few folders with enough files")
}

async fn behind(stage: &mut Stage) -> Result<Tally> {
    let (folder, part) = folder(stage, 0)?;
    let (bucket, fs) = (stage.bucket()?, stage.client().await?);
    let key = |path: &str| Key::from(format!("{PREFIX}/{path}"));
    // Known and cached before: a reader must not get that any more.
    compare::read(&fs, &part).await?;
    let mut paths = part.iter().map(|(path, _)| path);
    for path in paths.by_ref().take(TOUCHED) {
        let content = format!("somebody else wrote this to {path}");
        bucket.put(&key(path), content.clone().into()).await?;
        stage.model.put(path, Sum::of(content.as_bytes()));
    }
    for path in paths.take(TOUCHED) {
        bucket.delete(&key(path)).await?;
        stage.model.remove(path);
    }
    for number in 0..TOUCHED {
        let path = format!("{folder}/from/outside/{number}");
        bucket.put(&key(&path), path.clone().into()).await?;
        stage.model.put(&path, Sum::of(path.as_bytes()));
    }
    let said = stage
        .arustio(&["fs", "sync", "-r", &format!("{MOUNT}/{folder}")])
        .await?;
    for (what, least) in [
        ("changed", TOUCHED),
        ("removed", TOUCHED),
        ("added", TOUCHED),
    ] {
        let seen = said.number(what)?;
        ensure!(
            seen >= least as u64,
            "sync says {seen} {what}: {}",
            said.value
        );
    }
    let mut tally = compare::read(&fs, &stage.model.below(&folder)).await?.0;
    compare::names(&fs, &stage.model).await?;
    tally.repeats += said.repeats;
    tally.operations += 3 * TOUCHED as u64;
    close(fs, &mut tally).await?;
    Ok(tally)
}

async fn rename(stage: &mut Stage) -> Result<Tally> {
    let (first, files) = folder(stage, 1)?;
    let (second, _) = folder(stage, 2)?;
    let mut tally = Tally::default();
    let file = files.iter().next().context("a file")?.0.to_owned();
    let moved = format!("{file}.renamed");
    tally += mv(stage, &file, &moved).await?;
    let sum = stage.model.remove(&file).context("a file")?;
    stage.model.put(&moved, sum);
    for (from, to) in [(first, "moved/one"), (second, "moved/two")] {
        let parent = format!("{MOUNT}/moved");
        tally += stage
            .arustio(&["fs", "mkdir", "-p", &parent])
            .await?
            .tally();
        tally += mv(stage, &from, to).await?;
        let files = stage.model.take(&from).moved(&from, to);
        tally.operations += files.len() as u64;
        stage.model.extend(files);
    }
    tally += settled(stage, "moved").await?;
    Ok(tally)
}

async fn mv(stage: &Stage, from: &str, to: &str) -> Result<Tally> {
    let (from, to) = (format!("{MOUNT}/{from}"), format!("{MOUNT}/{to}"));
    Ok(stage.arustio(&["fs", "mv", &from, &to]).await?.tally())
}

async fn remove(stage: &mut Stage) -> Result<Tally> {
    let (folder, _) = folder(stage, 1)?;
    let (other, files) = self::folder(stage, 2)?;
    let file = files.iter().next().context("a file")?.0.to_owned();
    let name = format!("{MOUNT}/{folder}");
    let mut tally = stage.arustio(&["fs", "rm", "-r", &name]).await?.tally();
    tally.operations += stage.model.take(&folder).len() as u64;
    let name = format!("{MOUNT}/{file}");
    tally += stage.arustio(&["fs", "rm", &name]).await?.tally();
    stage.model.remove(&file);
    let gone = stage.arustio(&["fs", "stat", &name]).await;
    ensure!(gone.is_err(), "{name} is still there");
    tally += settled(stage, &other).await?;
    Ok(tally)
}

/// Nothing is owed any more; then the namespace and a part of the bucket are as they should be.
async fn settled(stage: &Stage, folder: &str) -> Result<Tally> {
    eventually("work is still owed", async || {
        let said = stage.arustio(&["fs", "pending"]).await?;
        ensure!(said.value.is_null(), "{}", said.value);
        Ok(())
    })
    .await?;
    let fs = stage.client().await?;
    compare::names(&fs, &stage.model).await?;
    let part = stage.model.below(folder);
    let mut tally = compare::read(&fs, &part).await?.0;
    close(fs, &mut tally).await?;
    tally += compare::bucket(stage, folder).await?;
    Ok(tally)
}

/// From the bucket to the directory; and a file that somebody puts there is seen.
async fn between(stage: &mut Stage) -> Result<Tally> {
    let (folder, part) = folder(stage, 1)?;
    let from = format!("{MOUNT}/{folder}");
    let mut tally = stage
        .arustio(&["fs", "cp", "-r", &from, "/local/copy"])
        .await?
        .tally();
    let (local, expected) = (stage.path("local"), part.moved(&format!("{folder}/"), ""));
    tally += compare::folder(&local.join("copy"), &expected).await?;
    std::fs::write(local.join("copy").join("from-outside"), "hello")?;
    tally += stage.arustio(&["fs", "sync", "/local/copy"]).await?.tally();
    let back = stage.path("from-outside");
    let words = [
        "fs",
        "copy-to-local",
        "/local/copy/from-outside",
        text(&back),
    ];
    tally += stage.arustio(&words).await?.tally();
    let read = std::fs::read(&back)?;
    ensure!(read == b"hello", "the foreign file reads differently");
    tally += stage
        .arustio(&["fs", "rm", "-r", "/local/copy"])
        .await?
        .tally();
    // Nothing of it is a file any more; a directory that was looked at may stay.
    let copy = local.join("copy");
    if copy.exists() {
        compare::folder(&copy, &Tree::default()).await?;
    }
    Ok(tally)
}
