//! What arrives on one connection: a header, then exactly its payload.
//!
//! A payload is read straight into the buffer that is handed on, in pieces that are summed
//! while they are still in the processor's cache. Nothing is allocated here for more than
//! the caller asks for, and what nobody wants is read past in a small buffer.

use std::io;

use arustio_proto::frame::{HEADER, Header};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};

use crate::block::buffers::{Buffer, Buffers};

/// Headers and small payloads are read together up to this.
const BUFFER: usize = 16 << 10;
/// Read and summed at a time.
const PIECE: usize = 256 << 10;

/// The reading half of a connection.
#[derive(Debug)]
pub struct Inlet<R> {
    reader: BufReader<R>,
    buffers: Buffers,
    /// A header, as far as it came.
    begun: [u8; HEADER],
    filled: usize,
}

/// A payload as it came.
#[derive(Debug, Clone)]
pub struct Payload {
    /// Its bytes.
    pub bytes: Bytes,
    /// Their checksum now, to be compared with the one in the header.
    pub crc32c: u32,
}

impl<R: AsyncRead + Unpin> Inlet<R> {
    /// Nothing was read yet. Payloads are received into `buffers`.
    pub fn new(reader: R, buffers: Buffers) -> Self {
        Self {
            reader: BufReader::with_capacity(BUFFER, reader),
            buffers,
            begun: [0; HEADER],
            filled: 0,
        }
    }

    /// The next header, not decoded; `None` when the peer has closed between two frames.
    /// Safe to drop: the next call goes on where it stopped.
    ///
    /// # Errors
    /// `UnexpectedEof` inside a header, and whatever the system says.
    pub async fn header(&mut self) -> io::Result<Option<[u8; HEADER]>> {
        while self.filled < HEADER {
            match self.reader.read(&mut self.begun[self.filled..]).await? {
                0 if self.filled == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.filled += read,
            }
        }
        self.filled = 0;
        Ok(Some(self.begun))
    }

    /// Whether everything that came so far was read.
    pub fn is_drained(&self) -> bool {
        self.reader.buffer().is_empty() && self.filled == 0
    }

    /// The payload of a header whose length the caller accepts. `moved` is called for each
    /// piece that came.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer closes inside it, and whatever the system says.
    pub async fn payload(&mut self, header: &Header, moved: impl Fn()) -> io::Result<Payload> {
        let length = header.payload_length as usize;
        let mut buffer = self.buffers.take(length);
        let crc32c = self.receive(&mut buffer, length, moved).await?;
        Ok(Payload {
            bytes: buffer.freeze(),
            crc32c,
        })
    }

    /// The next `length` bytes, after those that are in the buffer; their checksum.
    ///
    /// # Errors
    /// As [`payload`](Self::payload).
    pub async fn receive(
        &mut self,
        buffer: &mut Buffer,
        length: usize,
        moved: impl Fn(),
    ) -> io::Result<u32> {
        let end = buffer.filled().len() + length;
        let mut crc32c = 0;
        while buffer.filled().len() < end {
            let piece = buffer.room(PIECE.min(end - buffer.filled().len()));
            let read = self.reader.read(piece).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            crc32c = crc32c::crc32c_append(crc32c, &piece[..read]);
            buffer.advance(read);
            moved();
        }
        Ok(crc32c)
    }

    /// Where its payloads come from.
    pub fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Reads past everything until the peer closes.
    pub async fn exhaust(&mut self) {
        // It is about to be closed in any case.
        let _ = tokio::io::copy(&mut self.reader, &mut tokio::io::sink()).await;
    }

    /// Reads past the payload of a header.
    ///
    /// # Errors
    /// As [`payload`](Self::payload).
    pub async fn skip(&mut self, header: &Header) -> io::Result<()> {
        let length = u64::from(header.payload_length);
        let mut rest = (&mut self.reader).take(length);
        let skipped = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        match skipped == length {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// For tests that write the other side by hand.
#[cfg(test)]
impl<R: AsyncRead + Unpin> Inlet<R> {
    /// The next request; its payload is read past.
    pub(crate) async fn asked(&mut self) -> Header {
        let bytes = self.header().await.unwrap().unwrap();
        let header = Header::decode(&bytes).unwrap();
        self.skip(&header).await.unwrap();
        header
    }

    /// Whether the other side closed the connection.
    pub(crate) async fn is_left(&mut self) -> bool {
        !matches!(self.header().await, Ok(Some(_)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arustio_proto::frame::Operation;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_header_that_comes_in_pieces_survives_impatience() {
        let (mut theirs, ours) = tokio::io::duplex(1 << 10);
        let mut inlet = Inlet::new(ours, Buffers::default());
        let header = Header::request(Operation::Ping, 9).encode();
        for piece in header.chunks(10) {
            assert!(inlet.is_drained() || inlet.filled > 0);
            theirs.write_all(piece).await.unwrap();
            if inlet.filled + piece.len() < HEADER {
                let moment = Duration::from_millis(1);
                let early = tokio::time::timeout(moment, inlet.header()).await;
                assert!(early.is_err());
            }
        }
        assert_eq!(inlet.header().await.unwrap(), Some(header));
        assert!(inlet.is_drained());
        drop(theirs);
        assert_eq!(inlet.header().await.unwrap(), None);
    }
}
