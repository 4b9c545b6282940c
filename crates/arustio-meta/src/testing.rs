//! Fakes, faulty wrappers and conformance suites for tests of this crate and others.
//!
//! [`engine_conformance`] is the first test of every implementation of
//! [`crate::engine::KvEngine`]; [`faulty`] breaks one at a chosen write; [`register`] is
//! the smallest state machine that shows a lost or a repeated command. [`sim`] plays whole
//! groups with their clients and an object store from a seed; [`history`] says whether
//! what clients saw can have happened; a [`Mutation`] shows that somebody notices.

pub use crate::mutation::Mutation;

pub mod engine_conformance;
pub mod faulty;
pub mod fuzz;
pub mod history;
pub mod register;
pub mod sim;
