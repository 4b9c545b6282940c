//! One member of the group as a synchronous value: step it, and it says what to do.
//!
//! The peer owns the Raft library's node and the log. Nothing in it waits, reads a clock
//! or draws a random number that was not given to it, so a test can run thousands of
//! schedules and repeat any of them.
//!
//! # The order of a round
//!
//! ```text
//! inputs: tick, step, propose, read, campaign
//!    |
//!    v
//! begin()  -> Begun.send_now        a leader's messages, sent while the disk works
//!          -> Begun.install         a snapshot: announced in the log, then the state
//!    |                              machine takes it, then the log starts anew
//! finish() -> entries and hard state in ONE batch, synced if the library asks for it
//!          -> commit index (which the library tells only now), not synced
//!          -> Effects.send          promises: votes and acknowledgements
//!          -> Effects.committed     to apply
//!          -> Effects.reads         read positions that a majority confirmed
//!    |
//! applied() after the state machine took the committed entries
//! ```
//!
//! What breaks if it is changed: sending `Effects.send` before the sync promises entries
//! and votes that a crash takes back. Applying before the commit index is written lets
//! the state overtake the hard state. Calling any input between `begin` and `finish`
//! breaks the library's bookkeeping; the borrow in [`Begun`] does not prevent it, the
//! single caller does.

#[cfg(any(test, feature = "testing"))]
mod early;
mod group;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod look;
mod stamps;

use std::sync::Arc;
use std::time::Duration;

use arustio_types::{LogIndex, NodeId};
use raft::eraftpb::{ConfChangeV2, Entry, EntryType, HardState, Message, MessageType};
use raft::{RawNode, Ready, SnapshotStatus, StateRole};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::config::CheckedConfig;
use crate::consensus::codec::{self, Payload, Tag};
use crate::consensus::log::{RaftLog, START};
use crate::consensus::membership::{Membership, Refusal};
use crate::consensus::transport::Envelope;
use crate::consensus::{MemberIdentity, log_bridge};
use crate::engine::{Durability, KvEngine};
use crate::error::FatalError;
use crate::mutation::{Mutation, Mutations};
use crate::state_machine::{Applied, LogPosition, ReplicatedTime, StateMachine};
use crate::store::{Role, StoreStatus};

/// A command on its way into the log.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    pub(crate) tag: Tag,
    pub(crate) payload: Vec<u8>,
}

/// Why proposals were not taken; none of them will ever be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another member leads, or none.
    NotLeader(Option<NodeId>),
    /// Too much is uncommitted, or leadership is being handed over.
    Busy,
}

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) envelope: Envelope,
    /// The snapshot that has to arrive before it.
    pub(crate) snapshot: Option<LogPosition>,
}

/// What to do before the disk is asked.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) send_now: Vec<Outgoing>,
    /// The snapshot by which the state has to be replaced before the round goes on, and
    /// who belongs to the group then.
    pub(crate) install: Option<(LogPosition, Membership)>,
    ready: Ready,
}

/// What to do after the disk has answered.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Promises; they were not allowed out before.
    pub(crate) send: Vec<Outgoing>,
    /// Entries to apply, in order.
    pub(crate) committed: Vec<Committed>,
    /// Reads that are answered at a position.
    pub(crate) reads: Vec<(Tag, LogIndex)>,
}

/// A committed entry, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) position: LogPosition,
    pub(crate) time: ReplicatedTime,
    pub(crate) tag: Option<Tag>,
    pub(crate) meaning: Meaning,
    data: Vec<u8>,
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nothing: it is of the protocol itself.
    Nothing,
    /// A command for the state machine.
    Command,
    /// The group is another from here on, or a binding was refused.
    Members(Result<Arc<Membership>, Refusal>),
    /// The sum that the state had after the check at this index.
    Check(LogIndex, u128),
}

impl Committed {
    /// The command; empty for every other entry.
    pub(crate) fn payload(&self) -> &[u8] {
        match self.meaning {
            Meaning::Command => self.data.get(codec::COMMAND_HEADER..).unwrap_or_default(),
            Meaning::Nothing | Meaning::Members(_) | Meaning::Check(..) => &[],
        }
    }
}

/// How far another member is, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberProgress {
    /// Which.
    pub id: NodeId,
    /// The last entry that it certainly has.
    pub matched: LogIndex,
    /// It is being sent a snapshot.
    pub snapshot: bool,
    /// It has answered lately.
    pub active: bool,
}

