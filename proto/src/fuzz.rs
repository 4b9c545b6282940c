//! What no bytes may do to the decoders of this crate, for a fuzzer and for tests (feature
//! `testing`).
//!
//! Each target takes any bytes and panics where a promise is broken: nothing is decoded that
//! does not decode to the same again, and nothing that is decoded is larger than its bytes
//! allow. `fuzz/` runs them under libFuzzer; the tests below damage the same seeds.

use crate::convert;
use crate::frame::body::{self, Hello};
use crate::frame::{HEADER, Header, MAX_EXTENTS, MAX_GRANTS, MAX_PAYLOAD, MAX_TEXT, MAX_TOKEN};

/// Headers of frames and what follows them. The checksum of a header is made to fit, so that
/// what lies behind that comparison is reached.
pub fn frames(bytes: &[u8]) {
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER>() else {
        return bodies(bytes);
    };
    let mut header = *header;
    let sum = crc32c::crc32c(&header[..HEADER - 4]);
    header[HEADER - 4..].copy_from_slice(&sum.to_le_bytes());
    match Header::decode(&header) {
        Ok(header) => {
            assert!(header.payload_length <= MAX_PAYLOAD);
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
        Err(error) => {
            if let Some((answer, words)) = error.answer() {
                assert!(answer.is_answer() && words.len() <= MAX_TEXT);
                assert_eq!(Header::decode(&answer.encode()), Ok(answer));
            }
        }
    }
    bodies(payload);
}

fn bodies(payload: &[u8]) {
    if let Ok(hello) = Hello::decode(payload) {
        assert!(hello.token.len() <= MAX_TOKEN);
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }
    if let Ok(extents) = body::decode_extents(payload) {
        assert!(extents.len() <= MAX_EXTENTS);
        assert_eq!(body::encode_extents(&extents), payload);
    }
    if let Ok(counts) = body::decode_counts(payload) {
        assert!(counts.len() <= MAX_EXTENTS);
        assert_eq!(body::encode_counts(&counts), payload);
    }
    if let Ok(grants) = body::decode_grants(payload) {
        assert!(grants.len() <= MAX_GRANTS);
        assert_eq!(body::encode_grants(&grants), payload);
    }
    if let Ok(sum) = body::decode_passed(payload) {
        assert_eq!(body::encode_passed(sum), payload);
    }
    let text = body::decode_text(payload);
    assert!(text.len() <= 3 * MAX_TEXT && !text.chars().any(char::is_control));
    assert!(body::encode_text(&text).len() <= MAX_TEXT);
}

/// Commands, entries of the log, outcomes and contexts.
pub fn entries(bytes: &[u8]) {
    if let Ok(command) = convert::decode_command(bytes) {
        let again = convert::encode_command(&command).map(|bytes| convert::decode_command(&bytes));
        assert!(again.is_ok_and(|again| again.is_ok_and(|again| again == command)));
    }
    if let Ok(command) = convert::decode_command_with_secrets(bytes) {
        let again = convert::encode_command_with_secrets(&command);
        let again = convert::decode_command_with_secrets(&again);
        assert!(again.is_ok_and(|again| again == command));
    }
    if let Ok((context, command)) = convert::decode_entry(bytes) {
        let again = convert::encode_entry(&context, &command).map(|b| convert::decode_entry(&b));
        assert!(again.is_ok_and(|again| again.is_ok_and(|again| again == (context, command))));
    }
    if let Ok(outcome) = convert::decode_outcome(bytes) {
        let again = convert::decode_outcome(&convert::encode_outcome(&outcome));
        assert!(again.is_ok_and(|again| again == outcome));
    }
    if let Ok(context) = convert::decode_context(bytes) {
        let again = convert::decode_context(&convert::encode_context(&context));
        assert!(again.is_ok_and(|again| again == context));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = fs::read_dir(root.join("fuzz").join("corpus").join(target)).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty());
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// A seed of which a few bytes are others, some are gone and some are there twice.
    fn damaged(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
        let bytes = vec((any::<Index>(), any::<u8>()), 0..8);
        let ends = (any::<Index>(), any::<bool>(), any::<bool>());
        (select(seeds(target)), bytes, ends).prop_map(|(mut seed, bytes, (cut, cuts, doubles))| {
            for (at, value) in bytes {
                let at = at.index(seed.len().max(1));
                seed.iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|byte| *byte = value);
            }
            let at = cut.index(seed.len() + 1);
            match (cuts, doubles) {
                (true, _) => seed.truncate(at),
                (false, true) => seed.extend_from_within(at..),
                (false, false) => {}
            }
            seed
        })
    }

    #[test]
    fn every_seed_is_sound() {
        seeds("frames").iter().for_each(|seed| super::frames(seed));
        seeds("entries")
            .iter()
            .for_each(|seed| super::entries(seed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn damaged_frames_are_refused_or_sound(bytes in damaged("frames")) {
            super::frames(&bytes);
        }

        #[test]
        fn damaged_entries_are_refused_or_sound(bytes in damaged("entries")) {
            super::entries(&bytes);
        }

        #[test]
        fn any_bytes_are_refused_or_sound(bytes in vec(any::<u8>(), 0..400)) {
            super::frames(&bytes);
            super::entries(&bytes);
        }
    }
}
