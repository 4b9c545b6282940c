//! What no bytes may do to the records of the state engine, for a fuzzer and for tests.
//!
//! The first byte says which record the others are taken for. Panics where one is decoded
//! that does not decode to the same again.

use std::fmt::Debug;

use arustio_types::meta::effect::Effect;
use arustio_types::meta::intent::Intent;
use arustio_types::meta::mount::MountEntry;
use arustio_types::meta::setting::PathConf;

use crate::engine::record::{
    Counters, DentryRecord, IdentityRecord, InodeRecord, InodeView, NodeRecord, Record,
    SessionRecord,
};
use crate::state_machine::Applied;

/// Records as they are stored.
pub fn records(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind {
        0 => record::<DentryRecord>(bytes),
        1 => inode(bytes),
        2 => record::<MountEntry>(bytes),
        3 => record::<PathConf>(bytes),
        4 => record::<NodeRecord>(bytes),
        5 => record::<Intent>(bytes),
        6 => record::<Effect>(bytes),
        7 => record::<SessionRecord>(bytes),
        8 => record::<Counters>(bytes),
        9 => record::<IdentityRecord>(bytes),
        10 => record::<Applied>(bytes),
        _ => {}
    }
}

fn record<R: Record + PartialEq + Debug>(bytes: &[u8]) {
    let decoded = R::decode(bytes);
    assert_eq!(decoded.is_ok(), R::decode_stored(bytes).is_ok());
    if let Ok(record) = decoded {
        assert_eq!(R::decode(&record.encode()), Ok(record));
    }
}

/// The two ways to read an inode agree.
fn inode(bytes: &[u8]) {
    record::<InodeRecord>(bytes);
    let viewed = InodeView::decode_stored(bytes).ok().map(InodeRecord::from);
    assert_eq!(viewed, InodeRecord::decode(bytes).ok());
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::records;

    fn seeds() -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = fs::read_dir(root.join("../../proto/fuzz/corpus/records")).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    #[test]
    fn every_seed_is_sound() {
        assert!(seeds().len() > 10);
        seeds().iter().for_each(|seed| records(seed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn damaged_records_are_refused_or_sound(
            seed in select(seeds()),
            damage in vec((any::<Index>(), any::<u8>()), 0..6),
            cut in any::<Index>(),
            cuts in any::<bool>(),
        ) {
            let mut bytes = seed;
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if cuts {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            records(&bytes);
        }

        #[test]
        fn any_bytes_are_refused_or_sound(bytes in vec(any::<u8>(), 0..200), kind in 0..11u8) {
            records(&[&[kind], &bytes[..]].concat());
        }
    }
}
