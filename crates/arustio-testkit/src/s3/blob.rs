//! Bytes of an object: immutable, shared, in pieces.
//!
//! A body is cut into pieces of [`PIECE`] bytes when it arrives, so that a
//! gigabyte needs no contiguous memory and a reader holds on to no more than
//! it is sending. Reading, slicing and joining parts share the pieces and copy
//! nothing.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use md5::{Digest, Md5};
use s3s::StdError;
use s3s::stream::{ByteStream, RemainingLength};

/// The size of a piece: large enough that a write to a socket is never short
/// of bytes, small enough that its memory is found quickly.
pub(crate) const PIECE: usize = 1 << 20;

/// An MD5 digest, of which entity tags are made.
pub(crate) type Md5Sum = [u8; 16];

/// Immutable bytes in pieces; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blob {
    pieces: Arc<[Piece]>,
    len: u64,
}

/// A piece and where it starts.
#[derive(Clone, Debug)]
struct Piece {
    start: u64,
    bytes: Bytes,
}

impl Blob {
    /// Shares `bytes`, copying nothing.
    pub(crate) fn from_bytes(mut bytes: Bytes) -> Self {
        let mut pieces = Vec::with_capacity(bytes.len().div_ceil(PIECE));
        while bytes.len() > PIECE {
            pieces.push(bytes.split_to(PIECE));
        }
        pieces.push(bytes);
        Self::from_pieces(pieces)
    }

    fn from_pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut len = 0;
        let placed = pieces.into_iter().filter(|bytes| !bytes.is_empty());
        let pieces = placed
            .map(|bytes| {
                let start = len;
                len += bytes.len() as u64;
                Piece { start, bytes }
            })
            .collect();
        Self { pieces, len }
    }

    /// Joins blobs, sharing their pieces.
    pub(crate) fn concat<'a>(blobs: impl IntoIterator<Item = &'a Self>) -> Self {
        let pieces = blobs.into_iter().flat_map(|blob| blob.pieces.iter());
        Self::from_pieces(pieces.map(|piece| piece.bytes.clone()))
    }

    /// The length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The pieces that cover `range`, which is cut to the length.
    pub(crate) fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Bytes> + '_ {
        let end = range.end.min(self.len);
        let start = range.start.min(end);
        let first = self.pieces.partition_point(|piece| piece.end() <= start);
        let touched = self.pieces[first..].iter();
        touched
            .take_while(move |piece| piece.start < end)
            .map(move |piece| piece.cut(start, end))
    }

    /// The same bytes of that range, shared.
    pub(crate) fn slice(&self, range: Range<u64>) -> Self {
        Self::from_pieces(self.pieces(range))
    }

    /// A stream of the bytes of that range.
    pub(crate) fn stream(&self, range: Range<u64>) -> BlobStream {
        let end = range.end.min(self.len);
        BlobStream {
            next: self
                .pieces
                .partition_point(|piece| piece.end() <= range.start),
            position: range.start.min(end),
            end,
            blob: self.clone(),
        }
    }

    /// All bytes in one piece; copies unless there is only one.
    pub(crate) fn to_bytes(&self) -> Bytes {
        if let [only] = &*self.pieces {
            return only.bytes.clone();
        }
        let mut all = BytesMut::with_capacity(self.len as usize);
        for piece in &*self.pieces {
            all.extend_from_slice(&piece.bytes);
        }
        all.freeze()
    }

    /// The MD5 of the bytes; gives way to other tasks between pieces.
    pub(crate) async fn md5(&self) -> Md5Sum {
        let mut digest = Md5::new();
        for piece in &*self.pieces {
            digest.update(&piece.bytes);
            tokio::task::yield_now().await;
        }
        digest.finalize().into()
    }

    /// As [`Blob::md5`], at once.
    pub(crate) fn md5_now(&self) -> Md5Sum {
        let mut digest = Md5::new();
        for piece in &*self.pieces {
            digest.update(&piece.bytes);
        }
        digest.finalize().into()
    }
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// The part of this piece inside `start..end`, both of the whole blob.
    fn cut(&self, start: u64, end: u64) -> Bytes {
        let from = start.saturating_sub(self.start) as usize;
        let to = (end.min(self.end()) - self.start) as usize;
        self.bytes.slice(from..to)
    }
}

