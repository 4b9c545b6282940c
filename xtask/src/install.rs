//! `install` and `uninstall`: both programs on the PATH, and everything of ours off the disk again.
//!
//! Nothing outside the prefix is written. What `uninstall` would remove is listed with its size first.

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::shell::{Exit, human_size};
use crate::{programs, setup, suite, workspace};

const PROGRAMS: [&str; 2] = ["arustio", "arustio-server"];

/// Put `arustio` and `arustio-server` on the PATH.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Programs go to `bin` in this folder [default: ~/.local]
    #[arg(long)]
    prefix: Option<PathBuf>,
}

impl Install {
    pub(crate) fn run(&self) -> Result<()> {
        let env = setup::ready()?;
        let bin = bin_folder(self.prefix.as_deref())?;
        let metadata = workspace::members()?;
        let build = programs::release_of(&programs::SYSTEM);
        eprintln!("$ {build}");
        suite::build(build, &env)?;

        fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
        for program in PROGRAMS {
            let from = metadata
                .target_directory
                .as_std_path()
                .join("release")
                .join(program);
            let size = replace(&from, &bin.join(program))?;
            println!(
                "installed {} ({})",
                bin.join(program).display(),
                human_size(size)
            );
        }
        if !on_path(&bin) {
            println!(
                "{0} is not on the PATH; add it: export PATH=\"{0}:$PATH\"",
                bin.display()
            );
        }
        Ok(())
    }
}

/// Remove what `install` put there.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// The folder that was given to `install` [default: ~/.local]
    #[arg(long)]
    prefix: Option<PathBuf>,
    /// Also remove the default data folder, the cache folder and the build folder of this checkout
    #[arg(long)]
    purge: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Uninstall {
    pub(crate) fn run(&self) -> Result<()> {
        let bin = bin_folder(self.prefix.as_deref())?;
        let mut places: Vec<PathBuf> = PROGRAMS.iter().map(|program| bin.join(program)).collect();
        if self.purge {
            places.extend(purged_folders()?);
        }
        places.retain(|place| place.symlink_metadata().is_ok());
        if places.is_empty() {
            println!("nothing to remove");
            return Ok(());
        }
        let total = list(&places)?;
        if self.purge && !self.yes && !confirmed()? {
            bail!("nothing was removed");
        }
        for place in &places {
            remove(place)?;
        }
        println!("removed {}", human_size(total));
        Ok(())
    }
}

/// The data folder of a server that was started without arguments, and the two kinds of caches.
fn purged_folders() -> Result<[PathBuf; 3]> {
    let data = base_folder("XDG_DATA_HOME", ".local/share")?.join("arustio");
    let cache = base_folder("XDG_CACHE_HOME", ".cache")?.join("arustio");
    let target = workspace::members()?.target_directory.into_std_path_buf();
    Ok([data, cache, target])
}

fn list(places: &[PathBuf]) -> Result<u64> {
    let mut total = 0;
    for place in places {
        let size = size_of(place).with_context(|| format!("cannot read {}", place.display()))?;
        println!("{:>10}  {}", human_size(size), place.display());
        total += size;
    }
    Ok(total)
}

fn confirmed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Exit::needs_user(
            "nothing was removed: repeat with --yes to remove what is listed above",
        )
        .into());
    }
    print!("remove all of it? [y/N] ");
    std::io::stdout()
        .flush()
        .context("cannot write to the terminal")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn size_of(place: &Path) -> std::io::Result<u64> {
    let meta = place.symlink_metadata()?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    let mut total = 0;
    for entry in fs::read_dir(place)? {
        total += size_of(&entry?.path())?;
    }
    Ok(total)
}

fn remove(place: &Path) -> Result<()> {
    let result = match place.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(place),
        _ => fs::remove_file(place),
    };
    result.with_context(|| format!("cannot remove {}", place.display()))
}

/// Copies beside the target and renames, so that a program which runs at the moment is left whole.
fn replace(from: &Path, to: &Path) -> Result<u64> {
    let beside = to.with_extension("new");
    let size = fs::copy(from, &beside)
        .with_context(|| format!("cannot copy {} to {}", from.display(), beside.display()))?;
    fs::rename(&beside, to).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(size)
}

fn bin_folder(prefix: Option<&Path>) -> Result<PathBuf> {
    let prefix = match prefix {
        Some(prefix) => std::path::absolute(prefix).context("the prefix is no folder")?,
        None => home()?.join(".local"),
    };
    Ok(prefix.join("bin"))
}

fn base_folder(variable: &str, below_home: &str) -> Result<PathBuf> {
    let set = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute());
    set.map_or_else(|| Ok(home()?.join(below_home)), Ok)
}

fn home() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    home.filter(|home| home.is_absolute())
        .context("HOME is not set; name a folder with --prefix")
}

fn on_path(folder: &Path) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|entry| entry == folder))
}
