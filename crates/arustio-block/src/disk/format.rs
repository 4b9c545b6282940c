//! The form of a block on disk: a file that introduces itself.
//!
//! One file holds one block: a header, padded to pages so that the body can be mapped
//! and sent, then the chunks that are there, packed in order. Little-endian:
//!
//! ```text
//!   0  magic "ARUSTBLK"        8  format version u16     10  zero u16
//!  12  header length u32      16  content id u128        32  log2 of the block size u8, zeros
//!  40  index u64              48  mount id u64           56  block length u64
//!  64  body length u64        72  chunks u32             76  CRC32C of the body u32
//!  80  bitmap of the chunks that are there, padded to 4 bytes
//!   .  CRC32C of each chunk u32, 0 for one that is not there
//!   .  CRC32C of everything before u32, then zeros to a multiple of 4096
//! ```
//!
//! Every length follows from the block length and the bitmap, and is compared with what
//! the file says and with the length of the file; nothing is allocated by its word. A
//! change of anything here is a new format version; older ones are then converted or
//! dropped, newer ones are always dropped, since a cache may forget.

use std::ops::Range;

use arustio_types::{BlockKey, BlockSize, ContentId, MountId};

use crate::chunk;
use crate::image::Image;
use crate::store::Presence;

/// The version that this code writes, and the only one that it reads.
pub(crate) const VERSION: u16 = 1;
/// Header lengths are multiples of this; also what space on disk is counted in.
pub(crate) const PAGE: u64 = 4096;

const MAGIC: &[u8; 8] = b"ARUSTBLK";
const FIXED: usize = 80;

/// Why a file is not a block that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Not ours.
    Foreign,
    /// Ours, but written by a later version.
    Newer,
    /// Ours, but damaged, or not the block that its name says.
    Corrupt,
}

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key: BlockKey,
    pub(crate) mount: MountId,
    pub(crate) block_len: u64,
    /// Checksum of each chunk that is there.
    sums: Vec<Option<u32>>,
}

/// Consecutive chunks in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) chunks: Range<u32>,
    /// Where in the file.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) len: u64,
}

impl Header {
    pub(crate) fn of(image: &Image) -> Header {
        let mut sums = vec![None; chunk::count(image.block_len) as usize];
        for run in &image.runs {
            for (at, sum) in run.chunks().zip(&run.sums) {
                sums[at as usize] = Some(*sum);
            }
        }
        Header {
            key: image.key,
            mount: image.mount,
            block_len: image.block_len,
            sums,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let header_len = header_len(self.block_len);
        let present: Vec<u32> = self.sums.iter().copied().flatten().collect();
        let mut out = Vec::with_capacity(header_len as usize);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&(header_len as u32).to_le_bytes());
        out.extend_from_slice(&self.key.content.get().to_le_bytes());
        out.extend_from_slice(&[self.key.size.log2(), 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.key.index.to_le_bytes());
        out.extend_from_slice(&self.mount.get().to_le_bytes());
        out.extend_from_slice(&self.block_len.to_le_bytes());
        out.extend_from_slice(&self.body_len().to_le_bytes());
        out.extend_from_slice(&(self.sums.len() as u32).to_le_bytes());
        let body = chunk::combine(&present, self.body_len());
        out.extend_from_slice(&body.to_le_bytes());
        out.extend_from_slice(&self.bitmap());
        for sum in &self.sums {
            out.extend_from_slice(&sum.unwrap_or(0).to_le_bytes());
        }
        let crc = chunk::checksum(&out).0;
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(header_len as usize, 0);
        out
    }

    /// How long the header is, from its first page. Bounded by the largest block.
    pub(crate) fn peek(page: &[u8]) -> Result<u64, Unusable> {
        let magic = page.get(..8).ok_or(Unusable::Corrupt)?;
        if magic != MAGIC {
            return Err(Unusable::Foreign);
        }
        let version = u16::from_le_bytes(array(page, 8)?);
        if version > VERSION {
            return Err(Unusable::Newer);
        }
        let block_len = u64::from_le_bytes(array(page, 56)?);
        let len = u64::from(u32::from_le_bytes(array(page, 12)?));
        let sound = version == VERSION
            && (1..=BlockSize::MAX.bytes()).contains(&block_len)
            && len == header_len(block_len);
        sound.then_some(len).ok_or(Unusable::Corrupt)
    }

    /// Reads a whole header and compares it with the key it should have and with the
    /// length of the file.
    pub(crate) fn decode(bytes: &[u8], key: BlockKey, file_len: u64) -> Result<Header, Unusable> {
        Self::peek(bytes)?;
        let block_len = u64::from_le_bytes(array(bytes, 56)?);
        let chunks = chunk::count(block_len) as usize;
        let sums_at = FIXED + bitmap_len(chunks);
        let crc_at = sums_at + 4 * chunks;
        let crc = u32::from_le_bytes(array(bytes, crc_at)?);
        let said = BlockKey {
            content: ContentId::new(u128::from_le_bytes(array(bytes, 16)?)),
            size: BlockSize::from_log2(bytes[32]).ok_or(Unusable::Corrupt)?,
            index: u64::from_le_bytes(array(bytes, 40)?),
        };
        let sound = chunk::checksum(&bytes[..crc_at]).0 == crc
            && said == key
            && block_len <= key.size.bytes()
            && u32::from_le_bytes(array(bytes, 72)?) as usize == chunks;
        if !sound {
            return Err(Unusable::Corrupt);
        }
        let bit = |at: usize| bytes[FIXED + at / 8] >> (at % 8) & 1 == 1;
        let sum = |at: usize| array(bytes, sums_at + 4 * at).map(u32::from_le_bytes);
        let sums = (0..chunks)
            .map(|at| if bit(at) { sum(at).map(Some) } else { Ok(None) })
            .collect::<Result<Vec<_>, _>>()?;
        let header = Header {
            key,
            mount: MountId::new(u64::from_le_bytes(array(bytes, 48)?)),
            block_len,
            sums,
        };
        let body_len = u64::from_le_bytes(array(bytes, 64)?);
        let fits = header.body_len() == body_len && header.file_len() == file_len;
        fits.then_some(header).ok_or(Unusable::Corrupt)
    }

    /// Where the checksum of a header lies that is of the length which it says.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn sum_at(bytes: &[u8]) -> Option<usize> {
        let block_len = u64::from_le_bytes(array(bytes, 56).ok()?);
        let chunks = chunk::count(block_len) as usize;
        let at = FIXED + bitmap_len(chunks) + 4 * chunks;
        (at + 4 <= bytes.len()).then_some(at)
    }

