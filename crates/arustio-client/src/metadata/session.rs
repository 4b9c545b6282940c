//! The client's session: exactly-once requests and the lease of everything it holds.
//!
//! Opened by the first mutation, renewed in the background at a third of its time,
//! closed with the client. Intents and effects belong to the session; its lease is
//! theirs, and no mutating request to an under file system may outlive it (P5).
//!
//! Invariants: the local end of the lease is never later than the service's (it is
//! counted from before a renewal was sent, less what clocks may run apart, see [`drift`]); a
//! follow-up of an intent is never sent under another session than the one that holds
//! the intent. A request under an expired session is *unknown*, except when it was sent
//! once and answered: then it certainly was not applied.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arustio_types::meta::command::Principal;
use arustio_types::meta::{Command, Outcome, RequestContext};
use arustio_types::{ErrorKind, RequestId, SessionId, WallClock};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{ClusterIdentity, MetadataClient, Proposed, drift};
use crate::entropy::Entropy;
use crate::error::{FsError, Result};
use crate::tasks::Tasks;

/// How long closing a session may take.
const CLOSING: Duration = Duration::from_secs(2);

/// What a session is made of.
#[derive(Debug)]
pub(crate) struct SessionParts {
    pub(crate) metadata: Arc<dyn MetadataClient>,
    pub(crate) identity: ClusterIdentity,
    pub(crate) principal: Principal,
    pub(crate) clock: Arc<dyn WallClock>,
    pub(crate) entropy: Arc<Entropy>,
    pub(crate) tasks: Tasks,
    pub(crate) ttl: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) late_request: Duration,
}

/// One session after another, as few as possible. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sessions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: SessionParts,
    /// Held while a session is being opened, so that only one is.
    opening: tokio::sync::Mutex<()>,
    current: Mutex<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    id: SessionId,
    requests: Requests,
    lease_until: Instant,
}

/// The last moment at which a request that was sent may still be carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    pub(crate) deadline: Duration,
}

impl Sent {
    /// A request that is sent now.
    pub(crate) fn now(deadline: Duration) -> Self {
        Self {
            at: Instant::now(),
            deadline,
        }
    }
}

/// Which requests are under way: numbers and the first one that still matters.
#[derive(Debug, Default)]
struct Requests {
    last: u64,
    open: BTreeSet<u64>,
}

impl Requests {
    fn begin(&mut self, session: SessionId) -> RequestId {
        self.last += 1;
        self.open.insert(self.last);
        RequestId {
            session,
            sequence: self.last,
            first_unacked: self.first_unacked(),
        }
    }

    fn end(&mut self, sequence: u64) {
        self.open.remove(&sequence);
    }

    fn first_unacked(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.last + 1)
    }
}

/// Ends a request also when its future is dropped: nobody will ask for it again.
struct Under<'a> {
    sessions: &'a Sessions,
    id: RequestId,
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        if let Some(current) = &mut *self.sessions.0.current.lock()
            && current.id == self.id.session
        {
            current.requests.end(self.id.sequence);
        }
    }
}

impl Sessions {
    pub(crate) fn new(parts: SessionParts) -> Self {
        Self(Arc::new(Inner {
            parts,
            opening: tokio::sync::Mutex::new(()),
            current: Mutex::new(None),
        }))
    }

    /// Proposes under the current session, opening one where there is none. Returns the
    /// session that now holds whatever the command made.
    pub(crate) async fn propose(&self, command: Command) -> Result<(Outcome, SessionId)> {
        let mut reopened = false;
        loop {
            let session = self.open().await?;
            let Proposed {
                outcome, attempts, ..
            } = self.send(session, &command).await?;
            if outcome != Outcome::SessionExpired {
                return Ok((outcome, session));
            }
            self.forget(session);
            if attempts > 1 || reopened {
                return Err(expired());
            }
            reopened = true;
        }
    }

    /// Proposes a follow-up under the session that holds the intent or effect.
    pub(crate) async fn propose_in(&self, session: SessionId, command: Command) -> Result<Outcome> {
        let proposed = self.send(session, &command).await?;
        if proposed.outcome == Outcome::SessionExpired {
            self.forget(session);
            return Err(expired());
        }
        Ok(proposed.outcome)
    }

    /// How long a mutating request to an under file system may live that is sent now
    /// under `session`: at most `wanted`, and less than the lease. Renews when little of
    /// the lease is left.
    pub(crate) async fn deadline(&self, session: SessionId, wanted: Duration) -> Result<Duration> {
        let low = wanted.min(self.0.parts.ttl / 2);
        if self.usable_lease(session)? < low {
            // Whether it worked shows in the lease.
            let _ = self.renew(session).await;
        }
        let left = self.usable_lease(session)?;
        if left < Duration::from_millis(50) {
            return Err(lease_over());
        }
        Ok(wanted.min(left))
    }

    /// When a request that was sent can no longer be carried out. Its deadline is counted
    /// here, what comes on top by the store.
    pub(crate) fn expired_at(&self, sent: Sent) -> Instant {
        sent.at + sent.deadline + drift::beyond(self.0.parts.late_request)
    }

