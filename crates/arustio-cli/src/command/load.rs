//! `load`: brings files and trees into the block nodes, and says what became of each.
//!
//! The command itself does the work and ends when it is done: there is no service that
//! would go on without it. Files that fail do not end it; they are named at the end, one
//! line each, and the exit code is that of the first. What was loaded stays, also after
//! ctrl-C.

use std::num::NonZeroU64;

use arustio_client::{
    FileSystem, FsError, LoadEvent, LoadOptions, LoadedFile, Usage, UsageOptions,
};
use arustio_types::{ByteSize, ErrorKind, FsPath};
use futures::TryStreamExt;
use serde_json::json;

use super::cached::{self, Cached};
use crate::args::{Global, LoadArgs};
use crate::local::fs_path;
use crate::output::{Output, counted, printable, size};
use crate::progress::Progress;

/// Files that failed and are named; of more only their number is told.
const MOST_NAMED: usize = 10_000;

/// `load`.
pub(crate) async fn load(
    fs: &dyn FileSystem,
    out: &mut Output,
    global: &Global,
    args: LoadArgs,
) -> Result<u8, FsError> {
    let options = LoadOptions {
        replicas: args.replicas.map(usize::from),
        verify: args.verify,
        bandwidth: args.bandwidth.as_deref().map(bandwidth).transpose()?,
    };
    let paths = args.paths.iter().map(|path| fs_path(path));
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    let all = usage(fs, &paths).await?;
    if all.files == 0 {
        eprintln!("nothing to load: there are no files at or below what was named");
    }
    let mut run = Run::new(global, all);
    let mut events = fs.load(paths.clone(), options);
    while let Some(event) = events.try_next().await? {
        run.note(out, options, event)?;
    }
    run.progress.finish();
    let now = cached_now(fs, &paths).await?;
    run.finish(out, now, args.wait)
}

fn bandwidth(text: &str) -> Result<NonZeroU64, FsError> {
    let refuse = |what: String| FsError::new(ErrorKind::InvalidArgument, what);
    let rate: ByteSize = text
        .parse()
        .map_err(|error| refuse(format!("--bandwidth {text}: {error}")))?;
    let nothing = || refuse("--bandwidth 0 would never end; leave it out for no limit".to_owned());
    NonZeroU64::new(rate.get()).ok_or_else(nothing)
}

/// What is to be loaded; a path that does not exist is found before anything begins.
async fn usage(fs: &dyn FileSystem, paths: &[FsPath]) -> Result<Usage, FsError> {
    let mut all = Usage::default();
    for path in paths {
        let usage = fs.usage(path, UsageOptions::default()).await;
        let usage = usage.map_err(|error| error.at(path).as_part_of("load"))?;
        all.files += usage.files;
        all.bytes += usage.bytes;
    }
    Ok(all)
}

async fn cached_now(fs: &dyn FileSystem, paths: &[FsPath]) -> Result<Cached, FsError> {
    let mut all = Cached {
        size: 0,
        bytes: Some(0),
    };
    for path in paths {
        let below = cached::below(fs, path, true).await?;
        all.size += below.size;
        all.bytes = all.bytes.zip(below.bytes).map(|(sum, more)| sum + more);
    }
    Ok(all)
}

/// What was seen of a run so far.
struct Run {
    all: Usage,
    progress: Progress,
    files: u64,
    bytes: u64,
    cache_bytes: u64,
    ufs_bytes: u64,
    ufs_requests: u64,
    failed: u64,
    /// The first of them, up to the most that are named.
    failures: Vec<FsError>,
}

impl Run {
    fn new(global: &Global, all: Usage) -> Self {
        let quiet = global.quiet || global.json;
        Self {
            progress: Progress::new(quiet, "loading", Some(all.bytes)),
            all,
            files: 0,
            bytes: 0,
            cache_bytes: 0,
            ufs_bytes: 0,
            ufs_requests: 0,
            failed: 0,
            failures: Vec::new(),
        }
    }

