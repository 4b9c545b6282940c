//! `layers.toml` as types. Unknown keys are errors, so that a rule with a typo cannot be silently off.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::workspace;

/// Sets of names keep findings in a stable order.
pub(super) type Names = BTreeSet<String>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) packages: BTreeMap<String, Rule>,
    #[serde(default)]
    pub(super) owners: BTreeMap<String, Names>,
    #[serde(default)]
    pub(super) banned: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) only_through: BTreeMap<String, Names>,
    #[serde(default)]
    pub(super) named: Vec<Named>,
}

/// What one package may know.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// Tests, benches and examples: they may know anything, and nobody may know them.
    #[serde(default)]
    free: bool,
    #[serde(default)]
    pub(super) layer: u8,
    #[serde(default)]
    pub(super) internal: Names,
    #[serde(default)]
    pub(super) features: BTreeMap<String, Names>,
    #[serde(default)]
    pub(super) never: Names,
    pub(super) outside: Option<Names>,
}

/// Where an outside package may be named.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) package: String,
    pub(super) outside: String,
    pub(super) only: Vec<String>,
}

impl Table {
    /// The rule of a package that stands in a layer.
    pub(super) fn layered(&self, package: &str) -> Option<&Rule> {
        self.packages.get(package).filter(|rule| !rule.free)
    }
}

pub(super) fn read() -> Result<Table> {
    let path = workspace::root()?.join("xtask/layers.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).context("xtask/layers.toml")
}

pub(super) fn parse(text: &str) -> Result<Table> {
    toml::from_str(text).context("is not a table of layers")
}
