//! Every file has its bytes: the object that its record names is in the store, unless a
//! write that is announced, or was given up, has replaced it already (W1, P3); and no object of somebody
//! else goes that was never looked at (U4, U7).
//!
//! Judged on names that only clients of ours touch.

use std::collections::BTreeSet;

use arustio_types::meta::intent::Intent;
use arustio_types::meta::{Answer, FileKind, Query};
use arustio_types::{FsPath, ObjectVersion, WriteId};

use super::{Checked, Finding};
use crate::namespace::Namespace;
use crate::state_machine::StateMachine as _;
use crate::testing::sim::store::Store;

/// Judges some paths.
pub(in crate::testing::sim) fn check<'p>(
    namespace: &Namespace,
    store: &Store,
    intents: &[Intent],
    given_up: &BTreeSet<WriteId>,
    paths: impl IntoIterator<Item = &'p FsPath>,
) -> Checked<()> {
    for path in paths {
        let Ok(Answer::Status(status)) = namespace.query(Query::Stat { path: path.clone() }) else {
            continue;
        };
        let Some(source) = status.source.filter(|_| status.kind == FileKind::File) else {
            continue;
        };
        let object = store.head(&source.key);
        if object.is_some_and(|object| object.version == source.version) {
            continue;
        }
        let write = object.and_then(|object| object.write_id);
        let announced = |intent: &Intent| intent.path == *path && Some(intent.write_id) == write;
        let given_up = write.is_some_and(|write| given_up.contains(&write));
        if given_up || intents.iter().any(announced) {
            continue;
        }
        let what = format!(
            "{path} lies at {:?} in version {}, and there is {object:?}",
            source.key, source.version.identity
        );
        return Err(Finding::new("a file has its bytes", what));
    }
    Ok(())
}

/// Versions of objects of outsiders that a merge has brought into the namespace.
#[derive(Debug, Default)]
pub(in crate::testing::sim) struct Foreign(std::collections::HashSet<arustio_types::Identity>);

impl Foreign {
    /// A look at it was merged, or it stands in a record.
    pub(in crate::testing::sim) fn known(&mut self, version: &ObjectVersion) {
        self.0.insert(version.identity.clone());
    }

    /// A request is about to remove or replace what is under a key.
    pub(in crate::testing::sim) fn check(
        &self,
        before: Option<&crate::testing::sim::store::Object>,
        after: Option<&crate::testing::sim::store::Object>,
    ) -> Checked<()> {
        let lost = before.filter(|object| object.foreign && Some(*object) != after);
        match lost.filter(|object| !self.0.contains(&object.version.identity)) {
            None => Ok(()),
            Some(object) => Err(Finding::new(
                "objects of others stay",
                format!("{object:?} was replaced or removed, and nobody had looked at it"),
            )),
        }
    }
}
