//! Loading: files are brought to the block nodes before anybody reads them.
//!
//! A load is like a reader that nobody waits for, with two differences. What nodes have is
//! counted and not fetched. And where a reader goes on without the cache when it is busy,
//! a load waits: for room in its own buffer, for a node that is busy, for what others bring
//! of the same bytes. It asks for leases as readers do, so that everybody who loads or reads
//! the same cold range is together one request to the store.
//!
//! `file` looks at what is there, copies between nodes, and verifies; `bring` is the store's
//! part; `pace` keeps a bandwidth. Several files, several runs of blocks of each, and the
//! bytes on their way are bounded by the one [`Job`] that they share.
//!
//! Invariant: a file without an error had every byte acknowledged by the nodes that it
//! belongs on. That it stays there is not promised: what comes later may evict it.

mod bring;
mod file;
mod pace;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arustio_types::meta::FileStatus;
use arustio_types::{ErrorKind, FsPath};
use futures::stream::{BoxStream, unfold};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use self::file::Loader;
use self::pace::Pace;
use super::fetch::Fetcher;
use super::pin::{Counters, Pin};
use crate::client::Client;
use crate::error::{FsError, Result};
use crate::fs::{ListOptions, LoadEvent, LoadOptions, LoadedFile};

/// Files at once: enough to hide the first byte of small ones.
const FILES: usize = 16;
/// Requests to under file systems at once.
const REQUESTS: usize = 16;
/// Events that nobody has taken yet.
const EVENTS: usize = 64;
/// Bytes that go from node to node, or are read back, at a time.
const STEP: u64 = 4 << 20;
/// As readers' `read.replicas`.
const MOST_REPLICAS: usize = 8;

/// Loads everything at and below these paths.
pub(crate) fn load(
    client: Arc<Client>,
    paths: Vec<FsPath>,
    options: LoadOptions,
) -> BoxStream<'static, Result<LoadEvent>> {
    let (events, receiver) = mpsc::channel(EVENTS);
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = run(client, paths, options, &events).await {
            // Nobody listens any more: then nobody misses it.
            let _ = events.send(Err(error.during("load"))).await;
        }
    }));
    unfold((receiver, task), |(mut receiver, task)| async move {
        let event = receiver.recv().await?;
        Some((event, (receiver, task)))
    })
    .boxed()
}

async fn run(
    client: Arc<Client>,
    paths: Vec<FsPath>,
    options: LoadOptions,
    events: &mpsc::Sender<Result<LoadEvent>>,
) -> Result<()> {
    client.check_open()?;
    let job = Arc::new(Job::new(&client, options, events.clone()).await?);
    let replicas = job.replicas;
    job.tell(LoadEvent::Begins { replicas }).await;
    let everything = ListOptions {
        recursive: true,
        ..ListOptions::default()
    };
    let listings = paths
        .into_iter()
        .map(move |path| client.list(path, everything.clone()));
    let entries = futures::stream::iter(listings).flatten();
    let files = entries.try_filter(|entry| std::future::ready(!entry.is_dir()));
    let loads = files.map_ok(|file| {
        // A task of its own: sums are worth a core.
        let work = tokio::spawn(Arc::clone(&job).file(file));
        let work = AbortOnDropHandle::new(work);
        async move { work.await.map_err(|_| broken()) }
    });
    let loads = loads.try_buffer_unordered(FILES);
    loads
        .try_for_each(|file| async {
            job.tell(LoadEvent::File(file)).await;
            Ok(())
        })
        .await
}

fn broken() -> FsError {
    FsError::new(
        ErrorKind::Internal,
        "a task of the load panicked; please report this",
    )
}

/// What the files of one load share.
#[derive(Debug)]
pub(super) struct Job {
    client: Arc<Client>,
    /// Nodes that each block is given to.
    replicas: usize,
    verify: bool,
    /// Kibibytes on their way to nodes.
    room: Arc<Semaphore>,
    most_room: u32,
    requests: Semaphore,
    pace: Option<Pace>,
    /// A file was given up since nodes do not take blocks: the next ones do not wait as long.
    hopeless: AtomicBool,
    events: mpsc::Sender<Result<LoadEvent>>,
}

impl Job {
    async fn new(
        client: &Arc<Client>,
        options: LoadOptions,
        events: mpsc::Sender<Result<LoadEvent>>,
    ) -> Result<Self> {
        let read = &client.config.read;
        let refuse = |message: &str| Err(FsError::new(ErrorKind::InvalidArgument, message));
        if !read.cache {
            return refuse("this client has no cache to load to (read.cache = false)");
        }
        let wanted = options.replicas.unwrap_or(read.replicas);
        if !(1..=MOST_REPLICAS).contains(&wanted) {
            return refuse("replicas must be from 1 to 8");
        }
        let replicas = wanted.min(takers(client).await?);
        if replicas == 0 {
            let message = "there is nothing to load to: no block node runs that takes blocks. See: \
                           arustio admin node list";
            return Err(FsError::new(ErrorKind::Unavailable, message));
        }
        let kib = u32::try_from(read.fill_buffer.get().max(STEP) >> 10).unwrap_or(u32::MAX);
        let most_room = kib.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Ok(Self {
            client: Arc::clone(client),
            replicas,
            verify: options.verify,
            room: Arc::new(Semaphore::new(most_room as usize)),
            most_room,
            requests: Semaphore::new(REQUESTS),
            pace: options.bandwidth.map(Pace::new),
            hopeless: AtomicBool::new(false),
            events,
        })
    }

    async fn tell(&self, event: LoadEvent) {
        // Whoever listened may be gone; this ends soon then.
        let _ = self.events.send(Ok(event)).await;
    }

    async fn came(&self, bytes: u64) {
        if bytes > 0 {
            self.hopeless.store(false, Ordering::Relaxed);
            self.tell(LoadEvent::Bytes(bytes)).await;
        }
    }

    /// Room for bytes on their way, as soon as there is some.
    async fn room(&self, bytes: u64) -> Result<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(kib.min(self.most_room));
        // Never closed.
        room.await.map_err(|_| broken())
    }

    async fn file(self: Arc<Self>, status: FileStatus) -> LoadedFile {
        let (path, size) = (status.path.clone(), status.size);
        let counters = Arc::default();
        let failed = self.load_file(status, &counters).await.err();
        let read = counters.snapshot();
        LoadedFile {
            failed: failed.map(|error| error.at(&path).during("load")),
            path,
            size,
            cache_bytes: read.cache_bytes,
            ufs_bytes: read.ufs_bytes,
            ufs_requests: read.ufs_requests,
        }
    }

    async fn load_file(&self, status: FileStatus, counters: &Arc<Counters>) -> Result<()> {
        if status.size == 0 {
            return Ok(());
        }
        let fetcher = Fetcher {
            pin: Arc::new(Pin::new(&self.client, status).await?),
            client: Arc::clone(&self.client),
            counters: Arc::clone(counters),
            stream: None,
        };
        fetcher.check_mount().await?;
        let loader = Loader { job: self, fetcher };
        loader.load().await?;
        match self.verify {
            true => loader.verify().await,
            false => Ok(()),
        }
    }
}

/// How many nodes take blocks.
async fn takers(client: &Client) -> Result<usize> {
    let view = client.metadata.cluster_view().await?;
    let takes = view
        .nodes
        .iter()
        .filter(|node| node.weight > 0 && !node.draining);
    Ok(takes.count())
}
