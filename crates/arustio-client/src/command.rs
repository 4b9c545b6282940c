//! Proposing until the answer is final.
//!
//! A command that would have to guess is answered *needs sync* (L3): the client looks
//! at the under file system, merges, and repeats with the proof. One whose keys are owed
//! something is answered *pending* (P2): the client finishes or awaits that, and repeats.
//! Users see neither. Both loops are bounded: one proof by how often the same thing is
//! asked for, waiting by time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arustio_types::meta::command::Proof;
use arustio_types::meta::{Command, Outcome};
use arustio_types::{ErrorKind, FsPath, LogIndex, SessionId};

use crate::client::Client;
use crate::error::{FsError, Result};
use crate::job::pending::Waiting;

/// How far to look when a directory has to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Its entries.
    Entries,
    /// Enough to see whether there are any.
    Any,
    /// Everything below it: the command will ask for that anyway.
    Tree,
}

impl Client {
    /// Proposes what `make` makes of the proofs so far, until the answer is final.
    /// Returns the session that holds whatever was made.
    pub(crate) async fn carry_out(
        self: &Arc<Self>,
        depth: Depth,
        make: impl Fn(Vec<Proof>) -> Command + Send + Sync,
    ) -> Result<(Outcome, SessionId)> {
        let mut proofs = Proofs::default();
        let mut waiting = Waiting::new(self);
        loop {
            let (outcome, session) = self.sessions.propose(make(proofs.list())).await?;
            match outcome {
                Outcome::NeedsSync { dir, name } => {
                    proofs.demanded(&dir, name.as_deref(), self.config.sync.max_rounds)?;
                    match name {
                        Some(name) => proofs.extend(self.prove_name(&dir, &name).await?),
                        None => proofs.extend(self.prove_dir(&dir, depth).await?),
                    }
                }
                Outcome::Pending(on) => waiting.step(self, &on).await?,
                Outcome::Refused(refusal) => return Err(FsError::refused(refusal)),
                outcome => return Ok((outcome, session)),
            }
        }
    }
}

/// Bytes of paths in the proofs of one command; a look at a large tree brings more.
const MOST_PROOF_BYTES: usize = 256 << 10;

/// Proofs by path, and how often each was asked for.
#[derive(Debug, Default)]
struct Proofs {
    proven: BTreeMap<FsPath, LogIndex>,
    demands: HashMap<(FsPath, Option<String>), usize>,
}

impl Proofs {
    /// What was asked for by name, then as much of the rest as a command may carry.
    fn list(&self) -> Vec<Proof> {
        let (asked, rest): (Vec<_>, Vec<_>) = self
            .proven
            .iter()
            .partition(|(path, _)| self.was_demanded(path));
        let mut bytes = 0;
        let fits = |(path, _): &(&FsPath, &LogIndex)| {
            bytes += path.as_str().len() + 16;
            bytes <= MOST_PROOF_BYTES
        };
        let rest: Vec<_> = rest.into_iter().take_while(fits).collect();
        let proof = |(path, seen): (&FsPath, &LogIndex)| Proof {
            path: path.clone(),
            seen: *seen,
        };
        asked.into_iter().chain(rest).map(proof).collect()
    }

    fn was_demanded(&self, path: &FsPath) -> bool {
        let whole = self.demands.contains_key(&(path.clone(), None));
        whole
            || path.parent().is_some_and(|dir| {
                let name = path.name().map(str::to_owned);
                self.demands.contains_key(&(dir, name))
            })
    }

    fn add(&mut self, proof: Proof) {
        self.proven.insert(proof.path, proof.seen);
    }

    fn extend(&mut self, proofs: impl IntoIterator<Item = Proof>) {
        for proof in proofs {
            self.add(proof);
        }
    }

    fn demanded(&mut self, dir: &FsPath, name: Option<&str>, most: usize) -> Result<()> {
        let demand = (dir.clone(), name.map(str::to_owned));
        let count = self.demands.entry(demand).or_default();
        *count += 1;
        if *count > most {
            return Err(FsError::on(
                ErrorKind::Conflict,
                dir,
                format!(
                    "the directory changed {most} times while its objects were looked at; \
                     repeat the command when its other writers are done"
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l3_a_proof_that_never_suffices_ends_in_a_conflict() {
        let dir = FsPath::new("/data").unwrap();
        let mut proofs = Proofs::default();
        for _ in 0..3 {
            proofs.demanded(&dir, Some("a"), 3).unwrap();
            proofs.demanded(&dir, Some("b"), 3).unwrap();
        }
        let error = proofs.demanded(&dir, Some("a"), 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }

    #[test]
    fn l3_a_large_tree_keeps_the_proofs_that_were_asked_for() {
        let mut proofs = Proofs::default();
        let seen = LogIndex::new(1);
        let (tree, target) = (FsPath::new("/d/b").unwrap(), FsPath::new("/d/z").unwrap());
        proofs.demanded(&tree, None, 3).unwrap();
        proofs
            .demanded(&FsPath::new("/d").unwrap(), Some("z"), 3)
            .unwrap();
        let below = (0..50_000).map(|n| FsPath::new(&format!("/d/b/{n}")).unwrap());
        for path in below.chain([tree.clone(), target.clone()]) {
            proofs.add(Proof { path, seen });
        }
        let listed = proofs.list();
        assert!(listed.len() < 20_000);
        for wanted in [tree, target] {
            assert!(listed.iter().any(|proof| proof.path == wanted));
        }
    }

    #[test]
    fn l3_the_latest_look_at_a_name_is_its_proof() {
        let path = FsPath::new("/data/a").unwrap();
        let mut proofs = Proofs::default();
        for seen in [3, 7] {
            proofs.add(Proof {
                path: path.clone(),
                seen: LogIndex::new(seen),
            });
        }
        assert_eq!(proofs.list()[0].seen, LogIndex::new(7));
    }
}
