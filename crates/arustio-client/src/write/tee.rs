//! Blocks of a write on their way to nodes, best effort.

use bytes::Bytes;
use tokio::sync::oneshot;

use arustio_types::{BlockKey, BlockSize, ContentId, MountId};

use crate::block::BlockWrite;
use crate::block::fill::{Filler, checksum};

/// Cuts what is written into blocks and offers each as it is complete.
#[derive(Debug)]
pub(crate) struct Tee {
    filler: Filler,
    content: ContentId,
    size: BlockSize,
    mount: MountId,
    index: u64,
    pieces: Vec<Bytes>,
    held: u64,
    answers: Vec<oneshot::Receiver<bool>>,
    /// Any block was offered: an abandoned write is to be forgotten.
    offered: bool,
}

impl Tee {
    pub(crate) fn new(filler: Filler, content: ContentId, size: BlockSize, mount: MountId) -> Self {
        Self {
            filler,
            content,
            size,
            mount,
            index: 0,
            pieces: Vec::new(),
            held: 0,
            answers: Vec::new(),
            offered: false,
        }
    }

    pub(crate) fn push(&mut self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let left = self.size.bytes() - self.held;
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            self.pieces.push(bytes.split_to(take));
            self.held += take as u64;
            if self.held == self.size.bytes() {
                self.offer();
            }
        }
    }

    /// Offers the last block and waits for the answers; the number of blocks that nodes
    /// took.
    pub(crate) async fn finish(&mut self) -> u64 {
        if self.held > 0 {
            self.offer();
        }
        let answers = futures::future::join_all(self.answers.drain(..)).await;
        answers
            .into_iter()
            .filter(|taken| *taken == Ok(true))
            .count() as u64
    }

    /// The write is given up.
    pub(crate) fn abandon(&self) {
        if self.offered {
            self.filler.forget(self.content);
        }
    }

    fn offer(&mut self) {
        let pieces = std::mem::take(&mut self.pieces);
        let write = BlockWrite {
            key: BlockKey {
                content: self.content,
                size: self.size,
                index: self.index,
            },
            mount: self.mount,
            block_length: self.held,
            offset: 0,
            checksum: checksum(&pieces),
            pieces,
        };
        if let Some(answer) = self.filler.offer(write) {
            self.answers.push(answer);
            self.offered = true;
        }
        self.index += 1;
        self.held = 0;
    }
}