    fn note(
        &mut self,
        out: &mut Output,
        options: LoadOptions,
        event: LoadEvent,
    ) -> Result<(), FsError> {
        match event {
            LoadEvent::Begins { replicas } => {
                if let Some(wanted) = options.replicas.filter(|wanted| *wanted > replicas) {
                    self.progress.say(&format!(
                        "warning: {replicas} of {wanted} replicas are made: no more block nodes \
                         take blocks"
                    ));
                }
                Ok(())
            }
            LoadEvent::Bytes(bytes) => {
                self.progress.add(bytes);
                Ok(())
            }
            LoadEvent::File(file) => self.done(out, file),
        }
    }

    fn done(&mut self, out: &mut Output, file: LoadedFile) -> Result<(), FsError> {
        self.files += 1;
        self.bytes += file.size;
        self.cache_bytes += file.cache_bytes;
        self.ufs_bytes += file.ufs_bytes;
        self.ufs_requests += file.ufs_requests;
        self.progress
            .tell(&format!("loading {}/{} files", self.files, self.all.files));
        if out.is_json() {
            out.object(&object(&file))?;
        }
        if let Some(error) = file.failed {
            self.failed += 1;
            if self.failures.len() < MOST_NAMED {
                self.failures.push(error);
            }
        }
        Ok(())
    }

    fn finish(self, out: &mut Output, now: Cached, wait: bool) -> Result<u8, FsError> {
        for error in &self.failures {
            eprintln!("{}", failure(error));
        }
        let more = self.failed - self.failures.len() as u64;
        if more > 0 {
            eprintln!("and {more} more");
        }
        self.summary(out, now)?;
        if let Some(first) = self.failures.first() {
            let message = format!(
                "{} of {} files were not loaded, for the reasons above",
                self.failed, self.files
            );
            return Err(FsError::new(first.kind(), message));
        }
        match now.bytes {
            Some(bytes) if wait && bytes < now.size => {
                let message = format!(
                    "everything was loaded, and {bytes} of {} bytes are cached now: the cache is \
                     too small for it, or something else fills it",
                    now.size
                );
                Err(FsError::new(ErrorKind::NoSpace, message))
            }
            None if wait => {
                let message = "everything was loaded, and a block node does not say what it has";
                Err(FsError::new(ErrorKind::Unavailable, message))
            }
            _ => Ok(0),
        }
    }

    fn summary(&self, out: &mut Output, now: Cached) -> Result<(), FsError> {
        if out.is_json() {
            return out.object(&json!({
                "files": self.files,
                "bytes": self.bytes,
                "cache_bytes": self.cache_bytes,
                "ufs_bytes": self.ufs_bytes,
                "ufs_requests": self.ufs_requests,
                "failed": self.failed,
                "cached_bytes": now.json(),
                "cached_of_bytes": now.size,
            }));
        }
        out.line(&format!(
            "{}, {}: {} from cache, {} from UFS in {}, {} failed",
            counted(self.files, "file"),
            size(self.bytes, true),
            size(self.cache_bytes, true),
            size(self.ufs_bytes, true),
            counted(self.ufs_requests, "request"),
            self.failed
        ))?;
        match now.bytes {
            Some(bytes) if bytes < now.size => {
                out.line(&format!("{bytes} of {} bytes are cached now", now.size))
            }
            _ => Ok(()),
        }
    }
}

/// A file for programs.
fn object(file: &LoadedFile) -> serde_json::Value {
    let error = file.failed.as_ref();
    json!({
        "path": file.path.as_str(),
        "size": file.size,
        "cache_bytes": file.cache_bytes,
        "ufs_bytes": file.ufs_bytes,
        "ufs_requests": file.ufs_requests,
        "error": error.map(|error| error.kind().name()),
        "message": error.map(|error| error.message().to_owned()),
    })
}

/// `KIND: path: why`
fn failure(error: &FsError) -> String {
    let path = printable(error.path().unwrap_or_default());
    format!("{}: {path}: {}", error.kind(), error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_failed_is_one_line() {
        let path = FsPath::new("/data/a\nb").unwrap();
        let error = FsError::on(ErrorKind::Stale, &path, "it was replaced").during("load");
        assert_eq!(failure(&error), "Stale: /data/a\\nb: it was replaced");
    }

    #[test]
    fn a_bandwidth_is_a_size_and_not_nothing() {
        assert_eq!(bandwidth("1MiB").unwrap().get(), 1 << 20);
        for wrong in ["0", "fast", "-1"] {
            let refused = bandwidth(wrong).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        }
    }
}
