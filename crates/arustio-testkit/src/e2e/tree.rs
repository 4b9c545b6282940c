//! Real files, and the model of what the mount has to hold.
//!
//! The files are the sources of the packages that this workspace is built from, as cargo keeps them:
//! there wherever this program was built, of all sizes, with names that people gave. They are read
//! where they lie and never changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

/// No folder has more than one of so many parts of the tree.
const SHARE: usize = 10;
/// A folder with fewer files is too small for the steps that change names.
pub(crate) const MANY: usize = 60;
/// They use up so many folders, one of which loses a file before its turn comes.
const FOLDERS: usize = 5;
const CHUNK: usize = 1 << 20;

/// Size and SHA-256 of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) size: u64,
    hash: [u8; 32],
}

/// Adds up what comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Summing {
    size: u64,
    hash: Sha256,
}

impl Summing {
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.size += piece.len() as u64;
        self.hash.update(piece);
    }

    pub(crate) fn end(self) -> Sum {
        Sum {
            size: self.size,
            hash: self.hash.finalize().into(),
        }
    }
}

impl Sum {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut summing = Summing::default();
        summing.add(bytes);
        summing.end()
    }

    pub(crate) fn of_file(path: &Path) -> Result<Self> {
        use std::io::Read as _;
        let read = || -> std::io::Result<Self> {
            let mut file = fs::File::open(path)?;
            let mut summing = Summing::default();
            let mut chunk = vec![0; CHUNK];
            loop {
                let length = file.read(&mut chunk)?;
                if length == 0 {
                    return Ok(summing.end());
                }
                summing.add(&chunk[..length]);
            }
        };
        read().with_context(|| path.display().to_string())
    }
}

/// Files by their path below a root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, Sum>);

impl Tree {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.values().map(|sum| sum.size).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Sum)> {
        self.0.iter().map(|(path, sum)| (path.as_str(), *sum))
    }

    pub(crate) fn get(&self, path: &str) -> Option<Sum> {
        self.0.get(path).copied()
    }

    pub(crate) fn put(&mut self, path: impl Into<String>, sum: Sum) {
        self.0.insert(path.into(), sum);
    }

    pub(crate) fn remove(&mut self, path: &str) -> Option<Sum> {
        self.0.remove(path)
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// One of so many files, beginning at the `first`.
    pub(crate) fn sample(&self, one_of: usize, first: usize) -> Self {
        let chosen = self.0.iter().skip(first).step_by(one_of);
        Self(chosen.map(|(path, sum)| (path.clone(), *sum)).collect())
    }

    /// What lies below a folder, with whole paths.
    pub(crate) fn below(&self, folder: &str) -> Self {
        let inside = format!("{folder}/");
        let inside = self.0.iter().filter(|(path, _)| path.starts_with(&inside));
        Self(inside.map(|(path, sum)| (path.clone(), *sum)).collect())
    }

    /// Takes out what lies below a folder.
    pub(crate) fn take(&mut self, folder: &str) -> Self {
        let taken = self.below(folder);
        self.0.retain(|path, _| !taken.0.contains_key(path));
        taken
    }

    /// The same with another folder in front: `from/x` becomes `to/x`.
    pub(crate) fn moved(self, from: &str, to: &str) -> Self {
        let moved = self.0.into_iter().map(|(path, sum)| {
            let rest = path.strip_prefix(from).unwrap_or(&path);
            (format!("{to}{rest}"), sum)
        });
        Self(moved.collect())
    }

    /// Is the same as what was found; the first differences are named.
    pub(crate) fn check(&self, found: &Self, what: &str) -> Result<()> {
        let missing = self.0.keys().filter(|path| !found.0.contains_key(*path));
        let strange = found.0.keys().filter(|path| !self.0.contains_key(*path));
        let differs = self.0.iter().filter(|(path, sum)| {
            let found = found.0.get(*path);
            found.is_some_and(|found| found != *sum)
        });
        let said = [
            named("missing", missing),
            named("not expected", strange),
            named("different", differs.map(|(path, _)| path)),
        ];
        let said: Vec<String> = said.into_iter().flatten().collect();
        ensure!(
            said.is_empty(),
            "{what} is not as it should be: {}",
            said.join("; ")
        );
        Ok(())
    }

    /// A local folder, every byte of it.
    pub(crate) fn of_folder(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        walk(root, &mut |path| {
            tree.put(relative(root, path)?, Sum::of_file(path)?);
            Ok(())
        })?;
        Ok(tree)
    }
}

