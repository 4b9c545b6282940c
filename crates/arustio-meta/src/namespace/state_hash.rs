//! One number for the whole state, kept up to date at every write.
//!
//! A sum over all records, so that the order in which they came does not matter and a
//! change costs one subtraction and one addition. Replicas that applied the same entries
//! have the same sum; another sum is a defect, found long before a client finds it.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

use super::txn::Read;
use crate::engine::{Batch, Family, KvEngine, Op, key};
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

    /// The sum after a batch of single changes, and the batch without what it would not
    /// change.
    pub(crate) fn after(self, engine: &dyn KvEngine, batch: Batch) -> Read<(Batch, Self)> {
        let mut sum = self;
        let mut needed = Batch::new();
        for op in batch.into_ops() {
            let (family, at, new) = match op {
                Op::Put { family, key, value } => (family, key, Some(value)),
                Op::Delete { family, key } => (family, key, None),
                // The overlay that made this batch has no range deletes.
                Op::DeleteRange { family, start, .. } => (family, start, None),
            };
            let old = engine.get(family, &at)?;
            if old == new {
                continue;
            }
            if let Some(old) = old {
                sum.remove(family, &at, &old);
            }
            match new {
                Some(value) => {
                    sum.add(family, &at, &value);
                    needed.put(family, at, value);
                }
                None => needed.delete(family, at),
            }
        }
        Ok((needed, sum))
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
    let mut hash = Xxh3::new();
    for part in [family.name().as_bytes(), at] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(value);
    hash.digest128()
}
