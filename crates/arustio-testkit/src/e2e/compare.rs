//! Comparing every byte: with the model, through clients, in the bucket, in a local folder.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use arustio_client::{ArustioFileSystem, FileSystem, FsPath, ListOptions, OpenOptions, ReadStats};
use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};

use super::stage::{MOUNT, PREFIX, Stage, close};
use super::table::Tally;
use super::tree::{Sum, Summing, Tree};

/// Files that one client reads at once.
const TOGETHER: usize = 16;
/// Of so many files one is read in the end: each was read before.
const SHARE: usize = 3;

/// The last step: the namespace and the bucket hold the model, and nothing else; in the bucket every
/// byte is compared, and of some files what clients read.
pub(crate) async fn everything(stage: &mut Stage) -> Result<Tally> {
    let fs = stage.client().await?;
    names(&fs, &stage.model).await?;
    let mut tally = Tally::default();
    tally += read(&fs, &stage.model.sample(SHARE, 0)).await?.0;
    close(fs, &mut tally).await?;
    tally += bucket(stage, "").await?;
    Ok(tally)
}

/// The namespace below the mount has the names and sizes of the model.
pub(crate) async fn names(fs: &ArustioFileSystem, model: &Tree) -> Result<()> {
    let found = list(fs, model).await?.0;
    model.check(&found, "the listing of the mount")
}

/// What is listed below the mount: files, with the sums that their sizes make likely, and
/// directories.
async fn list(fs: &ArustioFileSystem, model: &Tree) -> Result<(Tree, BTreeSet<String>)> {
    let options = ListOptions {
        recursive: true,
        ..ListOptions::default()
    };
    let mount = FsPath::new(MOUNT)?;
    let (mut files, mut directories) = (Tree::default(), BTreeSet::new());
    let mut entries = fs.list(&mount, options);
    while let Some(entry) = entries.try_next().await? {
        let path = entry.path.relative_to(&mount).unwrap_or_default();
        if entry.is_dir() {
            directories.insert(path.to_owned());
            continue;
        }
        // Of the bytes only the number is known yet.
        let known = model.get(path).filter(|sum| sum.size == entry.size);
        files.put(path, known.unwrap_or_else(|| Sum::of(b"another size")));
    }
    Ok((files, directories))
}

/// Reads all files of a tree and compares them.
pub(crate) async fn read(fs: &ArustioFileSystem, tree: &Tree) -> Result<(Tally, ReadStats)> {
    let files: Vec<(String, Sum)> = tree
        .iter()
        .map(|(path, sum)| (path.to_owned(), sum))
        .collect();
    let reads = files
        .into_iter()
        .map(|(path, sum)| read_one(fs.clone(), path, sum));
    let mut reads = stream::iter(reads).buffer_unordered(TOGETHER);
    let (mut tally, mut total) = (Tally::default(), ReadStats::default());
    while let Some((bytes, stats)) = reads.try_next().await? {
        tally.operations += 1;
        tally.bytes += bytes;
        total.cache_bytes += stats.cache_bytes;
        total.ufs_bytes += stats.ufs_bytes;
        total.ufs_requests += stats.ufs_requests;
        total.corrupt_blocks += stats.corrupt_blocks;
    }
    ensure!(
        total.corrupt_blocks == 0,
        "{} blocks did not match their checksums",
        total.corrupt_blocks
    );
    Ok((tally, total))
}

/// Reads a file and compares it.
pub(crate) async fn read_one(
    fs: ArustioFileSystem,
    path: String,
    expected: Sum,
) -> Result<(u64, ReadStats)> {
    let full = FsPath::new(&format!("{MOUNT}/{path}"))?;
    let reader = fs.open(&full, OpenOptions::default()).await?;
    let mut summing = Summing::default();
    let mut pieces = reader.stream(0..u64::MAX);
    while let Some(piece) = pieces.try_next().await? {
        summing.add(&piece);
    }
    ensure!(summing.end() == expected, "{full} reads differently");
    Ok((expected.size, reader.stats()))
}

/// The bucket has exactly the files of the model below a folder, every byte of them.
pub(crate) async fn bucket(stage: &Stage, folder: &str) -> Result<Tally> {
    let (prefix, model) = match folder {
        "" => (PREFIX.to_owned(), stage.model.clone()),
        _ => (format!("{PREFIX}/{folder}"), stage.model.below(folder)),
    };
    let mut tally = Tally::default();
    let fs = stage.client().await?;
    let (_, directories) = list(&fs, &stage.model).await?;
    close(fs, &mut tally).await?;
    let store = Arc::new(stage.bucket()?);
    let objects = store.list(Some(&Key::from(prefix.as_str())));
    let objects = objects.try_filter(|meta| future::ready(!is_marker(meta, &directories)));
    let get = |meta: ObjectMeta| {
        let store = Arc::clone(&store);
        async move {
            let bytes = store.get(&meta.location).await?.bytes().await?;
            Ok::<_, object_store::Error>((meta.location, Sum::of(&bytes)))
        }
    };
    let mut objects = objects.map_ok(get).try_buffer_unordered(TOGETHER).boxed();
    let mut found = Tree::default();
    while let Some((key, sum)) = objects.try_next().await.context("the bucket")? {
        found.put(path_of(&key), sum);
    }
    model.check(&found, "the bucket")?;
    tally += tally_of(&found);
    Ok(tally)
}

/// The path below the mount that a key stands for.
fn path_of(key: &Key) -> &str {
    let path = key.as_ref().strip_prefix(PREFIX).unwrap_or_default();
    path.trim_start_matches('/')
}

/// The marker of a directory that the namespace has: its key ends in a slash, which this
/// library does not show.
fn is_marker(meta: &ObjectMeta, directories: &BTreeSet<String>) -> bool {
    let path = path_of(&meta.location);
    meta.size == 0 && (path.is_empty() || directories.contains(path))
}

/// A local folder holds exactly this tree.
pub(crate) async fn folder(root: &Path, expected: &Tree) -> Result<Tally> {
    let owned = root.to_owned();
    let found = tokio::task::spawn_blocking(move || Tree::of_folder(&owned)).await??;
    expected.check(&found, &root.display().to_string())?;
    Ok(tally_of(&found))
}

fn tally_of(tree: &Tree) -> Tally {
    Tally {
        operations: tree.len() as u64,
        bytes: tree.bytes(),
        repeats: 0,
    }
}
