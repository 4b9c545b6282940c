//! Frames: samples of every released version, and what no bytes may do.
//!
//! `testdata/frame-1.txt` holds one line per sample: name, tab, hexadecimal bytes. Once
//! released a line is never changed. `ARUSTIO_UPDATE_GOLDEN=1` appends what is missing.
//! The last property is our fuzzer: it feeds the decoders with valid frames that were
//! damaged, with a checksum that fits, so that it gets past the first comparison.

use arustio_types::{
    BlockKey, BlockSize, Checksum, ClusterId, ContentId, ErrorKind, Incarnation, MountId, NodeId,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::body::{self, Extent, Grant, Hello, Versions};
use super::*;

const SUM: Checksum = Checksum(0x0102_0304);
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/frame-1.txt");

fn key() -> BlockKey {
    BlockKey {
        content: ContentId::new(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        size: BlockSize::DEFAULT,
        index: 3,
    }
}

fn hello() -> Hello {
    Hello {
        versions: Versions {
            oldest: 1,
            newest: 1,
        },
        features: 5,
        cluster: ClusterId::new(7),
        incarnation: Incarnation::new(2),
        node: NodeId::new(9),
        instance: 11,
        token: b"signed".to_vec(),
    }
}

fn extents() -> Vec<Extent> {
    let extent = |blocks| Extent {
        content: key().content,
        size: key().size,
        first: 0,
        blocks,
    };
    vec![extent(1), extent(300)]
}

#[test]
fn a_run_of_blocks_may_begin_anywhere() {
    let first = |first| {
        vec![Extent {
            first,
            ..extents()[0]
        }]
    };
    for at in [1, 300, (1 << 56) - 1] {
        let bytes = body::encode_extents(&first(at));
        assert_eq!(body::decode_extents(&bytes), Ok(first(at)));
    }
}

fn grants() -> Vec<Grant> {
    let grant = |lease, offset| Grant {
        lease,
        offset,
        length: 256 << 10,
    };
    vec![grant(0x0102_0304_0506_0708, 0), grant(9, 1 << 20)]
}

/// A read, its answer, a write, and so on: every field is used by one of them.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let frame = |header: Header, payload: &[u8]| {
        let header = header.with(payload);
        [&header.encode()[..], payload].concat()
    };
    let read = Header {
        epoch: 12,
        offset: 65_536,
        length: 4096,
        millis: 2000,
        flags: Flags::WANT_FILL,
        ..Header::request(Operation::Read, 41).of(&key())
    };
    let part = Header {
        offset: 65_536,
        length: 4,
        block_length: 4 << 20,
        flags: Flags::ANSWER.with(Flags::MORE),
        ..Header::answer(Operation::Read, 41, Status::Ok).of(&key())
    };
    let write = Header {
        mount: MountId::new(6),
        block_length: 70_000,
        flags: Flags::DURABLE,
        ..Header::request(Operation::Write, 42).of(&key())
    };
    let busy = Header {
        millis: 50,
        ..Header::answer(Operation::Read, 43, Status::Busy)
    };
    let remove = Header {
        flags: Flags::OF_MOUNT,
        mount: MountId::new(6),
        ..Header::request(Operation::Remove, 45)
    };
    let failed = Status::Failed(ErrorKind::InvalidArgument);
    let unknown = FrameError::Operation {
        code: 99,
        request: 48,
    };
    let (unknown, words) = unknown.answer().unwrap();
    let passed = Header {
        offset: 4096,
        length: 4 << 20,
        block_length: 4 << 20,
        ..Header::answer(Operation::Pass, 47, Status::Ok).of(&key())
    };
    let release = Header {
        offset: 47,
        ..Header::request(Operation::Release, 48)
    };
    let in_file = Header {
        epoch: 9,
        mount: MountId::new(6),
        length: 4 << 20,
        block_length: 4 << 20,
        payload_crc32c: SUM.0,
        flags: Flags::IN_FILE,
        ..Header::request(Operation::Fill, 52).of(&key())
    };
    let cancel = Header {
        offset: 49,
        ..Header::request(Operation::Cancel, 53)
    };
    let want = Header {
        offset: 256 << 10,
        length: 3 << 20,
        block_length: 4 << 20,
        millis: 1000,
        flags: Flags::WANT_FILL,
        ..Header::request(Operation::Read, 49).of(&key())
    };
    let yours = Header {
        millis: 3000,
        ..Header::answer(Operation::Read, 49, Status::YouFill).of(&key())
    };
    let fill = Header {
        epoch: 9,
        mount: MountId::new(6),
        offset: 1 << 20,
        length: 4,
        block_length: 4 << 20,
        ..Header::request(Operation::Fill, 50).of(&key())
    };
    let stale = Header {
        epoch: 9,
        status: Status::Stale,
        ..Header::request(Operation::Fill, 51).of(&key())
    };
    vec![
        ("read.want", frame(want, b"")),
        ("read.yours", frame(yours, &body::encode_grants(&grants()))),
        ("fill", frame(fill, b"ijkl")),
        ("fill.stale", frame(stale, b"")),
        (
            "fill.lost",
            frame(Header::answer(Operation::Fill, 50, Status::Miss), b""),
        ),
        (
            "hello",
            frame(Header::request(Operation::Hello, 0), &hello().encode()),
        ),
        ("read", frame(read, b"")),
        ("read.part", frame(part, b"abcd")),
        (
            "read.miss",
            frame(Header::answer(Operation::Read, 41, Status::Miss), b""),
        ),
        ("read.busy", frame(busy, b"")),
        ("write", frame(write, b"efgh")),
        (
            "write.rejected",
            frame(
                Header::answer(Operation::Write, 42, Status::Rejected),
                b"full",
            ),
        ),
        (
            "stat",
            frame(
                Header::request(Operation::Stat, 44),
                &body::encode_extents(&extents()),
            ),
        ),
        (
            "stat.counts",
            frame(
                Header::answer(Operation::Stat, 44, Status::Ok),
                &body::encode_counts(&[1, 1 << 40]),
            ),
        ),
        ("remove", frame(remove, b"")),
        ("ping", frame(Header::request(Operation::Ping, 46), b"")),
        (
            "pass",
            frame(Header::request(Operation::Pass, 47).of(&key()), b""),
        ),
        ("pass.passed", frame(passed, &body::encode_passed(SUM))),
        ("release", frame(release, b"")),
        ("fill.file", in_file.encode().to_vec()),
        ("cancel", frame(cancel, b"")),
        (
            "failed",
            frame(Header::answer(Operation::Stat, 47, failed), b"why"),
        ),
        ("unknown", [&unknown.encode()[..], &words].concat()),
    ]
}

