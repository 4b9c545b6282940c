//! Mounting: options first, then the namespace, then overlaps, then the store itself.
//!
//! What a store obeys is measured on an object of our own before the mount is recorded
//! (U7). Secrets go to the metadata service in clear once, and are sealed there (C1).

use std::sync::Arc;

use arustio_types::meta::command::Refusal;
use arustio_types::meta::credential::{Credential, SecretOptions};
use arustio_types::meta::mount::{MountCapabilities, MountEntry, MountSpec};
use arustio_types::meta::{Answer, Command, Consistency, Outcome, Query};
use arustio_types::{ErrorKind, FsPath};
use arustio_ufs::probe::probe;
use arustio_ufs::registry::OpenRequest;
use arustio_ufs::uri::Scheme;
use arustio_ufs::{ListOptions, UnderFileSystem};
use futures::StreamExt as _;

use crate::block::BlockSelector;
use crate::client::{Client, unexpected};
use crate::command::Depth;
use crate::error::{FsError, Result};
use crate::fs::{MountCheck, MountOutcome, MountRequest, UnmountSummary};
use crate::job::SMALL_REQUEST;
use crate::metadata::session;

impl Client {
    pub(crate) async fn mounts(&self) -> Result<Vec<MountEntry>> {
        match self.ask(Query::Mounts, Consistency::Linearizable).await? {
            Answer::Mounts(mounts) => Ok(mounts),
            other => Err(unexpected("listing the mounts", &other)),
        }
    }

    pub(crate) async fn mount(self: &Arc<Self>, request: MountRequest) -> Result<MountOutcome> {
        let open = self.parse_mount(&request)?;
        let mut spec = self.spec(&request, &open);
        let mounts = self.mounts().await?;
        let standing = mounts.iter().find(|entry| entry.spec.path == request.path);
        match standing {
            // Whether it is the same is the namespace's to say.
            Some(standing) => spec.capabilities = standing.spec.capabilities.clone(),
            None => {
                self.check_place(&request.path).await?;
                check_overlap(&spec, &mounts)?;
                spec.capabilities = self.measure(&open, request.readonly).await?.capabilities;
            }
        }
        self.record_mount(Command::Mount(spec)).await
    }

    pub(crate) async fn update_mount(
        self: &Arc<Self>,
        request: MountRequest,
    ) -> Result<MountOutcome> {
        let mut open = self.parse_mount(&request)?;
        self.keep_secrets(&request.path, &mut open).await?;
        let mut spec = self.spec(&request, &open);
        spec.capabilities = self.measure(&open, request.readonly).await?.capabilities;
        let outcome = self.record_mount(Command::UpdateMount(spec)).await?;
        self.mounts.forget(outcome.entry.id);
        self.looked.forget();
        Ok(outcome)
    }

    /// Secrets that are not given anew stay as they are.
    async fn keep_secrets(&self, path: &FsPath, open: &mut OpenRequest) -> Result<()> {
        let mounts = self.mounts().await?;
        let Some(standing) = mounts.iter().find(|entry| entry.spec.path == *path) else {
            return Ok(());
        };
        let query = Query::OpenMount { mount: standing.id };
        let opened = match self.ask(query, Consistency::Linearizable).await {
            // They cannot be opened any more (another cluster key, a restored cluster):
            // whoever updates the mount gives all of them.
            Err(error) if error.kind() == ErrorKind::Unauthenticated => return Ok(()),
            opened => opened?,
        };
        match opened {
            Answer::OpenedMount { secrets, .. } => {
                let mut kept = secrets.reveal().clone();
                kept.extend(open.options.secret.reveal().clone());
                open.options.secret = SecretOptions::new(kept);
                Ok(())
            }
            other => Err(unexpected("opening a mount", &other)),
        }
    }

    pub(crate) async fn check_mount(&self, request: MountRequest) -> Result<MountCheck> {
        let open = self.parse_mount(&request)?;
        self.measure(&open, request.readonly).await
    }

    pub(crate) async fn unmount(
        self: &Arc<Self>,
        path: &FsPath,
        force: bool,
    ) -> Result<UnmountSummary> {
        let make = |_| Command::Unmount {
            path: path.clone(),
            force,
        };
        let (mount, abandoned) = match self.carry_out(Depth::Entries, make).await? {
            (Outcome::Unmounted { mount, abandoned }, _) => (mount, abandoned),
            (other, _) => return Err(session::unexpected("unmounting", &other)),
        };
        self.mounts.forget(mount);
        self.looked.forget();
        // Best effort: the blocks can never be taken for anything else.
        self.remove_blocks(BlockSelector::Mount(mount)).await;
        Ok(UnmountSummary { abandoned })
    }