    /// How long a request that was sent may still be carried out, by the clock of the
    /// service.
    pub(crate) fn still_open(&self, sent: Sent) -> Duration {
        drift::beyond(
            self.expired_at(sent)
                .saturating_duration_since(Instant::now()),
        )
    }

    /// Ends the session; later proposals open another.
    pub(crate) async fn close(&self) {
        let Some(session) = self.0.current.lock().as_ref().map(|current| current.id) else {
            return;
        };
        // Best effort: it ends by itself, so nobody waits long for a service that is away.
        let closing = self.send(session, &Command::CloseSession);
        let _ = tokio::time::timeout(CLOSING, closing).await;
        self.forget(session);
    }

    async fn open(&self) -> Result<SessionId> {
        if let Some(id) = self.current() {
            return Ok(id);
        }
        let _alone = self.0.opening.lock().await;
        if let Some(id) = self.current() {
            return Ok(id);
        }
        let parts = &self.0.parts;
        let command = Command::OpenSession {
            nonce: parts.entropy.bits(),
            ttl: parts.ttl + parts.late_request,
        };
        let sent = Instant::now();
        let context = self.context(RequestId::default());
        let proposed = parts.metadata.propose(&context, &command).await?;
        let id = match proposed.outcome {
            Outcome::SessionOpened { session } => session,
            Outcome::Refused(refusal) => return Err(FsError::refused(refusal)),
            other => return Err(unexpected("opening a session", &other)),
        };
        *self.0.current.lock() = Some(Current {
            id,
            requests: Requests::default(),
            lease_until: sent + self.lease(),
        });
        let keeper = keep(Arc::downgrade(&self.0), id, parts.ttl / 3);
        parts.tasks.background(keeper);
        Ok(id)
    }

    fn current(&self) -> Option<SessionId> {
        let mut current = self.0.current.lock();
        let open = current.as_ref()?;
        if open.lease_until <= Instant::now() {
            *current = None;
            return None;
        }
        Some(open.id)
    }

    async fn renew(&self, session: SessionId) -> Result<()> {
        let sent = Instant::now();
        let proposed = self.send(session, &Command::KeepSession).await?;
        if proposed.outcome != Outcome::Done {
            self.forget(session);
            return Err(expired());
        }
        let until = sent + self.lease();
        if let Some(current) = &mut *self.0.current.lock()
            && current.id == session
        {
            current.lease_until = current.lease_until.max(until);
        }
        Ok(())
    }

    async fn send(&self, session: SessionId, command: &Command) -> Result<Proposed> {
        let id = match &mut *self.0.current.lock() {
            Some(current) if current.id == session => current.requests.begin(session),
            _ => return Err(lease_over()),
        };
        let _under = Under { sessions: self, id };
        let context = self.context(id);
        self.0.parts.metadata.propose(&context, command).await
    }

    fn context(&self, id: RequestId) -> RequestContext {
        let parts = &self.0.parts;
        RequestContext {
            cluster: parts.identity.cluster,
            incarnation: parts.identity.incarnation,
            group: 0,
            id,
            deadline: parts.request_timeout,
            principal: parts.principal.clone(),
            now: parts.clock.now(),
        }
    }

    /// The lease as we count it: when it is over here, it still lasts with the service.
    fn lease(&self) -> Duration {
        let parts = &self.0.parts;
        drift::within(parts.ttl + parts.late_request)
    }

    fn usable_lease(&self, session: SessionId) -> Result<Duration> {
        let left = match &*self.0.current.lock() {
            Some(current) if current.id == session => current
                .lease_until
                .saturating_duration_since(Instant::now()),
            _ => return Err(lease_over()),
        };
        Ok(left.saturating_sub(drift::beyond(self.0.parts.late_request)))
    }

    fn forget(&self, session: SessionId) {
        let mut current = self.0.current.lock();
        if current.as_ref().is_some_and(|open| open.id == session) {
            *current = None;
        }
    }
}

/// Renews until the session or its client is gone.
async fn keep(sessions: Weak<Inner>, session: SessionId, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(sessions) = sessions.upgrade().map(Sessions) else {
            return;
        };
        if sessions.current() != Some(session) {
            return;
        }
        if let Err(error) = sessions.renew(session).await {
            tracing::debug!(%session, %error, "the session could not be renewed");
        }
    }
}

fn expired() -> FsError {
    FsError::new(
        ErrorKind::Unknown,
        "the session of this client expired while the answer was awaited, and the change may \
         have been made: look before repeating it",
    )
}

fn lease_over() -> FsError {
    FsError::new(
        ErrorKind::Unknown,
        "this client lost contact with the metadata service for longer than its lease, and \
         somebody else decides now: look before repeating it",
    )
}

/// An outcome that does not answer its command: a defect on one of the two sides.
pub(crate) fn unexpected(doing: &str, outcome: &Outcome) -> FsError {
    FsError::new(
        ErrorKind::Internal,
        format!("{doing}: the metadata service answered {outcome:?}; please report this"),
    )
}

#[cfg(test)]
mod tests;
