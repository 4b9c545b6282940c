//! Files that others hand in, honest and not, and what the tier keeps of them.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use arustio_types::{MountId, SystemClock};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};

use super::super::map::Writable;
use super::*;
use crate::chunk::CHUNK;
use crate::memory::MemoryTier;
use crate::store::{BlockStore as _, BlockWrite, Borrowed, WriteOutcome};
use crate::testing::{config, content_bytes, heap_config, small_key};

const LENGTH: u64 = 2 * CHUNK;

fn memfd(flags: MemfdFlags) -> File {
    let file = memfd_create("test", flags | MemfdFlags::CLOEXEC).unwrap();
    File::from(file)
}

fn empty() -> File {
    memfd(MemfdFlags::ALLOW_SEALING)
}

fn content() -> Bytes {
    content_bytes(small_key(1, 0).content, 0, LENGTH)
}

fn filled() -> File {
    let mut file = empty();
    file.write_all(&content()).unwrap();
    file
}

fn number(file: &File) -> u64 {
    file.metadata().unwrap().ino()
}

#[test]
fn what_is_handed_in_cannot_be_changed_any_more() {
    let mut theirs = filled();
    let sealed = Sealed::of(&theirs, LENGTH).unwrap();
    assert!(theirs.write_all_at(b"x", 0).is_err());
    assert!(theirs.write(b"x").is_err());
    assert!(theirs.set_len(1).is_err() && theirs.set_len(LENGTH + 1).is_err());
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert!(fallocate(&theirs, punch, 0, LENGTH).is_err());
    assert!(fallocate(&theirs, FallocateFlags::KEEP_SIZE, LENGTH, LENGTH).is_err());
    assert!(Writable::of(&theirs, LENGTH).is_err());
    assert!(sealed.file().set_len(1).is_err(), "ours is for reading");
    assert!(sealed.is_exact());
    // It outlives the file that was handed in.
    let bytes = sealed.bytes();
    drop((theirs, sealed));
    assert_eq!(bytes, content());
}

#[test]
fn who_has_it_mapped_for_writing_is_refused() {
    let theirs = filled();
    let mapping = Writable::of(&theirs, LENGTH).unwrap();
    let refused = Sealed::of(&theirs, LENGTH).unwrap_err();
    assert!(matches!(refused, NotSealed::Writable), "{refused}");
    drop(mapping);
    Sealed::of(&theirs, LENGTH).unwrap();
}

#[test]
fn who_goes_on_writing_changes_nothing_that_was_looked_at() {
    let theirs = filled();
    let writer = theirs.try_clone().unwrap();
    let (began, end) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut byte = 0_u8;
            while !end.load(Ordering::Relaxed) {
                byte = byte.wrapping_add(1);
                // Refused from some moment on, which nobody tells it.
                let _ = writer.write_all_at(&[byte; 4096], 4096);
                began.store(true, Ordering::Relaxed);
            }
        });
        while !began.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let sealed = Sealed::of(&theirs, LENGTH).unwrap();
        let looked = crc32c::crc32c(sealed.as_ref());
        for _ in 0..200 {
            assert_eq!(crc32c::crc32c(sealed.as_ref()), looked);
        }
        end.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_is_no_memory_file_or_has_other_bytes_is_refused() {
    let unsealable = memfd(MemfdFlags::empty());
    (&unsealable).write_all(&content()).unwrap();
    let writable = filled();
    let only_read = File::open(format!("/proc/self/fd/{}", writable.as_raw_fd()));
    let half = filled();
    fcntl_add_seals(&half, SealFlags::SHRINK | SealFlags::SEAL).unwrap();
    let socket = std::os::unix::net::UnixStream::pair().unwrap().0;
    let socket = File::from(std::os::fd::OwnedFd::from(socket));
    let mut on_disk = tempfile::tempfile().unwrap();
    on_disk.write_all(&content()).unwrap();
    let null = File::open("/dev/null").unwrap();
    for odd in [unsealable, only_read.unwrap(), half, socket, on_disk, null] {
        let refused = Sealed::of(&odd, LENGTH).unwrap_err();
        assert!(matches!(refused, NotSealed::NoMemory), "{refused}");
    }
    for length in [LENGTH - 1, LENGTH + 1, 0, u64::MAX] {
        let refused = Sealed::of(&filled(), length).unwrap_err();
        assert!(matches!(refused, NotSealed::Length { .. }), "{refused}");
    }
    let hollow = empty();
    hollow.set_len(LENGTH).unwrap();
    hollow.write_all_at(b"x", 0).unwrap();
    let refused = Sealed::of(&hollow, LENGTH).unwrap_err();
    assert!(matches!(refused, NotSealed::Holes), "{refused}");
    Sealed::of(&empty(), 0).unwrap_err();
}

