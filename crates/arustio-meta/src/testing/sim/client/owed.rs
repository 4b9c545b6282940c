//! What is owed to the store: carried out by whoever holds it, taken over from whoever
//! is gone.

use arustio_types::meta::command::{CommitWrite, Owed};
use arustio_types::meta::effect::{Effect, EffectKind};
use arustio_types::meta::intent::Intent;
use arustio_types::meta::{Answer, Command, Outcome, Query};
use arustio_types::{ObjectVersion, SessionId, Timestamp, UfsKey, WriteId};

use super::{Client, Lost};
use crate::testing::sim::store::{Reply, Verb};

/// Rounds of looking and asking before an effect is left to the next executor.
const ROUNDS: u32 = 6;
/// How often the end of something is recorded again that has to wait.
const PATIENCE: u32 = 40;

/// An effect and the session that executes it.
pub(super) type Held = (Effect, SessionId);

/// Somebody else executes it, the lease is over, or it is left for later.
struct Left;

/// What stands at the destination of a move.
enum Destination {
    Ours(ObjectVersion),
    AsExpected,
    Foreign,
}

struct Move<'e> {
    effect: &'e Effect,
    from: &'e UfsKey,
    version: &'e ObjectVersion,
    to: &'e UfsKey,
    expected: Option<&'e ObjectVersion>,
    write_id: WriteId,
    session: SessionId,
}

impl Client {
    /// A round over what is announced and owed; says whether there was anything.
    pub(super) async fn recover_some(&self) -> bool {
        let query = Query::Pending {
            after: None,
            limit: 100,
        };
        let Answer::Pending {
            intents, effects, ..
        } = self.query(query).await
        else {
            return true;
        };
        let something = !intents.is_empty() || !effects.is_empty();
        let intents = intents.iter().map(|intent| Owed::Intent(intent.id));
        let effects = effects.iter().map(|effect| Owed::Effect(effect.id));
        for owed in intents.chain(effects) {
            self.take_over(owed).await;
        }
        something
    }

    /// Takes something over, if its holder is gone, and ends it.
    pub(super) async fn take_over(&self, owed: Owed) {
        let session = self.session().await;
        match self.propose_in(session, Command::Claim { owed }).await {
            Ok(Outcome::IntentClaimed(intent)) => self.recover(&intent, session).await,
            Ok(Outcome::EffectClaimed(effect)) => self.settle(effect, session).await,
            _ => {}
        }
    }

    /// Ends what a dead writer left: the whole file or nothing.
    async fn recover(&self, intent: &Intent, session: SessionId) {
        let found = self.head(&intent.key).await;
        let ours = found.filter(|object| object.write_id == Some(intent.write_id));
        if let Some(object) = ours.filter(|_| !intent.published) {
            let commit = Command::CommitWrite(CommitWrite {
                intent: intent.id,
                length: 1,
                version: object.version,
                modified: Timestamp::from_millis(0),
                unanswered: None,
            });
            // A refusal has ended it as well.
            let _ = self.when_silent(session, commit).await;
            return;
        }
        let _ = self.clear_intent(Owed::Intent(intent.id), session).await;
    }

    /// Ends an intent; says whether it was ours to end.
    pub(super) async fn clear_intent(&self, owed: Owed, session: SessionId) -> bool {
        let Owed::Intent(intent) = owed else {
            return false;
        };
        let abort = Command::AbortWrite { intent };
        matches!(self.when_silent(session, abort).await, Ok(Outcome::Done))
    }

    pub(super) async fn settle_all(&self, held: Vec<Held>) {
        for (effect, session) in held {
            self.settle(effect, session).await;
        }
    }

    async fn settle(&self, effect: Effect, session: SessionId) {
        let done = match &effect.kind {
            EffectKind::Delete { key, version } => {
                self.remove(&effect, key, version, session).await
            }
            EffectKind::Rename {
                from,
                version,
                to,
                expected,
                write_id,
                ..
            } => {
                let step = Move {
                    effect: &effect,
                    from,
                    version,
                    to,
                    expected: expected.as_ref(),
                    write_id: *write_id,
                    session,
                };
                self.carry_over(&step).await
            }
            EffectKind::DeleteTree { .. }
            | EffectKind::RenameTree(_)
            | EffectKind::PutMarker { .. } => Ok(()),
        };
        if done.is_err() {
            // Nobody can go on before its lease is over.
            self.forget(session);
        }
    }

