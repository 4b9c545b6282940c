//! Names: looking at them, making, moving and removing them.
//!
//! Each operation is a command that is carried out ([`crate::command`]) and whose
//! effects are settled before it returns ([`crate::job`]).

pub(crate) mod list;
mod usage;

use std::sync::Arc;

use arustio_types::meta::command::AttributeChange;
use arustio_types::meta::setting::PathConf;
use arustio_types::meta::{Answer, Command, Consistency, FileStatus, Outcome, Query};
use arustio_types::{ErrorKind, FsPath};

use crate::client::{Client, unexpected};
use crate::command::Depth;
use crate::error::{FsError, Result};
use crate::fs::{
    DeleteOptions, DeleteSummary, MkdirOptions, PathConfView, RenameOptions, SyncOptions,
    SyncSummary,
};
use crate::metadata::session;
use crate::sync::Learned;

/// Looks at one path before an operation gives up: every component may need some.
const MOST_LOOKS: usize = 3;

/// The error of a name that is not there.
pub(crate) fn not_found(path: &FsPath) -> FsError {
    FsError::on(ErrorKind::NotFound, path, "no such file or directory")
}

/// How well a name has to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// As the metadata server has it, however old.
    Stale,
    /// As the path's sync interval says (R3).
    Fresh,
    /// Looked at now.
    Now,
}

impl Knowledge {
    /// How new the metadata service's answer has to be.
    pub(crate) fn consistency(self) -> Consistency {
        match self {
            Self::Stale => Consistency::Stale,
            Self::Fresh | Self::Now => Consistency::Linearizable,
        }
    }
}

impl Client {
    /// What stands under a name.
    pub(crate) async fn stat(&self, path: &FsPath, knowledge: Knowledge) -> Result<FileStatus> {
        if knowledge == Knowledge::Stale {
            let query = Query::Stat { path: path.clone() };
            return match self.ask(query, Consistency::Stale).await? {
                Answer::Status(status) => Ok(status),
                Answer::Absent(_) => Err(not_found(path)),
                other => Err(unexpected("looking at a name", &other)),
            };
        }
        let force = knowledge == Knowledge::Now;
        let mut refreshed = false;
        // The name that others have looked for since the namespace was asked.
        let mut found_by_others = None;
        for _ in 0..MOST_LOOKS * (path.depth() + 1) {
            match self.ask_stat(path).await? {
                Answer::Status(status) => {
                    if refreshed || self.refresh(&status, force).await? == Learned::Nothing {
                        return Ok(status);
                    }
                    refreshed = true;
                }
                Answer::Absent(absent) => {
                    let missing = absent.dir.join(&absent.name)?;
                    match self.discover(&absent, force && !refreshed).await? {
                        Learned::Something => {}
                        Learned::ByOthers if found_by_others.as_ref() != Some(&missing) => {
                            found_by_others = Some(missing);
                            continue;
                        }
                        Learned::Nothing | Learned::ByOthers => return Err(not_found(path)),
                    }
                    // What was found now need not be looked at again.
                    refreshed |= missing == *path;
                }
                other => return Err(unexpected("looking at a name", &other)),
            }
        }
        Err(not_found(path))
    }

    /// Asks the namespace alone.
    pub(crate) async fn ask_stat(&self, path: &FsPath) -> Result<Answer> {
        let query = Query::Stat { path: path.clone() };
        self.ask(query, Consistency::Linearizable).await
    }

    pub(crate) async fn mkdir(
        self: &Arc<Self>,
        path: &FsPath,
        options: MkdirOptions,
    ) -> Result<FileStatus> {
        let write_id = self.write_id();
        let make = |proofs| Command::Mkdir {
            path: path.clone(),
            parents: options.parents,
            exist_ok: options.exist_ok,
            write_id,
            proofs,
        };
        match self.carry_out(Depth::Entries, make).await? {
            (Outcome::DirectoryMade { status, effects }, session) => {
                self.settle(effects, session).await?;
                Ok(status)
            }
            (other, _) => Err(session::unexpected("making a directory", &other)),
        }
    }

    pub(crate) async fn rename(
        self: &Arc<Self>,
        from: &FsPath,
        to: &FsPath,
        options: RenameOptions,
    ) -> Result<()> {
        if options.parents
            && let Some(parent) = to.parent()
            && !parent.is_root()
        {
            let quietly = MkdirOptions {
                parents: true,
                exist_ok: true,
            };
            self.mkdir(&parent, quietly).await?;
        }
        let write_id = self.write_id();
        let make = |proofs| Command::Rename {
            from: from.clone(),
            to: to.clone(),
            replace: options.replace,
            write_id,
            proofs,
        };
        match self.carry_out(Depth::Tree, make).await? {
            (Outcome::Renamed { effects }, session) => self.settle(effects, session).await,
            (other, _) => Err(session::unexpected("moving", &other)),
        }
    }

    pub(crate) async fn delete(
        self: &Arc<Self>,
        path: &FsPath,
        options: DeleteOptions,
    ) -> Result<DeleteSummary> {
        let depth = if options.recursive {
            Depth::Tree
        } else {
            Depth::Any
        };
        let make = |proofs| Command::Delete {
            path: path.clone(),
            recursive: options.recursive,
            arustio_only: options.arustio_only,
            proofs,
        };
        match self.carry_out(depth, make).await? {
            (Outcome::Deleted { effects, names }, session) => {
                self.settle(effects, session).await?;
                Ok(DeleteSummary { names })
            }
            (other, _) => Err(session::unexpected("removing", &other)),
        }
    }

    pub(crate) async fn set_attributes(
        self: &Arc<Self>,
        path: &FsPath,
        change: AttributeChange,
    ) -> Result<()> {
        // Names of the under file system may not have been looked at yet.
        self.stat(path, Knowledge::Fresh).await?;
        let make = |_| Command::SetAttributes {
            path: path.clone(),
            change: change.clone(),
        };
        self.carry_out(Depth::Entries, make).await.map(|_| ())
    }

    pub(crate) async fn path_conf(&self, path: &FsPath) -> Result<PathConfView> {
        let query = Query::Conf { path: path.clone() };
        match self.ask(query, Consistency::Linearizable).await? {
            Answer::Conf {
                own,
                effective,
                origins,
            } => Ok(PathConfView {
                own,
                effective,
                origins,
            }),
            other => Err(unexpected("asking for settings", &other)),
        }
    }

    pub(crate) async fn set_conf(
        self: &Arc<Self>,
        path: &FsPath,
        set: PathConf,
        unset: Vec<String>,
    ) -> Result<()> {
        let make = |_| Command::SetConf {
            path: path.clone(),
            set: set.clone(),
            unset: unset.clone(),
        };
        self.carry_out(Depth::Entries, make).await?;
        self.looked.forget();
        Ok(())
    }

    pub(crate) async fn sync(&self, path: &FsPath, options: SyncOptions) -> Result<SyncSummary> {
        let status = self.stat(path, Knowledge::Now).await?;
        if !status.is_dir() || status.mount.is_none() {
            return Ok(SyncSummary::default());
        }
        if options.recursive {
            return Ok(self.load_tree(path).await?.0);
        }
        self.sync_one(path).await
    }
}
