//! A leader never means to send a member what that certainly has. The Raft library gets
//! this wrong (tikv/raft-rs#557) and our guard puts it right; after a step it holds.

use arustio_types::NodeId;

use super::{Checked, Finding};
use crate::consensus::inside::Look;

pub(super) fn check(id: NodeId, look: &Look) -> Checked<()> {
    match look.next_too_low {
        false => Ok(()),
        true => Err(Finding::new(
            "the next entry lies above what is matched",
            format!("not for the leader {id} in term {}", look.term),
        )),
    }
}
