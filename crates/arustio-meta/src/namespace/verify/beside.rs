//! What stands beside the tree: mounts, credentials, settings, sessions, block nodes.

use std::collections::BTreeMap;

use arustio_types::meta::setting::PathConf;
use arustio_types::{FsPath, MountId, SessionId};

use super::{Check, each, odd_key};
use crate::engine::record::{InodeRecord, NodeRecord, Record, SessionRecord};
use crate::engine::{Family, key};
use crate::namespace::mount_table;
use crate::namespace::txn::Read;
use crate::session;

impl Check<'_> {
    pub(super) fn mounts(&mut self) -> Read<()> {
        let mut paths = BTreeMap::new();
        for mount in std::mem::take(&mut self.mounts).into_values() {
            let (id, path) = (mount.id, &mount.spec.path);
            self.given("mount", id.get(), self.counters.mount);
            let on = match self.txn.inode(mount.root)? {
                Some(InodeRecord::Dir(dir)) => dir.mount,
                Some(InodeRecord::File(_)) | None => None,
            };
            let found = mount_table::resolve_bare(&self.txn, path)?;
            if on != Some(id) || found.map(|(inode, _)| inode) != Some(mount.root) {
                let what = format!("mount {id} of {path} does not stand on its directory");
                self.report.wrong(what);
            }
            if let Some(other) = paths.insert(path.clone(), id) {
                self.report
                    .wrong(format!("{path} is the mount point of {other} and of {id}"));
            }
            self.mounts.insert(id, mount);
        }
        Ok(())
    }

    pub(super) fn credentials(&mut self) -> Read<()> {
        let engine = self.engine;
        each(engine, Family::Credentials, &[], &mut |at, _| {
            let id = key::parent_of_dentry(at).map(|raw| MountId::new(raw.get()));
            if id.is_none_or(|id| !self.mounts.contains_key(&id)) {
                self.report.wrong("a credential belongs to no mount");
            }
            Ok(())
        })
    }

    pub(super) fn settings(&mut self) -> Read<()> {
        let engine = self.engine;
        each(engine, Family::Settings, &[], &mut |at, value| {
            let path = std::str::from_utf8(at)
                .ok()
                .and_then(|at| FsPath::new(at).ok());
            let path = path.ok_or_else(|| odd_key(Family::Settings))?;
            if PathConf::decode_stored(value)?.is_empty() {
                self.report
                    .wrong(format!("the settings of {path} are stored and empty"));
            }
            Ok(())
        })
    }

    /// Each session is found by its nonce and by its expiry; nothing is kept of those that
    /// are gone.
    pub(super) fn sessions(&mut self) -> Read<()> {
        let engine = self.engine;
        each(engine, Family::Sessions, &[], &mut |at, value| {
            let parsed = key::session_entry(at).ok_or_else(|| odd_key(Family::Sessions))?;
            match parsed {
                key::SessionEntry::Record(id) => {
                    self.report.sessions += 1;
                    self.session(id, &SessionRecord::decode_stored(value)?)
                }
                key::SessionEntry::Outcome(id, sequence) => {
                    session::decode_outcome(value)?;
                    let known = self.session_record(id)?;
                    if known.is_none_or(|record| sequence < record.first_unacked) {
                        self.report.wrong(format!(
                            "the outcome of request {sequence} of session {id} is kept for nobody"
                        ));
                    }
                    Ok(())
                }
                key::SessionEntry::Nonce => {
                    let id = value.first_chunk().map(|raw| u64::from_be_bytes(*raw));
                    let id = SessionId::new(id.ok_or_else(|| odd_key(Family::Sessions))?);
                    if self.session_record(id)?.is_none() {
                        self.report
                            .wrong(format!("a nonce leads to session {id}, which is gone"));
                    }
                    Ok(())
                }
                key::SessionEntry::Expiry(expires_at, id) => {
                    let known = self.session_record(id)?;
                    if known.is_none_or(|record| record.expires_at != expires_at) {
                        self.report
                            .wrong(format!("session {id} does not expire at {expires_at}"));
                    }
                    Ok(())
                }
            }
        })
    }

    fn session_record(&self, id: SessionId) -> Read<Option<SessionRecord>> {
        self.txn.get(Family::Sessions, &key::session(id))
    }

    fn session(&mut self, id: SessionId, record: &SessionRecord) -> Read<()> {
        self.given("session", id.get(), self.counters.session);
        let expiry = key::session_expiry(record.expires_at, id);
        let nonce = key::session_nonce(record.nonce);
        for (at, what) in [(expiry, "its expiry"), (nonce, "its nonce")] {
            if self.txn.raw(Family::Sessions, &at)?.is_none() {
                self.report
                    .wrong(format!("session {id} is not found by {what}"));
            }
        }
        Ok(())
    }

    pub(super) fn nodes(&mut self) -> Read<()> {
        let engine = self.engine;
        let mut entries = 0_u64;
        each(engine, Family::Nodes, &[], &mut |at, value| {
            if !at.starts_with(&key::all_nodes()) {
                entries += 1;
                return Ok(());
            }
            let node = NodeRecord::decode_stored(value)?;
            self.report.nodes += 1;
            self.given("block node", node.id.get(), self.counters.node);
            let number = node.id.get().to_be_bytes();
            let by_instance = self
                .txn
                .raw(Family::Nodes, &key::node_instance(node.instance))?;
            if by_instance.as_deref() != Some(&number[..]) {
                let id = node.id;
                self.report
                    .wrong(format!("block node {id} is not found by its data folder"));
            }
            Ok(())
        })?;
        if entries != self.report.nodes {
            self.report.wrong(format!(
                "{entries} data folders lead to {} block nodes",
                self.report.nodes
            ));
        }
        Ok(())
    }
}
