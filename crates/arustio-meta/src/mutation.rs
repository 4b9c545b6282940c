//! Rules that a test may break on purpose, to show that the checkers of the simulation
//! notice.
//!
//! The place that keeps a rule asks [`Mutations::has`]. In a build without tests nothing
//! can be broken: the question is a constant there, and the compiler removes what would
//! follow from another answer. There is no global switch; whoever wants a broken member
//! or namespace makes one.

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    not(any(test, feature = "testing")),
    expect(unreachable_pub, reason = "offered by `testing` only")
)]
pub enum Mutation {
    /// A leader applies and answers what only its own log holds.
    #[cfg(any(test, feature = "testing"))]
    AnswerBeforeCommit,
    /// Entries and votes are written without waiting for the disk.
    SkipSync,
    /// The outcomes of requests are not remembered.
    DropSessions,
    /// A member answers reads from what it has, without asking the group.
    ReadWithoutIndex,
    /// Votes and acknowledgements go out before they are on disk.
    PersistMessagesEarly,
    /// A snapshot that is installed takes away what the member voted for.
    InstallOverVote,
    /// A merge is believed however old the look was.
    MergeWithoutIndexes,
    /// Work is taken over although its executor lives, and both may go on.
    TwoExecutors,
    /// An intent or effect ends although a request of it may still be carried out.
    EndTooEarly,
}

/// What is broken here: nothing, or one rule of a test.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mutations {
    #[cfg(any(test, feature = "testing"))]
    broken: Option<Mutation>,
}

#[cfg(not(any(test, feature = "testing")))]
impl Mutations {
    /// Nothing is ever broken.
    pub(crate) const fn has(self, _: Mutation) -> bool {
        false
    }
}

#[cfg(any(test, feature = "testing"))]
impl Mutations {
    /// Breaks one rule, or none.
    pub(crate) const fn breaking(broken: Option<Mutation>) -> Self {
        Self { broken }
    }

    /// Whether this rule is broken here.
    pub(crate) fn has(self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }
}

#[cfg(any(test, feature = "testing"))]
impl Mutation {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AnswerBeforeCommit,
        Self::SkipSync,
        Self::DropSessions,
        Self::ReadWithoutIndex,
        Self::PersistMessagesEarly,
        Self::InstallOverVote,
        Self::MergeWithoutIndexes,
        Self::TwoExecutors,
        Self::EndTooEarly,
    ];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnswerBeforeCommit => "answer-before-commit",
            Self::SkipSync => "skip-sync",
            Self::DropSessions => "drop-sessions",
            Self::ReadWithoutIndex => "read-without-index",
            Self::PersistMessagesEarly => "persist-messages-early",
            Self::InstallOverVote => "install-over-vote",
            Self::MergeWithoutIndexes => "merge-without-indexes",
            Self::TwoExecutors => "two-executors",
            Self::EndTooEarly => "end-too-early",
        }
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}
