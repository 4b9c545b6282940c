//! Several directories: shares, and what goes on when one of them does not.

use std::fs;

use arustio_types::{ByteSize, MountId, SystemClock};

use super::*;
use crate::chunk::CHUNK;
use crate::config::DirectoryConfig;
use crate::store::{BlockStore, BlockWrite, WriteHint};
use crate::testing::conformance::{self, Promises};
use crate::testing::{FaultyDisk, MemDisk, Seed, config, content_bytes, small_key};
use crate::{MemoryTier, TieredStore};

const LEN: u64 = 2 * CHUNK;

fn settings(root: &Path, capacities: &[(&str, u64)]) -> CheckedDisk {
    let mut config = config(0, 1 << 20).disk.unwrap();
    let directory = |(name, capacity): &(&str, u64)| DirectoryConfig {
        path: root.join(name),
        capacity: ByteSize(*capacity),
    };
    config.settings.directories = capacities.iter().map(directory).collect();
    config
}

async fn open(config: &CheckedDisk) -> Result<Disks, BlockError> {
    let nowhere = Path::new("/no/such/directory");
    let disks = Disks::open(nowhere, config.clone(), Arc::new(SystemClock)).await?;
    disks.recovered().await;
    Ok(disks)
}

fn image(index: u64) -> Image {
    let key = small_key(1, index);
    let payload = content_bytes(key.content, key.start(), LEN);
    let write = BlockWrite::whole(key, MountId::new(1), payload);
    Image::of_write(&write).unwrap().unwrap()
}

async fn is_there(disks: &Disks, index: u64) -> bool {
    let key = small_key(1, index);
    let Some(image) = disks.load(key, 0..LEN).await else {
        return false;
    };
    let parts = image.parts(&(0..LEN)).unwrap();
    assert!(parts.parts.iter().all(|part| part.verify()));
    assert_eq!(
        parts.contiguous().unwrap(),
        content_bytes(key.content, key.start(), LEN)
    );
    true
}

/// Waits for what happens in the background.
async fn until(what: &str, happened: impl Fn() -> bool) {
    let waiting = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    waited.unwrap_or_else(|_| unreachable!("it did not happen: {what}"));
}

