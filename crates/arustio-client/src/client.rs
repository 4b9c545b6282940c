//! What all parts of one client share.
//!
//! One value, made by the builder, behind an `Arc`. The operations are methods on it,
//! each in the module that is about them: names in [`crate::names`], proofs in
//! [`crate::command`], looks at the under file system in [`crate::sync`], reads, writes
//! and settling in modules of their names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arustio_types::meta::{Answer, Consistency, Query};
use arustio_types::{ContentId, ErrorKind, WallClock, WriteId};

use tokio::sync::oneshot;

use crate::block::BlockClient;
use crate::block::fill::Filler;
use crate::block::hedge::Hedges;
use crate::block::owner::Owners;
use crate::builder::Notice;
use crate::config::ClientConfig;
use crate::entropy::Entropy;
use crate::error::{FsError, Result};
use crate::job::Running;
use crate::metadata::MetadataClient;
use crate::metadata::session::Sessions;
use crate::read::budget::Budget;
use crate::resolve::Mounts;
use crate::sync::memory::Looked;
use crate::tasks::Tasks;

/// The parts.
pub(crate) struct Client {
    pub(crate) config: ClientConfig,
    pub(crate) metadata: Arc<dyn MetadataClient>,
    pub(crate) sessions: Sessions,
    pub(crate) mounts: Mounts,
    pub(crate) blocks: Arc<dyn BlockClient>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) hedges: Hedges,
    pub(crate) filler: Filler,
    pub(crate) budget: Budget,
    pub(crate) looked: Looked,
    pub(crate) running: Running,
    pub(crate) clock: Arc<dyn WallClock>,
    pub(crate) entropy: Arc<Entropy>,
    pub(crate) notice: Notice,
    pub(crate) tasks: Tasks,
    pub(crate) lanes: AtomicU32,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A lane for a stream: they take turns.
    pub(crate) fn next_lane(&self) -> u32 {
        self.lanes.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks; a refusal becomes an error.
    pub(crate) async fn ask(&self, query: Query, consistency: Consistency) -> Result<Answer> {
        match self.metadata.query(query, consistency).await? {
            Answer::Refused(refusal) => Err(FsError::refused(refusal)),
            answer => Ok(answer),
        }
    }

    /// A fresh write id.
    pub(crate) fn write_id(&self) -> WriteId {
        WriteId::new(self.entropy.bits())
    }

    /// A fresh content id.
    pub(crate) fn content_id(&self) -> ContentId {
        ContentId::new(self.entropy.bits())
    }

    /// Runs work to its end even when the caller stops waiting; closing waits for it.
    pub(crate) async fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (done, result) = oneshot::channel();
        self.tasks.owed(async move {
            // Nobody may be waiting any more.
            let _ = done.send(work.await);
        });
        let stopped = |_| FsError::new(ErrorKind::Unknown, "the client was closed meanwhile");
        result.await.map_err(stopped)?
    }

    /// Refuses once the client is closing.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.tasks.stopped() {
            return Err(FsError::new(
                ErrorKind::InvalidArgument,
                "this client was closed",
            ));
        }
        Ok(())
    }
}

/// An answer that does not answer its query: a defect on one of the two sides.
pub(crate) fn unexpected(doing: &str, answer: &Answer) -> FsError {
    FsError::new(
        ErrorKind::Internal,
        format!("{doing}: the metadata service answered {answer:?}; please report this"),
    )
}