/// One member of a group.
pub(crate) struct Peer {
    identity: MemberIdentity,
    node: RawNode<RaftLog>,
    rng: StdRng,
    election_ticks: usize,
    /// The election timeout in force, and the view (term, role, leader) it was drawn for.
    timeout: usize,
    seen: Option<(u64, StateRole, u64)>,
    stamps: stamps::Stamps,
    /// As of the last entry that was given out to be applied.
    members: Arc<Membership>,
    promote_lag: u64,
    rules: Mutations,
    /// The last entry that was given out to be applied, where a rule is broken.
    #[cfg(any(test, feature = "testing"))]
    given: u64,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl Peer {
    /// Opens the member's log (or founds it with these members; with none it joins a group
    /// later) and stands behind what the state machine has applied.
    pub(crate) fn open(
        config: &CheckedConfig,
        identity: MemberIdentity,
        founding: &Membership,
        engine: Arc<dyn KvEngine>,
        state: &impl StateMachine,
        seed: u64,
    ) -> Result<Self, FatalError> {
        let cache = usize::try_from(config.log_cache.get()).unwrap_or(usize::MAX);
        let applied = state.applied();
        let mut log = RaftLog::open(engine, identity, founding, cache)?;
        log.settle_installation(applied.position.index)?;
        if let Some(members) = state.members()? {
            log.set_members(Membership::decode(&members)?);
        }
        let members = Arc::new(log.members().clone());
        let applied_index = reconcile(&mut log, applied)?;
        let stamps = stamps::Stamps::open(&log, applied)?;
        let election_ticks = config.election_ticks as usize;
        let settings = raft::Config {
            id: identity.member.get(),
            election_tick: election_ticks,
            heartbeat_tick: config.heartbeat_ticks as usize,
            applied: applied_index.get(),
            max_size_per_msg: config.max_message.get(),
            max_inflight_msgs: config.max_inflight,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: config.max_uncommitted.get(),
            max_committed_size_per_ready: config.max_batch.get(),
            ..raft::Config::default()
        };
        let node = RawNode::new(&settings, log, &log_bridge::logger())
            .map_err(|error| raft_error("start", &error))?;
        let mut peer = Self {
            identity,
            node,
            rng: StdRng::seed_from_u64(seed),
            election_ticks,
            timeout: election_ticks,
            seen: None,
            stamps,
            members,
            promote_lag: config.promote_lag,
            rules: Mutations::default(),
            #[cfg(any(test, feature = "testing"))]
            given: 0,
        };
        peer.own_the_chance();
        Ok(peer)
    }

    /// One beat of the group's clock.
    pub(crate) fn tick(&mut self) {
        self.node.tick();
        self.leave_joint();
        self.own_the_chance();
    }

    /// The library leaves a joint configuration by itself, unless its leader has changed at
    /// an unlucky moment.
    fn leave_joint(&mut self) {
        let raft = &self.node.raft;
        let due = raft.state == StateRole::Leader
            && self.members.is_joint()
            && raft.apply_to_current_term()
            && !raft.has_pending_conf();
        if due {
            // Refused for now, it is tried at the next beat.
            let _ = self
                .node
                .propose_conf_change(Vec::new(), ConfChangeV2::default());
        }
    }

    /// Asks to be elected, without waiting for the clock.
    pub(crate) fn campaign(&mut self) -> Result<(), FatalError> {
        let result = self.node.campaign();
        self.own_the_chance();
        result.map_err(|error| raft_error("campaign", &error))
    }

    /// Takes a message from another member. Whatever is wrong with it is the sender's
    /// problem: it is dropped and the reason given.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let message = codec::decode_message(bytes, self.identity.member)?;
        self.guard(&message)?;
        let from = message.from;
        let result = self.node.step(message);
        self.keep_next_above_matched(from);
        self.own_the_chance();
        result.map_err(|_| "the library refused it")
    }

