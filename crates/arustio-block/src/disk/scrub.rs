//! Looking for faults of the medium before a reader comes upon them.
//!
//! All blocks are read and checked bit by bit: header, lengths, and the checksum of every
//! chunk. What does not match is dropped and counted, as after a read. Nothing else of it
//! is to be noticed: it has a thread of its own, so no reader waits for one; it reads a
//! small piece and then pauses for as long as that piece takes at the configured rate; it
//! counts as no use of a block. There is no list of blocks: the walk goes by place, and
//! a block that comes meanwhile is looked at in this round or the next.
//!
//! Not found here: what a page cache still holds is read from there, so a fault under it
//! shows once the system has let go of the page.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::BlockKey;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::files::Files;
use super::index::Walk;
use super::pool::Pool;
use crate::chunk::CHUNK;

/// A round begins this long after the last one began, or at once if that took longer.
const ROUND: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes that are read at once: a few milliseconds of a slow disk.
const PIECE: u64 = 8 * CHUNK;

/// Goes round and round.
#[derive(Debug)]
pub(super) struct Scrub {
    files: Arc<Files>,
    /// Bytes a second.
    bandwidth: u64,
    thread: Arc<Pool>,
}

impl Scrub {
    pub(super) fn new(files: Arc<Files>, bandwidth: u64, thread: Arc<Pool>) -> Self {
        Self {
            files,
            bandwidth,
            thread,
        }
    }

    /// Runs until it is dropped, from when everything on disk is known.
    pub(super) async fn run(self, mut recovered: watch::Receiver<bool>) {
        if recovered.wait_for(|done| *done).await.is_err() {
            // The tier is closing.
            return;
        }
        loop {
            let begun = Instant::now();
            self.round().await;
            sleep_until(begun + ROUND).await;
        }
    }

    async fn round(&self) {
        let mut next = 0;
        loop {
            next = match self.files.catalog.walk(next) {
                Walk::End => return,
                Walk::Nothing { next } => next,
                Walk::Block {
                    place,
                    key,
                    generation,
                } => {
                    self.block(key, generation).await;
                    place + 1
                }
            };
        }
    }

    async fn block(&self, key: BlockKey, generation: u32) {
        let mut at = 0;
        loop {
            let Some(block_len) = self.piece(key, generation, at..at + PIECE).await else {
                return;
            };
            at += PIECE;
            if at >= block_len {
                break;
            }
        }
        self.files.catalog.trust(key, generation);
        self.files.counters.scrubbed_blocks.add(1);
    }

    /// The length of the block, if the piece is sound.
    async fn piece(&self, key: BlockKey, generation: u32, part: Range<u64>) -> Option<u64> {
        let files = Arc::clone(&self.files);
        let check = move || files.scrub(key, generation, &part);
        let sound = self.thread.run(check).await.flatten();
        // Small blocks count as a whole piece, for the seeks that they cost.
        let micros = PIECE.saturating_mul(1_000_000) / self.bandwidth;
        sleep(Duration::from_micros(micros)).await;
        sound
    }
}
