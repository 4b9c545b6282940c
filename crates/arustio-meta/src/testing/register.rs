//! The smallest state machine that shows a lost or a repeated command: lists of numbers.
//!
//! A command appends a number to a list; its outcome is the length that the list has
//! then. Requests of a session are remembered for ever, so a repeated one gets its old
//! outcome. Everything lies in the family `inodes` of a state engine.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use arustio_types::LogIndex;
use arustio_types::meta::RequestContext;
use xxhash_rust::xxh3::Xxh3;

use crate::engine::{Durability, Family, KvEngine, Overlay, Scan};
use crate::state_machine::{
    Applied, Entry, LogPosition, ReplicatedTime, StateMachine, StateMachineError,
};

const APPLIED: &[u8] = b"applied";
const MEMBERS: &[u8] = b"members";

/// Appends a number to a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append {
    /// Which list.
    pub list: u8,
    /// What is appended.
    pub number: u64,
}

/// Lists of numbers over a state engine.
#[derive(Debug)]
pub struct Register {
    engine: Arc<dyn KvEngine>,
    applied: Applied,
}

impl Register {
    /// Opens what an engine holds.
    pub fn open(engine: Arc<dyn KvEngine>) -> Result<Self, StateMachineError> {
        let applied = read_applied(engine.as_ref())?;
        Ok(Self { engine, applied })
    }
}

impl StateMachine for Register {
    type Command = Append;
    type Outcome = u64;
    type Query = u8;
    type Answer = Vec<u64>;

    fn encode(context: &RequestContext, command: &Append) -> Vec<u8> {
        let mut bytes = vec![command.list];
        bytes.extend_from_slice(&command.number.to_be_bytes());
        bytes.extend_from_slice(&context.id.session.get().to_be_bytes());
        bytes.extend_from_slice(&context.id.sequence.to_be_bytes());
        bytes
    }

    fn apply(&mut self, entries: &[Entry<'_>]) -> Result<Vec<Option<u64>>, StateMachineError> {
        let mut overlay = Overlay::new(self.engine.as_ref());
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            let outcome = match entry.payload {
                [] => None,
                payload => Some(append(&mut overlay, payload)?),
            };
            outcomes.push(outcome);
            if let Some(members) = entry.members {
                overlay.put(Family::Meta, MEMBERS, members.to_vec());
            }
        }
        if let Some(last) = entries.last() {
            self.applied = Applied {
                position: last.position,
                time: last.time.max(self.applied.time),
            };
            let numbers = [
                self.applied.position.index.get(),
                self.applied.position.term,
                self.applied.time.millis(),
            ];
            overlay.put(Family::Meta, APPLIED, encode_list(&numbers));
        }
        self.engine
            .write(overlay.into_batch(), Durability::Buffered)?;
        Ok(outcomes)
    }

    fn applied(&self) -> Applied {
        self.applied
    }

    fn query(&self, list: u8) -> Result<Vec<u64>, StateMachineError> {
        let value = self.engine.get(Family::Inodes, &[list])?;
        decode_list(&value.unwrap_or_default())
    }

    fn make_durable(&self) -> Result<(), StateMachineError> {
        Ok(self.engine.make_durable()?)
    }

    fn members(&self) -> Result<Option<Vec<u8>>, StateMachineError> {
        Ok(self.engine.get(Family::Meta, MEMBERS)?)
    }

    fn hash(&self) -> Option<u128> {
        let mut hash = Xxh3::new();
        let hashed = self
            .engine
            .scan(Family::Inodes, Scan::all(), &mut |list, numbers| {
                hash.update(list);
                hash.update(numbers);
                ControlFlow::Continue(())
            });
        hashed.ok().map(|()| hash.digest128())
    }

    fn settler(&self) -> Box<dyn FnOnce() -> Result<(), StateMachineError> + Send> {
        let engine = Arc::clone(&self.engine);
        Box::new(move || Ok(engine.settle()?))
    }

    fn snapshot(&self, into: &Path) -> Result<Applied, StateMachineError> {
        self.engine.checkpoint(into)?;
        Ok(self.applied)
    }

    fn install(&mut self, from: &Path) -> Result<Applied, StateMachineError> {
        self.engine.restore(from)?;
        self.applied = read_applied(self.engine.as_ref())?;
        Ok(self.applied)
    }
}

fn append(overlay: &mut Overlay<'_>, payload: &[u8]) -> Result<u64, StateMachineError> {
    let (&[list], rest) = payload.split_first_chunk().ok_or_else(damaged)?;
    let (number, request) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    if request.ends_with(&[0; 8]) {
        return append_number(overlay, list, u64::from_be_bytes(*number));
    }
    if let Some(outcome) = overlay.get(Family::Sessions, request)? {
        let recorded = decode_list(&outcome)?;
        return recorded.first().copied().ok_or_else(damaged);
    }
    let outcome = append_number(overlay, list, u64::from_be_bytes(*number))?;
    overlay.put(Family::Sessions, request, encode_list(&[outcome]));
    Ok(outcome)
}

fn append_number(
    overlay: &mut Overlay<'_>,
    list: u8,
    number: u64,
) -> Result<u64, StateMachineError> {
    let mut value = overlay.get(Family::Inodes, &[list])?.unwrap_or_default();
    value.extend_from_slice(&number.to_be_bytes());
    let length = value.len() as u64 / 8;
    overlay.put(Family::Inodes, [list], value);
    Ok(length)
}

fn read_applied(engine: &dyn KvEngine) -> Result<Applied, StateMachineError> {
    let Some(bytes) = engine.get(Family::Meta, APPLIED)? else {
        return Ok(Applied::default());
    };
    match decode_list(&bytes)?.as_slice() {
        [index, term, time] => Ok(Applied {
            position: LogPosition {
                index: LogIndex::new(*index),
                term: *term,
            },
            time: ReplicatedTime::from_millis(*time),
        }),
        _ => Err(damaged()),
    }
}

fn encode_list(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

fn decode_list(bytes: &[u8]) -> Result<Vec<u64>, StateMachineError> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(damaged());
    }
    Ok(numbers.iter().map(|n| u64::from_be_bytes(*n)).collect())
}

fn damaged() -> StateMachineError {
    StateMachineError::Corrupt {
        what: "a register",
        detail: "its length is wrong".to_owned(),
    }
}
