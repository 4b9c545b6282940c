//! The door by which tests of whole groups come to a member without its thread.

pub(crate) use super::member::{Input, Member, Surroundings};
pub(crate) use super::peer::Peer;
pub(crate) use super::peer::look::{Look, Promise, promise};
pub(crate) use super::snapshot::Workshop;

use crate::mutation::{Mutation, Mutations};
use crate::state_machine::StateMachine;

impl<S: StateMachine> Member<S> {
    /// Breaks a rule from now on.
    pub(crate) fn breaking(mut self, broken: Option<Mutation>) -> Self {
        self.break_rules(Mutations::breaking(broken));
        self
    }
}
