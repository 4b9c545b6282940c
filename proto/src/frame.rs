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
//! # Reserved
//! `Fill` (leases of clients that fill) has its number, and `YouFill` its status; no node
//! serves it yet, each answers [`Status::Unsupported`], as it does to a `Pass` where no
//! descriptor can travel. The flag [`Flags::WANT_FILL`] is answered with a plain miss.

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
/// Longest access token.
pub const MAX_TOKEN: usize = 4096;
