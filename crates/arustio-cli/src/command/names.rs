//! Verbs about names: listings, directories, moves, removals.

use std::ffi::{OsStr, OsString};

use arustio_client::{
    CreateOptions, DeleteOptions, FileSystem, FsError, ListOptions, MkdirOptions, RenameOptions,
    StatOptions,
};
use arustio_types::meta::command::AttributeChange;
use arustio_types::meta::status::FileStatus;
use arustio_types::{ErrorKind, FsPath, SystemClock, WallClock};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use crate::args::{LsArgs, SortKey};
use crate::local::fs_path;
use crate::output::{self, Output, printable};

/// Entries that are looked up in the cache at a time.
const TOGETHER: usize = 256;

/// How one listing looks.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    long: bool,
    human: bool,
    recursive: bool,
    stale_ok: bool,
}

/// `list PATH`: like `ls`.
pub(crate) async fn list(
    fs: &dyn FileSystem,
    out: &mut Output,
    path: &OsStr,
    long: bool,
) -> Result<u8, FsError> {
    let look = Look {
        long,
        ..Look::default()
    };
    ls_path(fs, out, &fs_path(path)?, look, None).await?;
    Ok(0)
}

/// `ls`, streaming unless an order is asked for.
pub(crate) async fn ls(fs: &dyn FileSystem, out: &mut Output, args: LsArgs) -> Result<u8, FsError> {
    let look = Look {
        long: args.long,
        human: args.human,
        recursive: args.recursive,
        stale_ok: args.stale_ok,
    };
    for path in &args.paths {
        ls_path(fs, out, &fs_path(path)?, look, args.sort).await?;
    }
    Ok(0)
}

async fn ls_path(
    fs: &dyn FileSystem,
    out: &mut Output,
    path: &FsPath,
    look: Look,
    sort: Option<SortKey>,
) -> Result<(), FsError> {
    let options = ListOptions {
        recursive: look.recursive,
        stale_ok: look.stale_ok,
    };
    let entries = fs.list(path, options);
    if let Some(key) = sort {
        let mut all: Vec<FileStatus> = entries.try_collect().await?;
        order(&mut all, key);
        return show_all(fs, out, path, &all, look).await;
    }
    if !out.is_json() && !look.long {
        return show_names(out, path, entries).await;
    }
    // What came together is shown together; the first lines are seen at once, however
    // large the directory is.
    let mut together = entries.ready_chunks(TOGETHER);
    let mut shown = 0u64;
    while let Some(came) = together.next().await {
        let count = came.len();
        let came = came.into_iter().collect::<Result<Vec<_>, _>>();
        show_all(fs, out, path, &came?, look).await?;
        if (shown + count as u64).ilog2() > shown.max(1).ilog2() || shown == 0 {
            out.flush()?;
        }
        shown += count as u64;
    }
    Ok(())
}

/// Shows nothing but names, one by one; the first lines are seen at once, however large
/// the directory is.
async fn show_names(
    out: &mut Output,
    base: &FsPath,
    mut entries: BoxStream<'_, Result<FileStatus, FsError>>,
) -> Result<(), FsError> {
    let mut shown = 0u64;
    while let Some(status) = entries.try_next().await? {
        out.name(&status, Some(base))?;
        shown += 1;
        if shown.is_power_of_two() {
            out.flush()?;
        }
    }
    Ok(())
}

/// Shows entries, with what of them is cached where that is shown.
async fn show_all(
    fs: &dyn FileSystem,
    out: &mut Output,
    base: &FsPath,
    entries: &[FileStatus],
    look: Look,
) -> Result<(), FsError> {
    let cached = match out.is_json() || look.long {
        true => fs.cached_bytes(entries).await?,
        false => vec![None; entries.len()],
    };
    let mut lines = entries.iter().zip(cached);
    lines.try_for_each(|(status, cached)| show(out, base, status, cached, look))
}

fn order(all: &mut [FileStatus], key: SortKey) {
    match key {
        SortKey::Name => all.sort_by(|a, b| a.path.cmp(&b.path)),
        SortKey::Size => all.sort_by(|a, b| b.size.cmp(&a.size).then(a.path.cmp(&b.path))),
        SortKey::Time => all.sort_by(|a, b| b.modified.cmp(&a.modified).then(a.path.cmp(&b.path))),
    }
}

fn show(
    out: &mut Output,
    base: &FsPath,
    status: &FileStatus,
    cached: Option<u64>,
    look: Look,
) -> Result<(), FsError> {
    if out.is_json() {
        return out.object(&output::entry_json(status, cached));
    }
    if !look.long {
        return out.name(status, Some(base));
    }
    let name = output::shown_name(status, Some(base));
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            printable(text)
        }
    };
    out.line(&format!(
        "{} {:<8} {:<8} {:>12} {:<15} {} {:>4} {name}",
        output::mode(status.kind, status.mode),
        or_dash(&status.owner),
        or_dash(&status.group),
        output::size(status.size, look.human),
        status.persistence.name(),
        output::local_time(status.modified),
        output::percent(cached, status.size),
    ))
}

