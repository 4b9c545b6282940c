//! A peer that breaks a rule: as a leader it gives out its own entries to be applied, and
//! so answered, before a majority has them. Only tests of the checkers have one.

use arustio_types::LogIndex;
use raft::StateRole;
use raft::eraftpb::{Entry, EntryType};

use super::Peer;
use crate::mutation::{Mutation, Mutations};

impl Peer {
    /// Breaks a rule from now on.
    pub(crate) fn break_rules(&mut self, rules: Mutations) {
        self.rules = rules;
        self.given = self.node.raft.raft_log.applied;
    }

    /// What is given out: the committed entries, each once, and a leader's own.
    pub(super) fn answer_early(
        &mut self,
        appended: &[Entry],
        mut committed: Vec<Entry>,
    ) -> Vec<Entry> {
        if !self.rules.has(Mutation::AnswerBeforeCommit) {
            return committed;
        }
        let upto = committed.last().map(|last| last.index);
        committed.retain(|entry| entry.index > self.given);
        self.given = self.given.max(upto.unwrap_or(0));
        if let Some(upto) = upto.filter(|_| committed.is_empty()) {
            self.node.advance_apply_to(upto);
        }
        let leads = self.node.raft.state == StateRole::Leader;
        for entry in appended.iter().filter(|_| leads) {
            let normal = entry.entry_type == EntryType::EntryNormal as i32;
            if normal && entry.index == self.given + 1 {
                self.given = entry.index;
                committed.push(entry.clone());
            }
        }
        committed
    }

    /// What the library may be told to be applied.
    pub(super) fn not_early(&self, applied: LogIndex) -> LogIndex {
        match self.rules.has(Mutation::AnswerBeforeCommit) {
            true => applied.min(LogIndex::new(self.node.raft.raft_log.committed)),
            false => applied,
        }
    }
}
