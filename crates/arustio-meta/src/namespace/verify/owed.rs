//! What is announced and owed: each refers to something, and is found by its key.

use arustio_types::meta::effect::{Effect, EffectKind};
use arustio_types::meta::intent::Intent;
use arustio_types::{InodeId, MountId, SessionId};

use super::{Check, each, odd_key};
use crate::engine::record::Record;
use crate::engine::{Family, key};
use crate::namespace::owed;
use crate::namespace::txn::Read;

impl Check<'_> {
    pub(super) fn intents(&mut self) -> Read<()> {
        let engine = self.engine;
        let mut last = 0;
        each(
            engine,
            Family::Intents,
            &key::all_owed(),
            &mut |_, value| {
                let intent = Intent::decode_stored(value)?;
                self.report.intents += 1;
                last = intent.id.get();
                self.holder("intent", last, intent.mount, intent.holder);
                let at = key::owed_on(intent.mount, &intent.key, last);
                self.indexed(Family::Intents, &at, last)
            },
        )?;
        self.given("intent", last, self.counters.intent);
        self.one_on_each_key()?;
        self.index_size(Family::Intents, self.report.intents, self.report.intents)
    }

    fn holder(&mut self, what: &str, id: u64, mount: MountId, session: SessionId) {
        if !self.mounts.contains_key(&mount) {
            self.report
                .wrong(format!("{what} {id} is of mount {mount}, which is gone"));
        }
        if session.get() >= self.counters.session {
            self.report.wrong(format!(
                "{what} {id} is held by session {session}, which never was"
            ));
        }
    }

    fn indexed(&mut self, family: Family, at: &[u8], id: u64) -> Read<()> {
        if self.txn.raw(family, at)?.is_none() {
            self.report
                .wrong(format!("{id} of {family} is not in the index of its keys"));
        }
        Ok(())
    }

    /// Two writers on one key stand side by side in the index.
    fn one_on_each_key(&mut self) -> Read<()> {
        let engine = self.engine;
        let mut before: Vec<u8> = Vec::new();
        each(engine, Family::Intents, &[], &mut |at, _| {
            if at.starts_with(&key::all_owed()) {
                return Ok(());
            }
            let on = &at[..at.len().saturating_sub(8)];
            if before == on {
                let id = key::last_number(at).ok_or_else(|| odd_key(Family::Intents))?;
                self.report
                    .wrong(format!("intent {id} lies on the key of another one"));
            }
            before = on.to_vec();
            Ok(())
        })
    }

    /// Records and index entries of a family, and nothing else.
    fn index_size(&mut self, family: Family, records: u64, entries: u64) -> Read<()> {
        let mut there = 0;
        each(self.engine, family, &[], &mut |_, _| {
            there += 1;
            Ok(())
        })?;
        if there != records + entries {
            self.report.wrong(format!(
                "{family} has {there} entries instead of {records} records and {entries} of the index"
            ));
        }
        Ok(())
    }

    pub(super) fn effects(&mut self) -> Read<()> {
        let engine = self.engine;
        let (mut last, mut entries) = (0, 0);
        each(
            engine,
            Family::Effects,
            &key::all_owed(),
            &mut |_, value| {
                let effect = Effect::decode_stored(value)?;
                self.report.effects += 1;
                last = effect.id.get();
                self.holder("effect", last, effect.mount, effect.executor);
                self.refers(&effect)?;
                for at in owed::index_keys(&effect) {
                    entries += 1;
                    self.indexed(Family::Effects, &at, last)?;
                }
                Ok(())
            },
        )?;
        self.given("effect", last, self.counters.effect);
        self.index_size(Family::Effects, self.report.effects, entries)
    }

    fn refers(&mut self, effect: &Effect) -> Read<()> {
        let inode = match &effect.kind {
            EffectKind::Delete { .. } => return Ok(()),
            EffectKind::DeleteTree { root, .. } => {
                self.detached.insert(*root);
                *root
            }
            EffectKind::Rename { inode, .. } => {
                self.moving.insert(*inode);
                *inode
            }
            EffectKind::RenameTree(tree) => {
                self.moving_trees.insert(tree.root);
                tree.root
            }
            EffectKind::PutMarker { dir, .. } => *dir,
        };
        if self.txn.inode(inode)?.is_none() {
            let what = format!("effect {} refers to it, and it is gone", effect.id);
            self.report.wrong_inode(inode, what);
        }
        Ok(())
    }

    /// Trees that are only to be freed.
    pub(super) fn garbage(&mut self) -> Read<()> {
        let engine = self.engine;
        each(engine, Family::Jobs, &[], &mut |at, _| {
            let garbage = at.starts_with(&key::all_garbage());
            let root = key::tagged_number(at).filter(|_| garbage);
            let root = InodeId::new(root.ok_or_else(|| odd_key(Family::Jobs))?);
            if !self.detached.insert(root) {
                let what = "the tree below it is to be freed and to be removed";
                self.report.wrong_inode(root, what);
            }
            if self.txn.inode(root)?.is_none() {
                let what = "the tree below it is to be freed, and it is gone";
                self.report.wrong_inode(root, what);
            }
            Ok(())
        })
    }
}
