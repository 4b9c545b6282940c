//! The namespace: the rules by which committed commands change the one tree that clients
//! see, and by which questions about it are answered.
//!
//! # Map
//! `apply` and `query` dispatch; every rule has a file of its own and is a function from
//! the state and a command to changes and an outcome. `txn` gives typed access to the
//! records, `resolve` walks paths, `dentry` keeps the positions that stale listings are
//! measured against. `owed` knows what is announced and owed, and who has to wait.
//!
//! # Invariants
//! - A command is done whole or not at all; a refusal changes nothing but the session
//!   that asked (one exception: a commit that lost its name also loses its intent).
//! - Every name leads to one inode, every inode but the root has one name, or lies in a
//!   tree that was taken out and is being freed. [`Namespace::verify`] proves it.
//! - A mutation of a key never passes an intent or effect of somebody else on it (P2).
//! - State and outcomes follow from the entries alone; [`Namespace::state_hash`] lets
//!   replicas compare.
//!
//! It asks no UFS and knows no clock: both come with the commands.

mod apply;
mod credential;
mod delete;
mod dentry;
mod directory;
mod effect;
mod inode;
mod intent;
mod listing;
mod merge;
mod mount_table;
mod nodes;
mod owed;
pub mod permission;
mod proof;
mod query;
mod rename;
mod resolve;
mod settings;
mod state_hash;
pub(crate) mod tree;
pub(crate) mod txn;
mod usage;
mod verify;

use std::path::Path;
use std::sync::Arc;

use arustio_proto::convert::{self, ConvertError};
use arustio_types::meta::command::{Command, Outcome, Refusal};
use arustio_types::meta::credential::Credential;
use arustio_types::meta::{Answer, Query, RequestContext};
use arustio_types::{ClusterId, ErrorKind, Incarnation, InodeId, LogIndex, MountId, Timestamp};

use crate::engine::record::{Attributes, IdentityRecord, InodeRecord, Loaded, Record};
use crate::engine::{Durability, Family, KvEngine, key};
use crate::error::StateMachineError;
#[cfg(any(test, feature = "testing"))]
use crate::mutation::Mutation;
use crate::mutation::Mutations;
use crate::state_machine::{Applied, Entry, StateMachine};

pub use state_hash::StateHash;
pub(crate) use verify::verify as verify_engine;
pub use verify::{Problem, Verified};

use query::View;
use txn::{Read, Txn};

/// What is proposed instead of a command that holds a credential in clear: it is refused
/// when it is applied, and the secret never reaches the log (C1).
const UNSEALED: &[u8] = b"\0unsealed";

/// The replicated state of a cluster's metadata, over a state engine.
#[derive(Debug)]
pub struct Namespace {
    engine: Arc<dyn KvEngine>,
    applied: Applied,
    identity: IdentityRecord,
    hash: StateHash,
    /// Whether any path has settings: hardly any cluster has many, and every answer asks.
    settings: bool,
    rules: Mutations,
}

impl Namespace {
    /// Opens the state in an engine; an empty engine becomes the empty namespace of this
    /// cluster.
    pub fn open(
        engine: Arc<dyn KvEngine>,
        cluster: ClusterId,
        incarnation: Incarnation,
    ) -> Result<Self, StateMachineError> {
        let identity = IdentityRecord {
            cluster,
            incarnation,
        };
        if engine.get(Family::Meta, key::IDENTITY)?.is_none() {
            found(&*engine, identity)?;
        }
        let namespace = Self::load(engine)?;
        if namespace.identity == identity {
            return Ok(namespace);
        }
        Err(StateMachineError::Corrupt {
            what: "the identity of the cluster",
            detail: format!(
                "the state belongs to cluster {} (incarnation {}), this server to cluster {} \
                 (incarnation {}); give each its own data folder",
                namespace.identity.cluster, namespace.identity.incarnation, cluster, incarnation
            ),
        })
    }

    fn load(engine: Arc<dyn KvEngine>) -> Read<Self> {
        let txn = Txn::new(&*engine);
        let missing = || StateMachineError::Corrupt {
            what: "the identity of the cluster",
            detail: "there is none".to_owned(),
        };
        let applied = txn.get(Family::Meta, key::APPLIED)?.unwrap_or_default();
        let identity = txn.get(Family::Meta, key::IDENTITY)?.ok_or_else(missing)?;
        let hash = StateHash::load(&*engine)?;
        let settings = txn.has_settings()?;
        drop(txn);
        Ok(Self {
            settings,
            engine,
            applied,
            identity,
            hash,
            rules: Mutations::default(),
        })
    }

