//! Retries against a store that fails on purpose; filled in with the doubles.
