//! The framed protocol: how the bytes of blocks travel between our own parts.
//!
//! gRPC costs more for each byte than reading it from the cache does, so bytes have a wire
//! of their own: a header of fixed size, little-endian, then a payload whose length the
//! header states. One frame asks. The answer to a read is one frame for each part that is
//! there, all but the last one with [`Flags::MORE`]; every other answer is one frame.
//! Requests of one connection are answered in any order and matched by their id.
//!
//! Only encoding and decoding here, no I/O: [`Header`] is every frame's beginning,
//! [`body`] the payloads that are no plain bytes.
//!
//! # What a receiver may rely on
//! - Every length is bounded by [`Header::decode`], before anything is allocated.
//! - The header has a checksum: a flipped bit cannot make bytes those of another block.
//! - The payload of a part carries the checksum that the bytes had when they arrived at
//!   the node, so that whoever reads them last checks the whole way.
//!
//! # Versions
//! The first five bytes, magic and version, are the same for ever. The first frame of a
//! connection is a `Hello` in the layout of version 1, also for ever; its body says which
//! versions each side speaks, and the newest common one is spoken from then on. A frame of
//! a version, or with an operation, that the other side does not know is answered with
//! one that names both sides' versions ([`FrameError::answer`]), then the connection closes.
//! Of the flags, an unknown one of the lower byte is ignored, an unknown one of the upper
//! byte is answered with [`Status::Unsupported`].
//!
//! # Descriptors
//! A `Pass` that is answered with [`Status::Ok`] carries one descriptor (`SCM_RIGHTS`) with
//! the first byte of the answer's header, and nothing else ever carries one: whoever reads
//! takes one off the queue of those that came for each such answer.
//!
//! # Runs of blocks
//! A `Stat` counts the blocks of each [`body::Extent`] from its first one on. A node that does
//! not say [`body::RUNS`] in its `Hello` counts all of them from block 0, and is asked for
//! nothing else.
//!
//! # Leases
//! Only between sides that both say [`body::LEASES`] in their `Hello`. A `Read` with
//! [`Flags::WANT_FILL`] asks for whole chunks, says how long the block is, and in `millis`
//! how long the node may wait for what others bring. Its answer is the parts that are
//! there, and in the end one of: nothing more ([`Status::Ok`] is the last part's),
//! [`Status::YouFill`] with leases ([`body::encode_grants`]), [`Status::Miss`] when it was
//! waited in vain, [`Status::Busy`], [`Status::Stale`] or [`Status::Rejected`] (the bytes
//! must not be cached) for a reader who has to do without. All but the miss may follow
//! parts.
//!
//! A `Fill` names its lease in `epoch`. With a payload it is a `Write`, answered
//! [`Status::Miss`] where the lease was lost. Without one it is about the lease itself, and
//! its own status says what: [`Status::Ok`] renews it, [`Status::Miss`] gives it up,
//! [`Status::Stale`] and [`Status::Rejected`] end it since the version is gone or must not
//! be cached. The answer is [`Status::Ok`], or [`Status::Miss`] if it was lost before. The
//! answer to bytes says with [`Flags::AWAITED`] that others wait for more of the block: their
//! holder may take the time to bring it instead of dropping what it has no room for.

pub mod body;
mod header;
#[cfg(test)]
mod tests;

pub use header::{Flags, FrameError, Header, Operation, Status};

/// What every frame begins with.
pub const MAGIC: [u8; 4] = *b"ARFR";
/// The newest version that is spoken here.
pub const VERSION: u8 = 1;
/// The oldest version that is spoken here.
pub const OLDEST: u8 = 1;
/// Bytes of a header.
pub const HEADER: usize = 96;
/// Largest payload: a block.
pub const MAX_PAYLOAD: u32 = 256 << 20;
/// Longest text of an answer that is none of the wanted kind.
pub const MAX_TEXT: usize = 1024;
/// Most contents that one `Stat` asks about.
pub const MAX_EXTENTS: usize = 1 << 16;
/// Most leases in one answer.
pub const MAX_GRANTS: usize = 32;
/// Longest access token.
pub const MAX_TOKEN: usize = 4096;
