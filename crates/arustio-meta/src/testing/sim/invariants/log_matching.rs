//! Two logs that have an entry of the same index and term are equal up to there.

use std::collections::{BTreeMap, HashMap};

use arustio_types::NodeId;

use super::{Checked, Finding};
use crate::consensus::inside::{Look, Peer};

/// An entry, and the term of the one before.
type Link = (u32, u64);

#[derive(Debug, Default)]
pub(super) struct LogMatching {
    links: HashMap<(u64, u64), Link>,
    /// Terms by index of what was looked at in each log.
    seen: BTreeMap<NodeId, BTreeMap<u64, u64>>,
}

impl LogMatching {
    pub(super) fn forget(&mut self, id: NodeId) {
        self.seen.remove(&id);
    }

    /// Looks at what is new in a log; below it, equality follows link by link.
    pub(super) fn check(&mut self, id: NodeId, peer: &Peer, look: &Look) -> Checked<()> {
        let seen = self.seen.entry(id).or_default();
        let (first, last) = (look.truncated.index.get() + 1, look.last.index.get());
        seen.split_off(&(last + 1));
        if seen.last_key_value() == Some((&last, &look.last.term)) {
            return Ok(());
        }
        for index in (first..=last).rev() {
            let (term, sum) = entry(id, peer, index)?;
            if seen.insert(index, term) == Some(term) {
                break;
            }
            let before = match index == first {
                true => look.truncated.term,
                false => entry(id, peer, index - 1)?.0,
            };
            let link = (sum, before);
            let known = *self.links.entry((index, term)).or_insert(link);
            if known != link {
                let what = format!("entry {index} of term {term} of member {id} differs");
                return Err(Finding::new("logs match", what));
            }
        }
        Ok(())
    }
}

fn entry(id: NodeId, peer: &Peer, index: u64) -> Checked<(u64, u32)> {
    peer.stored_entry(index).ok_or_else(|| {
        Finding::new(
            "logs match",
            format!("member {id} lacks entry {index} of its log"),
        )
    })
}
