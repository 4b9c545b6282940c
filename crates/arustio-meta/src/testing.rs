//! Fakes, faulty wrappers and conformance suites for tests of this crate and others.
//!
//! [`engine_conformance`] is the first test of every implementation of
//! [`crate::engine::KvEngine`]; [`faulty`] breaks one at a chosen write; [`register`] is
//! the smallest state machine that shows a lost or a repeated command.

pub mod engine_conformance;
pub mod faulty;
pub mod register;
