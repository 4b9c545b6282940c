//! Snapshots that a member makes, ships and installs; how they travel is in `snapshot`.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use arustio_types::LogIndex;

use super::Member;
use crate::consensus::Notice;
use crate::consensus::membership::Membership;
use crate::consensus::peer::Peer;
use crate::consensus::snapshot::{Shipment, SnapshotFolder, StateCopy, Workshop};
use crate::consensus::transport::Envelope;
use crate::error::{FatalError, StoreError};
use crate::state_machine::{LogPosition, StateMachine, StateMachineError};

/// What is being made, what is made, what has arrived.
#[derive(Debug)]
pub(super) struct Snapshots {
    workshop: Box<dyn Workshop>,
    folder: PathBuf,
    /// Names the folders of this process.
    number: u64,
    made: Option<(LogPosition, Arc<SnapshotFolder>)>,
    /// Beats since anybody needed it.
    idle: u32,
    settling: bool,
    settled: Option<Result<(), StateMachineError>>,
    /// One is made as soon as the state has settled.
    making: bool,
    asked: Vec<Notice<LogPosition>>,
    /// Want a copy of their own, which no other member is ever sent.
    copies: Vec<Notice<StateCopy>>,
    received: Vec<(LogPosition, SnapshotFolder)>,
}

impl Snapshots {
    pub(super) fn new(workshop: Box<dyn Workshop>, folder: PathBuf) -> Self {
        Self {
            workshop,
            folder,
            number: 0,
            made: None,
            idle: 0,
            settling: false,
            settled: None,
            making: false,
            asked: Vec::new(),
            copies: Vec::new(),
            received: Vec::new(),
        }
    }

    /// Somebody wants one to be made.
    pub(super) fn ask(&mut self, notice: Notice<LogPosition>) {
        self.asked.push(notice);
    }

    /// Somebody wants a copy to look into.
    pub(super) fn ask_for_copy(&mut self, notice: Notice<StateCopy>) {
        self.copies.push(notice);
    }

    /// The workshop has answered.
    pub(super) fn settled(&mut self, result: Result<(), StateMachineError>) {
        self.settled = Some(result);
    }

    /// The one at a position, for another member.
    pub(super) fn shipment(&self, envelope: Envelope, position: LogPosition) -> Option<Shipment> {
        let (_, folder) = self.made.as_ref().filter(|(made, _)| *made == position)?;
        Some(Shipment {
            envelope,
            folder: Arc::clone(folder),
            position,
        })
    }

    /// The position of one that somebody is being sent.
    pub(super) fn in_use(&self) -> Option<LogIndex> {
        let used = |made: &&(LogPosition, Arc<SnapshotFolder>)| Arc::strong_count(&made.1) > 1;
        self.made.as_ref().filter(used).map(|(made, _)| made.index)
    }

    /// Drops what nobody is being sent and nobody has waited for during so many beats. The
    /// library asks again only when the member that lags answers a heartbeat: what is
    /// dropped before would be made again and again, and never be sent.
    pub(super) fn release(&mut self, peer: &mut Peer, patience: u32) {
        let needed = self.in_use().is_some() || peer.progress().iter().any(|other| other.snapshot);
        self.idle = match needed {
            true => 0,
            false => self.idle.saturating_add(1),
        };
        if self.idle > patience && self.made.take().is_some() {
            peer.offer(None);
        }
    }

    /// What has arrived and was not needed.
    pub(super) fn forget_received(&mut self) {
        self.received.clear();
    }

    pub(super) fn end_all(&mut self, error: &StoreError) {
        for notice in self.asked.drain(..) {
            let _ = notice.send(Err(error.clone()));
        }
        for notice in self.copies.drain(..) {
            let _ = notice.send(Err(error.clone()));
        }
    }

    fn next_folder(&mut self, name: &str) -> PathBuf {
        self.number += 1;
        self.folder.join(format!("{name}-{}", self.number))
    }
}

