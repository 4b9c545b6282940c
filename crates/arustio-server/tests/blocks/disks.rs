//! A server with several disks of which one is taken away while it runs.

use std::fs;
use std::time::Duration;

use arustio_block::config::DirectoryConfig;
use arustio_client::block::{BlockClient as _, BlockRead, BlockStored};
use arustio_types::{BlockKey, ByteSize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::house::{House, PATIENT, bytes_of, framed, key, write};

const LENGTH: usize = 64 << 10;
const BLOCKS: u64 = 40;

/// The value of a metric of the disk tier.
async fn metric(house: &House, name: &str) -> f64 {
    let address = house.server.addresses().http;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let ask = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let prefix = format!("{name}{{tier=\"disk\"}} ");
    let value = answer.lines().find_map(|line| line.strip_prefix(&prefix));
    value.unwrap().trim().parse().unwrap()
}

/// Waits until so many directories are off.
async fn until_off(house: &House, directories: f64) {
    let waiting = async {
        while metric(house, "arustio_block_directories_off").await != directories {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(2 * PATIENT, waiting).await;
    waited.expect("a directory is switched off or on in time");
}

/// Blocks that are there, each with the right bytes.
async fn there(house: &House) -> Vec<u64> {
    let client = framed();
    let mut there = Vec::new();
    for index in 0..BLOCKS {
        let key = block(index);
        let request = BlockRead {
            key,
            range: 0..LENGTH as u64,
            epoch: 3,
            lane: None,
        };
        let parts = client.read(&house.node(), request, PATIENT).await.unwrap();
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes.to_vec()).collect();
        if !bytes.is_empty() {
            assert!(bytes == bytes_of(&key, LENGTH), "block {index}");
            there.push(index);
        }
    }
    there
}

fn block(index: u64) -> BlockKey {
    key(9, index)
}

/// Writes all blocks. Nothing is taken before the directories have been read.
async fn fill(house: &House) {
    let client = framed();
    for index in 0..BLOCKS {
        let kept = async {
            loop {
                let write = write(block(index), LENGTH, 0..LENGTH);
                let stored = client.write(&house.node(), write, PATIENT).await.unwrap();
                if !matches!(stored, BlockStored::Rejected(_)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(2 * PATIENT, kept).await;
        waited.expect("a block is taken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_taken_away_takes_no_others_with_it() {
    let root = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let path = root.path().join(name);
        fs::create_dir(&path).unwrap();
        DirectoryConfig {
            path,
            capacity: ByteSize::mib(64),
        }
    };
    let directories = vec![directory("a"), directory("b")];
    let house = House::with(|config| {
        // Straight to disk.
        config.block.memory.capacity = Some(ByteSize(0));
        config.block.disk.capacity = None;
        config.block.disk.directories = directories;
        config.block.disk.retry_after = Duration::from_millis(200);
    })
    .await;
    fill(&house).await;
    assert_eq!(there(&house).await.len() as u64, BLOCKS);
    assert_eq!(metric(&house, "arustio_block_directories_off").await, 0.0);

    let (a, away) = (root.path().join("a"), root.path().join("away"));
    fs::rename(&a, &away).unwrap();
    let left = there(&house).await.len() as u64;
    assert!(0 < left && left < BLOCKS, "{left} of {BLOCKS}");
    until_off(&house, 1.0).await;
    fill(&house).await;
    assert_eq!(there(&house).await.len() as u64, BLOCKS);

    fs::rename(&away, &a).unwrap();
    until_off(&house, 0.0).await;
    assert_eq!(there(&house).await.len() as u64, BLOCKS);
    house.server.stop().await;
}
