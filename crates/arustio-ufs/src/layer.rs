//! Wrappers around any store, one thing each.
//!
//! From the outside in, as [`UfsRegistry`](crate::registry::UfsRegistry) stacks them:
//! [`Rooted`] puts a prefix before every key, [`Retry`] repeats what may be repeated,
//! [`Limit`] bounds what is in flight, [`Metered`] counts what is really asked. Each
//! forwards every method, and the lint proves it.

mod limit;
mod metered;
mod retry;
mod rooted;
mod throttle;

pub use limit::Limit;
pub use metered::{Counts, Metered, Operation, UfsMetrics};
pub use retry::Retry;
pub use rooted::Rooted;
pub use throttle::{Throttle, ThrottleConfig};
