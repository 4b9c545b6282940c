//! What is known of one block: runs of chunks with their checksums.
//!
//! Memory, disk and the queue between them all speak of blocks in this form, so the
//! rules of presence (a chunk is there or not, the first bytes win, other bytes are
//! refused) stand here once.
//!
//! Invariants: runs are ascending, disjoint and never empty; a run holds whole chunks,
//! only the block's last chunk may be short.

use std::ops::Range;

use arustio_types::{BlockKey, Checksum, MountId};
use bytes::Bytes;

use crate::chunk;
use crate::error::BlockError;
use crate::memory::Sealed;
use crate::store::{BlockWrite, Part, Parts, Presence, Rejection, WriteHint};

/// The longest part: a reader can use the first bytes while it receives the next, and what
/// it receives into is still in its processor's cache.
const PART: u64 = 32 * chunk::CHUNK;

/// Consecutive chunks.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The first chunk.
    pub(crate) first: u32,
    /// Their bytes.
    pub(crate) bytes: Bytes,
    /// Their checksums.
    pub(crate) sums: Vec<u32>,
    /// The sealed memory file in which the same bytes lie, chunks at their own places.
    pub(crate) file: Option<Sealed>,
}

impl Run {
    pub(crate) fn chunks(&self) -> Range<u32> {
        let len = u32::try_from(self.sums.len()).expect("a block has at most 8192 chunks");
        self.first..self.first + len
    }

    /// The part of this run in `chunks`, which must lie inside it. Copies no bytes.
    pub(crate) fn slice(&self, chunks: &Range<u32>) -> Run {
        let offset = (chunks.start - self.first) as usize;
        let len = chunks.len();
        let start = offset * chunk::CHUNK as usize;
        let end = (start + len * chunk::CHUNK as usize).min(self.bytes.len());
        Run {
            first: chunks.start,
            bytes: self.bytes.slice(start..end),
            sums: self.sums[offset..offset + len].to_vec(),
            file: self.file.clone(),
        }
    }

    /// The bytes of `range` (of the block) with the checksum that they arrived with;
    /// `None` if a chunk of which only a part is asked no longer matches its own.
    fn part(&self, range: Range<u64>) -> Option<Part> {
        let base = u64::from(self.first) * chunk::CHUNK;
        let local = range.start - base..range.end - base;
        let len = self.bytes.len() as u64;
        let whole = chunk::covered(&local, len);
        let slice = |r: Range<u64>| self.bytes.slice(r.start as usize..r.end as usize);
        if whole.is_empty() {
            let touched = chunk::touched(&local);
            touched.clone().all(|at| self.verify(at)).then_some(())?;
            let bytes = slice(local);
            let checksum = chunk::checksum(&bytes);
            return Some(Part {
                range,
                bytes,
                checksum,
                file: self.file.as_ref().map(Sealed::file),
            });
        }
        let middle = chunk::bytes_of(&whole, len);
        let sums = &self.sums[whole.start as usize..whole.end as usize];
        let mut crc = chunk::combine(sums, middle.end - middle.start);
        if local.start < middle.start {
            self.verify(whole.start - 1).then_some(())?;
            let head = chunk::checksum(&slice(local.start..middle.start)).0;
            crc = chunk::append(head, crc, middle.end - middle.start);
        }
        if middle.end < local.end {
            self.verify(whole.end).then_some(())?;
            let tail = chunk::checksum(&slice(middle.end..local.end)).0;
            crc = chunk::append(crc, tail, local.end - middle.end);
        }
        Some(Part {
            range,
            bytes: slice(local),
            checksum: Checksum(crc),
            file: self.file.as_ref().map(Sealed::file),
        })
    }

    /// Whether the chunk at `at` of this run still matches its checksum.
    fn verify(&self, at: u32) -> bool {
        let start = at as usize * chunk::CHUNK as usize;
        let end = (start + chunk::CHUNK as usize).min(self.bytes.len());
        chunk::checksum(&self.bytes[start..end]).0 == self.sums[at as usize]
    }
}

/// Chunks of one block.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) key: BlockKey,
    pub(crate) mount: MountId,
    pub(crate) block_len: u64,
    pub(crate) runs: Vec<Run>,
}

/// A stored chunk and an offered one differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disagrees;

