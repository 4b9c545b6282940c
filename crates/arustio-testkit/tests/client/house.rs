//! An S3 server that we control and a metadata server, both in this process, and clients.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arustio_client::entropy::Entropy;
use arustio_client::metadata::{ClusterIdentity, MetadataClient, Proposed, RemoteMetadata};
use arustio_client::types::cluster::ClusterView;
use arustio_client::types::meta::command::Principal;
use arustio_client::types::meta::sync::{SyncRequest, SyncTarget, SyncTurn};
use arustio_client::types::meta::{Answer, Command, Consistency, Outcome, Query, RequestContext};
use arustio_client::{
    ArustioFileSystem, Builder, ClientConfig, Committed, CreateOptions, DeleteOptions, ErrorKind,
    FileSystem, FsError, FsPath, ListOptions, MountOutcome, MountRequest, OpenOptions, PendingItem,
    RenameOptions, Result, StatOptions, SyncOptions,
};
use arustio_server::{Engine, Role, Server, ServerConfig};
use arustio_testkit::s3::{Backdoor, FaultRule, Profile, RuleId, S3Server};
use arustio_types::ByteSize;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub(crate) const BUCKET: &str = "test-bucket";
pub(crate) const SECRET: &str = "a-secret-that-nobody-may-see";
/// Nothing here takes so long unless it never ends.
const LIMIT: Duration = Duration::from_secs(50);
/// The session of a client that a test ends: others wait no longer for what it left.
pub(crate) const SHORT: Duration = Duration::from_secs(2);

/// A path.
pub(crate) fn p(text: &str) -> FsPath {
    FsPath::new(text).unwrap()
}

pub(crate) struct House {
    pub(crate) s3: S3Server,
    _server: Server,
    address: String,
    _folder: tempfile::TempDir,
}

impl House {
    /// Both servers run; nothing is mounted, and no server finishes what clients left.
    pub(crate) async fn start() -> Self {
        Self::with_profile(Profile::Aws).await
    }

    pub(crate) async fn with_profile(profile: Profile) -> Self {
        Self::with(profile, |_| ()).await
    }

    /// The same, with other settings of the server.
    pub(crate) async fn with_server(change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::with(Profile::Aws, change).await
    }

    async fn with(profile: Profile, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let s3 = S3Server::builder()
            .profile(profile)
            .credentials("test", SECRET)
            .bucket(BUCKET)
            .start();
        let s3 = s3.await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (server, address) = Self::serve(folder.path(), change).await;
        Self {
            s3,
            _server: server,
            address,
            _folder: folder,
        }
    }

    /// A house whose server holds metadata only, with the bucket mounted at /data.
    pub(crate) async fn without_blocks(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let s3 = S3Server::builder()
            .credentials("test", SECRET)
            .bucket(BUCKET)
            .start();
        let s3 = s3.await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::ephemeral(folder.path());
        config.server.role = vec![Role::Metadata];
        config.recovery.enabled = false;
        change(&mut config);
        let server = Server::start(config.validate().unwrap(), Engine::Memory).await;
        let server = server.unwrap();
        let house = Self {
            s3,
            address: server.addresses().grpc.to_string(),
            _server: server,
            _folder: folder,
        };
        let fs = house.client().await;
        house.mount(&fs, "/data", "s3://test-bucket").await.unwrap();
        house
    }

    /// One server, and where it is spoken to.
    pub(crate) async fn serve(
        folder: &std::path::Path,
        change: impl FnOnce(&mut ServerConfig),
    ) -> (Server, String) {
        let mut config = ServerConfig::ephemeral(folder);
        config.recovery.enabled = false;
        config.block.memory.capacity = Some(ByteSize::mib(64));
        config.block.disk.capacity = Some(ByteSize::mib(64));
        config.block.disk.min_free = ByteSize::mib(1);
        change(&mut config);
        let server = Server::start(config.validate().unwrap(), Engine::Memory).await;
        let server = server.unwrap();
        let address = server.addresses().grpc.to_string();
        (server, address)
    }

    /// Both servers run, and the bucket is mounted at /data.
    pub(crate) async fn mounted() -> (Self, ArustioFileSystem) {
        Self::mounted_with(Profile::Aws).await
    }

    pub(crate) async fn mounted_with(profile: Profile) -> (Self, ArustioFileSystem) {
        let house = Self::with_profile(profile).await;
        let fs = house.client().await;
        house.mount(&fs, "/data", "s3://test-bucket").await.unwrap();
        (house, fs)
    }

    /// A new, empty namespace that mounts the same bucket.
    pub(crate) async fn fresh_namespace(&self) -> Fresh {
        let folder = tempfile::tempdir().unwrap();
        let (server, address) = Self::serve(folder.path(), |_| ()).await;
        let builder = Builder::new().addresses([address]);
        let fs = builder.connect().await.unwrap();
        self.mount(&fs, "/data", "s3://test-bucket").await.unwrap();
        Fresh {
            fs,
            _server: server,
            _folder: folder,
        }
    }

