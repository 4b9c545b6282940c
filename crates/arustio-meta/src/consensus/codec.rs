//! The one file that knows the message encoding of the Raft library, and the records of
//! the log engine.
//!
//! The library speaks an older prost than the rest of the house, so its messages travel
//! as opaque bytes. Every record on disk starts with the number of its format. Decoding
//! returns errors and never panics; what arrives from the network is checked here for
//! everything that would make the library panic.

use arustio_types::{ClusterId, Incarnation, LogIndex, NodeId};
use raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType};
use raft_prost::Message as _;

use crate::consensus::MemberIdentity;
use crate::error::FatalError;
use crate::state_machine::{LogPosition, ReplicatedTime};

/// The format of every record that this release writes.
const FORMAT: u8 = 1;

/// Bytes of an entry's data before the command: format and stamp.
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

/// What an entry of the log carries: the leader's stamp and the command.
pub(crate) fn encode_command(time: ReplicatedTime, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(COMMAND_HEADER + payload.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&time.millis().to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Stamp and command of an entry; `None` for an empty one (a new leader's first).
pub(crate) fn decode_command(bytes: &[u8]) -> Result<Option<(ReplicatedTime, &[u8])>, FatalError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let what = "a command";
    let rest = body(what, bytes)?;
    let (time, payload) = number(what, rest)?;
    Ok(Some((ReplicatedTime::from_millis(time), payload)))
}

pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    framed(entry)
}

pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Entry, FatalError> {
    unframed("a log entry", bytes)
}

pub(crate) fn encode_members(members: &ConfState) -> Vec<u8> {
    framed(members)
}

pub(crate) fn decode_members(bytes: &[u8]) -> Result<ConfState, FatalError> {
    unframed("the membership", bytes)
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
        MessageType::MsgSnapshot => return Err("a snapshot is never one message"),
        MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgTransferLeader
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
            let _ = decode_members(&bytes);
            let _ = decode_hard_state(&bytes);
            let _ = decode_identity(&bytes);
            let _ = decode_position(&bytes);
            let _ = decode_command(&bytes);
            let _ = decode_message(&bytes, NodeId::new(1));
            let _ = Tag::from_bytes(&bytes);
        }
    }
}
