//! What a member has acknowledged to a leader is in its log when it comes back, unless a
//! later leader has taken it away.

use std::collections::BTreeMap;

use arustio_types::NodeId;

use super::{Checked, Finding};
use crate::consensus::inside::Look;

/// The newest term in which a member acknowledged something, and the last such entry.
#[derive(Debug, Default)]
pub(super) struct KeptPromises(BTreeMap<NodeId, (u64, u64)>);

impl KeptPromises {
    pub(super) fn promised(&mut self, id: NodeId, term: u64, index: u64) {
        let known = self.0.entry(id).or_default();
        *known = (*known).max((term, index));
    }

    pub(super) fn reopened(&self, id: NodeId, look: &Look) -> Checked<()> {
        let Some(&(term, index)) = self.0.get(&id) else {
            return Ok(());
        };
        let last = look.last.index.get();
        if look.stored_term > term || (look.stored_term == term && last >= index) {
            return Ok(());
        }
        let what = format!(
            "member {id} acknowledged entry {index} in term {term} and came back in term {} with \
             a log that ends at {last}",
            look.stored_term
        );
        Err(Finding::new("acknowledged entries survive", what))
    }
}
