//! Absence is proven, never guessed (L3).
//!
//! The namespace knows the names it has. That a UFS has no others is only known of a
//! look that the caller has just taken and merged; without one the answer is
//! [`Outcome::NeedsSync`], and the client looks, merges and repeats.

use arustio_types::FsPath;
use arustio_types::meta::command::{Outcome, Proof};

use super::resolve::{Missing, Place};
use super::txn::{Context, Read, Step};

/// Entries of the log after which a look is no longer recent. A look is taken for one
/// command, milliseconds before it; that other names change meanwhile says nothing
/// about this one, whose own changes the namespace knows.
const MAX_AGE: u64 = 100_000;

/// What the caller has looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proofs<'p>(pub(crate) &'p [Proof]);

impl Proofs<'_> {
    /// Whether there is a recent look at this path.
    pub(crate) fn covers(self, ctx: &Context, path: &FsPath) -> bool {
        let recent =
            |proof: &Proof| proof.seen <= ctx.at && ctx.at.get() - proof.seen.get() <= MAX_AGE;
        self.0
            .iter()
            .any(|proof| proof.path == *path && recent(proof))
    }

    /// Stops unless the name that is missing was looked at; outside mounts the namespace
    /// is all there is.
    pub(crate) fn absent(self, ctx: &Context, missing: &Missing) -> Step<()> {
        if missing.dir.under.is_none() || self.covers(ctx, &first_missing(missing)?) {
            return Ok(());
        }
        Err(needs_name(&missing.dir, missing.name()).into())
    }

    /// Stops unless the whole directory was looked at.
    pub(crate) fn whole(self, ctx: &Context, dir: &FsPath) -> Step<()> {
        match self.covers(ctx, dir) {
            true => Ok(()),
            false => Err(Outcome::NeedsSync {
                dir: dir.clone(),
                name: None,
            }
            .into()),
        }
    }
}

fn needs_name(dir: &Place, name: &str) -> Outcome {
    Outcome::NeedsSync {
        dir: dir.path.clone(),
        name: Some(name.to_owned()),
    }
}

/// The path of the first component that is missing.
pub(crate) fn first_missing(missing: &Missing) -> Read<FsPath> {
    super::resolve::path_in(&missing.dir.path, missing.name())
}
