//! `du` and `count`: what lies below a path, and how much of it is cached.
//!
//! Sizes are added up by the metadata service. What is cached is asked of the block nodes,
//! file by file, so that `du` lists what is below; `--no-cached` leaves that out.

use std::ffi::OsString;

use arustio_client::{FileSystem, FsError, ListOptions, Usage, UsageOptions};
use arustio_types::FsPath;
use arustio_types::meta::status::FileStatus;
use futures::TryStreamExt;
use serde_json::json;

use super::cached::{self, Cached};
use crate::local::fs_path;
use crate::output::{self, Output, printable};

/// What `du` shows, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskUse {
    pub(crate) summary: bool,
    pub(crate) human: bool,
    pub(crate) cached: bool,
    pub(crate) stale_ok: bool,
}

/// Bytes below, per directory entry or in total.
pub(crate) async fn du(
    fs: &dyn FileSystem,
    out: &mut Output,
    paths: &[OsString],
    look: DiskUse,
) -> Result<u8, FsError> {
    for path in paths {
        let path = fs_path(path)?;
        if !look.summary {
            each_entry(fs, out, &path, look).await?;
        }
        let found = below(fs, &path, look).await?;
        du_line(out, &path, &found, look)?;
    }
    Ok(0)
}

async fn each_entry(
    fs: &dyn FileSystem,
    out: &mut Output,
    path: &FsPath,
    look: DiskUse,
) -> Result<(), FsError> {
    let options = ListOptions {
        stale_ok: look.stale_ok,
        ..ListOptions::default()
    };
    let mut entries = fs.list(path, options);
    while let Some(entry) = entries.try_next().await? {
        if entry.path == *path {
            continue;
        }
        let found = match entry.is_dir() {
            true => below(fs, &entry.path, look).await?,
            false => of_file(fs, &entry, look).await?,
        };
        du_line(out, &entry.path, &found, look)?;
    }
    Ok(())
}

/// What lies at and below a path, and what of it is cached.
struct Found {
    usage: Usage,
    cached: Cached,
}

async fn below(fs: &dyn FileSystem, path: &FsPath, look: DiskUse) -> Result<Found, FsError> {
    let stale_ok = look.stale_ok;
    let usage = fs.usage(path, UsageOptions { stale_ok }).await?;
    let cached = match look.cached {
        // Everything was loaded to be added up: what the nearest server knows is as new.
        true => cached::below(fs, path, true).await?,
        false => Cached::default(),
    };
    Ok(Found { usage, cached })
}

/// A file says of itself what it takes.
async fn of_file(fs: &dyn FileSystem, entry: &FileStatus, look: DiskUse) -> Result<Found, FsError> {
    let cached = match look.cached {
        true => fs.cached_bytes(std::slice::from_ref(entry)).await?,
        false => Vec::new(),
    };
    Ok(Found {
        usage: Usage {
            files: 1,
            directories: 0,
            bytes: entry.size,
        },
        cached: Cached {
            size: entry.size,
            bytes: cached.first().copied().flatten(),
        },
    })
}

fn du_line(out: &mut Output, path: &FsPath, found: &Found, look: DiskUse) -> Result<(), FsError> {
    let Found { usage, cached } = found;
    if out.is_json() {
        return out.object(&json!({
            "path": path.as_str(),
            "bytes": usage.bytes,
            "files": usage.files,
            "directories": usage.directories,
            "cached_bytes": cached.json(),
        }));
    }
    let size = output::size(usage.bytes, look.human);
    let name = printable(path.as_str());
    match look.cached {
        true => out.line(&format!("{size}\t{}\t{name}", cached.shown(look.human))),
        false => out.line(&format!("{size}\t{name}")),
    }
}

/// Files, directories and bytes.
pub(crate) async fn count(
    fs: &dyn FileSystem,
    out: &mut Output,
    paths: &[OsString],
    stale_ok: bool,
) -> Result<u8, FsError> {
    for path in paths {
        let path = fs_path(path)?;
        let usage = fs.usage(&path, UsageOptions { stale_ok }).await?;
        if out.is_json() {
            out.object(&json!({
                "path": path.as_str(),
                "files": usage.files,
                "directories": usage.directories,
                "bytes": usage.bytes,
            }))?;
        } else {
            out.line(&format!(
                "{:>12} files {:>12} directories {:>16} bytes  {}",
                usage.files,
                usage.directories,
                usage.bytes,
                printable(path.as_str())
            ))?;
        }
    }
    Ok(0)
}
