//! A member votes for one candidate in a term, whatever it went through: crashes, lost
//! writes, snapshots. What it has told others is on its disk whenever it comes back.

use std::collections::BTreeMap;

use arustio_types::NodeId;

use super::{Checked, Finding};
use crate::consensus::inside::Look;

const NAME: &str = "one vote per term";

/// Votes by member and term.
#[derive(Debug, Default)]
pub(super) struct OneVote(BTreeMap<NodeId, BTreeMap<u64, u64>>);

impl OneVote {
    pub(super) fn promised(&mut self, id: NodeId, term: u64, candidate: u64) -> Checked<()> {
        let votes = self.0.entry(id).or_default();
        let vote = *votes.entry(term).or_insert(candidate);
        if vote == candidate {
            return Ok(());
        }
        let what = format!("member {id} voted for {vote} and for {candidate} in term {term}");
        Err(Finding::new(NAME, what))
    }

    pub(super) fn reopened(&self, id: NodeId, look: &Look) -> Checked<()> {
        let last = self.0.get(&id).and_then(BTreeMap::last_key_value);
        let Some((&term, &candidate)) = last else {
            return Ok(());
        };
        let (stored, vote) = (look.stored_term, look.stored_vote);
        if stored > term || (stored == term && vote == candidate) {
            return Ok(());
        }
        let what = format!(
            "member {id} voted for {candidate} in term {term} and came back in term {stored} with \
             a vote for {vote}"
        );
        Err(Finding::new(NAME, what))
    }
}
