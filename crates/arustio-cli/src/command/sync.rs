//! `sync` and `pending`.

use std::ffi::OsStr;

use arustio_client::{FileSystem, FsError, SyncOptions};
use futures::TryStreamExt;
use serde_json::json;

use crate::local::fs_path;
use crate::output::{Output, age, printable};

/// Looks at the UFS now, or reports what cannot be a path.
pub(crate) async fn sync(
    fs: &dyn FileSystem,
    out: &mut Output,
    path: &OsStr,
    recursive: bool,
    report: bool,
) -> Result<u8, FsError> {
    let path = fs_path(path)?;
    if report {
        let mut findings = fs.sync_report(&path);
        while let Some(finding) = findings.try_next().await? {
            if out.is_json() {
                out.object(&json!({"key": finding.key, "reason": finding.reason}))?;
            } else {
                out.line(&format!("{}\t{}", printable(&finding.key), finding.reason))?;
            }
        }
        return Ok(0);
    }
    let done = fs.sync(&path, SyncOptions { recursive }).await?;
    if out.is_json() {
        out.object(&json!({
            "path": path.as_str(),
            "added": done.added,
            "changed": done.changed,
            "removed": done.removed,
            "directories": done.directories,
            "unusable": done.unusable,
        }))?;
        return Ok(0);
    }
    out.line(&format!(
        "{path}: {} added, {} changed, {} removed",
        done.added, done.changed, done.removed
    ))?;
    if done.unusable > 0 {
        eprintln!(
            "{} keys cannot be paths and are not shown; list them with: arustio fs sync --report {path}",
            done.unusable
        );
    }
    Ok(0)
}

/// What is announced and what is owed.
pub(crate) async fn pending(fs: &dyn FileSystem, out: &mut Output) -> Result<u8, FsError> {
    for item in fs.pending().await? {
        if out.is_json() {
            out.object(&json!({
                "kind": item.kind.name(),
                "id": item.id,
                "on": item.on,
                "what": item.what,
                "age_s": item.age.as_secs_f64(),
                "last_error": item.last_error,
            }))?;
            continue;
        }
        let error = item
            .last_error
            .map_or_else(String::new, |e| format!("  last error: {}", printable(&e)));
        out.line(&format!(
            "{} {}  {}  {}  age {}{error}",
            item.kind.name(),
            item.id,
            printable(&item.on),
            printable(&item.what),
            age(item.age)
        ))?;
    }
    Ok(0)
}
