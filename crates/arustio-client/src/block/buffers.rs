//! Buffers for payloads, used again.
//!
//! A fresh buffer of some mebibytes costs about as much as what is copied into it: the
//! system finds and clears each of its pages at the first touch, and takes each back. So a
//! buffer that its last reader has let go of goes back on a shelf, the warmest on top, and
//! the next payload of its size is received into it.
//!
//! They begin with a page. The kernel copies page by page out of the page cache, and some
//! processors copy four times more slowly to a place that lies a few bytes further in its
//! page than the source, which is where allocators put large buffers.
//!
//! Sizes are powers of two. Small payloads, sizes that would waste much of a class, and very
//! large ones get a buffer of their own. What lies on the shelves is bounded in bytes; what
//! is in use is the business of whoever asks.

use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

/// The smallest class: below it an allocator keeps what it is given back by itself.
const SMALLEST: usize = 64 << 10;
/// The largest class.
const LARGEST: usize = 16 << 20;
/// What a client and a node keep unless they say otherwise, in bytes.
const KEPT: usize = 32 << 20;
/// Bytes of a page, on most systems.
const PAGE: usize = 4096;
/// Classes from the smallest to the largest.
const CLASSES: usize = (LARGEST.ilog2() - SMALLEST.ilog2() + 1) as usize;

/// Buffers that are used again. Clones share them.
#[derive(Debug, Clone)]
pub struct Buffers(Arc<Shelves>);

struct Shelves {
    /// Bytes that may lie here.
    most: usize,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    bytes: usize,
    /// By size; the one that came last is the warmest.
    classes: [Vec<Vec<u8>>; CLASSES],
}

impl fmt::Debug for Shelves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelves")
            .field("most", &self.most)
            .field("idle", &self.idle.lock().bytes)
            .finish()
    }
}

impl Default for Buffers {
    /// Keeps 32 MiB.
    fn default() -> Self {
        Self::keeping(KEPT)
    }
}

impl Buffers {
    /// Keeps at most so many bytes that nobody uses.
    pub fn keeping(most: usize) -> Self {
        Self(Arc::new(Shelves {
            most,
            idle: Mutex::default(),
        }))
    }

    /// An empty buffer for `length` bytes.
    pub fn take(&self, length: usize) -> Buffer {
        let class = class_of(length);
        let size = class.map_or(length, size_of_class);
        let spare = if length < SMALLEST { 0 } else { PAGE };
        let warm = class.and_then(|class| self.0.idle.lock().take(class));
        // The system has zeroed pages at hand: nothing is cleared here.
        let bytes = warm.unwrap_or_else(|| vec![0; size + spare]);
        Buffer {
            start: bytes.as_ptr().align_offset(PAGE).min(spare),
            bytes,
            length,
            filled: 0,
            home: class.map(|class| (class, Arc::downgrade(&self.0))),
        }
    }

    /// Bytes that nobody uses.
    pub fn idle(&self) -> usize {
        self.0.idle.lock().bytes
    }
}

impl Idle {
    fn take(&mut self, class: usize) -> Option<Vec<u8>> {
        let bytes = self.classes[class].pop()?;
        self.bytes -= bytes.len();
        Some(bytes)
    }

    /// Keeps a buffer; hands it back where there is no room, to be freed outside the lock.
    fn keep(&mut self, class: usize, bytes: Vec<u8>, most: usize) -> Option<Vec<u8>> {
        if self.bytes + bytes.len() > most {
            return Some(bytes);
        }
        self.bytes += bytes.len();
        self.classes[class].push(bytes);
        None
    }
}

/// The class whose buffers a payload of this length gets; `None` for one of its own.
fn class_of(length: usize) -> Option<usize> {
    if !(SMALLEST..=LARGEST).contains(&length) {
        return None;
    }
    let size = length.next_power_of_two();
    let wasteful = size - length > length / 4;
    (!wasteful).then(|| (size.ilog2() - SMALLEST.ilog2()) as usize)
}