    /// Bytes of the chunks that are there.
    pub(crate) fn body_len(&self) -> u64 {
        let present = self.sums.iter().flatten().count() as u64;
        let last_is_there = matches!(self.sums.last(), Some(Some(_)));
        let short = self.sums.len() as u64 * chunk::CHUNK - self.block_len;
        present * chunk::CHUNK - if last_is_there { short } else { 0 }
    }

    pub(crate) fn file_len(&self) -> u64 {
        header_len(self.block_len) + self.body_len()
    }

    pub(crate) fn presence(&self) -> Presence {
        Presence {
            block_len: self.block_len,
            present: self.body_len(),
        }
    }

    /// Whether a chunk that both have differs, or the block lengths do.
    pub(crate) fn disagrees(&self, image: &Image) -> bool {
        let differs = |(at, sum): (u32, &u32)| {
            let mine = self.sums.get(at as usize).copied().flatten();
            mine.is_some_and(|mine| mine != *sum)
        };
        self.block_len != image.block_len
            || image
                .runs
                .iter()
                .any(|run| run.chunks().zip(&run.sums).any(differs))
    }

    /// The checksums of chunks that are there.
    pub(crate) fn sums_of(&self, chunks: &Range<u32>) -> Vec<u32> {
        let slice = &self.sums[chunks.start as usize..chunks.end as usize];
        slice.iter().map(|sum| sum.unwrap_or(0)).collect()
    }

    /// What is there of `chunks`, as stretches of the file.
    pub(crate) fn stretches(&self, chunks: &Range<u32>) -> Vec<Stretch> {
        let mut found: Vec<Stretch> = Vec::new();
        let mut offset = header_len(self.block_len);
        for (at, sum) in (0u32..).zip(&self.sums).take(chunks.end as usize) {
            if sum.is_none() {
                continue;
            }
            let bytes = chunk::bytes_of(&(at..at + 1), self.block_len);
            let len = bytes.end - bytes.start;
            if at >= chunks.start {
                match found.last_mut() {
                    Some(last) if last.chunks.end == at => {
                        last.chunks.end += 1;
                        last.len += len;
                    }
                    _ => found.push(Stretch {
                        chunks: at..at + 1,
                        offset,
                        len,
                    }),
                }
            }
            offset += len;
        }
        found
    }

    fn bitmap(&self) -> Vec<u8> {
        let mut bitmap = vec![0; bitmap_len(self.sums.len())];
        for (at, _) in self
            .sums
            .iter()
            .enumerate()
            .filter(|(_, sum)| sum.is_some())
        {
            bitmap[at / 8] |= 1 << (at % 8);
        }
        bitmap
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Unusable> {
    let slice = bytes.get(at..at + N).ok_or(Unusable::Corrupt)?;
    slice.try_into().map_err(|_| Unusable::Corrupt)
}

fn bitmap_len(chunks: usize) -> usize {
    chunks.div_ceil(32) * 4
}

fn header_len(block_len: u64) -> u64 {
    let chunks = chunk::count(block_len) as usize;
    let used = FIXED + bitmap_len(chunks) + 4 * chunks + 4;
    (used as u64).next_multiple_of(PAGE)
}

/// Space that the file of a block takes up.
pub(crate) fn cost_of(presence: Presence) -> u64 {
    (header_len(presence.block_len) + presence.present).next_multiple_of(PAGE)
}

/// The folders of the fan-out.
pub(crate) fn folders() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|byte| format!("{byte:02x}"))
}