    async fn remove(
        &self,
        effect: &Effect,
        key: &UfsKey,
        version: &ObjectVersion,
        session: SessionId,
    ) -> Result<(), Left> {
        let owed = Owed::Effect(effect.id);
        for _ in 0..ROUNDS {
            let verb = Verb::Delete {
                version: version.clone(),
            };
            let sent = self
                .request(key, verb, WriteId::new(0), owed, session)
                .await;
            let (sent, reply) = sent.ok_or(Left)?;
            if reply.is_some() {
                let finish = Command::FinishEffect {
                    effect: effect.id,
                    marker: None,
                };
                return self.when_silent(session, finish).await.map(drop);
            }
            if !self.wait_out(owed, session, sent).await {
                return Err(Left);
            }
        }
        Err(Left)
    }

    async fn carry_over(&self, step: &Move<'_>) -> Result<(), Left> {
        let owed = Owed::Effect(step.effect.id);
        for _ in 0..ROUNDS {
            match self.destination(step).await {
                Destination::Ours(version) => return self.copied(step, version).await,
                Destination::Foreign => {
                    let undo = Command::UndoRename {
                        effect: step.effect.id,
                    };
                    return self.when_silent(step.session, undo).await.map(drop);
                }
                Destination::AsExpected => {}
            }
            let verb = Verb::Copy {
                from: step.from.clone(),
                version: step.version.clone(),
                expected: step.expected.cloned(),
            };
            let sent = self
                .request(step.to, verb, step.write_id, owed, step.session)
                .await;
            let (sent, reply) = sent.ok_or(Left)?;
            match reply {
                // Verified by the look of the next round.
                Some(Reply::Done(_) | Reply::Conflict) => {}
                Some(Reply::Stale) => return self.source_gone(step).await,
                None if self.wait_out(owed, step.session, sent).await => {}
                None => return Err(Left),
            }
        }
        Err(Left)
    }

    async fn destination(&self, step: &Move<'_>) -> Destination {
        match self.head(step.to).await {
            Some(found) if found.write_id == Some(step.write_id) => {
                Destination::Ours(found.version)
            }
            Some(found) if step.expected == Some(&found.version) => Destination::AsExpected,
            None if step.expected.is_none() => Destination::AsExpected,
            Some(_) | None => Destination::Foreign,
        }
    }

    async fn copied(&self, step: &Move<'_>, version: ObjectVersion) -> Result<(), Left> {
        let settled = Command::CopySettled {
            effect: step.effect.id,
            version,
        };
        match self.when_silent(step.session, settled).await? {
            Outcome::CopySettled(effect) => match &effect.kind {
                EffectKind::Delete { key, version } => {
                    self.remove(&effect, key, version, step.session).await
                }
                _ => Err(Left),
            },
            _ => Err(Left),
        }
    }

    async fn source_gone(&self, step: &Move<'_>) -> Result<(), Left> {
        if let Destination::Ours(version) = self.destination(step).await {
            return self.copied(step, version).await;
        }
        let drop_name = Command::DropRename {
            effect: step.effect.id,
        };
        self.when_silent(step.session, drop_name).await.map(drop)
    }

    /// Records the end of something as soon as no request of it can be carried out.
    async fn when_silent(&self, session: SessionId, command: Command) -> Result<Outcome, Left> {
        for _ in 0..PATIENCE {
            match self.propose_in(session, command.clone()).await {
                Ok(Outcome::Pending(on)) => {
                    let wait = on.claimable_in.clamp(super::SHORTEST, super::LONGEST);
                    self.sleep(wait).await;
                }
                Ok(Outcome::Superseded) | Err(Lost::Never | Lost::Unknown) => return Err(Left),
                Ok(outcome) => return Ok(outcome),
            }
        }
        Err(Left)
    }
}