fn size_of_class(class: usize) -> usize {
    SMALLEST << class
}

/// Bytes that are being received. Goes back on its shelf when it is dropped, or when the
/// last clone of what became of it is.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    /// Where it begins in them.
    start: usize,
    length: usize,
    filled: usize,
    /// The shelf and its class, of those that go back.
    home: Option<(usize, Weak<Shelves>)>,
}

impl Buffer {
    /// Bytes that it is to have.
    pub fn length(&self) -> usize {
        self.length
    }

    /// What has come.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.filled]
    }

    /// Where the next bytes go, at most so many; what is there now means nothing.
    pub fn room(&mut self, most: usize) -> &mut [u8] {
        let end = self.length.min(self.filled.saturating_add(most));
        &mut self.bytes[self.start + self.filled..self.start + end]
    }

    /// So many bytes of [`room`](Self::room) were written.
    pub fn advance(&mut self, written: usize) {
        self.filled = self.length.min(self.filled + written);
    }

    /// What has come, not to be changed any more.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.filled()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some((class, home)) = self.home.take() else {
            return;
        };
        if let Some(home) = home.upgrade() {
            let bytes = std::mem::take(&mut self.bytes);
            let left_over = home.idle.lock().keep(class, bytes, home.most);
            drop(left_over);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn with(buffers: &Buffers, length: usize, byte: u8) -> Bytes {
        let mut buffer = buffers.take(length);
        while buffer.filled().len() < buffer.length() {
            let room = buffer.room(100_000);
            room.fill(byte);
            let written = room.len();
            buffer.advance(written);
        }
        assert!(buffer.room(1).is_empty());
        let bytes = buffer.freeze();
        assert!(length < SMALLEST || bytes.as_ptr().align_offset(PAGE) == 0);
        bytes
    }

    #[test]
    fn a_buffer_is_used_again_once_its_last_reader_is_gone() {
        let buffers = Buffers::keeping(8 * MIB);
        let whole = MIB + PAGE;
        let first = with(&buffers, MIB, 1);
        let place = first.as_ptr();
        let part = first.slice(100..200);
        drop(first);
        assert_eq!(buffers.idle(), 0);
        let second = with(&buffers, MIB, 2);
        assert_ne!(second.as_ptr(), place, "somebody still reads it");
        assert!(part.iter().all(|byte| *byte == 1));
        drop(part);
        assert_eq!(buffers.idle(), whole);
        // A little smaller, and there is nothing in it.
        let again = with(&buffers, MIB - 100, 3);
        assert_eq!(again.as_ptr(), place);
        assert!(again.iter().all(|byte| *byte == 3) && again.len() == MIB - 100);
    }

    #[test]
    fn no_more_is_kept_than_was_said_and_only_what_has_a_class() {
        let most = 2 * (MIB + PAGE);
        let buffers = Buffers::keeping(most);
        let several: Vec<Bytes> = (0..5).map(|at| with(&buffers, MIB, at)).collect();
        drop(several);
        assert_eq!(buffers.idle(), most);
        let buffers = Buffers::keeping(1 << 30);
        for odd in [0, 1, SMALLEST - 1, MIB + 1, LARGEST + 1] {
            drop(with(&buffers, odd, 7));
        }
        assert_eq!(buffers.idle(), 0);
        for (length, kept) in [(SMALLEST, SMALLEST), (900 << 10, MIB), (LARGEST, LARGEST)] {
            let buffers = Buffers::keeping(1 << 30);
            drop(with(&buffers, length, 7));
            assert_eq!(buffers.idle(), kept + PAGE);
        }
    }

    #[test]
    fn only_what_has_come_is_seen() {
        let buffers = Buffers::keeping(MIB);
        drop(with(&buffers, MIB, 9));
        let mut buffer = buffers.take(MIB - 5);
        buffer.room(10).fill(4);
        buffer.advance(10);
        let bytes = buffer.freeze();
        assert_eq!(bytes, [4; 10][..]);
        // It outlives its shelf.
        drop(buffers);
        drop(bytes);
    }
}
