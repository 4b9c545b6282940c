//! At most one member leads in a term.

use std::collections::BTreeMap;

use arustio_types::NodeId;

use super::{Checked, Finding};
use crate::consensus::inside::Look;
use crate::store::Role;

#[derive(Debug, Default)]
pub(super) struct OneLeader(BTreeMap<u64, NodeId>);

impl OneLeader {
    pub(super) fn check(&mut self, id: NodeId, look: &Look) -> Checked<()> {
        if look.role != Role::Leader {
            return Ok(());
        }
        let leader = *self.0.entry(look.term).or_insert(id);
        match leader == id {
            true => Ok(()),
            false => Err(Finding::new(
                "one leader per term",
                format!("members {leader} and {id} lead in term {}", look.term),
            )),
        }
    }
}
