//! The wire and durable formats, and their conversions to the nouns.
#![forbid(unsafe_code)]