    /// What mounts a part of the bucket.
    pub(crate) fn request(&self, path: &str, uri: &str) -> MountRequest {
        MountRequest::new(p(path), uri)
            .option("endpoint", self.s3.endpoint())
            .option("access_key_id", "test")
            .option("secret_access_key", SECRET)
    }

    pub(crate) async fn mount(
        &self,
        fs: &ArustioFileSystem,
        path: &str,
        uri: &str,
    ) -> Result<MountOutcome> {
        fs.mount(self.request(path, uri)).await
    }

    /// Settings of a client of this house.
    pub(crate) fn config(&self) -> ClientConfig {
        ClientConfig {
            addresses: vec![self.address.clone()],
            ..ClientConfig::default()
        }
    }

    /// Another client.
    pub(crate) async fn client(&self) -> ArustioFileSystem {
        self.client_with(|_| ()).await
    }

    /// Another client, with other settings.
    pub(crate) async fn client_with(
        &self,
        change: impl FnOnce(&mut ClientConfig),
    ) -> ArustioFileSystem {
        let mut config = self.config();
        change(&mut config);
        Builder::new().config(config).connect().await.unwrap()
    }

    /// A client that takes these for the block nodes.
    pub(crate) async fn client_of_nodes(
        &self,
        view: ClusterView,
        change: impl FnOnce(&mut ClientConfig),
    ) -> ArustioFileSystem {
        let mut config = self.config();
        change(&mut config);
        let seam = Seam {
            view: Some(Arc::new(view)),
            ..Seam::of(&config, Link::default(), Box::new(|_| ()))
        };
        let builder = Builder::new().config(config).metadata(Arc::new(seam));
        builder.connect().await.unwrap()
    }

    /// A client that says what it waits for.
    pub(crate) async fn client_that_says(&self) -> (ArustioFileSystem, Said) {
        self.client_that_says_with(|_| ()).await
    }

    /// The same, with other settings.
    pub(crate) async fn client_that_says_with(
        &self,
        change: impl FnOnce(&mut ClientConfig),
    ) -> (ArustioFileSystem, Said) {
        let said = Said::default();
        let lines = Arc::clone(&said.0);
        let notice = Arc::new(move |line: &str| lines.lock().push(line.to_owned()));
        let mut config = self.config();
        change(&mut config);
        let builder = Builder::new().config(config).notice(notice);
        (builder.connect().await.unwrap(), said)
    }

    /// A client with a hook: called with each command that was applied, before the client
    /// learns what came of it.
    pub(crate) async fn client_with_hook(
        &self,
        hook: impl Fn(&Command) + Send + Sync + 'static,
    ) -> ArustioFileSystem {
        let seam = Seam::new(&self.config(), Link::default(), Box::new(hook));
        let builder = Builder::new().config(self.config()).metadata(seam);
        builder.connect().await.unwrap()
    }

    /// A client, and how many requests it has sent to the metadata service.
    pub(crate) async fn counted_client(&self) -> (ArustioFileSystem, Arc<AtomicU64>) {
        let link = Link::default();
        let sent = Arc::clone(&link.sent);
        let seam = Seam::new(&self.config(), link, Box::new(|_| ()));
        let builder = Builder::new().config(self.config()).metadata(seam);
        (builder.connect().await.unwrap(), sent)
    }

    /// A client that a test will end in the middle of something.
    pub(crate) async fn victim(&self) -> Victim {
        self.victim_with(SHORT).await
    }

    /// The same, with a session that others wait for so long after its end.
    pub(crate) async fn victim_with(&self, session_ttl: Duration) -> Victim {
        let config = ClientConfig {
            session_ttl,
            ..self.config()
        };
        Victim::of(config).await
    }

    pub(crate) fn bucket(&self) -> Backdoor {
        self.s3.backdoor()
    }

    /// All keys of the bucket.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.bucket().list(BUCKET, "")
    }

    /// The bytes of an object, as text.
    pub(crate) fn object(&self, key: &str) -> Option<String> {
        let bytes = self.bucket().get(BUCKET, key)?;
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    pub(crate) fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.bucket().put(BUCKET, key, bytes);
    }

    /// Makes requests fail; what did is waited for by [`struck`](Self::struck).
    pub(crate) fn fault(&self, rule: FaultRule) -> RuleId {
        self.s3.faults().add(rule)
    }

    /// Waits until a rule has struck.
    pub(crate) async fn struck(&self, rule: RuleId) {
        eventually(async || match self.s3.faults().hits(rule) {
            0 => Err("no request was struck".to_owned()),
            _ => Ok(()),
        })
        .await;
    }
}