impl Image {
    /// Checks a write and cuts it into chunks. The bytes are not copied.
    pub(crate) fn of_write(write: &BlockWrite) -> Result<Result<Image, Rejection>, BlockError> {
        check(write)?;
        let range = write.range();
        let chunks = chunk::covered(&range, write.block_len);
        let kept = chunk::bytes_of(&chunks, write.block_len);
        let local =
            kept.start.max(range.start) - range.start..kept.end.max(range.start) - range.start;
        let bytes = write
            .payload
            .slice(local.start as usize..local.end as usize);
        let sums = chunk::sums(&bytes);
        let whole = kept == range;
        let arrived = if whole {
            Checksum(chunk::combine(&sums, bytes.len() as u64))
        } else {
            chunk::checksum(&write.payload)
        };
        if arrived != write.checksum {
            return Ok(Err(Rejection::ChecksumMismatch));
        }
        if chunks.is_empty() || (write.hint == WriteHint::Durable && !whole) {
            return Ok(Err(Rejection::Unaligned));
        }
        let all = bytes.len() as u64 == write.block_len;
        let sealed = write.sealed.as_ref().filter(|_| all);
        let run = Run {
            first: chunks.start,
            file: sealed.filter(|sealed| sealed.holds(&bytes)).cloned(),
            bytes,
            sums,
        };
        Ok(Ok(Image {
            key: write.key,
            mount: write.mount,
            block_len: write.block_len,
            runs: vec![run],
        }))
    }

    pub(crate) fn empty(key: BlockKey, mount: MountId, block_len: u64) -> Image {
        Image {
            key,
            mount,
            block_len,
            runs: Vec::new(),
        }
    }

    pub(crate) fn present_chunks(&self) -> u32 {
        self.runs.iter().map(|run| run.chunks().len() as u32).sum()
    }

    pub(crate) fn present_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes.len() as u64).sum()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.present_chunks() == chunk::count(self.block_len)
    }

    pub(crate) fn presence(&self) -> Presence {
        Presence {
            block_len: self.block_len,
            present: self.present_bytes(),
        }
    }

    /// The runs of `other` that are missing here; an error if chunks that both have
    /// differ.
    pub(crate) fn news_in(&self, other: &Image) -> Result<Vec<Run>, Disagrees> {
        if self.block_len != other.block_len {
            return Err(Disagrees);
        }
        let mut news = Vec::new();
        for run in &other.runs {
            let mut at = run.first;
            for mine in &self.runs {
                let both = overlap(&mine.chunks(), &run.chunks());
                if both.is_empty() {
                    continue;
                }
                if mine.slice(&both).sums != run.slice(&both).sums {
                    return Err(Disagrees);
                }
                if at < both.start {
                    news.push(run.slice(&(at..both.start)));
                }
                at = both.end;
            }
            if at < run.chunks().end {
                news.push(run.slice(&(at..run.chunks().end)));
            }
        }
        Ok(news)
    }

    /// Adds runs that [`news_in`](Self::news_in) found.
    pub(crate) fn add(&mut self, news: Vec<Run>) {
        self.runs.extend(news);
        self.runs.sort_by_key(|run| run.first);
    }

    /// Only what touches `range`; for handing out of a lock.
    pub(crate) fn touching(&self, range: &Range<u64>) -> Image {
        let chunks = chunk::touched(&clip(range, self.block_len));
        let runs = self
            .runs
            .iter()
            .map(|run| (run, overlap(&run.chunks(), &chunks)))
            .filter(|(_, both)| !both.is_empty())
            .map(|(run, both)| run.slice(&both))
            .collect();
        Image {
            key: self.key,
            mount: self.mount,
            block_len: self.block_len,
            runs,
        }
    }

    /// The bytes of `range` that are here, or `None` if some no longer match.
    pub(crate) fn parts(&self, range: &Range<u64>) -> Option<Parts> {
        let range = clip(range, self.block_len);
        let mut parts = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let there = chunk::bytes_of(&run.chunks(), self.block_len);
            let mut at = range.start.max(there.start);
            let end = range.end.min(there.end);
            while at < end {
                let cut = ((at / PART + 1) * PART).min(end);
                parts.push(run.part(at..cut)?);
                at = cut;
            }
        }
        Some(Parts {
            block_len: Some(self.block_len),
            parts,
        })
    }
}

