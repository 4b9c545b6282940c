//! The turn to look at something, given back whatever happens to who has it.
//!
//! A look may be dropped at any point: a listing of which only the first names were
//! wanted, a call with a timeout. Others wait for its turn, so it is given back then, too,
//! as one that brought nothing. Only a client that is killed lets others wait for long.

use std::sync::Arc;

use arustio_types::LogIndex;
use arustio_types::meta::sync::SyncTarget;
use tokio::time::Instant;

use crate::metadata::MetadataClient;
use crate::tasks::Tasks;

/// What a turn is given back with.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Read before the store is asked.
    pub(crate) seen: LogIndex,
    /// When the turn was asked for.
    pub(crate) began: Instant,
    /// `None`: nobody waits for it.
    pub(super) held: Option<Held>,
}

/// A turn that others wait for.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) metadata: Arc<dyn MetadataClient>,
    pub(super) tasks: Tasks,
    pub(super) target: SyncTarget,
    pub(super) number: u64,
}

impl Ticket {
    /// Gives the turn back; `looked` says that the look was complete and is merged.
    pub(crate) async fn give_back(mut self, looked: bool) {
        if let Some(held) = &self.held {
            held.give_back(looked).await;
        }
        self.held = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Where no runtime is left the turn expires by itself.
        if let Some(held) = self.held.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            let tasks = held.tasks.clone();
            tasks.lingering(async move { held.give_back(false).await });
        }
    }
}

impl Held {
    async fn give_back(&self, looked: bool) {
        let target = self.target.clone();
        if let Err(error) = self.metadata.end_sync(target, self.number, looked).await {
            tracing::debug!(%error, "a turn to look could not be given back");
        }
    }
}
