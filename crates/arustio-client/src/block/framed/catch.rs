//! The reading half of a UNIX socket that also takes the descriptors that come along.
//!
//! The kernel hands over a descriptor with the first byte of what it was sent with, so by
//! the time a header is read its descriptor is in the queue; the order of descriptors is
//! that of the frames which carry one. A peer that sends more than it was asked for is
//! not read from any more. Used by both sides: a node passes blocks, a client hands in what
//! it brings.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::unix::OwnedReadHalf;

/// Descriptors of one call; more are closed by the kernel, and then missed.
const AT_ONCE: usize = 4;
/// Descriptors that may wait for their frame: a buffer full of headers has fewer.
const MOST: usize = 256;

/// Descriptors that came and were not taken yet, in order. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Caught(Arc<Mutex<VecDeque<OwnedFd>>>);

impl Caught {
    /// The next one.
    pub fn take(&self) -> Option<OwnedFd> {
        self.0.lock().pop_front()
    }

    /// Whether all were taken.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    fn add(&self, fds: impl Iterator<Item = OwnedFd>) -> io::Result<()> {
        let mut queue = self.0.lock();
        queue.extend(fds);
        match queue.len() > MOST {
            true => Err(io::Error::other(
                "it sent descriptors that nobody asked for",
            )),
            false => Ok(()),
        }
    }
}

/// Bytes, while descriptors go to a queue.
#[derive(Debug)]
pub struct Catching {
    half: OwnedReadHalf,
    caught: Caught,
}

impl Catching {
    /// Nothing was read yet; what comes along goes to `caught`.
    pub fn new(half: OwnedReadHalf, caught: Caught) -> Self {
        Self { half, caught }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(self.half.as_ref(), &mut slices, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.caught.add(fds)?;
            }
        }
        Ok(received.bytes)
    }
}

impl AsyncRead for Catching {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.half.as_ref().poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            let tried = self
                .half
                .as_ref()
                .try_io(Interest::READABLE, || self.receive(room));
            match tried {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