    /// Makes every node forget; the number of nodes that could not be asked.
    pub(crate) async fn remove_blocks(&self, selector: BlockSelector) -> u64 {
        let Ok(view) = self.metadata.cluster_view().await else {
            return 0;
        };
        let deadline = self.config.read.node_timeout;
        let mut unreachable = 0;
        for node in &view.nodes {
            if let Err(error) = self.blocks.remove(node, selector, deadline).await {
                tracing::debug!(%error, "blocks stay until they are evicted");
                unreachable += 1;
            }
        }
        unreachable
    }

    fn parse_mount(&self, request: &MountRequest) -> Result<OpenRequest> {
        let options = request.options.iter();
        let options = options.map(|(key, value)| (key.as_str(), value.as_str()));
        self.mounts.parse(&request.uri, options)
    }

    fn spec(&self, request: &MountRequest, open: &OpenRequest) -> MountSpec {
        let secret = &open.options.secret;
        let bound_to = match open.uri.scheme() {
            Scheme::File => self.mounts.host.clone(),
            Scheme::Mem => Some(self.mounts.process.clone()),
            Scheme::S3 | Scheme::Gcs | Scheme::Azure => None,
        };
        MountSpec {
            path: request.path.clone(),
            uri: open.uri.to_string(),
            options: open.options.plain.clone(),
            credential: if secret.is_empty() {
                Credential::Provider
            } else {
                Credential::Clear(secret.clone())
            },
            readonly: request.readonly,
            shared: request.shared,
            capabilities: MountCapabilities::default(),
            bound_to,
        }
    }

    /// A path below a file cannot be mounted on; the store need not be asked for that.
    async fn check_place(&self, path: &FsPath) -> Result<()> {
        match self.ask_stat(path).await? {
            Answer::Status(status) if !status.is_dir() => Err(FsError::on(
                ErrorKind::NotADirectory,
                path,
                "a file stands there; mount on a directory or a path that does not exist",
            )),
            _ => Ok(()),
        }
    }

    /// Tries a store: a listing, and where it may be written, what it obeys (U7).
    async fn measure(&self, open: &OpenRequest, readonly: bool) -> Result<MountCheck> {
        let ufs = self.mounts.open(open)?;
        let mut tried = vec![reach(&*ufs).await?];
        let off = open.options.flag("probe").map_err(FsError::caused_by)? == Some(false);
        let capabilities = if readonly || off {
            tried.push("write: not tried".to_owned());
            ufs.capabilities()
        } else {
            let random = self.entropy.bits();
            let probed = probe(&*ufs, random, SMALL_REQUEST).await;
            let capabilities = probed.map_err(FsError::caused_by)?;
            tried.push("write, read, copy and delete of an object of its own: yes".to_owned());
            capabilities
        };
        Ok(MountCheck {
            uri: open.uri.to_string(),
            capabilities: capabilities.to_mount(),
            tried,
        })
    }

    async fn record_mount(self: &Arc<Self>, command: Command) -> Result<MountOutcome> {
        match self.carry_out(Depth::Entries, |_| command.clone()).await? {
            (Outcome::Mounted { entry, already }, _) => Ok(MountOutcome { entry, already }),
            (other, _) => Err(session::unexpected("mounting", &other)),
        }
    }
}

/// One listing of one name: is anybody there, and may we?
async fn reach(ufs: &dyn UnderFileSystem) -> Result<String> {
    let mut pages = ufs.list(ListOptions {
        limit: Some(1),
        ..ListOptions::default()
    });
    match pages.next().await {
        Some(Err(error)) => Err(FsError::caused_by(error)),
        Some(Ok(_)) | None => Ok("list: yes".to_owned()),
    }
}

/// What the namespace will say of overlaps, before a store is asked that may not answer.
fn check_overlap(spec: &MountSpec, mounts: &[MountEntry]) -> Result<()> {
    let same_store = |other: &MountSpec| {
        other.options.get("endpoint") == spec.options.get("endpoint")
            && other.bound_to == spec.bound_to
    };
    let overlaps = |other: &MountSpec| below(&spec.uri, &other.uri) || below(&other.uri, &spec.uri);
    let clash = mounts
        .iter()
        .map(|entry| &entry.spec)
        .find(|other| !(other.readonly || spec.readonly) && same_store(other) && overlaps(other));
    let Some(other) = clash else {
        return Ok(());
    };
    let message = format!(
        "{} overlaps {}, which is mounted writable at {}; mount one of them with --readonly",
        spec.uri, other.uri, other.path
    );
    Err(FsError::refused(Refusal::on(
        ErrorKind::Conflict,
        &spec.path,
        message,
    )))
}

fn below(uri: &str, ancestor: &str) -> bool {
    let ancestor = ancestor.trim_end_matches('/');
    uri.strip_prefix(ancestor)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
