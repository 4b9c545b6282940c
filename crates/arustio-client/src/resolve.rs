//! From a path to a key of an under file system.
//!
//! The metadata service says which mount a name lies in; this module opens that mount
//! (with its secrets, which stay in here) and turns paths into keys. Open stores are kept
//! by mount id and opened anew when the mount's generation, options or credential have
//! changed, which is looked at once in the time of a session and after the credentials
//! were refused.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::meta::credential::SecretOptions;
use arustio_types::meta::mount::{MountEntry, MountSpec};
use arustio_types::meta::{Answer, Consistency, Query};
use arustio_types::{Classify, ErrorKind, FsPath, MountId, UfsKey};
use arustio_ufs::config::UfsOptions;
use arustio_ufs::key::{directory_key, file_key};
use arustio_ufs::registry::{Environment, OpenRequest, UfsRegistry};
use arustio_ufs::uri::{Scheme, UfsUri};
use arustio_ufs::{UfsError, UnderFileSystem};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::client::{Client, unexpected};
use crate::config::UfsConfig;
use crate::error::{FsError, Result};
use crate::told::Tally;

/// The option of a mount that says where its store answers.
const ENDPOINT: &str = "endpoint";

/// Open mounts. One short lock, never held across an await.
#[derive(Debug)]
pub(crate) struct Mounts {
    registry: Arc<UfsRegistry>,
    environment: Environment,
    /// How stores are reached from here.
    reach: UfsConfig,
    /// The name of this host, where the caller said it.
    pub(crate) host: Option<String>,
    /// Tells this process from others.
    pub(crate) process: String,
    open: Mutex<HashMap<MountId, (Instant, Arc<Mounted>)>>,
    pub(crate) tally: Tally,
}

/// A mount and its open store.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) entry: MountEntry,
    pub(crate) ufs: Arc<dyn UnderFileSystem>,
    secrets: SecretOptions,
}

impl Mounts {
    pub(crate) fn new(
        registry: Arc<UfsRegistry>,
        environment: Environment,
        reach: UfsConfig,
        host: Option<String>,
    ) -> Self {
        let of = host.as_deref().unwrap_or("this host");
        Self {
            process: format!("process {} of {of}", std::process::id()),
            host,
            registry,
            environment,
            reach,
            open: Mutex::default(),
            tally: Tally::default(),
        }
    }

    /// Checks a URI and options as they were typed.
    pub(crate) fn parse<'a>(
        &self,
        uri: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<OpenRequest> {
        self.registry.check(uri).map_err(FsError::caused_by)?;
        OpenRequest::parse(uri, options, self.environment.clone()).map_err(FsError::caused_by)
    }

    /// Opens a store without keeping it.
    pub(crate) fn open(&self, request: &OpenRequest) -> Result<Arc<dyn UnderFileSystem>> {
        let here = self.seen_from_here(request);
        let opened = self
            .registry
            .open(here.as_ref())
            .map_err(FsError::caused_by)?;
        self.tally.watch(opened.metrics);
        Ok(opened.ufs)
    }

    /// The request with the endpoint that this client reaches the store at. Only what is
    /// opened changes: a mount is recorded as it was asked for.
    fn seen_from_here<'a>(&self, request: &'a OpenRequest) -> Cow<'a, OpenRequest> {
        let endpoint = request.options.get(ENDPOINT);
        let Some(reached) = endpoint.and_then(|endpoint| self.reach.reached_at(endpoint)) else {
            return Cow::Borrowed(request);
        };
        let mut here = request.clone();
        let options = &mut here.options.plain;
        options.insert(ENDPOINT.to_owned(), reached.to_owned());
        Cow::Owned(here)
    }

    /// Forgets an open mount: the next use opens it anew.
    pub(crate) fn forget(&self, mount: MountId) {
        self.open.lock().remove(&mount);
    }

    /// Another host or process has other bytes under the same URI (U8).
    fn check_bound(&self, uri: &UfsUri, spec: &MountSpec) -> Result<()> {
        let here = match uri.scheme() {
            Scheme::File => self.host.as_deref(),
            Scheme::Mem => Some(self.process.as_str()),
            Scheme::S3 | Scheme::Gcs | Scheme::Azure => None,
        };
        match (&spec.bound_to, here) {
            (Some(bound), Some(here)) if bound != here => Err(FsError::on(
                ErrorKind::Unsupported,
                &spec.path,
                format!("{} exists only on {bound}; use it from there", spec.uri),
            )),
            _ => Ok(()),
        }
    }

    fn kept(&self, mount: MountId) -> Option<(Instant, Arc<Mounted>)> {
        self.open.lock().get(&mount).cloned()
    }

    fn keep(&self, mounted: Arc<Mounted>) -> Arc<Mounted> {
        let kept = (Instant::now(), Arc::clone(&mounted));
        self.open.lock().insert(mounted.entry.id, kept);
        mounted
    }

    fn open_entry(&self, entry: MountEntry, secrets: SecretOptions) -> Result<Mounted> {
        let spec = &entry.spec;
        let uri = UfsUri::parse(&spec.uri).map_err(FsError::caused_by)?;
        self.check_bound(&uri, spec)?;
        let request = OpenRequest {
            uri,
            options: UfsOptions::from_mount(&spec.options, &secrets),
            measured: Some(spec.capabilities.clone()),
            environment: self.environment.clone(),
        };
        Ok(Mounted {
            ufs: self.open(&request)?,
            entry,
            secrets,
        })
    }
}

