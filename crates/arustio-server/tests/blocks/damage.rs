//! Files of blocks that somebody damages, cuts or gives another's name, while the server runs
//! and while it does not: never a wrong byte, dropped, counted (R4).

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use arustio_client::block::{BlockClient, BlockError, BlockRead, BlockStored};
use arustio_server::{Engine, Server, ServerConfig};
use arustio_types::{BlockKey, ByteSize};
use tempfile::TempDir;

use super::house::{House, PATIENT, bytes_of, clients, framed, key, write};

const LENGTH: usize = 200_000;
/// How a file can be wrong.
const DAMAGES: [Damage; 6] = [
    Damage::Cut,
    Damage::Empty,
    Damage::Body,
    Damage::Header,
    Damage::Renamed,
    Damage::Garbage,
];

#[derive(Debug, Clone, Copy)]
enum Damage {
    /// Half of it is gone.
    Cut,
    Empty,
    /// One bit of its bytes.
    Body,
    /// One bit of what it says of itself.
    Header,
    /// A sound file under another block's name.
    Renamed,
    Garbage,
}

impl Damage {
    /// Bits of the body that turn under a server which wrote the file itself: whoever has a
    /// descriptor of it does not see that (ADR 0010), whoever reads through a socket does.
    fn is_in_place(self) -> bool {
        matches!(self, Self::Body | Self::Garbage)
    }

    fn of(self, file: &Path, other: &Path) {
        let open = || File::options().read(true).write(true).open(file).unwrap();
        let flip = |at| {
            let (file, mut byte) = (open(), [0]);
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 4], at).unwrap();
        };
        let length = fs::metadata(file).unwrap().len();
        match self {
            Self::Cut => open().set_len(length / 2).unwrap(),
            Self::Empty => open().set_len(0).unwrap(),
            Self::Body => flip(length - 100),
            Self::Header => flip(17),
            Self::Renamed => fs::rename(other, file).unwrap(),
            Self::Garbage => {
                // Still one of ours, by its first bytes.
                let garbage = bytes_of(&key(77, 7), length as usize - 16);
                open().write_all_at(&garbage, 16).unwrap();
            }
        }
    }
}

/// Blocks on the disk alone; the scrub does not get ahead of the readers.
fn on_disk(config: &mut ServerConfig) {
    config.block.memory.capacity = Some(ByteSize(0));
    config.block.disk.scrub_bandwidth = ByteSize(0);
}

async fn again(folder: TempDir) -> House {
    let mut config = ServerConfig::ephemeral(folder.path());
    config.block.disk.capacity = Some(ByteSize::mib(128));
    config.block.disk.min_free = ByteSize::mib(1);
    on_disk(&mut config);
    let checked = config.validate().unwrap();
    let server = Server::start(checked, Engine::Memory).await.unwrap();
    House { server, folder }
}

/// The disk takes nothing until it was looked at.
async fn store(house: &House, key: BlockKey) {
    let kept = async {
        loop {
            let write = write(key, LENGTH, 0..LENGTH);
            let stored = framed().write(&house.node(), write, PATIENT).await.unwrap();
            if !matches!(stored, BlockStored::Rejected(_)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(2 * PATIENT, kept).await.unwrap();
}

/// What is there of a block; every byte of it is right.
async fn there(client: &dyn BlockClient, house: &House, key: BlockKey) -> usize {
    let request = BlockRead {
        key,
        range: 0..LENGTH as u64,
        epoch: 0,
        lane: None,
    };
    let parts = match client.read(&house.node(), request, PATIENT).await {
        Ok(parts) => parts,
        // What does not match its checksum on the way is not handed out either.
        Err(BlockError::Corrupt { .. }) => return 0,
        Err(error) => panic!("{error}"),
    };
    let expected = bytes_of(&key, LENGTH);
    for part in &parts {
        let at = usize::try_from(part.offset).unwrap();
        let right = expected.get(at..at + part.bytes.len());
        assert!(right == Some(&part.bytes[..]), "wrong bytes at {at}");
    }
    parts.iter().map(|part| part.bytes.len()).sum()
}

async fn corruptions(house: &House) -> u64 {
    let name = "arustio_block_corruptions_total{tier=\"disk\"} ";
    house.metric(name).await
}

/// The files of blocks below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).unwrap().len() >= LENGTH as u64 {
            found.push(path);
        }
    }
    found
}

/// The file that storing a block makes.
async fn file_of(house: &House, key: BlockKey) -> PathBuf {
    let before = files(house.folder.path());
    store(house, key).await;
    let mut new = files(house.folder.path());
    new.retain(|file| !before.contains(file));
    assert_eq!(new.len(), 1, "{new:?}");
    new.remove(0)
}

#[tokio::test]
async fn r4_a_file_that_is_damaged_while_the_server_runs_is_dropped_and_counted() {
    let house = House::with(on_disk).await;
    for (at, damage) in (0..).zip(DAMAGES) {
        for (wire, (name, client)) in (0..).zip(clients()) {
            // A descriptor shows what its file has become.
            if matches!(name, "local" | "files") && damage.is_in_place() {
                continue;
            }
            let (hurt, other) = (key(1 + at, wire), key(100 + at, wire));
            let files = (file_of(&house, hurt).await, file_of(&house, other).await);
            let before = corruptions(&house).await;
            damage.of(&files.0, &files.1);
            let hears = format!("{damage:?} over {name}");
            assert_eq!(there(&*client, &house, hurt).await, 0, "{hears}");
            assert!(corruptions(&house).await > before, "{hears}");
            assert!(!files.0.exists(), "{hears}: the file is gone");
            // The other one is whole, or was taken away.
            let rest = there(&*client, &house, other).await;
            let expected = if files.1.exists() { LENGTH } else { 0 };
            assert_eq!(rest, expected, "{hears}");
            // There is room for it again.
            store(&house, hurt).await;
            assert_eq!(there(&*client, &house, hurt).await, LENGTH, "{hears}");
        }
    }
    house.server.stop().await;
}

#[tokio::test]
async fn r4_a_file_that_is_damaged_between_runs_is_dropped_and_counted() {
    let mut house = House::with(on_disk).await;
    let mut hurt = Vec::new();
    // Each damage for each wire.
    for (at, damage) in (0..).zip(DAMAGES.iter().flat_map(|damage| [*damage; 3])) {
        let keys = (key(1, at), key(2, at));
        let files = (file_of(&house, keys.0).await, file_of(&house, keys.1).await);
        hurt.push((damage, keys, files));
    }
    house.server.stop().await;
    for (damage, _, files) in &hurt {
        damage.of(&files.0, &files.1);
    }
    house = again(house.folder).await;
    // Whatever comes first: a reader, or the look at all files.
    let clients = clients();
    for ((damage, keys, files), (_, client)) in hurt.iter().zip(clients.iter().cycle()) {
        let client = &**client;
        assert_eq!(there(client, &house, keys.0).await, 0, "{damage:?}");
        let expected = if files.1.exists() { LENGTH } else { 0 };
        let rest = there(client, &house, keys.1).await;
        assert_eq!(rest, expected, "{damage:?}");
        store(&house, keys.0).await;
        assert_eq!(there(client, &house, keys.0).await, LENGTH, "{damage:?}");
    }
    assert!(
        corruptions(&house).await >= 4,
        "{}",
        corruptions(&house).await
    );
    house.server.stop().await;
}
