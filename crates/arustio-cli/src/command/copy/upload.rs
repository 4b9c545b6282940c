//! `copy-from-local`.

use std::path::{Path, PathBuf};

use arustio_client::{CreateOptions, FileSystem, FsError, ReadStats};
use arustio_types::{ErrorKind, FsPath};
use bytes::BytesMut;
use futures::{StreamExt, stream};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::{
    Copied, Run, create_options, drive, is_directory, make_directory, needs_recursive,
    several_need_directory,
};
use crate::args::{CopyArgs, Global};
use crate::local::{fs_path, local_error};
use crate::output::Output;
use crate::progress::Progress;

/// Bytes read from the local disk at once.
const PIECE: usize = 1 << 20;

/// One local thing and where it goes.
#[derive(Debug)]
struct Job {
    from: PathBuf,
    to: FsPath,
}

/// Copies local files and trees into the namespace.
pub(crate) async fn from_local(
    fs: &dyn FileSystem,
    out: &mut Output,
    global: &Global,
    args: CopyArgs,
) -> Result<u8, FsError> {
    let target = fs_path(&args.to)?;
    // Everything that can be refused is refused before anything is copied.
    let mut sources = Vec::new();
    for source in &args.from {
        let path = PathBuf::from(source);
        let found = std::fs::metadata(&path).map_err(|e| local_error("copy", &path, &e))?;
        if found.is_dir() && !args.recursive {
            return Err(needs_recursive(&path.to_string_lossy()).during("copy"));
        }
        sources.push((path, found));
    }
    let into = is_directory(fs, &target).await? == Some(true);
    several_need_directory(sources.len(), into, target.as_str())?;
    let one_file = sources.iter().all(|(_, found)| found.is_file());
    let size = one_file.then(|| sources.iter().map(|(_, found)| found.len()).sum());
    let mut run = Run::new(global, &args, size);
    for (path, _) in sources {
        let to = if into {
            target.join(&name(&path)?)?
        } else {
            target.clone()
        };
        let options = create_options(&args);
        let jobs = stream::iter(Walk::new(path, to)).filter_map(|step| make(fs, step));
        drive(&mut run, jobs.boxed(), |job, progress| {
            upload(fs, job, options.clone(), progress)
        })
        .await?;
    }
    run.finish(out)
}

/// The last component of a local path, as a name of the namespace.
fn name(path: &Path) -> Result<String, FsError> {
    let full = std::fs::canonicalize(path).map_err(|e| local_error("copy", path, &e))?;
    let name = full.file_name().unwrap_or_default();
    match name.to_str() {
        Some(name) => Ok(name.to_owned()),
        None => Err(not_utf8(path)),
    }
}

fn not_utf8(path: &Path) -> FsError {
    let message = "its name is not valid UTF-8, which names here must be; rename it first";
    FsError::new(ErrorKind::InvalidPath, message)
        .during("copy")
        .at_text(&path.to_string_lossy())
}

/// What a walk comes upon.
enum Step {
    Directory(FsPath),
    File(Job),
}

async fn make(fs: &dyn FileSystem, step: Result<Step, FsError>) -> Option<Result<Job, FsError>> {
    match step {
        Ok(Step::File(job)) => Some(Ok(job)),
        Ok(Step::Directory(path)) => make_directory(fs, &path).await.err().map(Err),
        Err(error) => Some(Err(error)),
    }
}

/// A local tree, directories before what is in them, one directory in memory at a time
/// and level.
struct Walk {
    waiting: Vec<Job>,
}

impl Walk {
    fn new(from: PathBuf, to: FsPath) -> Self {
        Self {
            waiting: vec![Job { from, to }],
        }
    }

    fn step(&mut self, job: Job) -> Result<Option<Step>, FsError> {
        let failed = |e| local_error("copy", &job.from, &e);
        let found = std::fs::metadata(&job.from).map_err(failed)?;
        if found.is_file() {
            return Ok(Some(Step::File(job)));
        }
        if !found.is_dir() {
            eprintln!("skipped {}: not a regular file", job.from.display());
            return Ok(None);
        }
        for entry in std::fs::read_dir(&job.from).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let from = entry.path();
            if from.is_symlink() && from.is_dir() {
                eprintln!("skipped {}: a link to a directory", from.display());
                continue;
            }
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| not_utf8(&from))?;
            let to = job.to.join(name)?;
            self.waiting.push(Job { from, to });
        }
        Ok(Some(Step::Directory(job.to)))
    }
}

impl Iterator for Walk {
    type Item = Result<Step, FsError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(job) = self.waiting.pop() {
            match self.step(job) {
                Ok(Some(step)) => return Some(Ok(step)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

async fn upload(
    fs: &dyn FileSystem,
    job: Job,
    options: CreateOptions,
    progress: Progress,
) -> Result<(String, Copied), FsError> {
    let failed = |e| local_error("read", &job.from, &e);
    let mut file = File::open(&job.from).await.map_err(failed)?;
    file.set_max_buf_size(PIECE);
    let mut writer = fs.create(&job.to, options).await?;
    let mut bytes = 0;
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        if file.read_buf(&mut piece).await.map_err(failed)? == 0 {
            break;
        }
        bytes += piece.len() as u64;
        progress.add(piece.len() as u64);
        writer.write(piece.freeze()).await?;
    }
    let committed = writer.commit().await?;
    let read = ReadStats {
        ufs_requests: committed.stats.ufs_requests,
        ufs_bytes: bytes,
        ..ReadStats::default()
    };
    Ok((job.to.to_string(), Copied { bytes, read }))
}