impl Client {
    /// How long an open mount is taken as unchanged: as long as a session lives without a
    /// word from the service.
    fn mount_age(&self) -> Duration {
        self.config.session_ttl
    }

    /// The open store of a mount.
    pub(crate) async fn mounted(&self, mount: MountId) -> Result<Arc<Mounted>> {
        let kept = self.mounts.kept(mount);
        if let Some((at, mounted)) = &kept
            && at.elapsed() < self.mount_age()
        {
            return Ok(Arc::clone(mounted));
        }
        self.ask_mount(mount, kept.map(|(_, mounted)| mounted))
            .await
    }

    /// Asks for a mount; `kept` stays open if it has not changed.
    async fn ask_mount(&self, mount: MountId, kept: Option<Arc<Mounted>>) -> Result<Arc<Mounted>> {
        let query = Query::OpenMount { mount };
        let (entry, secrets) = match self.ask(query, Consistency::Linearizable).await {
            Ok(Answer::OpenedMount { entry, secrets }) => (entry, secrets),
            Ok(other) => return Err(unexpected("opening a mount", &other)),
            Err(error) => {
                if error.kind() == ErrorKind::Stale {
                    self.mounts.forget(mount);
                }
                return Err(error);
            }
        };
        if let Some(mounted) = kept
            && mounted.entry == entry
            && mounted.secrets == secrets
        {
            return Ok(self.mounts.keep(mounted));
        }
        let mounted = self.mounts.open_entry(entry, secrets)?;
        Ok(self.mounts.keep(Arc::new(mounted)))
    }

    /// Fails when a mount is gone that a handle reads from (N8). Told from memory: what is
    /// old there is asked for beside, so that an open handle outlives the metadata service.
    pub(crate) async fn stands(self: &Arc<Self>, mount: MountId) -> Result<()> {
        match self.mounts.kept(mount) {
            Some((at, _)) if at.elapsed() < self.mount_age() => return Ok(()),
            Some((_, mounted)) => {
                // One asks, and not again for a while if nobody answers.
                self.mounts.keep(Arc::clone(&mounted));
                let client = Arc::clone(self);
                let ask = async move { drop(client.ask_mount(mount, Some(mounted)).await) };
                self.tasks.background(ask);
                return Ok(());
            }
            None => {}
        }
        match self.mounted(mount).await {
            Err(error) if error.kind() == ErrorKind::Stale => Err(error),
            // Reading will tell.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// An error of a mount's store, said of a path. Credentials that were refused are
    /// asked for anew the next time.
    pub(crate) fn ufs_failed(&self, mounted: &Mounted, path: &FsPath, error: UfsError) -> FsError {
        if matches!(
            error.kind(),
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied
        ) {
            self.mounts.forget(mounted.entry.id);
        }
        FsError::caused_by(error).at(path)
    }
}

impl Mounted {
    /// The mount's number.
    pub(crate) fn id(&self) -> MountId {
        self.entry.id
    }

    /// The key of a file at `path`.
    pub(crate) fn file_key(&self, path: &FsPath) -> Result<UfsKey> {
        Ok(file_key(self.relative(path)?))
    }

    /// The prefix of a directory at `path`, which is the key of its marker.
    pub(crate) fn directory_key(&self, path: &FsPath) -> Result<UfsKey> {
        Ok(directory_key(self.relative(path)?))
    }

    fn relative<'a>(&self, path: &'a FsPath) -> Result<&'a str> {
        path.relative_to(&self.entry.spec.path).ok_or_else(|| {
            FsError::on(
                ErrorKind::Conflict,
                path,
                format!(
                    "the mount {} changed meanwhile; repeat the command",
                    self.entry.spec.path
                ),
            )
        })
    }
}