    /// Takes the message of a snapshot whose content has arrived here. It is on the reader
    /// of the next round to install it, or not, if nothing came of the message.
    pub(crate) fn step_snapshot(&mut self, bytes: &[u8]) -> Result<LogPosition, &'static str> {
        let message = codec::decode_snapshot_message(bytes, self.identity.member)?;
        let snapshot = message.get_snapshot();
        Membership::decode(&snapshot.data).map_err(|_| "its membership cannot be read")?;
        let metadata = snapshot.get_metadata();
        let position = LogPosition {
            index: LogIndex::new(metadata.index),
            term: metadata.term,
        };
        let result = self.node.step(message);
        self.own_the_chance();
        result.map_err(|_| "the library refused it")?;
        Ok(position)
    }

    /// Upholds what the library's leader forgets when a rejection arrives late while it
    /// probes (tikv/raft-rs#557): the next entry for a member lies above what it has.
    /// Otherwise entries that are acknowledged would be sent, and could be rejected, again.
    fn keep_next_above_matched(&mut self, from: u64) {
        if self.node.raft.state != StateRole::Leader {
            return;
        }
        if let Some(progress) = self.node.raft.mut_prs().get_mut(from)
            && progress.next_idx <= progress.matched
        {
            progress.next_idx = progress.matched + 1;
        }
    }

    /// A message could not be brought to a member.
    pub(crate) fn unreachable(&mut self, id: NodeId) {
        self.node.report_unreachable(id.get());
        self.own_the_chance();
    }

    /// What became of a snapshot that was shipped to a member.
    pub(crate) fn snapshot_sent(&mut self, id: NodeId, arrived: bool) {
        let status = match arrived {
            true => SnapshotStatus::Finish,
            false => SnapshotStatus::Failure,
        };
        self.node.report_snapshot(id.get(), status);
        self.own_the_chance();
    }

    /// A snapshot that can be shipped; `None`: no more.
    pub(crate) fn offer(&mut self, position: Option<LogPosition>) {
        let members = || Membership::clone(&self.members);
        let offered = position.map(|position| (position, members()));
        self.node.mut_store().offer(offered);
    }

    /// Whether a snapshot was asked for that there is not, since the last call.
    pub(crate) fn take_wanted(&self) -> bool {
        self.node.store().take_wanted()
    }

    /// Refuses what would make the library end the process.
    fn guard(&self, message: &Message) -> Result<(), &'static str> {
        let last = self.node.raft.raft_log.last_index();
        if message.msg_type == MessageType::MsgHeartbeat as i32 && message.commit > last {
            return Err(
                "its sender believes that this member holds entries that it lacks: \
                        was its folder wiped?",
            );
        }
        Ok(())
    }

    /// Puts commands into the log of a leader, stamped with the replicated time that its
    /// monotonic clock gives.
    pub(crate) fn propose(
        &mut self,
        proposals: Vec<Proposal>,
        now: Duration,
    ) -> Result<(), Refused> {
        if self.node.raft.state != StateRole::Leader {
            return Err(Refused::NotLeader(self.leader()));
        }
        let time = self.stamps.next(self.node.raft.term, now);
        let entries = proposals.into_iter().map(|proposal| Entry {
            data: codec::encode_command(time, &proposal.payload),
            context: proposal.tag.to_bytes(),
            ..Entry::default()
        });
        self.append(entries.collect())
    }

    fn append(&mut self, entries: Vec<Entry>) -> Result<(), Refused> {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.identity.member.get();
        message.entries = entries;
        let result = self.node.raft.step(message);
        self.own_the_chance();
        result.map_err(|_| Refused::Busy)
    }

    /// Puts the sum over the state at the last check into the log, for everybody to
    /// compare. A leader's.
    pub(crate) fn propose_check(&mut self, index: LogIndex, hash: u128) -> Result<(), Refused> {
        let data = codec::encode_check(index, hash);
        self.append(vec![Entry {
            data,
            ..Entry::default()
        }])
    }

    /// Asks for a position that is safe to read at. The library drops the question without
    /// a word until it knows a leader that has committed in its term: ask again.
    pub(crate) fn read(&mut self, tag: Tag) {
        self.node.read_index(tag.to_bytes());
        self.own_the_chance();
    }

    /// Whether a round has anything to do.
    pub(crate) fn has_work(&self) -> bool {
        self.node.has_ready()
    }

    /// Starts a round, if there is anything to do.
    pub(crate) fn begin(&mut self) -> Option<Begun> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let mut send_now = self.pack(ready.take_messages());
        if self.rules.has(Mutation::PersistMessagesEarly) {
            send_now.extend(self.pack(ready.take_persisted_messages()));
        }
        let install = installation(&ready);
        Some(Begun {
            send_now,
            install,
            ready,
        })
    }

    /// Marks in the log that the state is about to be replaced.
    pub(crate) fn announce(&self, install: &(LogPosition, Membership)) -> Result<(), FatalError> {
        self.node
            .store()
            .announce_installation(install.0, &install.1)
    }

    /// The state has been replaced by that of a snapshot: everything else starts from there.
    /// Returns the hard state that the round still has to write.
    fn restart(
        &mut self,
        install: (LogPosition, Membership),
        hard_state: Option<HardState>,
    ) -> Result<Option<HardState>, FatalError> {
        let (position, members) = install;
        self.members = Arc::new(members.clone());
        let log = self.node.mut_store();
        if self.rules.has(Mutation::InstallOverVote) {
            let foreign = HardState {
                term: position.term,
                vote: 0,
                commit: position.index.get(),
            };
            log.restart(position, members, Some(&foreign))?;
            return Ok(None);
        }
        log.restart(position, members, hard_state.as_ref())?;
        Ok(hard_state)
    }

    /// The time that the state has reached by a snapshot.
    pub(crate) fn installed(&mut self, applied: Applied) {
        self.stamps.installed(applied.time);
    }

    /// Writes what the round has to persist, and says what follows from it.
    pub(crate) fn finish(&mut self, begun: Begun) -> Result<Effects, FatalError> {
        let mut ready = begun.ready;
        let must_sync = ready.must_sync() && !self.rules.has(Mutation::SkipSync);
        let durability = match must_sync {
            true => Durability::Synced,
            false => Durability::Buffered,
        };
        let mut hard_state = ready.hs().cloned();
        if let Some(install) = begun.install {
            hard_state = self.restart(install, hard_state)?;
        }
        let entries = ready.take_entries();
        for entry in &entries {
            self.stamps.observe(entry)?;
        }
        let log = self.node.mut_store();
        log.append(&entries, hard_state.as_ref(), durability)
            .map_err(FatalError::Log)?;

        let promises = ready.take_persisted_messages();
        let mut committed = ready.take_committed_entries();
        let mut effects = Effects {
            send: self.pack(promises),
            committed: Vec::new(),
            reads: ready
                .take_read_states()
                .into_iter()
                .filter_map(read_done)
                .collect(),
        };
        let mut late = self.node.advance_append(ready);
        if let Some(commit) = late.commit_index() {
            let log = self.node.mut_store();
            log.set_commit(commit).map_err(FatalError::Log)?;
        }
        effects.send.extend(self.pack(late.take_messages()));
        committed.extend(late.take_committed_entries());
        // Only now: a change of members is an input of the library.
        #[cfg(any(test, feature = "testing"))]
        let committed = self.answer_early(&entries, committed);
        effects.committed = self.take_committed(committed)?;
        self.own_the_chance();
        Ok(effects)
    }

    /// The state machine has taken everything up to here.
    pub(crate) fn applied(&mut self, index: LogIndex) {
        #[cfg(any(test, feature = "testing"))]
        let index = self.not_early(index);
        self.node.advance_apply_to(index.get());
        self.own_the_chance();
    }

    /// Removes log entries up to `index`, which the state machine has made durable.
    pub(crate) fn compact(&mut self, index: LogIndex) -> Result<(), FatalError> {
        self.node.mut_store().compact(index)
    }

    /// Whether this member leads, has committed in its term, and nobody else could be
    /// elected: then whatever it has applied is the newest there is.
    pub(crate) fn leads_alone(&self) -> bool {
        let raft = &self.node.raft;
        raft.state == StateRole::Leader
            && raft.prs().is_singleton()
            && raft.commit_to_current_term()
    }

    /// Whether this member is the only voter.
    pub(crate) fn is_alone(&self) -> bool {
        self.node.raft.prs().is_singleton() && self.node.raft.promotable()
    }

    pub(crate) fn status(&self) -> StoreStatus {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower => Role::Follower,
        };
        StoreStatus {
            member: self.identity.member,
            role,
            term: raft.term,
            leader: self.leader(),
            commit: LogIndex::new(raft.raft_log.committed),
            applied: LogIndex::new(raft.raft_log.applied),
        }
    }

    fn leader(&self) -> Option<NodeId> {
        let leader = self.node.raft.leader_id;
        (leader != 0).then(|| NodeId::new(leader))
    }

    /// Puts our election timeout in the place of whatever the library has drawn, after
    /// every input. Ours is drawn anew when term, role or leader have changed, which is
    /// when the library draws; it does not depend on the library's generator.
    fn own_the_chance(&mut self) {
        let raft = &mut self.node.raft;
        let view = (raft.term, raft.state, raft.leader_id);
        if self.seen != Some(view) {
            self.seen = Some(view);
            let range = self.election_ticks..2 * self.election_ticks;
            self.timeout = self.rng.random_range(range);
        }
        raft.set_randomized_election_timeout(self.timeout);
    }

    fn pack(&self, messages: Vec<Message>) -> Vec<Outgoing> {
        let pack = |message: Message| Outgoing {
            snapshot: shipped(&message),
            envelope: Envelope {
                from: self.identity,
                to: NodeId::new(message.to),
                bytes: codec::encode_message(&message),
            },
        };
        messages.into_iter().map(pack).collect()
    }

    fn take_committed(&mut self, entries: Vec<Entry>) -> Result<Vec<Committed>, FatalError> {
        entries
            .into_iter()
            .map(|entry| self.take_entry(entry))
            .collect()
    }

    fn take_entry(&mut self, entry: Entry) -> Result<Committed, FatalError> {
        let (meaning, stamp) = self.meaning(&entry)?;
        Ok(Committed {
            position: LogPosition {
                index: LogIndex::new(entry.index),
                term: entry.term,
            },
            time: self.stamps.apply(stamp),
            tag: Tag::from_bytes(&entry.context),
            meaning,
            data: entry.data,
        })
    }

    fn meaning(&mut self, entry: &Entry) -> Result<(Meaning, Option<ReplicatedTime>), FatalError> {
        if entry.entry_type != EntryType::EntryNormal as i32 {
            return Ok((Meaning::Members(Ok(self.change_members(entry)?)), None));
        }
        Ok(match codec::decode_payload(&entry.data)? {
            Payload::Empty => (Meaning::Nothing, None),
            Payload::Command(time, _) => (Meaning::Command, Some(time)),
            Payload::Check(index, hash) => (Meaning::Check(index, hash), None),
            Payload::Bind(change) => (Meaning::Members(self.bind(&change)), None),
        })
    }
}

