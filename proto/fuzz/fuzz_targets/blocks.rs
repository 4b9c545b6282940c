//! Any bytes against `arustio_block::testing::fuzz_blocks`, which says what may not happen.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arustio_block::testing::fuzz_blocks(bytes));
