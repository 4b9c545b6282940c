//! One number for the whole state, kept up to date at every write.
//!
//! A sum over all records, so that the order in which they came does not matter and a
//! change costs one subtraction and one addition. Replicas that applied the same entries
//! have the same sum; another sum is a defect, found long before a client finds it.

use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

use super::txn::Read;
use crate::engine::overlay::Change;
use crate::engine::{Batch, Family, KvEngine, key};
use crate::error::StateMachineError;

/// A sum over records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateHash(u128);

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl StateHash {
    /// The sum.
    pub const fn get(self) -> u128 {
        self.0
    }

    pub(crate) const fn from_raw(raw: u128) -> Self {
        Self(raw)
    }

    pub(crate) fn load(engine: &dyn KvEngine) -> Read<Self> {
        let Some(bytes) = engine.get(Family::Meta, key::STATE_HASH)? else {
            return Ok(Self::default());
        };
        let raw = bytes.try_into().map_err(|_| StateMachineError::Corrupt {
            what: "the sum over the state",
            detail: "it has another length".to_owned(),
        })?;
        Ok(Self(u128::from_be_bytes(raw)))
    }

    pub(crate) fn store(self, batch: &mut Batch) {
        batch.put(Family::Meta, key::STATE_HASH, self.0.to_be_bytes());
    }

    /// The sum after these changes, and the batch that makes them.
    pub(crate) fn after(self, changes: Vec<Change>) -> (Batch, Self) {
        let mut sum = self;
        let mut batch = Batch::new();
        for change in changes {
            let (family, at) = (change.family, change.key);
            if let Some(old) = &change.old {
                sum.remove(family, &at, old);
            }
            if let Some(new) = &change.new {
                sum.add(family, &at, new);
            }
            batch.set(family, at, change.new);
        }
        (batch, sum)
    }

    /// Adds a record.
    pub(crate) fn add(&mut self, family: Family, at: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(of_record(family, at, value));
    }

    fn remove(&mut self, family: Family, at: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_sub(of_record(family, at, value));
    }

    /// Whether a record counts: the position and the sum itself do not.
    pub(crate) fn counts(family: Family, at: &[u8]) -> bool {
        family != Family::Meta || (at != key::APPLIED && at != key::STATE_HASH)
    }
}

fn of_record(family: Family, at: &[u8], value: &[u8]) -> u128 {
    // In one piece: what a record has is short, and setting up a running sum costs more.
    let mut record = Vec::with_capacity(32 + at.len() + value.len());
    for part in [family.name().as_bytes(), at] {
        record.extend_from_slice(&(part.len() as u64).to_be_bytes());
        record.extend_from_slice(part);
    }
    record.extend_from_slice(value);
    xxh3_128(&record)
}
