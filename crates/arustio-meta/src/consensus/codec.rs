//! The one file that knows the message encoding of the Raft library, and the records of
//! the log engine.
//!
//! The library speaks an older prost than the rest of the house, so its messages travel
//! as opaque bytes. Every record on disk starts with the number of its format. Decoding
//! returns errors and never panics; what arrives from the network is checked here for
//! everything that would make the library panic.

use std::collections::BTreeSet;

use arustio_types::{ClusterId, Incarnation, LogIndex, NodeId};
use raft::eraftpb::{ConfChangeV2, Entry, HardState, Message, MessageType};
use raft_prost::Message as _;

use crate::consensus::MemberIdentity;
use crate::consensus::membership::{Change, MemberInfo, Membership};
use crate::error::FatalError;
use crate::state_machine::{LogPosition, ReplicatedTime};

/// The format of every record that this release writes.
const FORMAT: u8 = 1;

/// First byte of a normal entry: a command of the state machine, after its stamp.
const COMMAND: u8 = 1;
/// First byte of a normal entry: a member is bound to its data folder.
const BIND: u8 = 2;
/// First byte of a normal entry: the state that everybody should have.
const CHECK: u8 = 3;

/// Bytes of an entry's data before the command: kind and stamp.
pub(crate) const COMMAND_HEADER: usize = 9;

/// Names one proposal of one run of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Tag {
    /// Random, minted when the process started.
    pub(crate) run: u64,
    /// Counts the proposals of the run.
    pub(crate) number: u64,
}

impl Tag {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.run.to_be_bytes(), self.number.to_be_bytes()].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Tag> {
        let (run, number) = bytes.split_first_chunk::<8>()?;
        Some(Tag {
            run: u64::from_be_bytes(*run),
            number: u64::from_be_bytes(number.try_into().ok()?),
        })
    }
}

/// What a normal entry of the log carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Payload<'a> {
    /// Nothing: a new leader's first, or one that the library emptied.
    Empty,
    /// The leader's stamp and a command of the state machine.
    Command(ReplicatedTime, &'a [u8]),
    /// A member is bound to its data folder.
    Bind(Change),
    /// The sum over the state after the check at this index.
    Check(LogIndex, u128),
}

