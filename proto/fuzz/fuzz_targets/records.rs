//! Any bytes against `arustio_meta::testing::fuzz::records`, which says what may not happen.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arustio_meta::testing::fuzz::records(bytes));
