//! `cargo xtask e2e`: the whole system from end to end, and a stranger's program beside it.
//!
//! The steps belong to `arustio-e2e` in `arustio-testkit`. What is done here is what needs cargo:
//! the package in `examples/outside` is no member of the workspace. It is copied to a folder of its
//! own and built there, as somebody would who only has the library: without our lints, profiles and
//! features, and with the versions of our lock file, so that nothing has to be fetched.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::programs::{self, Profile, S3, SYSTEM};
use crate::setup;
use crate::shell::Cmd;
use crate::{suite, workspace};

const E2E: (&str, &str) = ("arustio-testkit", "arustio-e2e");
/// The stranger's package, and what stands in it for the folder of our library.
const OUTSIDE: &str = "outside";
const LIBRARY: &str = "@ARUSTIO_CLIENT@";

/// Play the whole system from end to end.
#[derive(Debug, Args)]
pub(crate) struct E2e {
    /// 3,000 files instead of 20,000
    #[arg(long)]
    small: bool,
    /// The S3 server: the one of this repository, or MinIO
    #[arg(long, value_enum, default_value_t = S3::Builtin)]
    s3: S3,
    /// Each process in a namespace of the network, with an address of its own (as root)
    #[arg(long)]
    netns: bool,
    /// A folder of folders of files, instead of the sources that cargo keeps
    #[arg(long)]
    tree: Option<PathBuf>,
    /// How to compile: `dev` reuses what the tests have built
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

impl E2e {
    pub(crate) fn run(&self) -> Result<()> {
        let outside = build_outside()?;
        programs::start(E2E, self.profile, &SYSTEM, self.flags(&outside))
    }

    fn flags(&self, outside: &Path) -> Vec<OsString> {
        let mut flags: Vec<OsString> = vec!["--s3".into(), self.s3.name().into()];
        flags.extend(["--outside".into(), outside.into()]);
        if self.small {
            flags.push("--small".into());
        }
        if self.netns {
            flags.push("--netns".into());
        }
        if let Some(tree) = &self.tree {
            flags.extend(["--tree".into(), tree.into()]);
        }
        flags
    }
}

/// Builds the stranger's program; returns where it is.
fn build_outside() -> Result<PathBuf> {
    let env = setup::ready()?;
    let root = workspace::root()?;
    let folder = target_folder()?.join(OUTSIDE);
    let package = folder.join("package");
    copy_package(&root, &package).context("the package in examples/outside")?;
    let build = Cmd::cargo("build --manifest-path")
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(folder.join("target"));
    eprintln!("$ {build}");
    suite::build(build, &env)?;
    Ok(folder.join("target").join("debug").join(OUTSIDE))
}

fn target_folder() -> Result<PathBuf> {
    let metadata = workspace::members()?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// Its sources, with the folder of the library in them, and our lock file: cargo takes out what
/// the package does not need.
fn copy_package(root: &Path, package: &Path) -> Result<()> {
    let from = root.join("examples").join(OUTSIDE);
    fs::create_dir_all(package.join("src"))?;
    let library = root.join("crates").join("arustio-client");
    let manifest = fs::read_to_string(from.join("Cargo.toml.in"))?;
    let manifest = manifest.replace(LIBRARY, &library.to_string_lossy());
    fs::write(package.join("Cargo.toml"), manifest)?;
    fs::copy(
        from.join("src").join("main.rs"),
        package.join("src").join("main.rs"),
    )?;
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock"))?;
    Ok(())
}
