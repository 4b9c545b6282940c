//! Messages that wait for one peer: bounded, and never waited for by who sends.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Messages that may wait: more than the library has under way to one member.
const MOST_MESSAGES: usize = 1024;
/// Bytes that may wait.
const MOST_BYTES: usize = 64 << 20;
/// A batch is closed when it has this many bytes, or messages.
const BATCH: (usize, usize) = (1 << 20, 128);

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    messages: VecDeque<Bytes>,
    bytes: usize,
    dropped: bool,
}

impl Queue {
    /// Adds a message, or drops it where there is no room.
    pub(super) fn push(&self, message: Bytes) {
        let mut inner = self.inner.lock();
        let full = inner.messages.len() >= MOST_MESSAGES
            || inner.bytes.saturating_add(message.len()) > MOST_BYTES;
        if full {
            inner.dropped = true;
        } else {
            inner.bytes += message.len();
            inner.messages.push_back(message);
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// Waits until there is a message. One task waits at a time.
    pub(super) async fn filled(&self) {
        while self.inner.lock().messages.is_empty() {
            self.filled.notified().await;
        }
    }

    /// The next messages, at least one. Safe to drop.
    pub(super) async fn take(&self) -> Vec<Bytes> {
        self.filled().await;
        let mut inner = self.inner.lock();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH.0
            && batch.len() < BATCH.1
            && let Some(message) = inner.messages.pop_front()
        {
            bytes += message.len();
            batch.push(message);
        }
        inner.bytes -= bytes;
        batch
    }

    /// Drops what waits.
    pub(super) fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.messages.clear();
        inner.bytes = 0;
    }

    /// Whether a message found no room since this was last asked.
    pub(super) fn has_dropped(&self) -> bool {
        std::mem::take(&mut self.inner.lock().dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_leave_in_order_and_in_batches() {
        let queue = Queue::default();
        for number in 0..200_u8 {
            queue.push(Bytes::from(vec![number]));
        }
        let first = queue.take().await;
        assert_eq!(first.len(), BATCH.1);
        let second = queue.take().await;
        assert_eq!(
            (first.len() + second.len(), second.last()),
            (200, Some(&Bytes::from(vec![199])))
        );
        queue.push(Bytes::from(vec![0; BATCH.0]));
        queue.push(Bytes::from(vec![1]));
        assert_eq!(queue.take().await.len(), 1);
    }

    #[test]
    fn what_finds_no_room_is_dropped() {
        let queue = Queue::default();
        for _ in 0..3 * MOST_MESSAGES {
            queue.push(Bytes::from_static(b"x"));
        }
        assert_eq!(queue.inner.lock().messages.len(), MOST_MESSAGES);
        assert!(queue.has_dropped() && !queue.has_dropped());
        queue.clear();
        let large = Bytes::from(vec![0; MOST_BYTES / 2]);
        for _ in 0..5 {
            queue.push(large.clone());
        }
        assert_eq!(queue.inner.lock().messages.len(), 2);
    }
}
