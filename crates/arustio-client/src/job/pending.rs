//! Finding what is owed and nobody does, and waiting for what somebody does (P2, P4).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::meta::command::{Owed, PendingOn};
use arustio_types::meta::query::MAX_PAGE;
use arustio_types::meta::{Answer, Command, Consistency, Outcome, Query};
use arustio_types::{ErrorKind, MountId};
use tokio::time::Instant;

use crate::client::{Client, unexpected};
use crate::error::{FsError, Result};
use crate::fs::{PendingItem, PendingKind};
use crate::metadata::session;

const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// After a failure, before a daemon tries again; doubled with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

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

/// What a daemon remembers from one round to the next: when each piece is worth a try.
/// Work that appears is passed by once, since its owner is most likely at it.
#[derive(Debug, Default)]
pub struct PendingRounds(HashMap<Owed, Turn>);

#[derive(Debug, Clone, Copy)]
struct Turn {
    not_before: Instant,
    failures: u32,
}

impl PendingRounds {
    /// Forgets what has ended, notes what is new, and returns what is worth a try now.
    fn begin(&mut self, items: Vec<OwedItem>, now: Instant) -> Vec<OwedItem> {
        let before = std::mem::take(&mut self.0);
        let mut due = Vec::new();
        for item in items {
            let known = before.get(&item.owed).copied();
            let turn = known.unwrap_or(Turn {
                not_before: now,
                failures: 0,
            });
            self.0.insert(item.owed, turn);
            if known.is_some() && turn.not_before <= now {
                due.push(item);
            }
        }
        due
    }

    fn later(&mut self, owed: Owed, pause: Duration) {
        if let Some(turn) = self.0.get_mut(&owed) {
            turn.not_before = Instant::now() + pause.clamp(FIRST_WAIT, LONGEST_PAUSE);
        }
    }

    fn failed(&mut self, owed: Owed) {
        let Some(turn) = self.0.get_mut(&owed) else {
            return;
        };
        turn.failures = turn.failures.saturating_add(1);
        let pause = FIRST_PAUSE * 2u32.saturating_pow(turn.failures.min(16) - 1);
        self.later(owed, pause);
    }
}

/// Something owed, and how it is shown.
#[derive(Debug)]
pub(crate) struct OwedItem {
    pub(crate) owed: Owed,
    pub(crate) mount: MountId,
    pub(crate) item: PendingItem,
}

/// How taking something over went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It has ended, by us or before.
    Ended,
    /// Its holder's lease or an unanswered request lasts so long.
    NotFor(Duration),
    /// The service does not let us.
    Refused,
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
        if on.claimable_in.is_zero() && client.take_over(on.owed).await? == Taken::Ended {
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
    /// Takes over what is owed and brings it to its end.
    pub(crate) async fn take_over(self: &Arc<Self>, owed: Owed) -> Result<Taken> {
        let (outcome, session) = self.sessions.propose(Command::Claim { owed }).await?;
        match outcome {
            Outcome::EffectClaimed(effect) => {
                self.settle_claimed(effect, session).await?;
                Ok(Taken::Ended)
            }
            Outcome::IntentClaimed(intent) => {
                self.recover(intent, session).await?;
                Ok(Taken::Ended)
            }
            // It has ended meanwhile.
            Outcome::Superseded | Outcome::Done => Ok(Taken::Ended),
            Outcome::Pending(on) => Ok(Taken::NotFor(on.claimable_in)),
            Outcome::Refused(_) => Ok(Taken::Refused),
            other => Err(session::unexpected("taking over", &other)),
        }
    }

    /// Looks for work that nobody does any more, and does at most `limit` pieces of it.
    pub(crate) async fn run_pending(
        self: &Arc<Self>,
        rounds: &mut PendingRounds,
        limit: usize,
    ) -> Result<PendingReport> {
        let items = self.pending_items().await?;
        let mut report = PendingReport {
            seen: items.len(),
            ..PendingReport::default()
        };
        for work in rounds.begin(items, Instant::now()) {
            if report.finished + report.failed.len() >= limit {
                break;
            }
            match self.take_over_if_reachable(&work).await {
                Ok(Taken::Ended) => report.finished += 1,
                Ok(Taken::NotFor(left)) => rounds.later(work.owed, left),
                Ok(Taken::Refused) => rounds.failed(work.owed),
                Err(error) => {
                    rounds.failed(work.owed);
                    report.failed.push(format!("{}: {error}", work.item.what));
                }
            }
        }
        Ok(report)
    }

    /// Work on a store that cannot be opened from here is left to who can.
    async fn take_over_if_reachable(self: &Arc<Self>, work: &OwedItem) -> Result<Taken> {
        if let Err(error) = self.mounted(work.mount).await {
            tracing::debug!(what = work.item.what, %error, "left to others");
            return Ok(Taken::Refused);
        }
        self.take_over(work.owed).await
    }

    /// What is announced and owed, oldest first.
    pub(crate) async fn pending_items(&self) -> Result<Vec<OwedItem>> {
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
                items.push(OwedItem {
                    owed: Owed::Intent(intent.id),
                    mount: intent.mount,
                    item,
                });
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
                items.push(OwedItem {
                    owed: Owed::Effect(effect.id),
                    mount: effect.mount,
                    item,
                });
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        items.sort_by_key(|owed| std::cmp::Reverse(owed.item.age));
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
        EffectKind::RenameTree(tree) => (
            tree.new_path.to_string(),
            format!("move of everything below {} to {}", tree.from, tree.to),
        ),
        EffectKind::PutMarker { key, .. } => {
            (key.to_string(), format!("marker of the directory {key}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::EffectId;

    fn work(id: u64) -> OwedItem {
        OwedItem {
            owed: Owed::Effect(EffectId::new(id)),
            mount: MountId::new(1),
            item: PendingItem {
                kind: PendingKind::Effect,
                id,
                on: String::new(),
                what: String::new(),
                age: Duration::ZERO,
                last_error: None,
            },
        }
    }

    fn due(rounds: &mut PendingRounds, items: &[u64], now: Instant) -> Vec<u64> {
        let items = items.iter().map(|id| work(*id)).collect();
        let due = rounds.begin(items, now);
        due.iter().map(|work| work.item.id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn p4_work_is_tried_in_its_second_round_and_after_failures_ever_more_seldom() {
        let mut rounds = PendingRounds::default();
        let start = Instant::now();
        assert_eq!(due(&mut rounds, &[1], start), Vec::<u64>::new());
        assert_eq!(due(&mut rounds, &[1, 2], start), [1]);
        rounds.failed(work(1).owed);
        assert_eq!(due(&mut rounds, &[1, 2], start), [2]);
        let second = start + Duration::from_secs(1);
        assert_eq!(due(&mut rounds, &[1, 2], second), [1, 2]);
        rounds.failed(work(1).owed);
        assert_eq!(due(&mut rounds, &[1, 2], second), [2]);
        rounds.later(work(2).owed, Duration::from_secs(3));
        let third = start + Duration::from_secs(2);
        assert_eq!(due(&mut rounds, &[1, 2], third), [1]);
        // What has ended is forgotten.
        assert_eq!(due(&mut rounds, &[], third), Vec::<u64>::new());
        assert_eq!(due(&mut rounds, &[1], third), Vec::<u64>::new());
    }
}
