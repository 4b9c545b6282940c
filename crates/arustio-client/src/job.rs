//! Work that needs the metadata service and an under file system at once.
//!
//! [`settle`] carries out effects, [`recover`] ends what dead writers left, [`pending`]
//! finds and takes over what nobody does. A server that does such work is a client of
//! its own; it only decides when. The steps are those of the model-checked rules: each
//! is one request or one command, and dying between any two leaves a state from which
//! the next executor goes on.

pub(crate) mod pending;
pub(crate) mod recover;
pub(crate) mod settle;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::SessionId;
use arustio_types::meta::command::Owed;
use arustio_types::meta::{Command, Outcome};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::client::Client;
use crate::error::Result;
pub(crate) use crate::metadata::session::Sent;

/// How long a small mutating request to a store may live.
pub(crate) const SMALL_REQUEST: Duration = Duration::from_secs(20);
/// Between two tries of recording an end.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a request may live that moves many bytes.
pub(crate) const LARGE_REQUEST: Duration = Duration::from_secs(50);

/// What this client is carrying out now: its own tasks wait for each other here instead
/// of taking work away from themselves.
#[derive(Debug, Default, Clone)]
pub(crate) struct Running(Arc<Mutex<HashMap<Owed, watch::Sender<()>>>>);

/// While it lives, this client is carrying something out.
#[derive(Debug)]
pub(crate) struct RunningGuard {
    running: Running,
    owed: Owed,
}

impl Running {
    /// `None`: another task of this client is at it.
    pub(crate) fn begin(&self, owed: Owed) -> Option<RunningGuard> {
        let mut running = self.0.lock();
        if running.contains_key(&owed) {
            return None;
        }
        running.insert(owed, watch::Sender::new(()));
        Some(RunningGuard {
            running: self.clone(),
            owed,
        })
    }

    /// Waits until no task of this client is at it, at most so long. False: none was.
    pub(crate) async fn wait(&self, owed: Owed, most: Duration) -> bool {
        let Some(mut ended) = self.0.lock().get(&owed).map(watch::Sender::subscribe) else {
            return false;
        };
        // The sender is dropped when the work ends; that is what is waited for.
        let _ = tokio::time::timeout(most, ended.changed()).await;
        true
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.running.0.lock().remove(&self.owed);
    }
}

impl Client {
    /// Records that a request got no answer and may still be carried out.
    pub(crate) async fn note_unanswered(
        &self,
        session: SessionId,
        owed: Owed,
        sent: Sent,
    ) -> Result<()> {
        let at_most = self.sessions.still_open(sent);
        let note = Command::NoteUnanswered { owed, at_most };
        // Superseded: whoever took over waits for the lease under which it was sent.
        self.sessions.propose_in(session, note).await.map(|_| ())
    }

    /// Records that a request got no answer, and waits until it cannot be carried out
    /// any more: only a look after that tells what happened (P5). Waits also when it could
    /// not be recorded: then nobody but this client knows.
    pub(crate) async fn wait_out(
        &self,
        session: SessionId,
        owed: Owed,
        sent: Sent,
        what: &str,
    ) -> Result<()> {
        let noted = self.note_unanswered(session, owed, sent).await;
        let seconds = self.sessions.still_open(sent).as_secs() + 1;
        (self.notice)(&format!(
            "waiting for an unanswered request on {what}, at most {seconds} s"
        ));
        tokio::time::sleep_until(self.sessions.expired_at(sent)).await;
        noted
    }

    /// Records the end of something, as soon as no unanswered request on its keys can be
    /// carried out any more; the service's clock decides (P5).
    pub(crate) async fn when_silent(
        &self,
        session: SessionId,
        command: Command,
    ) -> Result<Outcome> {
        loop {
            match self.sessions.propose_in(session, command.clone()).await? {
                Outcome::Pending(on) => {
                    let wait = on.claimable_in.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                    tokio::time::sleep(wait).await;
                }
                outcome => return Ok(outcome),
            }
        }
    }
}
