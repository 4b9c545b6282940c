//! What comes from outside the program: the wall clock and fresh ids.
//!
//! A real store has both of its own, and a client must work with whatever they
//! are; so tests choose neither. Faults, which tests do choose, draw from the
//! seed of their rule instead.

use std::time::SystemTime;

/// The time that this store thinks it is.
#[expect(
    clippy::disallowed_methods,
    reason = "a store dates its objects by a clock of its own"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// An id that no upload had before.
#[expect(
    clippy::disallowed_methods,
    reason = "no client may rely on the ids that a store hands out"
)]
pub(crate) fn fresh_id() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}
