//! What no bytes may do to whoever reads the file of a block, for a fuzzer and for tests.

use arustio_types::{BlockKey, BlockSize, ContentId};

use super::format::{Header, PAGE};
use crate::chunk;

/// Where a header says which block it is, and how long it is.
const CONTENT: usize = 16;
const SIZE: usize = 32;
const INDEX: usize = 40;
/// Headers that are longer than this are not looked at here: the largest block has one.
const LONGEST: u64 = 64 << 10;

/// Files of blocks. The checksum of the header is made to fit, and the file is taken for the
/// block that it says it is, so that what lies behind these comparisons is reached.
///
/// Panics where a header is taken that does not encode to what was read, or that lets anybody
/// read beyond the file.
pub fn blocks(bytes: &[u8]) {
    let Ok(length) = Header::peek(bytes) else {
        return;
    };
    assert!(length <= LONGEST && length.is_multiple_of(PAGE));
    let Some(key) = key_in(bytes) else {
        return;
    };
    let header = &bytes[..bytes.len().min(length as usize)];
    for summed in [header.to_vec(), with_sum(header)] {
        if let Ok(header) = Header::decode(&summed, key, bytes.len() as u64) {
            sound(&header, bytes.len() as u64);
            let again = Header::decode(&header.encode(), key, header.file_len());
            assert_eq!(again, Ok(header));
        }
    }
}

fn sound(header: &Header, file: u64) {
    let chunks = chunk::count(header.block_len);
    for range in [0..chunks, 0..1, chunks - 1..chunks] {
        let mut end = 0;
        for stretch in header.stretches(&range) {
            assert!(stretch.offset >= end && stretch.len > 0);
            end = stretch.offset + stretch.len;
        }
        assert!(end <= file, "{end} of {file}");
        assert_eq!(header.sums_of(&range).len(), range.len());
    }
    assert!(header.presence().present <= header.block_len);
}

fn key_in(bytes: &[u8]) -> Option<BlockKey> {
    let content = bytes.get(CONTENT..)?.first_chunk()?;
    let index = bytes.get(INDEX..)?.first_chunk()?;
    Some(BlockKey {
        content: ContentId::new(u128::from_le_bytes(*content)),
        size: BlockSize::from_log2(bytes[SIZE])?,
        index: u64::from_le_bytes(*index),
    })
}

/// With a checksum that fits, where there is room for it.
fn with_sum(header: &[u8]) -> Vec<u8> {
    let mut header = header.to_vec();
    if let Some(at) = Header::sum_at(&header) {
        let sum = chunk::checksum(&header[..at]).0;
        header[at..at + 4].copy_from_slice(&sum.to_le_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use arustio_types::MountId;
    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;
    use crate::image::Image;
    use crate::store::BlockWrite;
    use crate::testing::{content_bytes, small_key};

    /// Headers of a small block, of a partial one and of one whose last chunk is short; the
    /// bodies are zeros, which no header looks at.
    fn seeds() -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = root.join("../../proto/fuzz/corpus/blocks");
        let whole = [
            ("small", 100),
            ("chunk", chunk::CHUNK),
            ("short", chunk::CHUNK + 9),
        ];
        let mut seeds: Vec<_> = whole
            .iter()
            .map(|(name, length)| (*name, of(*length, 0..*length)))
            .collect();
        seeds.push((
            "partial",
            of(2 * chunk::CHUNK, chunk::CHUNK..2 * chunk::CHUNK),
        ));
        if std::env::var_os("ARUSTIO_UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(&root).unwrap();
            for (name, header) in &seeds {
                fs::write(root.join(name), header).unwrap();
            }
        }
        for (name, header) in &seeds {
            assert!(fs::read(root.join(name)).unwrap() == *header, "{name}");
        }
        seeds.into_iter().map(|(_, header)| header).collect()
    }

    fn of(length: u64, range: std::ops::Range<u64>) -> Vec<u8> {
        let key = small_key(1, 2);
        let payload = content_bytes(key.content, range.start, range.end - range.start);
        let write = BlockWrite {
            offset: range.start,
            checksum: chunk::checksum(&payload),
            payload,
            block_len: length,
            ..BlockWrite::whole(key, MountId::new(3), Bytes::new())
        };
        Header::of(&Image::of_write(&write).unwrap().unwrap()).encode()
    }

    /// As long as the header says that its file is.
    fn file(mut header: Vec<u8>) -> Vec<u8> {
        let body = u64::from_le_bytes(*header[64..].first_chunk().unwrap());
        header.resize(header.len() + body as usize, 0);
        header
    }

    #[test]
    fn every_seed_is_a_block() {
        for seed in seeds() {
            let file = file(seed.clone());
            let key = key_in(&seed).unwrap();
            assert!(Header::decode(&seed, key, file.len() as u64).is_ok());
            blocks(&file);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn damaged_files_are_refused_or_sound(
            seed in select(seeds()),
            damage in vec((0..140_usize, any::<u8>()), 0..6),
            cut in any::<Index>(),
            cuts in any::<bool>(),
        ) {
            let mut bytes = file(seed);
            for (at, value) in damage {
                bytes[at] = value;
            }
            if cuts {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            blocks(&bytes);
        }

        #[test]
        fn any_bytes_behind_the_magic_are_refused_or_sound(
            bytes in vec(any::<u8>(), 0..9000),
        ) {
            blocks(&[&b"ARUSTBLK\x01\0\0\0"[..], &bytes].concat());
        }
    }
}
