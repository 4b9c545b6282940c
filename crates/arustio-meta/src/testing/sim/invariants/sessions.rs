//! A session lives from when it was opened until its lease, renewed or not, is over in
//! replicated time; before and after that nothing is done in its name.

use std::collections::HashMap;

use arustio_types::meta::{Command, Outcome, RequestContext};

use super::{Checked, Finding};
use crate::testing::sim::truth::Record;

#[derive(Debug, Clone, Copy)]
struct Lease {
    ttl: u64,
    until: u64,
    closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<u64, Lease>);

impl Sessions {
    pub(super) fn decided(
        &mut self,
        record: &Record,
        (context, command): &(RequestContext, Command),
    ) -> Checked<()> {
        let now = record.taken.time.millis();
        if let Command::OpenSession { ttl, .. } = command {
            if let Some(Outcome::SessionOpened { session }) = &record.outcome {
                let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                let until = now.saturating_add(ttl);
                self.0.entry(session.get()).or_insert(Lease {
                    ttl,
                    until,
                    closed: false,
                });
            }
            return Ok(());
        }
        let session = context.id.session.get();
        if session == 0 {
            return Ok(());
        }
        let lease = self.0.get_mut(&session);
        let lives = lease
            .as_ref()
            .is_some_and(|lease| now < lease.until && !lease.closed);
        let expired = record.outcome == Some(Outcome::SessionExpired);
        if let Some(lease) = lease.filter(|_| !expired) {
            match command {
                Command::KeepSession => lease.until = lease.until.max(now + lease.ttl),
                Command::CloseSession => lease.closed = true,
                _ => {}
            }
        }
        if lives != expired {
            return Ok(());
        }
        let what = format!(
            "session {session} {} at {now} ms, and {command:?} came to {:?}",
            if lives { "lives" } else { "is over" },
            record.outcome
        );
        Err(Finding::new("a session lives as long as its lease", what))
    }
}