fn two(root: &Path) -> CheckedDisk {
    for name in ["a", "b"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    settings(root, &[("a", 16 << 20), ("b", 48 << 20)])
}

#[tokio::test]
async fn conforms_in_two_directories() {
    let root = tempfile::tempdir().unwrap();
    let promises = Promises {
        keeps: true,
        durable: true,
    };
    conformance::run(promises, || async {
        let dir = tempfile::tempdir_in(root.path()).unwrap().keep();
        for name in ["a", "b"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        let disks = open(&settings(&dir, &[("a", 3 << 20), ("b", 4 << 20)])).await;
        let memory = MemoryTier::new(&config(16 << 10, 0).memory, Arc::new(SystemClock));
        Arc::new(TieredStore::new(memory, disks.unwrap())) as Arc<dyn BlockStore>
    })
    .await;
}

#[tokio::test]
async fn each_directory_gets_its_share_and_a_restart_finds_all() {
    let root = tempfile::tempdir().unwrap();
    let config = two(root.path());
    let before = open(&config).await.unwrap();
    for index in 0..400 {
        assert_eq!(before.put(image(index), false).await, WriteOutcome::Stored);
    }
    let shares: Vec<u64> = before
        .serving()
        .iter()
        .map(|t| t.tier_usage().blocks)
        .collect();
    assert_eq!(shares.iter().sum::<u64>(), 400, "each block once");
    assert!((70..130).contains(&shares[0]), "a quarter: {shares:?}");
    before.close().await;
    drop(before);

    let after = open(&config).await.unwrap();
    for index in 0..400 {
        assert!(is_there(&after, index).await);
    }
    assert_eq!(after.tier_metrics().recovered, 400);
    let removed = after
        .remove(Selector::Mount(MountId::new(1)))
        .await
        .unwrap();
    assert_eq!(removed.blocks, 400);
    after.close().await;
}

#[tokio::test]
async fn a_directory_that_vanishes_is_switched_off_and_taken_back() {
    let root = tempfile::tempdir().unwrap();
    let disks = open(&two(root.path())).await.unwrap();
    for index in 0..100 {
        disks.put(image(index), false).await;
    }
    let in_a: Vec<u64> = (0..100)
        .filter(|index| disks.serving()[0].known(small_key(1, *index)).is_some())
        .collect();
    assert!(!in_a.is_empty() && in_a.len() < 60, "{in_a:?}");
    let (a, away) = (root.path().join("a"), root.path().join("away"));
    fs::rename(&a, &away).unwrap();
    for index in 0..100 {
        assert_eq!(is_there(&disks, index).await, !in_a.contains(&index));
    }
    until("switched off", || disks.tier_usage().off == 1).await;
    assert!(disks.tier_usage().writable, "the other one serves on");
    assert_eq!(disks.tier_usage().capacity, 48 << 20);
    assert!(!a.exists(), "nobody makes it");
    for index in &in_a {
        assert_eq!(disks.put(image(*index), false).await, WriteOutcome::Stored);
        assert!(is_there(&disks, *index).await);
    }
    // What was in it is still good when it is back.
    for index in &in_a {
        disks
            .remove(Selector::Block(small_key(1, *index)))
            .await
            .unwrap();
    }
    fs::rename(&away, &a).unwrap();
    until("taken back", || disks.tier_usage().off == 0).await;
    disks.recovered().await;
    for index in 0..100 {
        assert!(is_there(&disks, index).await, "block {index}");
    }
    let stored = disks.tier_metrics().stored;
    assert_eq!(
        stored,
        100 + in_a.len() as u64,
        "nothing that was counted is lost"
    );
    disks.close().await;
}

#[tokio::test]
async fn a_directory_that_is_missing_at_the_start_joins_when_it_is_there() {
    let root = tempfile::tempdir().unwrap();
    let config = two(root.path());
    fs::remove_dir(root.path().join("a")).unwrap();
    let disks = open(&config).await.unwrap();
    assert_eq!(disks.tier_usage().off, 1);
    for index in 0..20 {
        assert_eq!(disks.put(image(index), false).await, WriteOutcome::Stored);
    }
    fs::create_dir(root.path().join("a")).unwrap();
    until("joined", || disks.tier_usage().off == 0).await;
    disks.recovered().await;
    assert_eq!(disks.tier_usage().capacity, 64 << 20);
    for index in 0..20 {
        assert!(is_there(&disks, index).await);
    }
    disks.close().await;
}

#[tokio::test]
async fn another_process_in_a_directory_is_a_mistake() {
    let root = tempfile::tempdir().unwrap();
    let config = two(root.path());
    let first = open(&config).await.unwrap();
    let refused = open(&config).await.unwrap_err();
    assert!(matches!(refused, BlockError::Locked { .. }), "{refused}");
    first.close().await;
}

/// Two disks in memory, of which the first can be told to fail.
fn in_memory() -> (Disks, FaultyDisk) {
    let mut config = config(0, 4 << 20).disk.unwrap();
    config.settings.retry_after = Duration::from_secs(3600);
    let faulty = FaultyDisk::new(Arc::new(MemDisk::new()), Seed::new(1));
    let clock: Arc<dyn WallClock> = Arc::new(SystemClock);
    let backends: [Arc<dyn crate::DiskBackend>; 2] =
        [Arc::new(faulty.clone()), Arc::new(MemDisk::new())];
    let members = (0..).zip(backends).map(|(at, backend)| {
        let tier = DiskTier::with_backend(backend, config.clone(), Arc::clone(&clock));
        Member {
            salt: at,
            ..Member::new(None, Some(tier), 1)
        }
    });
    (Disks::of(members.collect(), &config, clock), faulty)
}

#[tokio::test]
async fn a_full_directory_is_read_on_and_others_take_its_blocks() {
    let (disks, faulty) = in_memory();
    disks.recovered().await;
    for index in 0..20 {
        disks.put(image(index), false).await;
    }
    faulty.full(true);
    for index in 20..40 {
        assert_eq!(disks.put(image(index), false).await, WriteOutcome::Stored);
    }
    let usage = disks.tier_usage();
    assert_eq!((usage.off, usage.writable, usage.blocks), (1, true, 40));
    for index in 0..40 {
        assert!(is_there(&disks, index).await);
    }
    let key = small_key(1, 50);
    let payload = content_bytes(key.content, key.start(), LEN);
    let durable = BlockWrite {
        hint: WriteHint::Durable,
        ..BlockWrite::whole(key, MountId::new(1), payload)
    };
    let image = Image::of_write(&durable).unwrap().unwrap();
    assert_eq!(disks.put(image, true).await, WriteOutcome::Stored);
    assert!(disks.unpin(key).await.unwrap());
    disks.close().await;
    assert_eq!(
        disks.put(self::image(60), false).await,
        WriteOutcome::Rejected(Rejection::Closed)
    );
}
