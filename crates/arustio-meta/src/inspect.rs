//! Looking into a state that nobody writes to: a checkpoint, or the folder of a server that
//! is stopped.
//!
//! [`verify`] checks every invariant, [`dump`] shows every record, [`dump_below`] those of a
//! path. All stream: memory does not grow with the number of files. A [`Watch`] shows how
//! far they are and ends them.

mod below;
mod dump;
mod watch;

pub use crate::namespace::{Problem, StateHash, Verified};
pub use below::dump_below;
pub use dump::{DumpError, dump};
pub use watch::{Watch, Watched};

use crate::engine::{Family, KvEngine, key};
use crate::error::StateMachineError;
use crate::namespace::txn::Txn;
use crate::state_machine::Applied;

/// How far the state in an engine has come.
pub fn applied(engine: &dyn KvEngine) -> Result<Applied, StateMachineError> {
    let stored = Txn::new(engine).get(Family::Meta, key::APPLIED)?;
    Ok(stored.unwrap_or_default())
}

/// Checks every invariant of the state in an engine.
pub fn verify(engine: &dyn KvEngine) -> Result<Verified, StateMachineError> {
    crate::namespace::verify_engine(engine)
}