/// The snapshot that has to arrive before a message.
fn shipped(message: &Message) -> Option<LogPosition> {
    if message.msg_type != MessageType::MsgSnapshot as i32 {
        return None;
    }
    let metadata = message.get_snapshot().get_metadata();
    Some(LogPosition {
        index: LogIndex::new(metadata.index),
        term: metadata.term,
    })
}

/// The snapshot that a round has to install.
fn installation(ready: &Ready) -> Option<(LogPosition, Membership)> {
    let snapshot = ready.snapshot();
    if snapshot.is_empty() {
        return None;
    }
    let metadata = snapshot.get_metadata();
    let position = LogPosition {
        index: LogIndex::new(metadata.index),
        term: metadata.term,
    };
    // It was read before the message was let in.
    let members = Membership::decode(&snapshot.data).unwrap_or_default();
    Some((position, members))
}

/// Brings hard state and applied position together after a crash, and refuses folders
/// that cannot belong together.
fn reconcile(log: &mut RaftLog, applied: Applied) -> Result<LogIndex, FatalError> {
    let applied = applied.position.index;
    let last = log.last().index;
    let truncated = log.truncated().index;
    if applied > last {
        return Err(FatalError::LogBehindState { last, applied });
    }
    if applied < truncated {
        if applied == LogIndex::default() && truncated == START.index {
            return Ok(truncated);
        }
        return Err(FatalError::StateBehindLog { truncated, applied });
    }
    // The commit index is written without a sync, so it may be older than the state. What
    // was applied was committed.
    if applied.get() > log.hard_state().commit {
        log.set_commit(applied.get()).map_err(FatalError::Log)?;
    }
    Ok(applied)
}

fn read_done(state: raft::ReadState) -> Option<(Tag, LogIndex)> {
    let tag = Tag::from_bytes(&state.request_ctx)?;
    Some((tag, LogIndex::new(state.index)))
}

pub(crate) fn raft_error(action: &'static str, error: &raft::Error) -> FatalError {
    FatalError::Raft {
        action,
        detail: error.to_string(),
    }
}
