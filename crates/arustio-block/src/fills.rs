//! Filling on a miss: one reader brings the bytes, the others wait for them (R5).
//!
//! A reader that missed asks again and says that it would bring what is missing. What is
//! there it gets; what nobody brings becomes its lease; for what somebody brings it waits,
//! and is fed from the store as the bytes arrive there. This node never looks below itself:
//! it keeps the herd off the under file system without knowing one.
//!
//! - [`lease`]: who fills what, as a table without clock, store or network.
//! - here: the table over a store, and waiting.
//!
//! # Why no byte is brought twice
//! Bytes are in the store before the table hears of them, and who gets a lease looks at the
//! store once more before it is told. So either the lease is still there when the reader
//! asks, and it waits, or the bytes are.
//!
//! # What is accepted
//! Bytes under a lease are kept like any write: with a checksum that fits, and where no
//! other bytes are. Bytes of a lease that was lost are not kept; the sender is told whether
//! they agree with what is there. There is one lock, and it is never held while the store
//! is asked.

pub mod lease;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use arustio_types::{BlockKey, Checksum};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::chunk::{self, CHUNK};
use crate::config::FillConfig;
use crate::error::BlockError;
use crate::store::{BlockStore, BlockWrite, Parts, Rejection, WriteOutcome};
use lease::{Ending, FillMetrics, Grant, Holder, LeaseId, LeaseTable, Refusal, Verdict};

/// Times that a reader looks at a block which changes under its eyes.
const MOST_LOOKS: usize = 64;

/// Leases over a store.
#[derive(Debug)]
pub struct Fills {
    store: Arc<dyn BlockStore>,
    table: Mutex<LeaseTable>,
}

/// What a reader wants, and would bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FillWant {
    /// The block.
    pub key: BlockKey,
    /// Bytes of it, from a chunk's beginning to a chunk's end.
    pub range: Range<u64>,
    /// Length of the whole block.
    pub block_len: u64,
    /// Who asks.
    pub holder: Holder,
}

/// What a reader gets.
#[derive(Debug, Default)]
pub struct FillOffer {
    /// The bytes that are there.
    pub parts: Parts,
    /// What it has to bring.
    pub grants: Vec<Grant>,
    /// Why it has to do without for the rest.
    pub refused: Option<Refusal>,
}

/// What a look at a block comes to.
#[derive(Debug)]
pub enum Look {
    /// There is something to tell.
    Offer(FillOffer),
    /// Others bring all of it, and nothing is there yet.
    Wait(Waiting),
}

/// What became of bytes that were brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FillOutcome {
    /// At least one chunk is new here.
    Stored,
    /// Every chunk was here already, with the same checksum.
    AlreadyPresent,
    /// Nothing was kept, and the lease is over.
    Rejected(Rejection),
    /// The lease was lost before, so nothing was kept.
    Late {
        /// All of these bytes are here, and are the same.
        agrees: bool,
    },
}

/// A reader that waits. Dropping it is leaving.
#[derive(Debug)]
pub struct Waiting {
    fills: Arc<Fills>,
    key: BlockKey,
    bell: watch::Receiver<()>,
    until: Instant,
}

impl FillWant {
    fn check(&self) -> Result<(), BlockError> {
        let Range { start, end } = self.range;
        let whole =
            start.is_multiple_of(CHUNK) && (end.is_multiple_of(CHUNK) || end == self.block_len);
        let inside =
            start < end && end <= self.block_len && self.block_len <= self.key.size.bytes();
        match whole && inside {
            true => Ok(()),
            false => Err(BlockError::Misplaced {
                key: self.key,
                range: self.range.clone(),
            }),
        }
    }
}

impl Fills {
    /// Leases over `store`. `first` is random: it tells this run's leases from another's.
    pub fn new(store: Arc<dyn BlockStore>, config: FillConfig, first: u64) -> Arc<Self> {
        Arc::new(Self {
            store,
            table: Mutex::new(LeaseTable::new(config, first)),
        })
    }

    /// What a reader gets now. Safe to drop: leases that nobody was told of are overdue
    /// after a while.
    ///
    /// # Errors
    /// A range that does not consist of whole chunks of the block.
    pub async fn look(self: &Arc<Self>, want: &FillWant) -> Result<Look, BlockError> {
        want.check()?;
        for _ in 0..MOST_LOOKS {
            let seen = self.table.lock().version(&want.key);
            let parts = self.store.read(want.key, want.range.clone()).await?;
            if let Some(look) = self.decide(want, parts, seen).await? {
                return Ok(look);
            }
        }
        Ok(self.refuse(Parts::none(), Refusal::Busy))
    }

    /// `None`: the block changed meanwhile.
    async fn decide(
        self: &Arc<Self>,
        want: &FillWant,
        parts: Parts,
        seen: u64,
    ) -> Result<Option<Look>, BlockError> {
        if parts.block_len.is_some_and(|len| len != want.block_len) {
            // Somebody filled a block of another length under this key.
            return Ok(Some(self.refuse(Parts::none(), Refusal::Busy)));
        }
        let gaps = parts.missing(&want.range);
        if gaps.is_empty() {
            return Ok(Some(Look::Offer(FillOffer {
                parts,
                ..FillOffer::default()
            })));
        }
        let now = Instant::now();
        let verdict = self
            .table
            .lock()
            .want(want.key, &gaps, seen, want.holder, now);
        Ok(match verdict {
            Verdict::Again => None,
            Verdict::Refused(why) => Some(Look::Offer(FillOffer {
                parts,
                refused: Some(why),
                ..FillOffer::default()
            })),
            Verdict::Granted(grants) => self.confirm(want, parts, grants).await?,
            Verdict::Filling { bell, until } => Some(self.wait(want, parts, bell, until)),
        })
    }

