//! The connections to one node, and when not to try.
//!
//! A connection carries many requests, so a few are enough; another one is opened when
//! all that there are have work. A node whose frames cannot be reached, or that speaks
//! another version, is left to gRPC for a pause that doubles with each failure. One caller
//! at a time connects; the others use what there is, or wait for the first.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::NodeId;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection::{Connection, NoConnection, Place};
use crate::block::buffers::Buffers;
use crate::metadata::ClusterIdentity;

/// Connections to one node: one reads and sums on one processor.
const MOST: usize = 4;
/// Requests of one connection before another one is opened.
const ENOUGH: usize = 2;
/// How long connecting may take; less than a read waits, so that gRPC gets its turn.
const PATIENCE: Duration = Duration::from_millis(800);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How to ask a node.
#[derive(Debug)]
pub(super) enum Way {
    Frames(Arc<Connection>),
    Grpc,
}

#[derive(Debug)]
pub(super) struct Pool {
    place: Place,
    cluster: ClusterIdentity,
    buffers: Buffers,
    state: Mutex<State>,
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Arc<Connection>>,
    failures: u32,
    pause: Option<Instant>,
}

/// What the state says at a moment.
enum Choice {
    Use(Arc<Connection>),
    /// This one if nobody can open another.
    Open(Option<Arc<Connection>>),
    Pause,
}

impl Pool {
    pub(super) fn new(place: Place, cluster: ClusterIdentity, buffers: Buffers) -> Self {
        Self {
            place,
            cluster,
            buffers,
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// A connection, or why there is none. Safe to drop.
    pub(super) async fn connection(&self, node: NodeId, until: Instant) -> Way {
        let _turn = match self.choose() {
            Choice::Use(connection) => return Way::Frames(connection),
            Choice::Pause => return Way::Grpc,
            Choice::Open(Some(other)) => match self.connecting.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Way::Frames(other),
            },
            Choice::Open(None) => {
                let patience = patience(until);
                let turn = tokio::time::timeout(patience, self.connecting.lock()).await;
                match turn {
                    Ok(turn) => turn,
                    Err(_) => return Way::Grpc,
                }
            }
        };
        // Somebody may have connected, or failed to, meanwhile.
        match self.choose() {
            Choice::Use(connection) => Way::Frames(connection),
            Choice::Pause => Way::Grpc,
            Choice::Open(other) => self.open(node, until, other).await,
        }
    }

    fn choose(&self) -> Choice {
        let mut state = self.state.lock();
        state.open.retain(|connection| connection.is_open());
        let least = state.open.iter().min_by_key(|connection| connection.load());
        let least = least.cloned();
        let paused = state.pause.is_some_and(|pause| Instant::now() < pause);
        match least {
            Some(least) if least.load() < ENOUGH || state.open.len() >= MOST || paused => {
                Choice::Use(least)
            }
            None if paused => Choice::Pause,
            least => Choice::Open(least),
        }
    }

    async fn open(&self, node: NodeId, until: Instant, other: Option<Arc<Connection>>) -> Way {
        let opening = Connection::open(&self.place, node, self.cluster, &self.buffers);
        let opened = tokio::time::timeout(patience(until), opening).await;
        let late = |_| NoConnection::Unreachable("it does not answer".to_owned());
        match opened.map_err(late).and_then(|opened| opened) {
            Ok(connection) => {
                let connection = Arc::new(connection);
                let mut state = self.state.lock();
                state.failures = 0;
                state.pause = None;
                state.open.push(Arc::clone(&connection));
                Way::Frames(connection)
            }
            Err(why) => {
                self.state.lock().failed(&why, Instant::now());
                let place = &self.place;
                tracing::debug!(%place, ?why, "no frames to a block node; gRPC does it");
                other.map_or(Way::Grpc, Way::Frames)
            }
        }
    }
}

impl State {
    fn failed(&mut self, why: &NoConnection, now: Instant) {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10));
        let pause = match why {
            NoConnection::Unreachable(_) => doubled.min(LONGEST_PAUSE),
            // It changes when the node is replaced.
            NoConnection::OtherVersion(_) => LONGEST_PAUSE,
        };
        self.failures = self.failures.saturating_add(1);
        self.pause = Some(now + pause);
    }
}

/// Not all of a caller's time: gRPC needs some, too.
fn patience(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    (left / 2).min(PATIENCE)
}