    /// The same namespace with one rule broken, for tests of the checkers.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn breaking(self, broken: Option<Mutation>) -> Self {
        Self {
            rules: Mutations::breaking(broken),
            ..self
        }
    }

    /// The sealed credential of a mount, for the server that holds the cluster key:
    /// [`Query::OpenMount`] answers without it.
    pub fn sealed_credential(&self, mount: MountId) -> Result<Credential, StateMachineError> {
        credential::load(&Txn::new(&*self.engine), mount)
    }

    /// The sum over all records. Equal states have equal sums, however they came about.
    pub fn state_hash(&self) -> StateHash {
        self.hash
    }

    /// The cluster and the incarnation that this state belongs to.
    pub fn identity(&self) -> (ClusterId, Incarnation) {
        (self.identity.cluster, self.identity.incarnation)
    }

    /// Checks every invariant of the state. Reads everything and keeps a few words for
    /// each inode; on a copy of the state it stops nobody.
    pub fn verify(&self) -> Result<Verified, StateMachineError> {
        verify::verify(&*self.engine)
    }

    fn apply_one(&self, txn: &mut Txn<'_>, entry: &Entry<'_>) -> Read<Option<Outcome>> {
        if entry.payload.is_empty() {
            return Ok(None);
        }
        if entry.payload == UNSEALED {
            let message = "a credential was proposed unsealed; this is a defect of the server";
            let refusal = Refusal::new(ErrorKind::Internal, message);
            return Ok(Some(Outcome::Refused(refusal)));
        }
        let (request, command) = convert::decode_entry(entry.payload).map_err(unreadable)?;
        let outcome = apply::apply(
            txn,
            entry.position.index,
            entry.time.max(self.applied.time).millis(),
            self.identity.incarnation,
            self.rules,
            &request,
            &command,
        )?;
        Ok(Some(outcome))
    }
}

fn unreadable(error: ConvertError) -> StateMachineError {
    match error {
        ConvertError::NewerFormat {
            what,
            found,
            supported,
        } => StateMachineError::NewerFormat {
            what,
            found,
            supported,
        },
        other => StateMachineError::Corrupt {
            what: "a committed command",
            detail: other.to_string(),
        },
    }
}

/// Writes the empty namespace: a root directory, and whose it is.
fn found(engine: &dyn KvEngine, identity: IdentityRecord) -> Read<()> {
    let attributes = Attributes {
        mode: inode::DIR_MODE,
        owner: String::new(),
        group: String::new(),
        modified: Timestamp::default(),
    };
    let root = inode::new_dir(attributes, LogIndex::new(0), Loaded::Complete);
    let mut txn = Txn::new(engine);
    txn.put(Family::Meta, key::IDENTITY.to_vec(), &identity);
    txn.put_inode(InodeId::ROOT, &InodeRecord::Dir(root));
    let (mut batch, hash) = StateHash::default().after(txn.into_changes()?);
    hash.store(&mut batch);
    engine.write(batch, Durability::Buffered)?;
    Ok(())
}

impl StateMachine for Namespace {
    type Command = Command;
    type Outcome = Outcome;
    type Query = Query;
    type Answer = Answer;

    fn encode(context: &RequestContext, command: &Command) -> Vec<u8> {
        convert::encode_entry(context, command).unwrap_or_else(|_| UNSEALED.to_vec())
    }

    fn apply(&mut self, entries: &[Entry<'_>]) -> Result<Vec<Option<Outcome>>, StateMachineError> {
        let Some(last) = entries.last() else {
            return Ok(Vec::new());
        };
        let mut txn = Txn::of_slice(&*self.engine).with_settings(self.settings);
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            outcomes.push(self.apply_one(&mut txn, entry)?);
            if let Some(members) = entry.members {
                txn.put_raw(Family::Meta, key::MEMBERS.to_vec(), members.to_vec());
            }
        }
        let applied = Applied {
            position: last.position,
            time: last.time.max(self.applied.time),
        };
        let settings = txn.has_settings()?;
        let (mut batch, hash) = self.hash.after(txn.into_changes()?);
        hash.store(&mut batch);
        batch.put(Family::Meta, key::APPLIED, applied.encode());
        self.engine.write(batch, Durability::Buffered)?;
        self.applied = applied;
        self.hash = hash;
        self.settings = settings;
        Ok(outcomes)
    }

    fn applied(&self) -> Applied {
        self.applied
    }

    fn query(&self, query: Query) -> Result<Answer, StateMachineError> {
        let view = View {
            txn: Txn::new(&*self.engine).with_settings(self.settings),
            applied: self.applied,
            identity: self.identity,
        };
        query::query(&view, &query)
    }

    fn make_durable(&self) -> Result<(), StateMachineError> {
        Ok(self.engine.make_durable()?)
    }

    fn members(&self) -> Result<Option<Vec<u8>>, StateMachineError> {
        Ok(self.engine.get(Family::Meta, key::MEMBERS)?)
    }

    fn hash(&self) -> Option<u128> {
        Some(self.hash.get())
    }

    fn settler(&self) -> Box<dyn FnOnce() -> Result<(), StateMachineError> + Send> {
        let engine = Arc::clone(&self.engine);
        Box::new(move || Ok(engine.settle()?))
    }

    fn snapshot(&self, into: &Path) -> Result<Applied, StateMachineError> {
        self.engine.checkpoint(into)?;
        Ok(self.applied)
    }

    fn install(&mut self, from: &Path) -> Result<Applied, StateMachineError> {
        let (before, rules) = (self.identity, self.rules);
        self.engine.restore(from)?;
        *self = Self {
            rules,
            ..Self::load(Arc::clone(&self.engine))?
        };
        if self.identity == before {
            return Ok(self.applied);
        }
        Err(StateMachineError::Corrupt {
            what: "a snapshot",
            detail: format!("it belongs to cluster {}", self.identity.cluster),
        })
    }
}
