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
//!    |
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

use std::sync::Arc;
use std::time::Duration;

use arustio_types::{LogIndex, NodeId};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{RawNode, Ready, StateRole};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::config::CheckedConfig;
use crate::consensus::codec::{self, Tag};
use crate::consensus::log::RaftLog;
use crate::consensus::transport::Envelope;
use crate::consensus::{MemberIdentity, log_bridge};
use crate::engine::{Durability, KvEngine};
use crate::error::FatalError;
use crate::state_machine::{Applied, LogPosition, ReplicatedTime};
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

/// What to do before the disk is asked.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) send_now: Vec<Envelope>,
    ready: Ready,
}

/// What to do after the disk has answered.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Promises; they were not allowed out before.
    pub(crate) send: Vec<Envelope>,
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
    data: Vec<u8>,
}

impl Committed {
    /// The command; empty for an entry of the protocol itself.
    pub(crate) fn payload(&self) -> &[u8] {
        self.data.get(codec::COMMAND_HEADER..).unwrap_or_default()
    }
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
    stamps: Stamps,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl Peer {
    /// Opens the member's log (or founds it with these voters) and stands behind what the
    /// state machine has applied.
    pub(crate) fn open(
        config: &CheckedConfig,
        identity: MemberIdentity,
        voters: &[NodeId],
        engine: Arc<dyn KvEngine>,
        applied: Applied,
        seed: u64,
    ) -> Result<Self, FatalError> {
        let cache = usize::try_from(config.log_cache.get()).unwrap_or(usize::MAX);
        let mut log = RaftLog::open(engine, identity, voters, cache)?;
        let applied_index = reconcile(&mut log, applied)?;
        let stamps = Stamps::open(&log, applied)?;
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
        };
        peer.own_the_chance();
        Ok(peer)
    }

    /// One beat of the group's clock.
    pub(crate) fn tick(&mut self) {
        self.node.tick();
        self.own_the_chance();
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
        let result = self.node.step(message);
        self.own_the_chance();
        result.map_err(|_| "the library refused it")
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
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.identity.member.get();
        message.entries = entries.collect();
        let result = self.node.raft.step(message);
        self.own_the_chance();
        result.map_err(|_| Refused::Busy)
    }

    /// Asks for a position that is safe to read at. The library drops the question without
    /// a word until it knows a leader that has committed in its term: ask again.
    pub(crate) fn read(&mut self, tag: Tag) {
        self.node.read_index(tag.to_bytes());
        self.own_the_chance();
    }

    /// Starts a round, if there is anything to do.
    pub(crate) fn begin(&mut self) -> Option<Begun> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let send_now = self.pack(ready.take_messages());
        Some(Begun { send_now, ready })
    }

    /// Writes what the round has to persist, and says what follows from it.
    pub(crate) fn finish(&mut self, begun: Begun) -> Result<Effects, FatalError> {
        let mut ready = begun.ready;
        let durability = match ready.must_sync() {
            true => Durability::Synced,
            false => Durability::Buffered,
        };
        let entries = ready.take_entries();
        for entry in &entries {
            self.stamps.observe(entry)?;
        }
        let log = self.node.mut_store();
        log.append(&entries, ready.hs(), durability)
            .map_err(FatalError::Log)?;

        let promises = ready.take_persisted_messages();
        let mut effects = Effects {
            send: self.pack(promises),
            committed: self.take_committed(ready.take_committed_entries())?,
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
        let committed = self.take_committed(late.take_committed_entries())?;
        effects.committed.extend(committed);
        self.own_the_chance();
        Ok(effects)
    }

    /// The state machine has taken everything up to here.
    pub(crate) fn applied(&mut self, index: LogIndex) {
        self.node.advance_apply_to(index.get());
        self.own_the_chance();
    }

    /// Removes log entries up to `index`, which the state machine has made durable.
    pub(crate) fn compact(&mut self, index: LogIndex) -> Result<(), FatalError> {
        self.node.mut_store().compact(index)
    }

    /// The last entry that was compacted away.
    pub(crate) fn truncated(&self) -> LogIndex {
        self.node.store().truncated().index
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

    fn pack(&self, messages: Vec<Message>) -> Vec<Envelope> {
        let pack = |message: Message| Envelope {
            from: self.identity,
            to: NodeId::new(message.to),
            bytes: codec::encode_message(&message),
        };
        messages.into_iter().map(pack).collect()
    }

    fn take_committed(&mut self, entries: Vec<Entry>) -> Result<Vec<Committed>, FatalError> {
        let mut committed = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.entry_type != EntryType::EntryNormal as i32 {
                return Err(FatalError::NewerLog {
                    what: "a change of members",
                    found: 2,
                    supported: 1,
                });
            }
            let stamp = codec::decode_command(&entry.data)?;
            let time = self.stamps.apply(stamp.map(|(time, _)| time));
            committed.push(Committed {
                position: LogPosition {
                    index: LogIndex::new(entry.index),
                    term: entry.term,
                },
                time,
                tag: Tag::from_bytes(&entry.context),
                data: entry.data,
            });
        }
        Ok(committed)
    }
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
        if applied == LogIndex::default() && truncated == crate::consensus::log::START.index {
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

/// Replicated time: the newest stamp that this member has seen, advanced by the leader's
/// monotonic clock for as long as it leads.
#[derive(Debug)]
struct Stamps {
    /// The newest stamp in the log or in the state.
    newest: ReplicatedTime,
    /// The time of the last entry that was given out to be applied.
    applied: ReplicatedTime,
    /// Since when this member leads: the term, the clock then, the newest stamp then.
    leading: Option<(u64, Duration, ReplicatedTime)>,
}

impl Stamps {
    fn open(log: &RaftLog, applied: Applied) -> Result<Self, FatalError> {
        let mut stamps = Self {
            newest: applied.time,
            applied: applied.time,
            leading: None,
        };
        log.visit_after(applied.position.index.get(), &mut |entry| {
            stamps.observe(entry)
        })?;
        Ok(stamps)
    }

    fn observe(&mut self, entry: &Entry) -> Result<(), FatalError> {
        if let Some((time, _)) = codec::decode_command(&entry.data)? {
            self.newest = self.newest.max(time);
        }
        Ok(())
    }

    fn next(&mut self, term: u64, now: Duration) -> ReplicatedTime {
        let (start, base) = match self.leading {
            Some((since, start, base)) if since == term => (start, base),
            _ => {
                self.leading = Some((term, now, self.newest));
                (now, self.newest)
            }
        };
        let advance = u64::try_from(now.saturating_sub(start).as_millis()).unwrap_or(u64::MAX);
        let time = ReplicatedTime::from_millis(base.millis().saturating_add(advance));
        self.newest = self.newest.max(time);
        self.newest
    }

    fn apply(&mut self, stamp: Option<ReplicatedTime>) -> ReplicatedTime {
        self.applied = self.applied.max(stamp.unwrap_or_default());
        self.applied
    }
}
