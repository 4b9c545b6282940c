//! One small program per use case.
#![forbid(unsafe_code)]