fn named<'a>(what: &str, paths: impl Iterator<Item = &'a String>) -> Option<String> {
    let paths: Vec<&str> = paths.map(String::as_str).collect();
    let first: Vec<&str> = paths.iter().take(3).copied().collect();
    (!paths.is_empty()).then(|| format!("{} {what} ({})", paths.len(), first.join(", ")))
}

fn relative(root: &Path, path: &Path) -> Result<String> {
    let relative = path.strip_prefix(root).context("a path below its root")?;
    let text = relative.to_str();
    let text = text.with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}

fn walk(folder: &Path, each: &mut impl FnMut(&Path) -> Result<()>) -> Result<()> {
    let failed = || folder.display().to_string();
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        match path.is_dir() {
            true => walk(&path, each)?,
            false => each(&path)?,
        }
    }
    Ok(())
}

/// Folders of real files.
#[derive(Debug)]
pub(crate) struct Sources {
    /// What is copied, in the order of names.
    pub(crate) folders: Vec<PathBuf>,
    /// Everything in them, by paths that begin with the folder's name.
    pub(crate) tree: Tree,
}

impl Sources {
    /// At most so many files of the folders at `root`.
    pub(crate) fn choose(root: &Path, most: usize) -> Result<Self> {
        let mut folders: Vec<PathBuf> = fs::read_dir(root)
            .with_context(|| root.display().to_string())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_dir())
            .collect();
        folders.sort();
        let mut chosen = Self {
            folders: Vec::new(),
            tree: Tree::default(),
        };
        let mut large = 0;
        for folder in folders {
            let part = Tree::of_folder(&folder)?;
            let room = most - chosen.tree.len();
            if part.len() > room.min(most / SHARE) {
                continue;
            }
            large += usize::from(part.len() > MANY);
            let name = relative(root, &folder)?;
            chosen.tree.extend(part.moved("", &format!("{name}/")));
            chosen.folders.push(folder);
        }
        ensure!(
            large >= FOLDERS,
            "{} has {large} folders with {} to {} files, {FOLDERS} are needed; name another folder \
             of folders with --tree",
            root.display(),
            MANY + 1,
            most / SHARE
        );
        Ok(chosen)
    }
}

/// Where cargo keeps the sources of packages: the registry with the most of them.
pub(crate) fn cargo_sources() -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let sources = home.context("neither CARGO_HOME nor HOME is set")?;
    let sources = sources.join("registry").join("src");
    let registries = fs::read_dir(&sources).into_iter().flatten();
    let registries = registries.filter_map(|entry| Some(entry.ok()?.path()));
    let most = registries.max_by_key(|path| fs::read_dir(path).map_or(0, Iterator::count));
    most.with_context(|| {
        format!(
            "cargo keeps no sources in {}; fetch them with `cargo fetch`, or name a folder of \
             folders with --tree",
            sources.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for path in paths {
            tree.put(*path, Sum::of(path.as_bytes()));
        }
        tree
    }

    #[test]
    fn folders_are_taken_out_and_moved() {
        let mut all = tree(&["a/x", "a/b/y", "ab/z"]);
        let moved = all.take("a").moved("a", "c");
        assert_eq!(all, tree(&["ab/z"]));
        let names: Vec<&str> = moved.iter().map(|(path, _)| path).collect();
        assert_eq!(names, ["c/b/y", "c/x"]);
    }

    #[test]
    fn differences_are_named() {
        let mut found = tree(&["a", "b", "new"]);
        found.put("b", Sum::of(b"other"));
        let said = tree(&["a", "b", "c"]).check(&found, "it").unwrap_err();
        let said = said.to_string();
        for word in ["1 missing (c)", "1 not expected (new)", "1 different (b)"] {
            assert!(said.contains(word), "{said}");
        }
        tree(&["a"]).check(&tree(&["a"]), "it").unwrap();
    }

    #[test]
    fn of_many_files_some_are_chosen_and_no_folder_has_most_of_them() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str, files: usize| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            for file in 0..files {
                fs::write(folder.join(file.to_string()), "x").unwrap();
            }
        };
        folder("big", 300);
        for name in ["five", "four", "one", "two"] {
            folder(name, 90);
        }
        let few = Sources::choose(root.path(), 1000).unwrap_err().to_string();
        assert!(few.contains("4 folders with 61 to 100 files"), "{few}");
        folder("three", 90);
        let chosen = Sources::choose(root.path(), 1000).unwrap();
        assert_eq!((chosen.tree.len(), chosen.folders.len()), (450, 5));
        assert!(chosen.tree.get("two/0").is_some());
        let all = Sources::choose(root.path(), 3000).unwrap();
        assert_eq!(all.tree.len(), 750);
    }
}
