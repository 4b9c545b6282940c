//! Doubles and the suite that every backend passes.
//!
//! Behind the feature `testing`, in the crate that owns the trait, so that whoever
//! writes a backend or stands above one can test alone.

pub mod conformance;
