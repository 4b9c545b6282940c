//! Single flight: every cell of a block is fetched by one task at a time, and whoever
//! else wants it waits for that one.
//!
//! A cell is a piece of a block on the grid of `fetch.min_fetch`; neighbouring cells
//! that nobody fetches yet go as one flight. A flight is a value: when it is dropped,
//! landed or not, its cells are free again, so nobody can wait for a flight that will
//! never land.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arustio_types::BlockKey;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::source::SourceError;

/// Bytes that have arrived, with their place in the block.
#[derive(Debug, Clone)]
pub(crate) struct Landed {
    pub(crate) start: u64,
    pub(crate) bytes: Bytes,
}

type Landing = Option<Result<Landed, SourceError>>;

/// Who is fetching what.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    cells: Mutex<HashMap<(BlockKey, u64), watch::Receiver<Landing>>>,
}

/// The duty to fetch some cells.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) key: BlockKey,
    pub(crate) cells: Range<u64>,
    table: Arc<Inflight>,
    landing: watch::Sender<Landing>,
}

/// Somebody waiting for a flight.
#[derive(Debug)]
pub(crate) struct Waiting(watch::Receiver<Landing>);

impl Inflight {
    /// Flights for those of the cells (ascending) that nobody fetches, and somebody to
    /// wait for every cell.
    pub(crate) fn board(
        self: &Arc<Self>,
        key: BlockKey,
        wanted: impl Iterator<Item = u64>,
    ) -> (Vec<Flight>, Vec<Waiting>) {
        let mut cells = self.cells.lock();
        let mut flights: Vec<Flight> = Vec::new();
        let mut waiting: Vec<Waiting> = Vec::new();
        for cell in wanted {
            if let Some(landing) = cells.get(&(key, cell)) {
                let known = waiting.iter().any(|w| w.0.same_channel(landing));
                if !known {
                    waiting.push(Waiting(landing.clone()));
                }
                continue;
            }
            let landing = match flights.last_mut() {
                Some(flight) if flight.cells.end == cell => {
                    flight.cells.end += 1;
                    flight.landing.subscribe()
                }
                _ => {
                    let (landing, receiver) = watch::channel(None);
                    flights.push(Flight {
                        key,
                        cells: cell..cell + 1,
                        table: Arc::clone(self),
                        landing,
                    });
                    waiting.push(Waiting(receiver.clone()));
                    receiver
                }
            };
            cells.insert((key, cell), landing);
        }
        (flights, waiting)
    }
}

impl Flight {
    /// Tells everybody who waits. What can be kept has to be in the store by now.
    pub(crate) fn land(self, result: Result<Landed, SourceError>) {
        self.landing.send_replace(Some(result));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut cells = self.table.cells.lock();
        for cell in self.cells.clone() {
            cells.remove(&(self.key, cell));
        }
    }
}

impl Waiting {
    /// The landing; `None` if the flight was given up.
    pub(crate) async fn landing(mut self) -> Landing {
        let landing = self.0.wait_for(Option::is_some).await.ok()?;
        landing.clone()
    }
}