impl<S: StateMachine> Member<S> {
    /// Makes a snapshot or a copy where one is wanted: first the state settles, beside this
    /// thread.
    pub(super) fn make_snapshot(&mut self) -> Result<(), FatalError> {
        let wanted = self.peer.take_wanted() || !self.snapshots.asked.is_empty();
        self.snapshots.making |= wanted && self.snapshots.in_use().is_none();
        let due = self.snapshots.making || !self.snapshots.copies.is_empty();
        if due && !self.snapshots.settling {
            self.snapshots.settling = true;
            if let Err(error) = self.snapshots.workshop.settle() {
                self.snapshots.settled(Err(error));
            }
        }
        let Some(settled) = self.snapshots.settled.take() else {
            return Ok(());
        };
        self.snapshots.settling = false;
        let making = mem::take(&mut self.snapshots.making);
        // A full disk must not end a member that can do without a snapshot.
        if let Err(error) = settled {
            tracing::warn!("cannot make a snapshot: {error}");
            let failed = StoreError::Query(Arc::new(error));
            self.snapshots.end_all(&failed);
            return Ok(());
        }
        self.make_copy();
        match making {
            true => self.make_settled(),
            false => Ok(()),
        }
    }

    fn make_settled(&mut self) -> Result<(), FatalError> {
        let path = self.snapshots.next_folder("made");
        let folder = Arc::new(SnapshotFolder::new(path));
        let position = match self.machine.read().snapshot(folder.path()) {
            Ok(applied) => applied.position,
            Err(error) => {
                tracing::warn!("cannot make a snapshot: {error}");
                let failed = StoreError::Query(Arc::new(error));
                self.snapshots.end_all(&failed);
                return Ok(());
            }
        };
        tracing::info!(index = %position.index, "made a snapshot");
        self.snapshots.made = Some((position, folder));
        self.snapshots.idle = 0;
        self.peer.offer(Some(position));
        self.snapshot_made(position)
    }

    /// One copy serves everybody who waits for one.
    fn make_copy(&mut self) {
        let mut waiting = mem::take(&mut self.snapshots.copies);
        waiting.retain(|notice| !notice.is_closed());
        let Some(last) = waiting.pop() else {
            return;
        };
        let path = self.snapshots.next_folder("copy");
        let folder = Arc::new(SnapshotFolder::new(path));
        let made = self.machine.read().snapshot(folder.path());
        let copy = made.map(|applied| StateCopy { folder, applied });
        let copy = copy.map_err(|error| {
            tracing::warn!("cannot make a copy of the state: {error}");
            StoreError::Query(Arc::new(error))
        });
        for notice in waiting {
            let _ = notice.send(copy.clone());
        }
        // Nothing is kept here: the folder goes with the last reader, on his thread.
        let _ = last.send(copy);
    }

    fn snapshot_made(&mut self, position: LogPosition) -> Result<(), FatalError> {
        let asked = mem::take(&mut self.snapshots.asked);
        if asked.is_empty() {
            return Ok(());
        }
        self.machine.read().make_durable()?;
        self.peer.compact(position.index)?;
        for notice in asked {
            let _ = notice.send(Ok(position));
        }
        Ok(())
    }

    /// A folder has arrived: its message goes to the library, which decides.
    pub(super) fn snapshot_received(&mut self, bytes: &[u8], folder: SnapshotFolder) {
        match self.peer.step_snapshot(bytes) {
            Ok(position) => self.snapshots.received.push((position, folder)),
            Err(reason) => tracing::warn!(reason, "dropped a snapshot from another member"),
        }
    }

    /// Replaces the state by a snapshot; says what it has applied then.
    pub(super) fn install(
        &mut self,
        install: &(LogPosition, Membership),
    ) -> Result<LogIndex, FatalError> {
        let position = install.0;
        let at = |(known, _): &(LogPosition, SnapshotFolder)| *known == position;
        let found = self.snapshots.received.iter().find(|known| at(known));
        let Some((_, folder)) = found else {
            return Err(FatalError::WrongSnapshot {
                expected: position.index,
                found: LogIndex::default(),
            });
        };
        self.peer.announce(install)?;
        let applied = self.machine.write().install(folder.path())?;
        if applied.position != position {
            return Err(FatalError::WrongSnapshot {
                expected: position.index,
                found: applied.position.index,
            });
        }
        tracing::info!(index = %position.index, "installed a snapshot");
        self.peer.installed(applied);
        self.applied = position.index;
        self.marks.replaced(self.applied);
        Ok(position.index)
    }
}
