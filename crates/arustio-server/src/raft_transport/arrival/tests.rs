//! Good snapshots, broken ones, and those that somebody made up.

use super::*;

const NAME: &str = "000012.sst";

fn header(files: &[(&str, u64)]) -> wire::SnapshotHeader {
    let file = |(name, bytes): &(&str, u64)| wire::SnapshotFile {
        name: (*name).to_owned(),
        bytes: *bytes,
    };
    wire::SnapshotHeader {
        id: Some(7_u128.into()),
        files: files.iter().map(file).collect(),
        ..wire::SnapshotHeader::default()
    }
}

fn piece(file: u32, offset: u64, bytes: &[u8], whole: Option<&[u8]>) -> wire::SnapshotData {
    wire::SnapshotData {
        file,
        offset,
        bytes: bytes.to_vec().into(),
        crc32c: crc32c::crc32c(bytes),
        file_crc32c: whole.map(crc32c::crc32c),
    }
}

fn plenty(_: &Path) -> io::Result<ByteSize> {
    Ok(ByteSize::gib(1))
}

fn begin(
    arrivals: &Arrivals,
    root: &tempfile::TempDir,
    files: &[(&str, u64)],
) -> Result<Arrival, Failure> {
    arrivals.begin(root.path(), &header(files), plenty)
}

#[test]
fn a_snapshot_arrives_whole() {
    let root = tempfile::tempdir().unwrap();
    let arrivals = Arrivals::default();
    let mut arrival = begin(&arrivals, &root, &[(NAME, 6), ("CURRENT", 0)]).unwrap();
    assert!(arrival.have().is_empty());
    arrival.write(&piece(0, 0, b"abc", None)).unwrap();
    arrival
        .write(&piece(0, 3, b"def", Some(b"abcdef")))
        .unwrap();
    arrival.write(&piece(1, 0, b"", Some(b""))).unwrap();
    let whole = arrival.finish().unwrap();
    assert_eq!(fs::read(whole.join(NAME)).unwrap(), b"abcdef");
    assert_eq!(fs::read(whole.join("CURRENT")).unwrap(), b"");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn a_broken_one_is_resumed_where_it_stood() {
    let root = tempfile::tempdir().unwrap();
    let arrivals = Arrivals::default();
    let mut arrival = begin(&arrivals, &root, &[(NAME, 6)]).unwrap();
    arrival.write(&piece(0, 0, b"abc", None)).unwrap();
    drop(arrival);
    let mut arrival = begin(&arrivals, &root, &[(NAME, 6)]).unwrap();
    let [part] = arrival.have().try_into().unwrap();
    assert_eq!((part.bytes, part.crc32c), (3, crc32c::crc32c(b"abc")));
    arrival
        .write(&piece(0, 3, b"def", Some(b"abcdef")))
        .unwrap();
    let whole = arrival.finish().unwrap();
    assert_eq!(fs::read(whole.join(NAME)).unwrap(), b"abcdef");
}

#[test]
fn a_sender_that_has_something_else_begins_anew() {
    let root = tempfile::tempdir().unwrap();
    let arrivals = Arrivals::default();
    let mut arrival = begin(&arrivals, &root, &[(NAME, 3)]).unwrap();
    arrival.write(&piece(0, 0, b"ab", None)).unwrap();
    drop(arrival);
    let mut arrival = begin(&arrivals, &root, &[(NAME, 3)]).unwrap();
    arrival.write(&piece(0, 0, b"xyz", Some(b"xyz"))).unwrap();
    let whole = arrival.finish().unwrap();
    assert_eq!(fs::read(whole.join(NAME)).unwrap(), b"xyz");
}

#[test]
fn another_copy_removes_what_is_left_of_one_and_two_do_not_arrive_at_once() {
    let root = tempfile::tempdir().unwrap();
    let arrivals = Arrivals::default();
    let mut arrival = begin(&arrivals, &root, &[(NAME, 3)]).unwrap();
    arrival.write(&piece(0, 0, b"ab", None)).unwrap();
    let busy = begin(&arrivals, &root, &[(NAME, 3)]).unwrap_err();
    assert_eq!(busy.kind, ErrorKind::Unavailable);
    drop(arrival);
    let mut other = header(&[(NAME, 3)]);
    other.id = Some(8_u128.into());
    let arrival = arrivals.begin(root.path(), &other, plenty).unwrap();
    assert!(arrival.have().is_empty());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn headers_that_somebody_made_up_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let arrivals = Arrivals::default();
    let long = "x".repeat(LONGEST_NAME + 1);
    let names = [
        "", ".", "..", "a/b", "../a", "a\\b", "a\0", "ä", "a b", &long,
    ];
    for name in names {
        let failure = begin(&arrivals, &root, &[(name, 1)]).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidArgument, "{name:?}");
    }
    for files in [
        &[][..],
        &[(NAME, 1), (NAME, 1)],
        &[(NAME, u64::MAX), ("CURRENT", u64::MAX)],
    ] {
        let failure = begin(&arrivals, &root, files).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidArgument, "{files:?}");
    }
    let full = arrivals.begin(root.path(), &header(&[(NAME, 9)]), |_| Ok(ByteSize(8)));
    assert_eq!(full.unwrap_err().kind, ErrorKind::NoSpace);
    assert!(!root.path().join("arrived-0").exists());
}

#[test]
fn pieces_that_do_not_fit_are_refused_and_nothing_is_given_on() {
    let mut damaged = piece(0, 0, b"abc", None);
    damaged.crc32c ^= 1;
    let cases = [
        (damaged, ErrorKind::Corrupt),
        (piece(1, 0, b"abc", None), ErrorKind::InvalidArgument),
        (piece(0, 1, b"ab", None), ErrorKind::InvalidArgument),
        (piece(0, 0, b"abcd", None), ErrorKind::InvalidArgument),
        (piece(0, 0, b"ab", Some(b"ab")), ErrorKind::InvalidArgument),
        (piece(0, 0, b"abc", Some(b"abx")), ErrorKind::Corrupt),
        (piece(0, u64::MAX, b"abc", None), ErrorKind::InvalidArgument),
    ];
    for (bad, kind) in cases {
        let root = tempfile::tempdir().unwrap();
        let arrivals = Arrivals::default();
        let mut arrival = begin(&arrivals, &root, &[(NAME, 3), ("CURRENT", 1)]).unwrap();
        assert_eq!(arrival.write(&bad).unwrap_err().kind, kind, "{bad:?}");
        assert_eq!(
            arrival.finish().unwrap_err().kind,
            ErrorKind::InvalidArgument
        );
    }
    let root = tempfile::tempdir().unwrap();
    let arrivals = Arrivals::default();
    let mut arrival = begin(&arrivals, &root, &[(NAME, 1)]).unwrap();
    arrival.write(&piece(0, 0, b"a", Some(b"a"))).unwrap();
    let more = arrival.write(&piece(1, 0, b"a", Some(b"a"))).unwrap_err();
    assert_eq!(more.kind, ErrorKind::InvalidArgument);
}
