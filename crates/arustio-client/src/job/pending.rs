//! Finding what is owed and nobody does, and waiting for what somebody does (P2, P4).

use std::sync::Arc;
use std::time::Duration;

use arustio_types::ErrorKind;
use arustio_types::meta::command::{Owed, PendingOn};
use arustio_types::meta::query::MAX_PAGE;
use arustio_types::meta::{Answer, Command, Consistency, Outcome, Query};
use tokio::time::Instant;

use crate::client::{Client, unexpected};
use crate::error::{FsError, Result};
use crate::fs::{PendingItem, PendingKind};
use crate::metadata::session;

const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What one round over the pending work did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingReport {
    /// Intents and effects that were looked at.
    pub seen: usize,
    /// Taken over and brought to their end.
    pub finished: usize,
    /// Taken over, and failed: one line each.
    pub failed: Vec<String>,
}

/// One operation's waiting for others: bounded, and announced once for each cause.
#[derive(Debug)]
pub(crate) struct Waiting {
    until: Instant,
    next: Duration,
    announced: Option<Owed>,
}

impl Waiting {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            until: Instant::now() + client.config.pending_wait,
            next: FIRST_WAIT,
            announced: None,
        }
    }

    /// Finishes what is owed when nobody does, else waits a while. An error when the
    /// time is used up.
    pub(crate) async fn step(&mut self, client: &Arc<Client>, on: &PendingOn) -> Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(busy(on, client.config.pending_wait));
        }
        if client.running.wait(on.owed, left).await {
            return Ok(());
        }
        if on.claimable_in.is_zero() && client.take_over(on.owed).await? {
            return Ok(());
        }
        if self.announced != Some(on.owed) {
            self.announced = Some(on.owed);
            let seconds = left.as_secs() + 1;
            let line = format!("waiting for {} on {}, at most {seconds} s", on.what, on.on);
            (client.notice)(&line);
        }
        let wait = self.next.min(left);
        self.next = (self.next * 2).min(LONGEST_WAIT);
        tokio::time::sleep(client.entropy.jitter(wait)).await;
        Ok(())
    }
}

fn busy(on: &PendingOn, waited: Duration) -> FsError {
    FsError::new(
        ErrorKind::Conflict,
        format!(
            "{} is still under way after {} s; repeat the command when it has ended (see \
             `arustio fs pending`)",
            on.what,
            waited.as_secs()
        ),
    )
    .at_text(&on.on)
}

impl Client {
    /// Takes over what is owed and brings it to its end. False when it is not ours to
    /// take yet.
    pub(crate) async fn take_over(self: &Arc<Self>, owed: Owed) -> Result<bool> {
        let (outcome, session) = self.sessions.propose(Command::Claim { owed }).await?;
        match outcome {
            Outcome::EffectClaimed(effect) => {
                self.settle_one(effect, session).await?;
                Ok(true)
            }
            Outcome::IntentClaimed(intent) => {
                self.recover(intent, session).await?;
                Ok(true)
            }
            // It has ended meanwhile.
            Outcome::Superseded | Outcome::Done => Ok(true),
            Outcome::Pending(_) | Outcome::Refused(_) => Ok(false),
            other => Err(session::unexpected("taking over", &other)),
        }
    }

    /// Looks for work that nobody does any more, and does at most `limit` pieces of it.
    /// What is younger than a lease cannot be taken over and is passed by.
    pub(crate) async fn run_pending(self: &Arc<Self>, limit: usize) -> Result<PendingReport> {
        let mut report = PendingReport::default();
        let lease = self.config.session_ttl + self.config.late_request;
        for (owed, item) in self.pending_items().await? {
            report.seen += 1;
            if item.age < lease || report.finished + report.failed.len() >= limit {
                continue;
            }
            match self.take_over(owed).await {
                Ok(true) => report.finished += 1,
                Ok(false) => {}
                Err(error) => report.failed.push(format!("{}: {error}", item.what)),
            }
        }
        Ok(report)
    }

    /// What is announced and owed, oldest first.
    pub(crate) async fn pending_items(&self) -> Result<Vec<(Owed, PendingItem)>> {
        let (mut items, mut after) = (Vec::new(), None);
        loop {
            let query = Query::Pending {
                after,
                limit: MAX_PAGE,
            };
            let answer = self.ask(query, Consistency::Linearizable).await?;
            let Answer::Pending {
                intents,
                effects,
                now,
                next,
            } = answer
            else {
                return Err(unexpected("listing what is pending", &answer));
            };
            let age = |since: u64| Duration::from_millis(now.saturating_sub(since));
            for intent in intents {
                let item = PendingItem {
                    kind: PendingKind::Intent,
                    id: intent.id.get(),
                    on: intent.path.to_string(),
                    what: if intent.published {
                        "a published write that may still be repeated".to_owned()
                    } else {
                        format!("a write of {}", intent.path)
                    },
                    age: age(intent.begun_time),
                    last_error: None,
                };
                items.push((Owed::Intent(intent.id), item));
            }
            for effect in effects {
                let (on, what) = describe(&effect.kind);
                let item = PendingItem {
                    kind: PendingKind::Effect,
                    id: effect.id.get(),
                    on,
                    what,
                    age: age(effect.recorded_time),
                    last_error: effect.last_error,
                };
                items.push((Owed::Effect(effect.id), item));
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        items.sort_by_key(|(_, item)| std::cmp::Reverse(item.age));
        Ok(items)
    }
}

/// On what an effect lies, and one line for people.
fn describe(kind: &arustio_types::meta::effect::EffectKind) -> (String, String) {
    use arustio_types::meta::effect::EffectKind;
    match kind {
        EffectKind::Delete { key, .. } => (key.to_string(), format!("removal of {key}")),
        EffectKind::DeleteTree { prefix, .. } => (
            prefix.to_string(),
            format!("removal of everything below {prefix}"),
        ),
        EffectKind::Rename {
            from, to, new_path, ..
        } => (new_path.to_string(), format!("move of {from} to {to}")),
        EffectKind::PutMarker { key, .. } => {
            (key.to_string(), format!("marker of the directory {key}"))
        }
    }
}