/// Bytes of a blob on their way out.
#[derive(Debug)]
pub(crate) struct BlobStream {
    blob: Blob,
    next: usize,
    position: u64,
    end: u64,
}

impl Stream for BlobStream {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.position >= self.end {
            return Poll::Ready(None);
        }
        let bytes = self.blob.pieces[self.next].cut(self.position, self.end);
        self.next += 1;
        self.position += bytes.len() as u64;
        Poll::Ready(Some(Ok(bytes)))
    }
}

impl ByteStream for BlobStream {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact((self.end - self.position) as usize)
    }
}

/// Collects a body into a blob and digests it on the way.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    pieces: Vec<Bytes>,
    tail: BytesMut,
    digest: Md5,
    len: u64,
    expected: u64,
}

impl BlobWriter {
    /// `expected` is a hint about the length; it never makes the writer
    /// allocate more than one piece ahead.
    pub(crate) fn new(expected: u64) -> Self {
        Self {
            pieces: Vec::new(),
            tail: BytesMut::new(),
            digest: Md5::new(),
            len: 0,
            expected,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, mut data: &[u8]) {
        self.digest.update(data);
        while !data.is_empty() {
            if self.tail.capacity() == 0 {
                self.tail.reserve(self.next_capacity());
            }
            let (now, later) = data.split_at(data.len().min(PIECE - self.tail.len()));
            self.tail.extend_from_slice(now);
            self.len += now.len() as u64;
            data = later;
            if self.tail.len() == PIECE {
                self.cut();
            }
        }
    }

    fn next_capacity(&self) -> usize {
        let left = self.expected.saturating_sub(self.len);
        left.clamp(64, PIECE as u64) as usize
    }

    fn cut(&mut self) {
        self.pieces.push(std::mem::take(&mut self.tail).freeze());
    }

    /// The number of bytes taken so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes and their MD5.
    pub(crate) fn finish(mut self) -> (Blob, Md5Sum) {
        self.cut();
        (
            Blob::from_pieces(self.pieces),
            self.digest.finalize().into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    fn read(blob: &Blob, range: Range<u64>) -> Vec<u8> {
        blob.pieces(range)
            .flat_map(|piece| piece.to_vec())
            .collect()
    }

    #[test]
    fn any_range_of_a_blob_in_pieces_is_the_same_range_of_the_bytes() {
        let all = bytes(2 * PIECE + 17);
        let mut writer = BlobWriter::new(0);
        for part in all.chunks(70_001) {
            writer.push(part);
        }
        let (blob, sum) = writer.finish();
        assert_eq!(blob.len(), all.len() as u64);
        assert_eq!(sum, blob.md5_now());
        let edges = [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, all.len()];
        for start in edges {
            for end in edges.into_iter().filter(|end| *end >= start) {
                let range = start as u64..end as u64;
                assert_eq!(read(&blob, range.clone()), &all[start..end]);
                assert_eq!(blob.slice(range).to_bytes(), &all[start..end]);
            }
        }
    }

    #[test]
    fn joined_parts_read_as_one() {
        let all = bytes(PIECE + 5);
        let left = Blob::from_bytes(Bytes::copy_from_slice(&all[..7]));
        let right = Blob::from_bytes(Bytes::copy_from_slice(&all[7..]));
        let joined = Blob::concat([&left, &Blob::default(), &right]);
        assert_eq!(joined.to_bytes(), &all[..]);
        assert_eq!(read(&joined, 5..9), &all[5..9]);
    }
}