/// Another namespace, and a client of it.
pub(crate) struct Fresh {
    pub(crate) fs: ArustioFileSystem,
    _server: Server,
    _folder: tempfile::TempDir,
}

/// The lines that a client said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// A client on a runtime of its own, so that it can end as a killed process does: its
/// tasks and connections are gone, its session is not closed.
pub(crate) struct Victim {
    runtime: Option<Runtime>,
    pub(crate) fs: ArustioFileSystem,
    link: Link,
}

impl Victim {
    async fn of(config: ClientConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let link = Link::default();
        let cut = link.clone();
        let connecting = runtime.spawn(async move {
            let seam = Seam::new(&config, cut, Box::new(|_| ()));
            Builder::new().config(config).metadata(seam).connect().await
        });
        let fs = connecting.await.unwrap().unwrap();
        Self {
            runtime: Some(runtime),
            fs,
            link,
        }
    }

    /// Starts work on its runtime.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().unwrap().spawn(work)
    }

    /// Nothing reaches the metadata service from now on.
    pub(crate) fn cut_off(&self) {
        self.link.up.send_replace(false);
    }

    /// Everything reaches it again.
    pub(crate) fn connect_again(&self) {
        self.link.up.send_replace(true);
    }

    /// Ends it without a word.
    pub(crate) async fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        let end = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(LIMIT));
        end.await.unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whether a victim reaches the metadata service.
#[derive(Debug, Clone)]
struct Link {
    up: watch::Sender<bool>,
    sent: Arc<AtomicU64>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            up: watch::Sender::new(true),
            sent: Arc::default(),
        }
    }
}

impl Link {
    async fn up(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let mut state = self.up.subscribe();
        // The sender lives in self.
        let _ = state.wait_for(|up| *up).await;
    }
}

/// Called with each command that was applied.
type Hook = Box<dyn Fn(&Command) + Send + Sync>;

/// A way to the metadata service that a test can cut (requests wait before they are sent)
/// and listen to.
struct Seam {
    inner: RemoteMetadata,
    link: Link,
    hook: Hook,
    /// Instead of what the metadata service says.
    view: Option<Arc<ClusterView>>,
}

impl Seam {
    fn new(config: &ClientConfig, link: Link, hook: Hook) -> Arc<Self> {
        Arc::new(Self::of(config, link, hook))
    }

    fn of(config: &ClientConfig, link: Link, hook: Hook) -> Self {
        let entropy = Arc::new(Entropy::from_os());
        let inner = RemoteMetadata::new(config, Principal::default(), entropy).unwrap();
        Self {
            inner,
            link,
            hook,
            view: None,
        }
    }
}

impl std::fmt::Debug for Seam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seam")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl MetadataClient for Seam {
    async fn identity(&self) -> Result<ClusterIdentity> {
        self.inner.identity().await
    }

    async fn propose(&self, context: &RequestContext, command: &Command) -> Result<Proposed> {
        self.link.up().await;
        let proposed = self.inner.propose(context, command).await?;
        // Asking for a proof or for patience changes nothing.
        if !matches!(
            proposed.outcome,
            Outcome::NeedsSync { .. } | Outcome::Pending(_)
        ) {
            (self.hook)(command);
        }
        Ok(proposed)
    }

    async fn query(&self, query: Query, consistency: Consistency) -> Result<Answer> {
        self.link.up().await;
        self.inner.query(query, consistency).await
    }

    async fn begin_sync(&self, request: SyncRequest) -> Result<SyncTurn> {
        self.link.up().await;
        self.inner.begin_sync(request).await
    }

    async fn end_sync(&self, target: SyncTarget, ticket: u64, looked: bool) -> Result<()> {
        self.link.up().await;
        self.inner.end_sync(target, ticket, looked).await
    }

    async fn cluster_view(&self) -> Result<Arc<ClusterView>> {
        self.link.up().await;
        match &self.view {
            Some(view) => Ok(Arc::clone(view)),
            None => self.inner.cluster_view().await,
        }
    }
}

/// Short forms of what tests do most.
#[async_trait]
pub(crate) trait Short {
    async fn write(&self, path: &str, bytes: &str) -> Result<Committed>;
    async fn overwrite(&self, path: &str, bytes: &str) -> Result<Committed>;
    async fn read(&self, path: &str) -> Result<String>;
    async fn exists(&self, path: &str) -> bool;
    async fn names(&self, path: &str) -> Vec<String>;
    async fn tree(&self, path: &str) -> BTreeMap<String, Option<String>>;
    async fn mv(&self, from: &str, to: &str) -> Result<()>;
    async fn rm(&self, path: &str) -> Result<u64>;
    async fn rm_r(&self, path: &str) -> Result<u64>;
    async fn mkdirs(&self, path: &str);
    async fn sync_all(&self, path: &str);
    async fn owed(&self) -> Vec<PendingItem>;
    async fn nothing_owed(&self);
    async fn take_over_all(&self);
}