pub(crate) fn encode_command(time: ReplicatedTime, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(COMMAND_HEADER + payload.len());
    bytes.push(COMMAND);
    bytes.extend_from_slice(&time.millis().to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

pub(crate) fn encode_bind(change: &Change) -> Vec<u8> {
    let mut bytes = vec![BIND];
    bytes.extend_from_slice(&encode_change(change));
    bytes
}

pub(crate) fn encode_check(index: LogIndex, hash: u128) -> Vec<u8> {
    let mut bytes = vec![CHECK];
    bytes.extend_from_slice(&index.get().to_be_bytes());
    bytes.extend_from_slice(&hash.to_be_bytes());
    bytes
}

pub(crate) fn decode_payload(bytes: &[u8]) -> Result<Payload<'_>, FatalError> {
    let Some((&kind, rest)) = bytes.split_first() else {
        return Ok(Payload::Empty);
    };
    match kind {
        COMMAND => {
            let (time, payload) = number("a command", rest)?;
            Ok(Payload::Command(ReplicatedTime::from_millis(time), payload))
        }
        BIND => Ok(Payload::Bind(decode_change(rest)?)),
        CHECK => {
            let what = "a check of the state";
            let (index, rest) = number(what, rest)?;
            let (hash, rest) = wide(what, rest)?;
            nothing_left(what, rest)?;
            Ok(Payload::Check(LogIndex::new(index), hash))
        }
        0 => Err(corrupt("a log entry", "its kind is 0")),
        newer => Err(FatalError::NewerLog {
            what: "a log entry",
            found: newer.into(),
            supported: CHECK.into(),
        }),
    }
}

/// A change of members, as the library's entry carries it beside its own words.
pub(crate) fn encode_change(change: &Change) -> Vec<u8> {
    let (kind, id, other, instance, address) = match change {
        Change::AddLearner { id, address } => (1, *id, None, 0, address.as_str()),
        Change::Promote { id, replacing } => (2, *id, *replacing, 0, ""),
        Change::Remove { id } => (3, *id, None, 0, ""),
        Change::Bind {
            id,
            instance,
            address,
        } => (4, *id, None, *instance, address.as_str()),
    };
    let mut bytes = vec![FORMAT, kind];
    bytes.extend_from_slice(&id.get().to_be_bytes());
    bytes.extend_from_slice(&other.map_or(0, NodeId::get).to_be_bytes());
    bytes.extend_from_slice(&instance.to_be_bytes());
    put_text(&mut bytes, address);
    bytes
}

pub(crate) fn decode_change(bytes: &[u8]) -> Result<Change, FatalError> {
    let what = "a change of members";
    let (&kind, rest) = body(what, bytes)?
        .split_first()
        .ok_or_else(|| corrupt(what, "it is cut short"))?;
    let (id, rest) = number(what, rest)?;
    let (other, rest) = number(what, rest)?;
    let (instance, rest) = wide(what, rest)?;
    let (address, rest) = text(what, rest)?;
    nothing_left(what, rest)?;
    let id = NodeId::new(id);
    match kind {
        1 => Ok(Change::AddLearner { id, address }),
        2 => Ok(Change::Promote {
            id,
            replacing: (other != 0).then(|| NodeId::new(other)),
        }),
        3 => Ok(Change::Remove { id }),
        4 => Ok(Change::Bind {
            id,
            instance,
            address,
        }),
        _ => Err(corrupt(what, "its kind is unknown")),
    }
}

/// The library's words for a change of members.
pub(crate) fn decode_conf_change(bytes: &[u8]) -> Result<ConfChangeV2, FatalError> {
    ConfChangeV2::decode(bytes).map_err(|error| corrupt("a change of members", &error.to_string()))
}

pub(crate) fn encode_membership(group: &Membership) -> Vec<u8> {
    let mut bytes = vec![FORMAT, u8::from(group.auto_leave)];
    let sets = [
        &group.voters,
        &group.outgoing,
        &group.learners,
        &group.learners_next,
        &group.removed,
    ];
    for set in sets {
        bytes.extend_from_slice(&(set.len() as u64).to_be_bytes());
        for id in set {
            bytes.extend_from_slice(&id.get().to_be_bytes());
        }
    }
    bytes.extend_from_slice(&(group.members.len() as u64).to_be_bytes());
    for (id, info) in &group.members {
        bytes.extend_from_slice(&id.get().to_be_bytes());
        bytes.extend_from_slice(&info.instance.to_be_bytes());
        put_text(&mut bytes, &info.address);
    }
    bytes
}

pub(crate) fn decode_membership(bytes: &[u8]) -> Result<Membership, FatalError> {
    let what = "the membership";
    let rest = body(what, bytes)?;
    let (&leave, rest) = rest
        .split_first()
        .ok_or_else(|| corrupt(what, "it is cut short"))?;
    let (voters, rest) = set(what, rest)?;
    let (outgoing, rest) = set(what, rest)?;
    let (learners, rest) = set(what, rest)?;
    let (learners_next, rest) = set(what, rest)?;
    let (removed, rest) = set(what, rest)?;
    let (count, mut rest) = number(what, rest)?;
    let mut group = Membership {
        voters,
        outgoing,
        learners,
        learners_next,
        auto_leave: leave != 0,
        removed,
        ..Membership::default()
    };
    for _ in 0..count {
        let (id, after) = number(what, rest)?;
        let (instance, after) = wide(what, after)?;
        let (address, after) = text(what, after)?;
        group
            .members
            .insert(NodeId::new(id), MemberInfo { address, instance });
        rest = after;
    }
    nothing_left(what, rest)?;
    Ok(group)
}

/// A position and the membership there: what an installation needs to be ended.
pub(crate) fn encode_installation(position: LogPosition, group: &Membership) -> Vec<u8> {
    let mut bytes = numbers(&[position.index.get(), position.term]);
    bytes.extend_from_slice(&encode_membership(group));
    bytes
}

pub(crate) fn decode_installation(bytes: &[u8]) -> Result<(LogPosition, Membership), FatalError> {
    let what = "the mark of an installation";
    let (index, rest) = number(what, body(what, bytes)?)?;
    let (term, rest) = number(what, rest)?;
    let position = LogPosition {
        index: LogIndex::new(index),
        term,
    };
    Ok((position, decode_membership(rest)?))
}

pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    framed(entry)
}

pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Entry, FatalError> {
    unframed("a log entry", bytes)
}

pub(crate) fn encode_hard_state(state: &HardState) -> Vec<u8> {
    numbers(&[state.term, state.vote, state.commit])
}

pub(crate) fn decode_hard_state(bytes: &[u8]) -> Result<HardState, FatalError> {
    let what = "the hard state";
    let mut state = HardState::default();
    let (term, rest) = number(what, body(what, bytes)?)?;
    let (vote, rest) = number(what, rest)?;
    let (commit, rest) = number(what, rest)?;
    nothing_left(what, rest)?;
    state.term = term;
    state.vote = vote;
    state.commit = commit;
    Ok(state)
}

