//! `cat`, `head`, `tail`, `checksum`: exactly the bytes of a file.

use std::ffi::{OsStr, OsString};
use std::ops::Range;

use arustio_client::{FileReader, FileSystem, FsError, OpenOptions, ReadStats};
use arustio_types::{ByteSize, ErrorKind};
use futures::TryStreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::local::fs_path;
use crate::output::{Output, printable};

/// Where bytes came from, for people: `100 MiB: 96 MiB cache, 4 MiB UFS, 1 request`.
pub(crate) fn origin(bytes: u64, stats: &ReadStats) -> String {
    let requests = stats.ufs_requests;
    format!(
        "{}: {} cache, {} UFS, {requests} request{}",
        ByteSize(bytes).human(),
        ByteSize(stats.cache_bytes).human(),
        ByteSize(stats.ufs_bytes).human(),
        if requests == 1 { "" } else { "s" }
    )
}

async fn copy_out(
    reader: &dyn FileReader,
    out: &mut Output,
    range: Range<u64>,
) -> Result<(), FsError> {
    let mut stream = reader.stream(range);
    while let Some(bytes) = stream.try_next().await? {
        out.bytes(&bytes)?;
    }
    Ok(())
}

/// Whole files, one after the other.
pub(crate) async fn cat(
    fs: &dyn FileSystem,
    out: &mut Output,
    paths: &[OsString],
    v: bool,
) -> Result<u8, FsError> {
    for path in paths {
        let path = fs_path(path)?;
        let reader = fs.open(&path, OpenOptions::default()).await?;
        copy_out(&*reader, out, 0..u64::MAX).await?;
        out.flush()?;
        if v {
            eprintln!(
                "{}: {}",
                printable(path.as_str()),
                origin(reader.status().size, &reader.stats())
            );
        }
    }
    Ok(0)
}

fn count(text: &str) -> Result<u64, FsError> {
    match text.parse::<ByteSize>() {
        Ok(size) => Ok(size.get()),
        Err(error) => Err(FsError::new(ErrorKind::InvalidArgument, error.to_string())),
    }
}

/// The first bytes.
pub(crate) async fn head(
    fs: &dyn FileSystem,
    out: &mut Output,
    path: &OsStr,
    bytes: &str,
) -> Result<u8, FsError> {
    let bytes = count(bytes)?;
    let reader = fs.open(&fs_path(path)?, OpenOptions::default()).await?;
    copy_out(&*reader, out, 0..bytes).await?;
    Ok(0)
}

/// The last bytes.
pub(crate) async fn tail(
    fs: &dyn FileSystem,
    out: &mut Output,
    path: &OsStr,
    bytes: &str,
) -> Result<u8, FsError> {
    let bytes = count(bytes)?;
    let reader = fs.open(&fs_path(path)?, OpenOptions::default()).await?;
    let size = reader.status().size;
    copy_out(&*reader, out, size.saturating_sub(bytes)..size).await?;
    Ok(0)
}

/// SHA-256, in the form of `sha256sum`.
pub(crate) async fn checksum(
    fs: &dyn FileSystem,
    out: &mut Output,
    paths: &[OsString],
) -> Result<u8, FsError> {
    for path in paths {
        let path = fs_path(path)?;
        let reader = fs.open(&path, OpenOptions::default()).await?;
        let mut hash = Sha256::new();
        let mut stream = reader.stream(0..u64::MAX);
        while let Some(bytes) = stream.try_next().await? {
            hash.update(&bytes);
        }
        let digest: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        if out.is_json() {
            out.object(&json!({"path": path.as_str(), "sha256": digest}))?;
        } else {
            out.line(&format!("{digest}  {}", printable(path.as_str())))?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_bytes_reads_as_documented() {
        let stats = ReadStats {
            cache_bytes: 96 << 20,
            ufs_bytes: 4 << 20,
            ufs_requests: 1,
            ..ReadStats::default()
        };
        assert_eq!(
            origin(100 << 20, &stats),
            "100 MiB: 96 MiB cache, 4 MiB UFS, 1 request"
        );
    }
}