fn check(write: &BlockWrite) -> Result<(), BlockError> {
    if write.block_len == 0 || write.block_len > write.key.size.bytes() {
        return Err(BlockError::BlockLength {
            key: write.key,
            block_len: write.block_len,
        });
    }
    let len = write.payload.len() as u64;
    let end = write.offset.checked_add(len);
    if end.is_none_or(|end| end > write.block_len) {
        return Err(BlockError::OutOfBlock {
            key: write.key,
            offset: write.offset,
            len,
            block_len: write.block_len,
        });
    }
    Ok(())
}

/// `range` inside a block of `block_len` bytes.
pub(crate) fn clip(range: &Range<u64>, block_len: u64) -> Range<u64> {
    let end = range.end.min(block_len);
    range.start.min(end)..end
}

fn overlap(a: &Range<u32>, b: &Range<u32>) -> Range<u32> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::{BlockSize, ContentId};
    use proptest::prelude::*;

    const LEN: u64 = 7 * chunk::CHUNK + 100;

    fn key() -> BlockKey {
        BlockKey {
            content: ContentId::new(1),
            size: BlockSize::from_log2(18).unwrap(),
            index: 0,
        }
    }

    fn content() -> Bytes {
        (0..LEN).map(|i| (i * 31 / 7) as u8).collect()
    }

    fn write(range: Range<u64>) -> BlockWrite {
        let payload = content().slice(range.start as usize..range.end as usize);
        BlockWrite {
            offset: range.start,
            checksum: chunk::checksum(&payload),
            payload,
            block_len: LEN,
            ..BlockWrite::whole(key(), MountId::new(1), Bytes::new())
        }
    }

    #[test]
    fn other_bytes_under_a_present_chunk_disagree() {
        let first = Image::of_write(&write(0..LEN)).unwrap().unwrap();
        let mut other = first.clone();
        other.runs[0].sums[3] ^= 1;
        assert_eq!(first.news_in(&other).unwrap_err(), Disagrees);
        assert!(first.news_in(&first).unwrap().is_empty());
    }

    #[test]
    fn a_chunk_that_changed_in_memory_is_not_handed_out_in_pieces() {
        let mut image = Image::of_write(&write(0..LEN)).unwrap().unwrap();
        let mut bad = image.runs[0].bytes.to_vec();
        bad[10] ^= 1;
        image.runs[0].bytes = bad.into();
        assert!(image.parts(&(5..20)).is_none());
        let whole = image.parts(&(0..LEN)).unwrap();
        assert!(!whole.parts[0].verify());
    }

    proptest! {
        #[test]
        fn merged_ranges_read_back_exactly(
            ranges in proptest::collection::vec((0..LEN, 0..LEN), 1..12),
            ask in (0..LEN, 0..LEN + 50),
        ) {
            let content = content();
            let mut image = Image::empty(key(), MountId::new(1), LEN);
            let mut present = vec![false; LEN as usize];
            for (a, b) in ranges {
                let range = a.min(b)..a.max(b);
                let Ok(new) = Image::of_write(&write(range.clone())).unwrap() else { continue };
                let chunks = chunk::covered(&range, LEN);
                for byte in chunk::bytes_of(&chunks, LEN) {
                    present[byte as usize] = true;
                }
                let news = image.news_in(&new).unwrap();
                image.add(news);
            }
            let ask = ask.0.min(ask.1)..ask.0.max(ask.1);
            let parts = image.touching(&ask).parts(&ask).unwrap();
            let mut got = vec![false; LEN as usize];
            for part in &parts.parts {
                prop_assert!(part.verify());
                prop_assert_eq!(&part.bytes[..], &content[part.range.start as usize..part.range.end as usize]);
                for byte in part.range.clone() {
                    prop_assert!(!got[byte as usize]);
                    got[byte as usize] = true;
                }
            }
            for byte in clip(&ask, LEN) {
                prop_assert_eq!(got[byte as usize], present[byte as usize]);
            }
            let missing: u64 = parts.missing(&ask).iter().map(|gap| gap.end - gap.start).sum();
            prop_assert_eq!(missing + parts.len(), clip(&ask, LEN).end - clip(&ask, LEN).start);
        }
    }
}