pub(crate) fn encode_position(position: LogPosition) -> Vec<u8> {
    numbers(&[position.index.get(), position.term])
}

pub(crate) fn decode_position(bytes: &[u8]) -> Result<LogPosition, FatalError> {
    let what = "the start of the log";
    let (index, rest) = number(what, body(what, bytes)?)?;
    let (term, rest) = number(what, rest)?;
    nothing_left(what, rest)?;
    Ok(LogPosition {
        index: LogIndex::new(index),
        term,
    })
}

pub(crate) fn encode_identity(identity: &MemberIdentity) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&identity.cluster.get().to_be_bytes());
    bytes.extend_from_slice(&identity.incarnation.get().to_be_bytes());
    bytes.extend_from_slice(&identity.member.get().to_be_bytes());
    bytes
}

pub(crate) fn decode_identity(bytes: &[u8]) -> Result<MemberIdentity, FatalError> {
    let what = "the member's identity";
    let rest = body(what, bytes)?;
    let Some((cluster, rest)) = rest.split_first_chunk::<16>() else {
        return Err(corrupt(what, "it is cut short"));
    };
    let (incarnation, rest) = number(what, rest)?;
    let (member, rest) = number(what, rest)?;
    nothing_left(what, rest)?;
    Ok(MemberIdentity {
        cluster: ClusterId::new(u128::from_be_bytes(*cluster)),
        incarnation: Incarnation::new(incarnation),
        member: NodeId::new(member),
    })
}

pub(crate) fn encode_message(message: &Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// A message from another member, or why it must not reach the library.
pub(crate) fn decode_message(bytes: &[u8], me: NodeId) -> Result<Message, &'static str> {
    let message = addressed(bytes, me)?;
    if message.msg_type == MessageType::MsgSnapshot as i32 {
        return Err("a snapshot is never one message");
    }
    Ok(message)
}

/// The message that goes with a snapshot whose folder has arrived.
pub(crate) fn decode_snapshot_message(bytes: &[u8], me: NodeId) -> Result<Message, &'static str> {
    let message = addressed(bytes, me)?;
    if message.msg_type != MessageType::MsgSnapshot as i32 {
        return Err("it is no message of a snapshot");
    }
    let metadata = message.get_snapshot().get_metadata();
    if metadata.index == 0 || metadata.term == 0 || metadata.term > message.term {
        return Err("its snapshot has no position that can be");
    }
    Ok(message)
}

fn addressed(bytes: &[u8], me: NodeId) -> Result<Message, &'static str> {
    let message = Message::decode(bytes).map_err(|_| "it is no Raft message")?;
    if message.to != me.get() {
        return Err("it is meant for another member");
    }
    if message.from == 0 || message.from == me.get() {
        return Err("its sender cannot be");
    }
    let Some(kind) = MessageType::from_i32(message.msg_type) else {
        return Err("its kind is unknown");
    };
    match kind {
        MessageType::MsgAppend => follow_on(&message)?,
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
            if message.entries.len() != 1 {
                return Err("a read must carry one context");
            }
        }
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum => return Err("it is a local kind"),
        MessageType::MsgPropose => return Err("proposals are not forwarded"),
        MessageType::MsgTransferLeader => return Err("leadership is handed over by its holder"),
        MessageType::MsgSnapshot
        | MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgTimeoutNow
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse => {}
    }
    Ok(message)
}

fn follow_on(append: &Message) -> Result<(), &'static str> {
    let expected = (1..).map(|step| append.index.checked_add(step));
    let contiguous = append
        .entries
        .iter()
        .zip(expected)
        .all(|(entry, index)| Some(entry.index) == index && entry.term <= append.term);
    if contiguous {
        return Ok(());
    }
    Err("its entries do not follow one another")
}

fn framed(message: &impl raft_prost::Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(FORMAT);
    message
        .encode(&mut bytes)
        .expect("a vector grows as long as it must");
    bytes
}

fn unframed<M: raft_prost::Message + Default>(
    what: &'static str,
    bytes: &[u8],
) -> Result<M, FatalError> {
    M::decode(body(what, bytes)?).map_err(|error| corrupt(what, &error.to_string()))
}

fn numbers(values: &[u64]) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    for value in values {
        bytes.extend_from_slice(&value.to_be_bytes());
    }
    bytes
}