    /// A lease that was just given is told only if its bytes have not come before it was.
    async fn confirm(
        &self,
        want: &FillWant,
        parts: Parts,
        grants: Vec<Grant>,
    ) -> Result<Option<Look>, BlockError> {
        let again = self.store.read(want.key, want.range.clone()).await;
        if again.as_ref().is_ok_and(|again| again.len() <= parts.len()) {
            return Ok(Some(Look::Offer(FillOffer {
                parts,
                grants,
                refused: None,
            })));
        }
        self.table.lock().cancel(&grants);
        again.map(|_| None)
    }

    fn wait(
        self: &Arc<Self>,
        want: &FillWant,
        parts: Parts,
        bell: watch::Receiver<()>,
        until: Instant,
    ) -> Look {
        let waiting = Waiting {
            fills: Arc::clone(self),
            key: want.key,
            bell,
            until,
        };
        match parts.is_empty() {
            true => Look::Wait(waiting),
            false => Look::Offer(FillOffer {
                parts,
                ..FillOffer::default()
            }),
        }
    }

    fn refuse(&self, parts: Parts, why: Refusal) -> Look {
        self.table.lock().refused(why);
        Look::Offer(FillOffer {
            parts,
            refused: Some(why),
            ..FillOffer::default()
        })
    }

    /// Takes bytes that were brought under a lease.
    ///
    /// # Errors
    /// A write that makes no sense; the lease is over.
    pub async fn fill(&self, lease: LeaseId, write: BlockWrite) -> Result<FillOutcome, BlockError> {
        let range = write.range();
        if !self.table.lock().holds(lease, &write.key, &range) {
            return self.late(write.key, &range, write.checksum).await;
        }
        let outcome = self.store.write(write).await;
        let now = Instant::now();
        let mut table = self.table.lock();
        Ok(match outcome {
            Ok(WriteOutcome::Stored) => {
                table.progress(lease, range.end - range.start, now);
                FillOutcome::Stored
            }
            Ok(WriteOutcome::AlreadyPresent) => {
                table.progress(lease, range.end - range.start, now);
                FillOutcome::AlreadyPresent
            }
            Ok(WriteOutcome::Rejected(why)) => {
                table.end(lease, ending(why), now);
                FillOutcome::Rejected(why)
            }
            Err(error) => {
                table.end(lease, Ending::GaveUp, now);
                return Err(error);
            }
        })
    }

    /// Bytes of a lease that is gone: they are compared, not kept.
    async fn late(
        &self,
        key: BlockKey,
        range: &Range<u64>,
        checksum: Checksum,
    ) -> Result<FillOutcome, BlockError> {
        self.table.lock().metrics.late += 1;
        let there = self.store.read(key, range.clone()).await?;
        let mut crc = 0;
        for part in &there.parts {
            crc = chunk::append(crc, part.checksum.0, part.bytes.len() as u64);
        }
        let agrees = there.covers(range) && Checksum(crc) == checksum;
        Ok(FillOutcome::Late { agrees })
    }

    /// A sign of life of a holder that has nothing to send yet. False: the lease is gone.
    pub fn renew(&self, lease: LeaseId) -> bool {
        self.table.lock().renew(lease, Instant::now())
    }

    /// A holder, or the node itself, ends a lease. False: it is gone already.
    pub fn end(&self, lease: LeaseId, why: Ending) -> bool {
        self.table.lock().end(lease, why, Instant::now())
    }

    /// A holder is gone with all its leases.
    pub fn abandon(&self, holder: Holder) {
        self.table.lock().abandon(holder, Instant::now());
    }

    /// Bytes of a block came without a lease: whoever waits for them looks again.
    pub fn came(&self, key: &BlockKey) {
        self.table.lock().ring(key);
    }

    /// Whether somebody waits for something of a block: then its holder may take the time to
    /// bring it.
    pub fn is_awaited(&self, key: &BlockKey) -> bool {
        self.table.lock().is_awaited(key)
    }

    /// What was counted.
    pub fn metrics(&self) -> FillMetrics {
        self.table.lock().metrics()
    }

    /// Leases, marks and waiters that there are.
    pub fn load(&self) -> (usize, usize, usize) {
        self.table.lock().load()
    }
}

impl Waiting {
    /// Waits until something has changed, at most until `deadline`. False: that is over.
    /// Safe to drop.
    pub async fn changed(mut self, deadline: Instant) -> bool {
        let until = self.until.min(deadline);
        // A bell that is gone has rung for the last time; a lease that is overdue can be
        // taken.
        let _ = timeout_at(until, self.bell.changed()).await;
        Instant::now() < deadline
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.fills.table.lock().leave(&self.key);
    }
}

/// Whether others may have more luck.
fn ending(why: Rejection) -> Ending {
    match why {
        // The bytes were at fault, or came over a bad wire.
        Rejection::ChecksumMismatch | Rejection::Disagrees | Rejection::Unaligned => Ending::GaveUp,
        Rejection::NoSpace
        | Rejection::TooLarge
        | Rejection::Busy
        | Rejection::Recovering
        | Rejection::WritesOff
        | Rejection::NotDurable
        | Rejection::Closed => Ending::NoRoom,
    }
}