#[test]
fn what_was_sealed_before_is_as_good() {
    for more in [SealFlags::SEAL, SealFlags::empty()] {
        let theirs = filled();
        fcntl_add_seals(&theirs, FINAL | more).unwrap();
        assert_eq!(Sealed::of(&theirs, LENGTH).unwrap().bytes(), content());
        // Handed in once more.
        Sealed::of(&theirs, LENGTH).unwrap();
    }
}

fn write(sealed: &Sealed) -> BlockWrite {
    BlockWrite {
        sealed: Some(sealed.clone()),
        ..BlockWrite::whole(small_key(1, 0), MountId::new(1), sealed.bytes())
    }
}

fn tier() -> MemoryTier {
    MemoryTier::new(&config(1 << 20, 0).memory, Arc::new(SystemClock))
}

/// The file in which the tier has the block.
async fn kept(tier: &MemoryTier) -> Option<u64> {
    match tier.borrow(small_key(1, 0), 0..LENGTH).await.unwrap()? {
        Borrowed::File(file) => {
            let mut bytes = vec![0; LENGTH as usize];
            file.file.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(bytes, content());
            Some(number(&file.file))
        }
        Borrowed::Memory(_) => None,
    }
}

#[tokio::test]
async fn a_whole_block_keeps_its_file_and_counts_like_any_other() {
    let copied = tier();
    let plain = BlockWrite::whole(small_key(1, 0), MountId::new(1), content());
    copied.write(plain).await.unwrap();
    let (theirs, tier) = (filled(), tier());
    let sealed = Sealed::of(&theirs, LENGTH).unwrap();
    let stored = tier.write(write(&sealed)).await.unwrap();
    assert_eq!(stored, WriteOutcome::Stored);
    assert_eq!(kept(&tier).await, Some(number(&theirs)));
    assert_eq!(tier.usage()[0].used, copied.usage()[0].used);
    let again = tier.write(write(&sealed)).await.unwrap();
    assert_eq!(again, WriteOutcome::AlreadyPresent);
    let part = tier.try_read_memory(small_key(1, 0), 5..CHUNK + 5).unwrap();
    assert!(part.parts[0].verify());
}

#[tokio::test]
async fn what_cannot_be_kept_as_it_is_is_copied() {
    // More pages than bytes.
    let theirs = filled();
    fallocate(&theirs, FallocateFlags::KEEP_SIZE, LENGTH, LENGTH).unwrap();
    let sealed = Sealed::of(&theirs, LENGTH).unwrap();
    assert!(!sealed.is_exact());
    let large = tier();
    large.write(write(&sealed)).await.unwrap();
    let number = |file: &File| Some(number(file));
    assert!(
        kept(&large)
            .await
            .is_some_and(|kept| Some(kept) != number(&theirs))
    );
    // Other bytes than those in the file, which happen to be the same.
    let theirs = filled();
    let sealed = Sealed::of(&theirs, LENGTH).unwrap();
    let other = BlockWrite {
        payload: content(),
        ..write(&sealed)
    };
    let tier = tier();
    tier.write(other).await.unwrap();
    assert!(
        kept(&tier)
            .await
            .is_some_and(|kept| Some(kept) != number(&theirs))
    );
    // No memory files at all.
    let heap = MemoryTier::new(&heap_config(1 << 20, 0).memory, Arc::new(SystemClock));
    heap.write(write(&sealed)).await.unwrap();
    assert_eq!(kept(&heap).await, None);
}

#[tokio::test]
async fn damaged_bytes_in_a_file_are_rejected() {
    let sealed = Sealed::of(&filled(), LENGTH).unwrap();
    let mut damaged = write(&sealed);
    damaged.checksum.0 ^= 1;
    let tier = tier();
    let outcome = tier.write(damaged).await.unwrap();
    assert!(matches!(outcome, WriteOutcome::Rejected(_)));
    assert_eq!(tier.usage()[0].used, 0);
}