fn number<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), FatalError> {
    let Some((number, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(corrupt(what, "it is cut short"));
    };
    Ok((u64::from_be_bytes(*number), rest))
}

fn wide<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(u128, &'a [u8]), FatalError> {
    let Some((number, rest)) = bytes.split_first_chunk::<16>() else {
        return Err(corrupt(what, "it is cut short"));
    };
    Ok((u128::from_be_bytes(*number), rest))
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn text<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(String, &'a [u8]), FatalError> {
    let (length, rest) = number(what, bytes)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let Some((text, rest)) = rest.split_at_checked(length) else {
        return Err(corrupt(what, "it is cut short"));
    };
    match std::str::from_utf8(text) {
        Ok(text) => Ok((text.to_owned(), rest)),
        Err(_) => Err(corrupt(what, "its text is not UTF-8")),
    }
}

fn set<'a>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<(BTreeSet<NodeId>, &'a [u8]), FatalError> {
    let (count, mut rest) = number(what, bytes)?;
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        let (id, after) = number(what, rest)?;
        ids.insert(NodeId::new(id));
        rest = after;
    }
    Ok((ids, rest))
}

fn body<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], FatalError> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => Ok(rest),
        Some((&found, _)) if found > FORMAT => Err(FatalError::NewerLog {
            what,
            found: found.into(),
            supported: FORMAT.into(),
        }),
        Some(_) => Err(corrupt(what, "its format number is 0")),
        None => Err(corrupt(what, "it is empty")),
    }
}

fn nothing_left(what: &'static str, rest: &[u8]) -> Result<(), FatalError> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(corrupt(what, "there are bytes behind it"))
}

fn corrupt(what: &'static str, detail: &str) -> FatalError {
    FatalError::CorruptLog {
        what,
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_of_format_1_are_read_for_ever() {
        let identity = MemberIdentity {
            cluster: ClusterId::new(0x0102),
            incarnation: Incarnation::new(3),
            member: NodeId::new(4),
        };
        let golden = [
            vec![1],
            0x0102u128.to_be_bytes().to_vec(),
            3u64.to_be_bytes().to_vec(),
            4u64.to_be_bytes().to_vec(),
        ];
        assert_eq!(encode_identity(&identity), golden.concat());
        assert_eq!(decode_identity(&golden.concat()).unwrap(), identity);

        let entry = Entry {
            term: 2,
            index: 3,
            data: encode_command(ReplicatedTime::from_millis(5), b"x"),
            context: Tag { run: 6, number: 7 }.to_bytes(),
            ..Entry::default()
        };
        let golden = b"\x01\x10\x02\x18\x03\x22\x0a\x01\0\0\0\0\0\0\0\x05x\
            \x32\x10\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x07";
        assert_eq!(encode_entry(&entry), golden);
        assert_eq!(decode_entry(golden).unwrap(), entry);

        let bind = Change::Bind {
            id: NodeId::new(2),
            instance: 3,
            address: "a:1".to_owned(),
        };
        let golden = b"\x02\x01\x04\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\
            \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x03a:1";
        assert_eq!(encode_bind(&bind), golden);
        assert_eq!(decode_payload(golden).unwrap(), Payload::Bind(bind));
        let golden = b"\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05";
        assert_eq!(encode_check(LogIndex::new(4), 5), golden);
        let check = Payload::Check(LogIndex::new(4), 5);
        assert_eq!(decode_payload(golden).unwrap(), check);

        let mut state = HardState::default();
        (state.term, state.vote, state.commit) = (1, 2, 3);
        let golden = b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03";
        assert_eq!(encode_hard_state(&state), golden);
        assert_eq!(decode_hard_state(golden).unwrap(), state);
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let newer = decode_hard_state(&[2, 0]).unwrap_err();
        assert!(matches!(newer, FatalError::NewerLog { found: 2, .. }));
        let damaged = decode_hard_state(&[1, 0]).unwrap_err();
        assert!(matches!(damaged, FatalError::CorruptLog { .. }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_entry(&bytes);
            let _ = decode_membership(&bytes);
            let _ = decode_installation(&bytes);
            let _ = decode_change(&bytes);
            let _ = decode_conf_change(&bytes);
            let _ = decode_snapshot_message(&bytes, NodeId::new(1));
            let _ = decode_hard_state(&bytes);
            let _ = decode_identity(&bytes);
            let _ = decode_position(&bytes);
            let _ = decode_payload(&bytes);
            let _ = decode_message(&bytes, NodeId::new(1));
            let _ = Tag::from_bytes(&bytes);
        }
    }
}
