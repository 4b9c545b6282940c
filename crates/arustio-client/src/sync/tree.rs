//! Looking at a whole directory, or at everything below one.
//!
//! Directories are independent of each other and listed several at a time; a directory
//! that vanishes meanwhile is no failure.

use std::time::Duration;

use arustio_types::meta::command::Proof;
use arustio_types::meta::sync::SyncTarget;
use arustio_types::{ErrorKind, FsPath, MountId};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::listing::DirWalk;
use super::{LookDir, Turn};
use crate::client::Client;
use crate::command::Depth;
use crate::error::{FsError, Result};
use crate::fs::SyncSummary;

/// What looking at one directory brought.
#[derive(Debug, Default)]
struct Loaded {
    summary: SyncSummary,
    directories: Vec<String>,
    proof: Option<Proof>,
}

impl Client {
    /// Proves what lies in a directory (L3).
    pub(crate) async fn prove_dir(&self, dir: &FsPath, depth: Depth) -> Result<Vec<Proof>> {
        match depth {
            Depth::Tree => Ok(self.load_tree(dir).await?.1),
            Depth::Entries => {
                let look = self.look_dir(dir).await?;
                Ok(self
                    .load_dir(look, false)
                    .await?
                    .proof
                    .into_iter()
                    .collect())
            }
            Depth::Any => {
                let look = self.look_dir(dir).await?;
                Ok(self.load_dir(look, true).await?.proof.into_iter().collect())
            }
        }
    }

    /// Looks at a name, and at the entries of a directory.
    pub(crate) async fn sync_one(&self, path: &FsPath) -> Result<SyncSummary> {
        let look = self.look_dir(path).await?;
        Ok(self.load_dir(look, false).await?.summary)
    }

    /// Looks at everything below a directory of a mount, the directory included.
    pub(crate) async fn load_tree(&self, root: &FsPath) -> Result<(SyncSummary, Vec<Proof>)> {
        let mount = self.look_dir(root).await?.mount;
        let (mut summary, mut proofs) = (SyncSummary::default(), Vec::new());
        let mut waiting = vec![root.clone()];
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.config.sync.parallel
                && let Some(path) = waiting.pop()
            {
                running.push(self.load_in(path, mount));
            }
            let Some((path, loaded)) = running.next().await.transpose()? else {
                return Ok((summary, proofs));
            };
            add(&mut summary, &loaded.summary);
            proofs.extend(loaded.proof);
            for name in loaded.directories {
                waiting.push(path.join(&name)?);
            }
        }
    }

    async fn load_in(&self, path: FsPath, mount: MountId) -> Result<(FsPath, Loaded)> {
        let loaded = match self.look_dir(&path).await {
            // Another mount stands on this name.
            Ok(look) if look.mount != mount => Loaded::default(),
            Ok(look) => self.load_dir(look, false).await?,
            Err(error) if gone(&error) => Loaded::default(),
            Err(error) => return Err(error),
        };
        Ok((path, loaded))
    }

    /// Lists one directory; only until the first names when `any` will do.
    async fn load_dir(&self, mut look: LookDir, any: bool) -> Result<Loaded> {
        let target = SyncTarget {
            dir: look.inode,
            name: None,
        };
        let Turn::Ours(ticket) = self.turn(target, Duration::ZERO).await? else {
            // A service that never lets us look would be asked for ever.
            return Err(FsError::on(
                ErrorKind::Internal,
                &look.path,
                "the metadata service refused a look that it had asked for",
            ));
        };
        look.seen = ticket.seen;
        let walked = self.walk_dir(look, any).await;
        let complete = matches!(&walked, Ok(loaded) if loaded.proof.is_some());
        ticket.give_back(complete).await;
        walked
    }

    async fn walk_dir(&self, look: LookDir, any: bool) -> Result<Loaded> {
        let (path, seen) = (look.path.clone(), look.seen);
        let mut walk = DirWalk::begin(self, look).await?;
        let mut directories = Vec::new();
        while let Some(stretch) = walk.next().await? {
            directories.extend(stretch.directories);
            if any && stretch.any && stretch.to.is_some() {
                return Ok(Loaded::default());
            }
        }
        let walked = walk.finish().await?;
        Ok(Loaded {
            summary: walked.summary,
            directories,
            proof: walked.complete.then_some(Proof { path, seen }),
        })
    }
}

fn gone(error: &FsError) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn add(sum: &mut SyncSummary, more: &SyncSummary) {
    sum.added += more.added;
    sum.changed += more.changed;
    sum.removed += more.removed;
    sum.directories += more.directories;
    sum.unusable += more.unusable;
}
