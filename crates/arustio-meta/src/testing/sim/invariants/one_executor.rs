//! A request to the store is carried out only while what it was sent for is recorded, and
//! in the name of whoever the record names (W3, P4, P5).

use arustio_types::SessionId;
use arustio_types::meta::command::Owed;
use arustio_types::meta::effect::Effect;
use arustio_types::meta::intent::Intent;

use super::{Checked, Finding};
use crate::testing::sim::store::{Request, Verb};

/// Judges a request that is carried out now.
pub(in crate::testing::sim) fn check(
    request: &Request,
    intents: &[Intent],
    effects: &[Effect],
) -> Checked<()> {
    let holder = match request.owed {
        Owed::Intent(id) => intents
            .iter()
            .find(|intent| intent.id == id)
            .map(|i| i.holder),
        Owed::Effect(id) => effects
            .iter()
            .find(|effect| effect.id == id)
            .map(|e| e.executor),
    };
    // A removal of a version that is gone changes nothing.
    let harmless = matches!(request.verb, Verb::Delete { .. });
    match holder {
        None if harmless => Ok(()),
        None => Err(Finding::new(
            "nothing lands that was given up",
            format!(
                "{:?} has ended, and {request:?} is carried out",
                request.owed
            ),
        )),
        Some(holder) => one(request, holder),
    }
}

fn one(request: &Request, holder: SessionId) -> Checked<()> {
    if holder == request.session {
        return Ok(());
    }
    let what = format!(
        "{:?} belongs to session {holder}, and session {} has {request:?} carried out",
        request.owed, request.session
    );
    Err(Finding::new("one executor at a time", what))
}
