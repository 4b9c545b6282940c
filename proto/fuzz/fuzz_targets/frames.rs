//! Any bytes against `arustio_proto::fuzz::frames`, which says what may not happen.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arustio_proto::fuzz::frames(bytes));