/// The path of a block's file below the cache directory.
pub(crate) fn file_name(key: BlockKey) -> String {
    format!("{}.blk", stem(key))
}

/// The path of the mark that keeps a block from being evicted after a restart.
pub(crate) fn pin_name(key: BlockKey) -> String {
    format!("{}.pin", stem(key))
}

/// Blocks of one content spread over all folders, so no folder grows with a file.
fn stem(key: BlockKey) -> String {
    let name = key.to_string();
    let folder = chunk::checksum(name.as_bytes()).0 as u8;
    format!("{folder:02x}/{name}")
}

/// A file of ours, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Block(BlockKey),
    Pin(BlockKey),
}

/// What a path below the cache directory names; `None` for what we never wrote.
pub(crate) fn parse_name(path: &str) -> Option<Named> {
    let (_, name) = path.split_once('/')?;
    let (stem, kind) = name.rsplit_once('.')?;
    let mut fields = stem.split('-');
    let key = BlockKey {
        content: fields.next()?.parse().ok()?,
        size: BlockSize::from_log2(fields.next()?.parse().ok()?)?,
        index: fields.next()?.parse().ok()?,
    };
    match kind {
        "blk" if file_name(key) == path => Some(Named::Block(key)),
        "pin" if pin_name(key) == path => Some(Named::Pin(key)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Run;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn key() -> BlockKey {
        BlockKey {
            content: ContentId::new(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            size: BlockSize::DEFAULT,
            index: 7,
        }
    }

    fn image(block_len: u64, chunks: &[u32]) -> Image {
        let run = |&first: &u32| {
            let len = chunk::bytes_of(&(first..first + 1), block_len);
            let bytes = Bytes::from(vec![first as u8; (len.end - len.start) as usize]);
            Run {
                first,
                sums: chunk::sums(&bytes),
                bytes,
                file: None,
            }
        };
        Image {
            runs: chunks.iter().map(run).collect(),
            ..Image::empty(key(), MountId::new(3), block_len)
        }
    }

    #[test]
    fn headers_round_trip_and_stretches_skip_what_is_missing() {
        let len = 5 * chunk::CHUNK + 9;
        let header = Header::of(&image(len, &[1, 2, 5]));
        let bytes = header.encode();
        assert_eq!(header.file_len(), PAGE + 2 * chunk::CHUNK + 9);
        let back = Header::decode(&bytes, key(), header.file_len()).unwrap();
        assert_eq!(back, header);
        let stretch = |chunks, offset, len| Stretch {
            chunks,
            offset,
            len,
        };
        assert_eq!(
            back.stretches(&(0..6)),
            [
                stretch(1..3, PAGE, 2 * chunk::CHUNK),
                stretch(5..6, PAGE + 2 * chunk::CHUNK, 9)
            ]
        );
        assert_eq!(
            back.stretches(&(2..4)),
            [stretch(2..3, PAGE + chunk::CHUNK, chunk::CHUNK)]
        );
    }

    #[test]
    fn the_format_does_not_change_unnoticed() {
        let bytes = Header::of(&image(2 * chunk::CHUNK, &[0, 1])).encode();
        assert_eq!(bytes.len() as u64, PAGE);
        assert_eq!(&bytes[..12], b"ARUSTBLK\x01\0\0\0");
        // Golden: blocks written by earlier builds are found again by this layout.
        assert_eq!(chunk::checksum(&bytes).0, 677_733_727);
    }

    #[test]
    fn foreign_newer_and_misplaced_files_are_told_apart() {
        let header = Header::of(&image(100, &[0]));
        let good = header.encode();
        let read = |bytes: &[u8]| Header::decode(bytes, key(), header.file_len()).unwrap_err();
        let mut newer = good.clone();
        newer[8] = 2;
        assert_eq!(read(&newer), Unusable::Newer);
        assert_eq!(read(b"#!/bin/sh plus something"), Unusable::Foreign);
        assert_eq!(read(b""), Unusable::Corrupt);
        let other = BlockKey { index: 8, ..key() };
        let misplaced = Header::decode(&good, other, header.file_len());
        assert_eq!(misplaced, Err(Unusable::Corrupt));
        let torn = Header::decode(&good, key(), header.file_len() - 1);
        assert_eq!(torn, Err(Unusable::Corrupt));
    }

    #[test]
    fn names_round_trip_and_strangers_have_none() {
        assert_eq!(parse_name(&file_name(key())), Some(Named::Block(key())));
        assert_eq!(parse_name(&pin_name(key())), Some(Named::Pin(key())));
        assert_eq!(parse_name("00/README.blk"), None);
        let elsewhere = format!("zz/{}.blk", key());
        assert_eq!(parse_name(&elsewhere), None);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in 0usize..84 * 8) {
            let header = Header::of(&image(100, &[0]));
            let mut bytes = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::decode(&bytes, key(), header.file_len()).is_err());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut ours = bytes.clone();
            ours.splice(..ours.len().min(10), Header::of(&image(100, &[0])).encode()[..10].iter().copied());
            let _ = Header::decode(&bytes, key(), 1);
            let _ = Header::decode(&ours, key(), 1);
        }
    }
}
