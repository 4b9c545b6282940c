//! What lies below a path: the metadata service adds it up, part by part.
//!
//! Only what it cannot know is looked at here: directories of an under file system that
//! nobody has listed yet are loaded first. What is loaded is counted as it is known;
//! `sync` looks again.

use std::sync::Arc;

use arustio_types::meta::query::UsagePart;
use arustio_types::meta::{Answer, Consistency, Query};
use arustio_types::{ErrorKind, FsPath};

use super::{Knowledge, not_found};
use crate::client::{Client, unexpected};
use crate::error::{FsError, Result};
use crate::fs::{Usage, UsageOptions};

/// Times that directories are loaded: mounts nest, and names come while others go.
const MOST_ROUNDS: usize = 16;

impl Client {
    /// Files, directories and bytes at and below a path.
    pub(crate) async fn usage(
        self: &Arc<Self>,
        path: &FsPath,
        options: UsageOptions,
    ) -> Result<Usage> {
        if options.stale_ok {
            return self.known_usage(path).await;
        }
        self.stat(path, Knowledge::Fresh).await?;
        for _ in 0..MOST_ROUNDS {
            match self.summed(path).await? {
                Summed::All(usage) => return Ok(usage),
                Summed::Unloaded(directories) => self.load_all(&directories).await?,
            }
        }
        Err(FsError::on(
            ErrorKind::Conflict,
            path,
            "directories appeared below it as fast as they were loaded; repeat when its writers \
             are done",
        ))
    }

    /// What is known, wherever the nearest server has it from.
    async fn known_usage(&self, path: &FsPath) -> Result<Usage> {
        let mut usage = Usage::default();
        let mut after = None;
        loop {
            let part = self.usage_part(path, after, Consistency::Stale).await?;
            add(&mut usage, &part);
            match part.next {
                Some(next) => after = Some(next),
                None => return Ok(usage),
            }
        }
    }

    async fn summed(&self, path: &FsPath) -> Result<Summed> {
        let mut usage = Usage::default();
        let mut after = None;
        loop {
            let part = self.usage_part(path, after, Consistency::Linearizable);
            let part = part.await?;
            if !part.unloaded.is_empty() {
                return Ok(Summed::Unloaded(part.unloaded));
            }
            add(&mut usage, &part);
            match part.next {
                Some(next) => after = Some(next),
                None => return Ok(Summed::All(usage)),
            }
        }
    }

    async fn usage_part(
        &self,
        path: &FsPath,
        after: Option<FsPath>,
        consistency: Consistency,
    ) -> Result<UsagePart> {
        let path = path.clone();
        let query = Query::Usage {
            path: path.clone(),
            after,
        };
        match self.ask(query, consistency).await? {
            Answer::Usage(part) => Ok(part),
            Answer::Absent(_) => Err(not_found(&path)),
            other => Err(unexpected("counting", &other)),
        }
    }

    /// Loads everything below these; what went meanwhile need not be loaded.
    async fn load_all(&self, directories: &[FsPath]) -> Result<()> {
        for dir in directories {
            match self.load_tree(dir).await {
                Ok(_) => {}
                Err(error) if gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn add(usage: &mut Usage, part: &UsagePart) {
    usage.files += part.files;
    usage.directories += part.directories;
    usage.bytes = usage.bytes.saturating_add(part.bytes);
}

fn gone(error: &FsError) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// What came of adding up.
enum Summed {
    All(Usage),
    Unloaded(Vec<FsPath>),
}