#[test]
fn every_sample_of_version_1_still_has_the_same_bytes() {
    let mut text = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    let mut missing = Vec::new();
    for (name, bytes) in samples() {
        let line = format!("{name}\t{}\n", hex(&bytes));
        let stored = text
            .lines()
            .find(|known| known.starts_with(&format!("{name}\t")));
        match stored {
            Some(golden) => assert_eq!(golden, line.trim_end(), "the bytes of {name} changed"),
            None => missing.push(line),
        }
    }
    let update = std::env::var_os("ARUSTIO_UPDATE_GOLDEN").is_some();
    assert!(update || missing.is_empty(), "no sample yet: {missing:?}");
    if !missing.is_empty() {
        text.extend(missing);
        std::fs::write(GOLDEN, text).unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(bytes: &[u8]) -> Result<Header, FrameError> {
    Header::decode(bytes.first_chunk().unwrap())
}

/// With a checksum that fits.
fn summed(mut bytes: [u8; HEADER]) -> [u8; HEADER] {
    let sum = crc32c::crc32c(&bytes[..HEADER - 4]);
    bytes[HEADER - 4..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn samples_are_read_as_what_they_were() {
    for (name, bytes) in samples() {
        let header = decode(&bytes).unwrap();
        let payload = &bytes[HEADER..];
        assert_eq!(header.payload_length as usize, payload.len(), "{name}");
        if !header.flags.has(Flags::IN_FILE) {
            assert_eq!(header.payload_crc32c, crc32c::crc32c(payload), "{name}");
        }
        assert_eq!(header.encode()[..], bytes[..HEADER], "{name}");
    }
    let body = |name| {
        let sample = samples().into_iter().find(|(known, _)| *known == name);
        sample.unwrap().1[HEADER..].to_vec()
    };
    assert_eq!(Hello::decode(&body("hello")), Ok(hello()));
    assert_eq!(body::decode_extents(&body("stat")), Ok(extents()));
    assert_eq!(
        body::decode_counts(&body("stat.counts")),
        Ok(vec![1, 1 << 40])
    );
    assert_eq!(body::decode_grants(&body("read.yours")), Ok(grants()));
    assert_eq!(body::decode_passed(&body("pass.passed")), Ok(SUM));
    assert!(body::decode_passed(b"abcde").is_err());
}

#[test]
fn codes_round_trip_and_are_bounded() {
    for operation in Operation::ALL {
        assert_eq!(Operation::from_code(operation.code()), Some(operation));
    }
    for code in 0..=u16::MAX {
        if let Some(status) = Status::from_code(code) {
            assert_eq!(status.code(), code);
        }
    }
    for kind in ErrorKind::ALL {
        let status = Status::Failed(*kind);
        assert_eq!(Status::from_code(status.code()), Some(status));
    }
    assert_eq!(Operation::from_code(0), None);
}

#[test]
fn what_is_not_understood_says_why_and_names_both_versions() {
    let good = Header::request(Operation::Read, 5).of(&key()).encode();
    let with = |at: usize, value: u8| {
        let mut bytes = good;
        bytes[at] = value;
        bytes
    };
    assert_eq!(decode(&with(0, b'x')), Err(FrameError::NotAFrame));
    assert_eq!(decode(&with(64, 1)), Err(FrameError::Damaged));
    // A later version may have another header: its checksum is not even looked for.
    let version = decode(&with(4, 9)).unwrap_err();
    assert_eq!(version, FrameError::Version { found: 9 });
    let (header, words) = version.answer().unwrap();
    assert_eq!(header.status, Status::UnknownVersion);
    assert_eq!((header.index, header.offset, header.length), (9, 1, 1));
    let words = String::from_utf8(words).unwrap();
    assert!(
        words.contains("version 9 was spoken, here 1 to 1"),
        "{words}"
    );

    let operation = decode(&summed(with(5, 99))).unwrap_err();
    assert_eq!(
        operation,
        FrameError::Operation {
            code: 99,
            request: 5
        }
    );
    let (header, _) = operation.answer().unwrap();
    assert_eq!(
        (header.status, header.request),
        (Status::UnknownOperation, 5)
    );
    assert!(matches!(
        decode(&summed(with(8, 200))),
        Err(FrameError::Status { code: 200, .. })
    ));
    assert!(FrameError::NotAFrame.answer().is_none());
}

#[test]
fn a_flag_that_may_not_be_ignored_is_told_apart() {
    assert_eq!(Flags::from_bits(0x00fe).strange(), Flags::NONE);
    let strange = Flags::ANSWER.with(Flags::from_bits(0x8000)).strange();
    assert_eq!(strange, Flags::from_bits(0x8000));
    let read = Header {
        flags: Flags::from_bits(0x80fe),
        ..Header::request(Operation::Read, 1)
    };
    assert_eq!(Header::decode(&read.encode()).unwrap().flags, read.flags);
}

#[test]
fn payloads_are_bounded_by_what_an_operation_can_have() {
    let claims = |header: Header, payload_length: u32| {
        let header = Header {
            payload_length,
            ..header
        };
        Header::decode(&header.encode())
    };
    let read = Header::request(Operation::Read, 1);
    assert!(claims(read, 0).is_ok());
    assert!(matches!(
        claims(read, 1),
        Err(FrameError::TooLong { most: 0, .. })
    ));
    let write = Header::request(Operation::Write, 1);
    assert!(claims(write, MAX_PAYLOAD).is_ok());
    assert!(claims(write, MAX_PAYLOAD + 1).is_err());
    let part = Header::answer(Operation::Read, 1, Status::Ok);
    assert!(claims(part, MAX_PAYLOAD).is_ok());
    let failed = Header::answer(Operation::Read, 1, Status::Rejected);
    assert!(claims(failed, MAX_TEXT as u32 + 1).is_err());
    for operation in Operation::ALL {
        assert!(claims(Header::request(operation, 1), u32::MAX).is_err());
        assert!(claims(Header::answer(operation, 1, Status::Ok), u32::MAX).is_err());
    }
}

#[test]
fn versions_meet_at_the_newest_common_one() {
    let of = |oldest, newest| Versions { oldest, newest };
    assert_eq!(of(1, 3).common(of(2, 5)), Some(3));
    assert_eq!(of(1, 1).common(of(1, 9)), Some(1));
    assert_eq!(of(1, 2).common(of(3, 4)), None);
}

#[test]
fn texts_are_cut_and_tamed() {
    let long = "ä".repeat(MAX_TEXT);
    let cut = body::encode_text(&long);
    assert_eq!(cut.len(), MAX_TEXT);
    assert_eq!(body::encode_text(&format!("a{long}")).len(), MAX_TEXT - 1);
    assert_eq!(body::decode_text(b"a\x1b[31m\nb\xff"), "a [31m b\u{fffd}");
}

#[test]
fn leases_ascend_and_do_not_overlap() {
    let grant = |offset, length| Grant {
        lease: 1,
        offset,
        length,
    };
    let odd = [
        vec![],
        vec![grant(0, 0)],
        vec![grant(5, 5), grant(9, 1)],
        vec![grant(5, 5), grant(0, 5)],
        vec![grant(u64::MAX, 1), grant(0, 1)],
        (0..33).map(|at| grant(at, 1)).collect(),
    ];
    for grants in odd {
        assert!(body::decode_grants(&body::encode_grants(&grants)).is_err());
    }
    let most: Vec<_> = (0..32).map(|at| grant(at * 2, 2)).collect();
    let payload = body::encode_grants(&most);
    assert!(
        payload.len() <= MAX_TEXT,
        "an answer that is no part has so much room"
    );
    assert_eq!(body::decode_grants(&payload), Ok(most));
}

#[test]
fn a_token_is_never_shown() {
    let shown = format!("{:?}", hello());
    assert!(
        !shown.contains("signed") && !shown.contains("115, 105"),
        "{shown}"
    );
}

fn header() -> impl Strategy<Value = Header> {
    let codes = (select(&Operation::ALL[..]), any::<u16>(), any::<u16>());
    let names = (any::<u64>(), any::<u128>(), any::<u8>(), any::<u64>());
    let places = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let lengths = (any::<u32>(), any::<u32>(), any::<u32>());
    (codes, names, places, lengths).prop_map(|(codes, names, places, lengths)| Header {
        operation: codes.0,
        flags: Flags::from_bits(codes.1),
        status: Status::from_code(codes.2 % 300).unwrap_or_default(),
        request: names.0,
        content: ContentId::new(names.1),
        size_log2: names.2,
        index: names.3,
        mount: MountId::new(places.0),
        epoch: places.1,
        offset: places.2,
        length: places.3,
        millis: lengths.0,
        block_length: lengths.1,
        payload_crc32c: lengths.2,
        payload_length: 0,
    })
}

proptest! {
    #[test]
    fn any_header_round_trips(header in header()) {
        prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn one_wrong_bit_is_always_seen(header in header(), bit in 0..HEADER * 8) {
        let mut bytes = header.encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Header::decode(&bytes).is_err());
    }

    #[test]
    fn any_body_round_trips(
        numbers in any::<(u8, u8, u32, u128, u64, u64, u128)>(),
        token in vec(any::<u8>(), 0..64),
        counts in vec(any::<u64>(), 0..64),
    ) {
        let hello = Hello {
            versions: Versions { oldest: numbers.0, newest: numbers.1 },
            features: numbers.2,
            cluster: ClusterId::new(numbers.3),
            incarnation: Incarnation::new(numbers.4),
            node: NodeId::new(numbers.5),
            instance: numbers.6,
            token,
        };
        prop_assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        prop_assert_eq!(body::decode_counts(&body::encode_counts(&counts)), Ok(counts));
    }

    #[test]
    fn damaged_frames_never_panic_and_never_exceed_their_bounds(
        sample in 0..samples().len(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = samples()[sample].1.clone();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let (header, payload) = bytes.split_first_chunk().unwrap();
        if let Ok(header) = Header::decode(&summed(*header)) {
            prop_assert!(header.payload_length <= MAX_PAYLOAD);
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
        let payload = &payload[..cut.index(payload.len() + 1)];
        if let Ok(hello) = Hello::decode(payload) {
            prop_assert!(hello.token.len() <= MAX_TOKEN);
        }
        if let Ok(extents) = body::decode_extents(payload) {
            prop_assert_eq!(body::encode_extents(&extents).len(), payload.len());
        }
        if let Ok(grants) = body::decode_grants(payload) {
            prop_assert!(grants.len() <= MAX_GRANTS);
            let apart = |pair: &[Grant]| pair[0].offset + pair[0].length <= pair[1].offset;
            prop_assert!(grants.windows(2).all(apart));
            prop_assert_eq!(body::encode_grants(&grants), payload);
        }
        let _ = body::decode_counts(payload);
        prop_assert!(body::decode_text(payload).len() <= 3 * MAX_TEXT);
    }
}
