//! What one member knows to be committed is the same for every member, and is in the log
//! of every later leader.

use std::collections::BTreeMap;

use arustio_types::NodeId;

use super::{Checked, Finding};
use crate::consensus::inside::{Look, Peer};
use crate::store::Role;

const NAME: &str = "committed entries are never lost";

#[derive(Debug, Default)]
pub(super) struct Committed {
    /// Term and sum by index, and the term of the member that first knew it committed.
    entries: BTreeMap<u64, ((u64, u32), u64)>,
    /// Up to where each member was looked at, and the term in which it was found to lead.
    members: BTreeMap<NodeId, (u64, u64)>,
}

impl Committed {
    pub(super) fn forget(&mut self, id: NodeId) {
        self.members.remove(&id);
    }

    pub(super) fn check(&mut self, id: NodeId, peer: &Peer, look: &Look) -> Checked<()> {
        let (upto, led) = self.members.get(&id).copied().unwrap_or_default();
        let first = upto.max(look.truncated.index.get()) + 1;
        for index in first..=look.commit {
            self.same(id, peer, index, Some(look.term))?;
        }
        let leads = look.role == Role::Leader;
        if leads && led != look.term {
            self.is_complete(id, peer, look)?;
        }
        let led = if leads { look.term } else { led };
        self.members.insert(id, (look.commit.max(upto), led));
        Ok(())
    }

    /// A new leader has everything that was committed in earlier terms. One that learns late
    /// of the votes for an old term leads nobody any more, and need not.
    fn is_complete(&mut self, id: NodeId, peer: &Peer, look: &Look) -> Checked<()> {
        let earlier = self
            .entries
            .iter()
            .filter(|(_, (_, term))| *term < look.term);
        let kept: Vec<u64> = earlier.map(|(index, _)| *index).rev().take(64).collect();
        let kept = kept.into_iter();
        for index in kept.filter(|index| *index > look.truncated.index.get()) {
            self.same(id, peer, index, None)?;
        }
        Ok(())
    }

    fn same(&mut self, id: NodeId, peer: &Peer, index: u64, learnt: Option<u64>) -> Checked<()> {
        let Some(entry) = peer.stored_entry(index) else {
            let what = format!("member {id} lacks the committed entry {index}");
            return Err(Finding::new(NAME, what));
        };
        let known = match learnt {
            Some(term) => self.entries.entry(index).or_insert((entry, term)).0,
            None => self.entries.get(&index).map_or(entry, |known| known.0),
        };
        if known == entry {
            return Ok(());
        }
        let what = format!(
            "entry {index} was committed in term {} and is of term {} in the log of member {id}",
            known.0, entry.0
        );
        Err(Finding::new(NAME, what))
    }
}
