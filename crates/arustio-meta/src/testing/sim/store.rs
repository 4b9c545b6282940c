//! An object store in memory: every condition is obeyed, every version is new. A request
//! is carried out once, before its deadline or never.

use std::collections::BTreeMap;
use std::time::Duration;

use arustio_types::meta::command::Owed;
use arustio_types::{ObjectVersion, SessionId, UfsKey, WriteId};

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) version: ObjectVersion,
    pub(super) write_id: Option<WriteId>,
    /// Stands for its bytes.
    pub(super) bytes: u128,
    /// Somebody else put it there.
    pub(super) foreign: bool,
}

/// What a request asks for.
#[derive(Debug, Clone)]
pub(super) enum Verb {
    /// Write bytes where the expected version is, or nothing.
    Put {
        bytes: u128,
        expected: Option<ObjectVersion>,
    },
    /// Copy this version of another key to where the expected version is, or nothing.
    Copy {
        from: UfsKey,
        version: ObjectVersion,
        expected: Option<ObjectVersion>,
    },
    /// Remove this version.
    Delete { version: ObjectVersion },
}

/// A request that changes something.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) key: UfsKey,
    pub(super) verb: Verb,
    pub(super) write_id: WriteId,
    /// For the sake of what it was sent, and by whom.
    pub(super) owed: Owed,
    pub(super) session: SessionId,
    /// It is carried out before this time or never.
    pub(super) until: Duration,
}

/// What the store answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// Done; the version that is there now.
    Done(Option<ObjectVersion>),
    /// Another version is there than was expected.
    Conflict,
    /// The source of a copy is another version, or gone.
    Stale,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<UfsKey, Object>,
    versions: u64,
}

impl Store {
    pub(super) fn head(&self, key: &UfsKey) -> Option<&Object> {
        self.objects.get(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&UfsKey, &Object)> {
        self.objects.iter()
    }

    fn put(&mut self, key: &UfsKey, bytes: u128, write_id: Option<WriteId>) -> ObjectVersion {
        self.versions += 1;
        let version = ObjectVersion::new(&format!("v{}", self.versions));
        let object = Object {
            version: version.clone(),
            write_id,
            bytes,
            foreign: write_id.is_none(),
        };
        self.objects.insert(key.clone(), object);
        version
    }

    /// Somebody else replaces or removes an object.
    pub(super) fn meddle(&mut self, key: &UfsKey, bytes: Option<u128>) {
        match bytes {
            Some(bytes) => drop(self.put(key, bytes, None)),
            None => drop(self.objects.remove(key)),
        }
    }

    fn is_there(&self, key: &UfsKey, expected: Option<&ObjectVersion>) -> bool {
        self.head(key).map(|object| &object.version) == expected
    }

    /// Carries a request out.
    pub(super) fn carry_out(&mut self, request: &Request) -> Reply {
        let key = &request.key;
        match &request.verb {
            Verb::Put { bytes, expected } => {
                if !self.is_there(key, expected.as_ref()) {
                    return Reply::Conflict;
                }
                Reply::Done(Some(self.put(key, *bytes, Some(request.write_id))))
            }
            Verb::Copy {
                from,
                version,
                expected,
            } => {
                let source = self.head(from).filter(|object| object.version == *version);
                let Some(bytes) = source.map(|object| object.bytes) else {
                    return Reply::Stale;
                };
                if !self.is_there(key, expected.as_ref()) {
                    return Reply::Conflict;
                }
                Reply::Done(Some(self.put(key, bytes, Some(request.write_id))))
            }
            Verb::Delete { version } => {
                match self.head(key).map(|object| object.version == *version) {
                    Some(true) => drop(self.objects.remove(key)),
                    Some(false) => return Reply::Conflict,
                    None => {}
                }
                Reply::Done(None)
            }
        }
    }
}
