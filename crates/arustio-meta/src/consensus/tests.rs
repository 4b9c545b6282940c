//! Tests of the consensus as a whole.
