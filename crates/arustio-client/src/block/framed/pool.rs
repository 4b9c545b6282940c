//! The connections to one node, and when not to try.
//!
//! A connection carries many requests, so a few are enough; another one is opened when
//! all that there are have work. Requests of one lane share one, so that their answers come
//! in the order in which they are used. A node whose frames cannot be reached, or that speaks
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
    open: Vec<Open>,
    failures: u32,
    pause: Option<Instant>,
}

/// A connection, and the lane of those that are answered on it one after the other. No two
/// have the same.
#[derive(Debug)]
struct Open {
    lane: u32,
    connection: Arc<Connection>,
}

/// Which of the connections serves a lane.
fn lane_of(lane: u32) -> u32 {
    lane % MOST as u32
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
    pub(super) async fn connection(&self, node: NodeId, lane: Option<u32>, until: Instant) -> Way {
        let _turn = match self.choose(lane) {
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
        match self.choose(lane) {
            Choice::Use(connection) => Way::Frames(connection),
            Choice::Pause => Way::Grpc,
            Choice::Open(other) => self.open(node, lane, until, other).await,
        }
    }

    fn choose(&self, lane: Option<u32>) -> Choice {
        let mut state = self.state.lock();
        state.open.retain(|open| open.connection.is_open());
        let paused = state.pause.is_some_and(|pause| Instant::now() < pause);
        let open = &state.open;
        let own = lane.map(lane_of);
        if let Some(own) = open.iter().find(|open| Some(open.lane) == own) {
            return Choice::Use(Arc::clone(&own.connection));
        }
        let least = open.iter().min_by_key(|open| open.connection.load());
        let least = least.map(|open| Arc::clone(&open.connection));
        match least {
            Some(least) if open.len() >= MOST || paused => Choice::Use(least),
            Some(least) if lane.is_none() && least.load() < ENOUGH => Choice::Use(least),
            None if paused => Choice::Pause,
            least => Choice::Open(least),
        }
    }

    async fn open(
        &self,
        node: NodeId,
        lane: Option<u32>,
        until: Instant,
        other: Option<Arc<Connection>>,
    ) -> Way {
        let opening = Connection::open(&self.place, node, self.cluster, &self.buffers);
        let opened = tokio::time::timeout(patience(until), opening).await;
        let late = |_| NoConnection::Unreachable("it does not answer".to_owned());
        match opened.map_err(late).and_then(|opened| opened) {
            Ok(connection) => {
                let connection = Arc::new(connection);
                let mut state = self.state.lock();
                state.failures = 0;
                state.pause = None;
                let lane = lane.map_or_else(|| state.free_lane(), lane_of);
                state.open.push(Open {
                    lane,
                    connection: Arc::clone(&connection),
                });
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
    fn free_lane(&self) -> u32 {
        let taken = |lane: &u32| self.open.iter().any(|open| open.lane == *lane);
        (0..).find(|lane| !taken(lane)).unwrap_or_default()
    }

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
