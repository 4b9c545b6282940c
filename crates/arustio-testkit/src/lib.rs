//! The test bench of Arustio: what the tests, the demo and the benchmarks need
//! and no shipped program may contain.
//!
//! Each module is one tool and stands alone. Nothing depends on this crate but
//! tests, benchmarks and development programs.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod containers;
pub mod demo;
pub mod e2e;
pub mod processes;
pub mod s3;