/// Everything known.
pub(crate) async fn stat(
    fs: &dyn FileSystem,
    out: &mut Output,
    paths: &[OsString],
    stale_ok: bool,
) -> Result<u8, FsError> {
    for path in paths {
        let status = fs.stat(&fs_path(path)?, StatOptions { stale_ok }).await?;
        let cached = fs.cached_bytes(std::slice::from_ref(&status)).await?;
        let value = output::entry_json(&status, cached.first().copied().flatten());
        if out.is_json() {
            out.object(&value)?;
            continue;
        }
        let Some(fields) = value.as_object() else {
            continue;
        };
        for (key, value) in fields {
            let text = match value {
                serde_json::Value::String(text) => printable(text),
                serde_json::Value::Null => "-".to_owned(),
                other => other.to_string(),
            };
            out.line(&format!("{key}: {text}"))?;
        }
    }
    Ok(0)
}

/// Forgets cached blocks.
pub(crate) async fn free(
    fs: &dyn FileSystem,
    out: &mut Output,
    paths: &[OsString],
) -> Result<u8, FsError> {
    for path in paths {
        let path = fs_path(path)?;
        let freed = fs.free(&path).await?;
        if freed.unreachable > 0 {
            eprintln!(
                "warning: {} block nodes did not answer and may keep blocks of {}",
                freed.unreachable,
                printable(path.as_str())
            );
        }
        if out.is_json() {
            out.object(&json!({
                "path": path.as_str(),
                "files": freed.files,
                "bytes": freed.bytes,
                "unreachable_nodes": freed.unreachable,
            }))?;
        } else {
            let name = printable(path.as_str());
            out.line(&format!(
                "{name}: {} of {} freed",
                output::size(freed.bytes, true),
                output::counted(freed.files, "file")
            ))?;
        }
    }
    Ok(0)
}

/// Makes directories.
pub(crate) async fn mkdir(
    fs: &dyn FileSystem,
    paths: &[OsString],
    parents: bool,
) -> Result<u8, FsError> {
    for path in paths {
        let options = MkdirOptions {
            parents,
            exist_ok: parents,
        };
        fs.mkdir(&fs_path(path)?, options).await?;
    }
    Ok(0)
}

/// Makes an empty file, or sets the time of one that exists.
pub(crate) async fn touch(fs: &dyn FileSystem, paths: &[OsString]) -> Result<u8, FsError> {
    for path in paths {
        let path = fs_path(path)?;
        let created = match fs.create(&path, CreateOptions::default()).await {
            Ok(writer) => writer.commit().await.map(drop),
            Err(error) => Err(error),
        };
        match created {
            Ok(()) => {}
            Err(error) if exists(&error) => {
                let change = AttributeChange {
                    modified: Some(SystemClock.now()),
                    ..AttributeChange::default()
                };
                fs.set_attributes(&path, change).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(0)
}

fn exists(error: &FsError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AlreadyExists | ErrorKind::IsADirectory
    )
}

/// Exit 0 when the name is what was asked, 1 when it is not.
pub(crate) async fn test(
    fs: &dyn FileSystem,
    path: &OsStr,
    directory: bool,
    file: bool,
    empty: bool,
) -> Result<u8, FsError> {
    let path = fs_path(path)?;
    let status = match fs.stat(&path, StatOptions::default()).await {
        Ok(status) => status,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(1),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(1),
        Err(error) => return Err(error),
    };
    let holds = if directory {
        status.is_dir()
    } else if file {
        !status.is_dir()
    } else if empty && status.is_dir() {
        let mut entries = fs.list(&path, ListOptions::default());
        entries.try_next().await?.is_none()
    } else if empty {
        status.size == 0
    } else {
        true
    };
    Ok(u8::from(!holds))
}

/// Moves; a directory as target means into it.
pub(crate) async fn mv(
    fs: &dyn FileSystem,
    from: &OsStr,
    to: &OsStr,
    force: bool,
) -> Result<u8, FsError> {
    let from = fs_path(from)?;
    let to = into_directory(fs, fs_path(to)?, &from).await?;
    let options = RenameOptions {
        replace: force,
        parents: true,
    };
    fs.rename(&from, &to, options).await?;
    Ok(0)
}

/// `to`, or the name of `from` in it where it is a directory.
pub(crate) async fn into_directory(
    fs: &dyn FileSystem,
    to: FsPath,
    from: &FsPath,
) -> Result<FsPath, FsError> {
    let Some(name) = from.name() else {
        return Ok(to);
    };
    match fs.stat(&to, StatOptions::default()).await {
        Ok(status) if status.is_dir() => Ok(to.join(name)?),
        Ok(_) => Ok(to),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(to),
        Err(error) => Err(error),
    }
}

/// Removes.
pub(crate) async fn rm(
    fs: &dyn FileSystem,
    paths: &[OsString],
    recursive: bool,
    arustio_only: bool,
) -> Result<u8, FsError> {
    for path in paths {
        let options = DeleteOptions {
            recursive,
            arustio_only,
        };
        fs.delete(&fs_path(path)?, options).await?;
    }
    Ok(0)
}
