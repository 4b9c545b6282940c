//! Hearing what is given up while the connection holds back.
//!
//! A connection that waits (for room in front of a peer that reads slowly, for a place among
//! the requests that are worked on) takes no new request. Just then a peer may have stopped
//! waiting for what is in its way, so it has to be heard: a bounded number of headers is read
//! before their turn. What they give up ends at once, the others keep their order. Nothing
//! is read past a header that has a payload.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;

use arustio_block::Ending;
use arustio_proto::frame::{Flags, HEADER, Header, Operation};
use tokio::io::AsyncRead;

use super::{Connection, Trouble};

/// Requests that are read before their turn.
const MOST: usize = 64;

/// A request, and the descriptor that came with it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) header: Header,
    pub(super) file: Option<OwnedFd>,
}

/// What comes next on a connection: a request, or how it ends.
type Next = Result<Option<Request>, Trouble>;

/// What was read before its turn, in order.
#[derive(Debug, Default)]
pub(super) struct Ahead(VecDeque<Next>);

impl Ahead {
    pub(super) fn next(&mut self) -> Option<Next> {
        self.0.pop_front()
    }

    /// Takes out a read that nobody waits for any more.
    fn give_up(&mut self, read: u64) {
        self.0.retain(|next| match next {
            Ok(Some(Request { header, .. })) => {
                header.operation != Operation::Read || header.request != read
            }
            _ => true,
        });
    }

    /// Whether the next bytes of the connection are a header that may be read now.
    fn goes_on(&self) -> bool {
        let plain = |last: &Next| {
            let header = last.as_ref().ok().and_then(Option::as_ref);
            header.is_some_and(|request| request.header.payload_length == 0)
        };
        self.0.len() < MOST && self.0.back().is_none_or(plain)
    }
}

impl<R: AsyncRead + Unpin + Send> Connection<R> {
    /// Waits for something, and hears meanwhile what is given up. The payload of the request
    /// that is being worked on has to be read.
    pub(super) async fn meanwhile<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        while self.ahead.goes_on() {
            let bytes = tokio::select! {
                biased;
                done = &mut wait => return done,
                bytes = self.inlet.header() => bytes,
            };
            self.heard(bytes);
        }
        wait.await
    }

    /// Takes what was read: a `Cancel` at once, everything else in its turn.
    pub(super) fn heard(&mut self, bytes: io::Result<Option<[u8; HEADER]>>) {
        let next = bytes.map_err(Trouble::from).and_then(|bytes| match bytes {
            Some(bytes) => self.decoded(&bytes).map(Some),
            None => Ok(None),
        });
        match next {
            Ok(Some(request)) if request.header.operation == Operation::Cancel => {
                self.give_up(request.header.offset);
            }
            next => self.ahead.0.push_back(next),
        }
    }

    fn decoded(&mut self, bytes: &[u8; HEADER]) -> Result<Request, Trouble> {
        let header = match Header::decode(bytes) {
            Ok(header) if header.is_answer() => {
                return Err(Trouble::Disorder("a peer sent an answer"));
            }
            Ok(header) => header,
            Err(error) => return Err(error.into()),
        };
        let file = match header.flags.has(Flags::IN_FILE) {
            true => self.caught.take(),
            false => None,
        };
        // All that came was read, so that nothing else can have brought it.
        if self.inlet.is_drained() && !self.caught.is_empty() {
            return Err(Trouble::Disorder(
                "a peer sent a descriptor that nobody asked for",
            ));
        }
        Ok(Request { header, file })
    }

    /// Nobody waits for the answer to this read any more.
    fn give_up(&mut self, request: u64) {
        self.ahead.give_up(request);
        self.endpoint.metrics.ended(Operation::Cancel.name(), None);
        for lease in self.running.give_up(request) {
            self.endpoint.fills.end(lease, Ending::GaveUp);
        }
    }
}
