//! Data of the demonstration: seeded, so that two runs compare, and incompressible.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use sha2::{Digest, Sha256};

const CHUNK: usize = 1 << 20;
const FILES_PER_FOLDER: usize = 50;

/// Writes one file of `bytes` bytes and returns its SHA-256.
pub(crate) fn write_big(path: &Path, bytes: u64, seed: u64) -> io::Result<String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut file = BufWriter::new(File::create(path)?);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left.min(CHUNK as u64)).expect("at most a chunk");
        rng.fill_bytes(&mut chunk[..part]);
        hash.update(&chunk[..part]);
        file.write_all(&chunk[..part])?;
        left -= part as u64;
    }
    file.flush()?;
    Ok(hex::encode(hash.finalize()))
}

/// Writes a tree of small files as a source tree has them; returns its checksum.
pub(crate) fn write_tree(root: &Path, files: usize, seed: u64) -> io::Result<String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    for i in 0..files {
        let folder = root
            .join(format!("module-{:02}", i / FILES_PER_FOLDER / 10))
            .join(format!("part-{:02}", i / FILES_PER_FOLDER));
        fs::create_dir_all(&folder)?;
        let mut content = vec![0; rng.random_range(200..16_384)];
        rng.fill_bytes(&mut content);
        fs::write(folder.join(format!("file_{i:04}.rs")), content)?;
    }
    sum_tree(root)
}

/// SHA-256 of a file.
pub(crate) fn sum_file(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash_into(&mut hash, path)?;
    Ok(hex::encode(hash.finalize()))
}

/// SHA-256 over the relative names and contents of all files, in name order.
pub(crate) fn sum_tree(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for file in &files {
        let relative = file.strip_prefix(root).unwrap_or(file);
        hash.update(relative.to_string_lossy().as_bytes());
        hash_into(&mut hash, file)?;
    }
    Ok(hex::encode(hash.finalize()))
}

fn hash_into(hash: &mut Sha256, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        hash.update(&chunk[..read]);
    }
}

/// Hidden folders are a store's own business, not part of the tree.
fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), into)?;
        } else {
            into.push(entry.path());
        }
    }
    Ok(())
}
