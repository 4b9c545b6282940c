//! What cargo knows about this workspace: folders, packages, targets.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cargo_metadata::{CargoOpt, Metadata, MetadataCommand, Package, Target, TargetKind};

/// The folder of the workspace. `cargo xtask` works from every folder below it.
pub(crate) fn root() -> Result<PathBuf> {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").context("start this program as `cargo xtask`")?;
    let root = Path::new(&manifest)
        .parent()
        .context("the package xtask has no folder above it")?;
    Ok(root.to_owned())
}

/// The members and their own dependencies, without resolving anything. Cheap.
pub(crate) fn members() -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    command.current_dir(root()?).no_deps();
    command.exec().context("cargo cannot read the workspace")
}

/// Everything that would be built, with every feature.
pub(crate) fn resolved() -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    command.current_dir(root()?).features(CargoOpt::AllFeatures);
    command.exec().context("cargo cannot resolve the workspace")
}

/// A member that may not exist yet.
pub(crate) fn find<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a Package> {
    metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == name)
}

/// The targets of one kind, in the order of their names.
pub(crate) fn targets(package: &Package, kind: TargetKind) -> Vec<&Target> {
    let mut targets: Vec<_> = package
        .targets
        .iter()
        .filter(|target| target.kind.contains(&kind))
        .collect();
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    targets
}

/// Where cargo keeps intermediate files. The same as the target folder unless somebody moved it.
pub(crate) fn build_folder(metadata: &Metadata) -> PathBuf {
    metadata
        .build_directory
        .as_ref()
        .unwrap_or(&metadata.target_directory)
        .as_std_path()
        .to_owned()
}
