//! "Plain" S3: object_store called directly, 8 requests of 8 MiB in flight, bytes
//! discarded. What a program without us would do, well.

use std::time::Instant;

use anyhow::{Result, ensure};
use arustio_testkit::processes;
use bytes::Bytes;
use clap::Subcommand;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use serde_json::json;

const PART: usize = 8 << 20;
const IN_FLIGHT: usize = 8;

/// What to do with one object.
#[derive(Debug, Subcommand)]
pub(crate) enum Plain {
    /// Multipart upload of so many bytes
    Put {
        /// The server
        endpoint: String,
        /// The bucket
        bucket: String,
        /// The object
        key: String,
        /// Bytes
        size: u64,
    },
    /// Read it all
    Get {
        /// The server
        endpoint: String,
        /// The bucket
        bucket: String,
        /// The object
        key: String,
    },
    /// Many small objects
    Fill {
        /// The server
        endpoint: String,
        /// The bucket
        bucket: String,
        /// Their common prefix
        prefix: String,
        /// How many
        count: u64,
    },
}

/// Does it and prints the seconds as JSON.
pub(crate) async fn run(plain: Plain) -> Result<()> {
    let (bytes, seconds) = match plain {
        Plain::Put {
            endpoint,
            bucket,
            key,
            size,
        } => put(&processes::bucket(&endpoint, &bucket)?, &key, size).await?,
        Plain::Get {
            endpoint,
            bucket,
            key,
        } => get(&processes::bucket(&endpoint, &bucket)?, &key).await?,
        Plain::Fill {
            endpoint,
            bucket,
            prefix,
            count,
        } => fill(&processes::bucket(&endpoint, &bucket)?, &prefix, count).await?,
    };
    println!("{}", json!({"bytes": bytes, "seconds": seconds}));
    Ok(())
}

async fn put(store: &AmazonS3, key: &str, size: u64) -> Result<(u64, f64)> {
    let mut content = vec![0; PART];
    SmallRng::seed_from_u64(1).fill_bytes(&mut content);
    let content = Bytes::from(content);
    let started = Instant::now();
    let mut upload = store.put_multipart(&Path::parse(key)?).await?;
    let mut parts = Vec::new();
    let mut left = size;
    while left > 0 {
        let part = usize::try_from(left.min(PART as u64))?;
        parts.push(upload.put_part(content.slice(..part).into()));
        left -= part as u64;
    }
    stream::iter(parts)
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    upload.complete().await?;
    Ok((size, started.elapsed().as_secs_f64()))
}

async fn get(store: &AmazonS3, key: &str) -> Result<(u64, f64)> {
    let path = Path::parse(key)?;
    let started = Instant::now();
    let size = store.head(&path).await?.size;
    let starts = (0..size).step_by(PART);
    let pieces = starts.map(|start| {
        let end = size.min(start + PART as u64);
        let path = &path;
        async move { store.get_range(path, start..end).await }
    });
    let bytes = stream::iter(pieces)
        .buffered(IN_FLIGHT)
        .try_fold(0, |sum, piece| async move { Ok(sum + piece.len() as u64) })
        .await?;
    ensure!(bytes == size, "read {bytes} of {size} bytes");
    Ok((bytes, started.elapsed().as_secs_f64()))
}

async fn fill(store: &AmazonS3, prefix: &str, count: u64) -> Result<(u64, f64)> {
    let started = Instant::now();
    stream::iter(0..count)
        .map(|n| async move {
            let key = Path::parse(format!("{prefix}/d{:03}/object-{n:06}", n / 1000))?;
            store.put(&key, Bytes::from_static(b"x").into()).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(64)
        .try_collect::<Vec<()>>()
        .await?;
    Ok((count, started.elapsed().as_secs_f64()))
}
