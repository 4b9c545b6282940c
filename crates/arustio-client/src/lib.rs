//! The client-side file system.
#![forbid(unsafe_code)]