async fn write(
    fs: &ArustioFileSystem,
    path: &str,
    bytes: &str,
    overwrite: bool,
) -> Result<Committed> {
    let options = CreateOptions {
        overwrite,
        parents: true,
        ..CreateOptions::default()
    };
    let mut writer = fs.create(&p(path), options).await?;
    writer.write(Bytes::from(bytes.to_owned())).await?;
    writer.commit().await
}

#[async_trait]
impl Short for ArustioFileSystem {
    async fn write(&self, path: &str, bytes: &str) -> Result<Committed> {
        within(write(self, path, bytes, false)).await
    }

    async fn overwrite(&self, path: &str, bytes: &str) -> Result<Committed> {
        within(write(self, path, bytes, true)).await
    }

    async fn read(&self, path: &str) -> Result<String> {
        let reader = self.open(&p(path), OpenOptions::default()).await?;
        let pieces: Vec<Bytes> = reader.stream(0..u64::MAX).try_collect().await?;
        Ok(String::from_utf8(pieces.concat()).unwrap())
    }

    async fn exists(&self, path: &str) -> bool {
        match self.stat(&p(path), StatOptions::default()).await {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn names(&self, path: &str) -> Vec<String> {
        let entries = self.list(&p(path), ListOptions::default());
        let name = |entry: arustio_types::meta::FileStatus| entry.path.name().unwrap().to_owned();
        entries.map_ok(name).try_collect().await.unwrap()
    }

    /// Everything below, with content for files.
    async fn tree(&self, path: &str) -> BTreeMap<String, Option<String>> {
        let mut entries = self.list(
            &p(path),
            ListOptions {
                recursive: true,
                ..ListOptions::default()
            },
        );
        let mut found = BTreeMap::new();
        while let Some(entry) = entries.next().await {
            let entry = entry.unwrap();
            let content = match entry.is_dir() {
                true => None,
                false => Some(self.read(entry.path.as_str()).await.unwrap()),
            };
            found.insert(
                entry.path.relative_to(&p(path)).unwrap().to_owned(),
                content,
            );
        }
        found
    }

    async fn mv(&self, from: &str, to: &str) -> Result<()> {
        within(self.rename(&p(from), &p(to), RenameOptions::default())).await
    }

    async fn rm(&self, path: &str) -> Result<u64> {
        let removed = within(self.delete(&p(path), DeleteOptions::default())).await?;
        Ok(removed.names)
    }

    async fn rm_r(&self, path: &str) -> Result<u64> {
        let options = DeleteOptions {
            recursive: true,
            ..DeleteOptions::default()
        };
        Ok(within(self.delete(&p(path), options)).await?.names)
    }

    async fn mkdirs(&self, path: &str) {
        let options = arustio_client::MkdirOptions {
            parents: true,
            exist_ok: true,
        };
        self.mkdir(&p(path), options).await.unwrap();
    }

    async fn sync_all(&self, path: &str) {
        let options = SyncOptions { recursive: true };
        self.sync(&p(path), options).await.unwrap();
    }

    async fn owed(&self) -> Vec<PendingItem> {
        self.pending().await.unwrap()
    }

    async fn nothing_owed(&self) {
        eventually(async || match self.owed().await {
            items if items.is_empty() => Ok(()),
            items => Err(format!("{items:?}")),
        })
        .await;
    }

    /// Does what a server does for dead clients, until nothing is owed.
    async fn take_over_all(&self) {
        let rounds = tokio::sync::Mutex::new(arustio_client::PendingRounds::default());
        eventually(async || {
            let report = self.run_pending(&mut *rounds.lock().await, 100).await;
            match report.unwrap() {
                report if report.seen == 0 => Ok(()),
                report => Err(format!("{report:?} {:?}", self.owed().await)),
            }
        })
        .await;
    }
}

/// It failed, with this kind; gives the error for more.
#[track_caller]
pub(crate) fn fails<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) -> FsError {
    match result {
        Err(error) if error.kind() == kind => error,
        other => panic!("expected {kind:?}: {other:?}"),
    }
}

/// Nothing may take for ever.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(LIMIT, work).await;
    done.expect("it never ended")
}

/// Looks again and again until something is so; says what was seen last when it never is.
pub(crate) async fn eventually<F: Future<Output = Result<(), String>>>(look: impl Fn() -> F) {
    let last = Mutex::new(String::new());
    let watched = async {
        while let Err(seen) = look().await {
            *last.lock() = seen;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(LIMIT, watched).await.is_err() {
        panic!("never came true; last seen: {}", last.lock());
    }
}
