//! How a client waits: it asks for one thing, and is told. A client is a future that the
//! world polls when it has told it something; there is no runtime and no other clock.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arustio_types::meta::{Answer, Outcome, Query};
use arustio_types::{NodeId, UfsKey};

use super::store::{Object, Reply, Request};
use crate::error::StoreError;

/// What a client wants.
#[derive(Debug)]
pub(super) enum Ask {
    /// Some time to pass.
    Sleep(Duration),
    /// A command, encoded, decided on by way of this member.
    Propose(NodeId, Vec<u8>),
    /// A question answered by this member, with everything that was acknowledged.
    Query(NodeId, Query),
    /// A request to the store carried out.
    Change(Request),
    /// An object looked at.
    Head(UfsKey),
    /// All objects looked at.
    List,
}

/// What a client learns.
#[derive(Debug)]
pub(super) enum Told {
    /// No answer came in time; or it is time.
    Nothing,
    Proposed(Result<Outcome, StoreError>),
    Answered(Result<Answer, StoreError>),
    Carried(Reply),
    Object(Option<Object>),
    Objects(Vec<(UfsKey, Object)>),
}

#[derive(Debug, Default)]
struct Slot {
    ask: Option<Ask>,
    told: Option<Told>,
}

/// A client's end of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Port(Rc<RefCell<Slot>>);

impl Port {
    pub(super) async fn ask(&self, ask: Ask) -> Told {
        self.0.borrow_mut().ask = Some(ask);
        poll_fn(|_| match self.0.borrow_mut().told.take() {
            Some(told) => Poll::Ready(told),
            None => Poll::Pending,
        })
        .await
    }
}

/// A client at work.
pub(super) struct Task {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    port: Port,
    /// Which question it waits for an answer to.
    pub(super) asked: u64,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

impl Task {
    pub(super) fn new(port: Port, future: impl Future<Output = ()> + 'static) -> Self {
        Self {
            future: Some(Box::pin(future)),
            port,
            asked: 0,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.future.is_none()
    }

    /// Dies where it stands.
    pub(super) fn kill(&mut self) {
        self.future = None;
        self.asked += 1;
    }

    /// Goes on after having been told something; says what it wants next.
    pub(super) fn go_on(&mut self, told: Option<Told>) -> Option<Ask> {
        let future = self.future.as_mut()?;
        self.port.0.borrow_mut().told = told;
        let mut context = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut context).is_ready() {
            self.future = None;
        }
        self.asked += 1;
        self.port.0.borrow_mut().ask.take()
    }
}
