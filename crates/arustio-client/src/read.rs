//! Reading: plan, cache, store, fill.
//!
//! A handle is pinned to one content at one version (`pin`); whatever served a part,
//! the bytes are of that content or the call fails (R1). `plan` is the arithmetic of
//! ranges, `fetch` asks nodes and the store for one range, `cold` shares what is cold with
//! other readers, `stream` keeps several such ranges in flight, `reader` is the handle,
//! [`sequential`] dresses it as `AsyncRead` and `AsyncSeek`. `budget` bounds what all of them
//! buffer. `load` brings files to the block nodes for readers that come later.

pub(crate) mod budget;
pub(crate) mod cold;
mod elsewhere;
pub(crate) mod fetch;
mod gather;
pub(crate) mod load;
pub(crate) mod pin;
pub(crate) mod plan;
pub(crate) mod reader;
pub mod sequential;
pub(crate) mod stream;
