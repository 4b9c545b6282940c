//! A request takes effect once: whenever its id is decided on again, the recorded outcome
//! comes, or a refusal to look at it again.

use std::collections::HashMap;

use arustio_proto::convert;
use arustio_types::ErrorKind;
use arustio_types::meta::command::Refusal;
use arustio_types::meta::{Command, Outcome, RequestContext};

use super::{Checked, Finding};
use crate::testing::sim::truth::Record;

/// The request in an entry; `None` where there is none.
pub(in crate::testing::sim) fn request(record: &Record) -> Option<(RequestContext, Command)> {
    if record.taken.payload.is_empty() {
        return None;
    }
    convert::decode_entry(&record.taken.payload).ok()
}

#[derive(Debug, Default)]
pub(super) struct AppliedOnce(HashMap<(u64, u64), (u64, Option<Outcome>)>);

impl AppliedOnce {
    pub(super) fn decided(
        &mut self,
        record: &Record,
        (context, command): &(RequestContext, Command),
    ) -> Checked<()> {
        let (session, sequence) = (context.id.session.get(), context.id.sequence);
        if sequence == 0 {
            return Ok(());
        }
        let index = record.taken.position.index.get();
        let first = (index, record.outcome.clone());
        let (at, known) = self.0.entry((session, sequence)).or_insert(first);
        if *known == record.outcome || *at == index || is_late(record.outcome.as_ref()) {
            return Ok(());
        }
        let what = format!(
            "request {sequence} of session {session} ({command:?}) came to {known:?} at {at} and \
             to {:?} at {index}",
            record.outcome
        );
        Err(Finding::new("a request takes effect once", what))
    }
}

/// A refusal to look at a request that was dealt with.
fn is_late(outcome: Option<&Outcome>) -> bool {
    match outcome {
        Some(Outcome::SessionExpired) => true,
        Some(Outcome::Refused(Refusal { kind, .. })) => *kind == ErrorKind::Unknown,
        _ => false,
    }
}
