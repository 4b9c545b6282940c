//! Mount a store, list what lies in it, read a file, and look where its bytes came from.
//!
//! The store is a directory; an S3 bucket is mounted by `s3://bucket/prefix` and the
//! options `access_key_id`, `secret_access_key` and `endpoint`.

use anyhow::{Context as _, Result};
use arustio_client::{FileSystem, FsPath, ListOptions, MountRequest, OpenOptions};
use arustio_examples::Stage;
use futures::TryStreamExt as _;

#[tokio::main]
async fn main() -> Result<()> {
    let stage = Stage::start().await?;
    let fs = stage.connect().await?;

    // Files that are there before anybody mounts them are simply there.
    let uri = stage.directory("store")?;
    let folder = uri.strip_prefix("file://").context("a directory")?;
    std::fs::create_dir(format!("{folder}/reports"))?;
    std::fs::write(format!("{folder}/reports/may.csv"), "day,sold\n1,7\n2,9\n")?;

    let path = FsPath::new(&format!("/example-{}", std::process::id()))?;
    fs.mount(MountRequest::new(path.clone(), uri)).await?;

    // A listing is a stream: a directory of a million files costs no memory here.
    let mut entries = fs.list(
        &path,
        ListOptions {
            recursive: true,
            ..ListOptions::default()
        },
    );
    while let Some(entry) = entries.try_next().await? {
        println!("{:>8}  {}", entry.size, entry.path);
    }

    // A handle stays at the version it was opened at, whatever happens to the name.
    let file = path.join("reports")?.join("may.csv")?;
    let reader = fs.open(&file, OpenOptions::default()).await?;
    let header = reader.read_at(0, 8).await?;
    println!("{}", String::from_utf8_lossy(&header));
    let all: Vec<_> = reader.stream(0..u64::MAX).try_collect().await?;
    println!(
        "{} bytes",
        all.iter().map(|piece| piece.len()).sum::<usize>()
    );
    let stats = reader.stats();
    println!(
        "{} bytes from the cache, {} from the store in {} requests",
        stats.cache_bytes, stats.ufs_bytes, stats.ufs_requests
    );

    fs.unmount(&path, false).await?;
    fs.close().await?;
    stage.stop().await;
    Ok(())
}
