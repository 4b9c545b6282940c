//! Servers in the world: beats, rounds, messages, snapshots, crashes.

use std::sync::Arc;
use std::time::Duration;

use arustio_types::NodeId;
use rand::Rng as _;

use super::super::invariants::{Checked, Finding};
use super::super::server::{Clock, Server};
use super::super::tally::Fault;
use super::{Event, World};
use crate::consensus::inside::{Input, promise};
use crate::consensus::{Envelope, Membership, Shipment, SnapshotFolder};
use crate::error::FatalError;
use crate::testing::faulty::{Fault as Strike, Faults};

/// How long a round waits for the disk, in microseconds.
const DISK: std::ops::Range<u64> = 50..1_500;
/// How long a snapshot travels, in milliseconds.
const SHIPMENT: std::ops::Range<u64> = 10..250;

impl World<'_> {
    pub(super) fn found_server(&mut self) -> Checked<()> {
        self.add_server(self.founding()).map(drop)
    }

    /// A server more; founding nobody, it joins.
    pub(super) fn add_server(&mut self, founding: Membership) -> Checked<NodeId> {
        let id = self.servers.len() as u64 + 1;
        let reads = Duration::from_millis(self.rng.random_range(0..1_000_000));
        let clock = Clock::new(reads, self.rate());
        let server = Server::new(id, founding, &self.shared, clock);
        self.servers.push(server);
        self.house.servers.borrow_mut().push(NodeId::new(id));
        self.boot(self.servers.len() - 1, Faults::default())?;
        Ok(NodeId::new(id))
    }

    /// A clock's rate; they differ by a few parts of a hundred.
    pub(super) fn rate(&mut self) -> f64 {
        1.0 + f64::from(self.rng.random_range(-3_i32..=3)) / 100.0
    }

    fn boot(&mut self, at: usize, faults: Faults) -> Checked<()> {
        let seed = self.rng.random();
        let server = &mut self.servers[at];
        let first = server.lives == 0;
        self.shared.shelf.clear(&server.folder());
        let id = server.id;
        let booted = server.boot(&self.shared, faults, seed);
        if let Err(error) = booted {
            // It died before it could say anything, by our hand or not.
            return match is_injected(&error) {
                true => {
                    self.crash(at, Fault::CrashInRound);
                    Ok(())
                }
                false => Err(Finding::new(
                    "a member starts again",
                    format!("member {id} does not: {error}"),
                )),
            };
        }
        if let Some(life) = self.servers[at].life.as_ref() {
            let look = life.member.peer().look();
            if !first {
                self.invariants.reopened(id, &look)?;
            }
        }
        self.next_tick(at);
        self.due(at);
        Ok(())
    }

    pub(super) fn restart(&mut self, at: usize) -> Checked<()> {
        if self.servers[at].life.is_some() || self.servers[at].removed {
            return Ok(());
        }
        let id = self.servers[at].id;
        self.say(|| format!("member {id} starts again"));
        let faults = Faults::default();
        if self.healing.is_none() && self.rng.random_range(0..12) == 0 {
            faults.fail_at(self.rng.random_range(1..6), Strike::After);
        }
        self.boot(at, faults)
    }

    pub(super) fn crash(&mut self, at: usize, fault: Fault) {
        let id = self.servers[at].id;
        self.say(|| format!("member {id} crashes ({})", fault.name()));
        self.tally.count(fault);
        self.servers[at].crash(&mut self.rng);
        let pause = Duration::from_millis(self.rng.random_range(20..1_500));
        self.calendar.after(pause, Event::Restart(at));
    }

    fn next_tick(&mut self, at: usize) {
        let server = &self.servers[at];
        let beat = server.clock.beat(self.shared.config.tick);
        self.calendar.after(beat, Event::Tick(at, server.lives));
    }

    pub(super) fn tick(&mut self, at: usize, life: u64) {
        let now = self.calendar.now();
        let server = &mut self.servers[at];
        if server.lives != life || server.life.is_none() {
            return;
        }
        if now >= server.stalled
            && let Some(life) = &mut server.life
        {
            life.member.tick();
            self.due(at);
        }
        self.next_tick(at);
    }

    /// Puts a round on the calendar, unless one is there.
    pub(super) fn due(&mut self, at: usize) {
        let now = self.calendar.now();
        let server = &mut self.servers[at];
        let Some(life) = server.life.as_mut().filter(|life| !life.due) else {
            return;
        };
        life.due = true;
        let disk = Duration::from_micros(self.rng.random_range(DISK));
        let stalled = server.stalled.saturating_sub(now);
        self.calendar
            .after(stalled + disk, Event::Run(at, server.lives));
    }

    pub(super) fn input(&mut self, at: usize, input: Input<arustio_types::meta::Outcome>) {
        if let Some(life) = &mut self.servers[at].life {
            life.inbox.push_back(input);
            self.due(at);
        }
    }

    pub(super) fn run(&mut self, at: usize, life: u64) -> Checked<()> {
        let now = self.calendar.now();
        let server = &mut self.servers[at];
        let current = server.lives == life;
        let Some(life) = server.life.as_mut().filter(|_| current) else {
            return Ok(());
        };
        life.due = false;
        if now < server.stalled {
            self.due(at);
            return Ok(());
        }
        while let Some(input) = life.inbox.pop_front() {
            if !life.member.take(input) {
                break;
            }
        }
        let again = !life.inbox.is_empty();
        let ran = life.member.run(server.clock.read(now));
        self.take_off_the_wire();
        if let Err(error) = ran {
            return self.ended(at, &error);
        }
        self.after_round(at)?;
        if again {
            self.due(at);
        }
        Ok(())
    }

    /// A member says that it cannot go on.
    fn ended(&mut self, at: usize, error: &FatalError) -> Checked<()> {
        let server = &mut self.servers[at];
        let (id, lives) = (server.id, server.lives);
        if server
            .life
            .as_ref()
            .is_some_and(|life| life.faults.struck())
            && is_injected(error)
        {
            self.crash(at, Fault::CrashInRound);
            return Ok(());
        }
        let removed = matches!(error, FatalError::Removed { .. });
        if removed && self.membership_knows_no(id) {
            self.say(|| format!("member {id} ends: it was removed"));
            let server = &mut self.servers[at];
            server.life = None;
            server.removed = true;
            self.house.servers.borrow_mut().retain(|known| *known != id);
            return Ok(());
        }
        let what = format!("member {id} ends in its life {lives}: {error}");
        Err(Finding::new("a member goes on", what))
    }

    /// Whether a member was removed, as far as anybody has got. It may have been told by
    /// one that is ahead of it, and what it applies itself is noted before it ends by it.
    /// No number comes back, so one that says so is enough.
    fn membership_knows_no(&self, id: NodeId) -> bool {
        let notes = self.shared.notes.lock();
        let noted = notes.iter().filter_map(|note| match note {
            super::Note::Entry(taken) => taken.members.as_deref(),
            _ => None,
        });
        let noted = noted.filter_map(|bytes| Membership::decode(bytes).ok());
        noted
            .chain([self.membership()])
            .any(|members| members.removed.contains(&id))
    }

    fn after_round(&mut self, at: usize) -> Checked<()> {
        let server = &self.servers[at];
        let (id, lives) = (server.id, server.lives);
        let Some(life) = &server.life else {
            return Ok(());
        };
        self.invariants.stepped(id, life.member.peer())?;
        let status = life.member.status();
        for _ in 0..life.bench.take() {
            let time = Duration::from_millis(self.rng.random_range(1..80));
            self.calendar.after(time, Event::Settled(at, lives));
        }
        self.mix(status.commit.get() ^ status.term << 32);
        self.answer(at);
        Ok(())
    }

    /// Brings what members have sent on its way.
    fn take_off_the_wire(&mut self) {
        let messages = std::mem::take(&mut *self.shared.wire.messages.lock());
        for envelope in messages {
            let (from, to) = (envelope.from.member.get(), envelope.to.get());
            if let Some(promise) = promise(&envelope.bytes, envelope.to) {
                let promised = self.invariants.promised(envelope.from.member, promise);
                self.broken = self.broken.take().or(promised.err());
            }
            for way in self.network.send(from, to, &mut self.tally) {
                self.calendar.after(way, Event::Deliver(envelope.clone()));
            }
        }
        let shipments = std::mem::take(&mut *self.shared.wire.shipments.lock());
        for shipment in shipments {
            let way = Duration::from_millis(self.rng.random_range(SHIPMENT));
            let envelope = &shipment.envelope;
            let (from, to) = (envelope.from.member.get(), envelope.to.get());
            let arrives = !self.network.send(from, to, &mut self.tally).is_empty();
            if !arrives {
                self.tally.count(Fault::ShipmentLost);
            }
            self.calendar.after(way, Event::Ship(shipment, arrives));
        }
    }

    pub(super) fn deliver(&mut self, envelope: Envelope) {
        let Some(at) = self.at(envelope.to) else {
            return;
        };
        let from = envelope.from.member;
        let stranger = |server: &Server| {
            let life = server.life.as_ref();
            life.is_some_and(|life| life.member.members().removed.contains(&from))
        };
        if stranger(&self.servers[at]) {
            // As a transport does, which would let it know.
            if let Some(sender) = self.at(from) {
                let lives = self.servers[sender].lives;
                let ways = self
                    .network
                    .send(envelope.to.get(), from.get(), &mut self.tally);
                for way in ways {
                    self.calendar.after(way, Event::Removed(sender, lives));
                }
            }
            return;
        }
        self.input(at, Input::Step(envelope.bytes));
    }

    pub(super) fn tell_removed(&mut self, at: usize, life: u64) {
        if self.servers[at].lives == life {
            self.input(at, Input::Removed);
        }
    }

    /// Brings a folder as a transport does: a copy, then the message, then the report.
    pub(super) fn ship(&mut self, shipment: Shipment, arrives: bool) {
        let (from, to) = (shipment.envelope.from.member, shipment.envelope.to);
        let target = self
            .at(to)
            .filter(|at| arrives && self.servers[*at].life.is_some());
        let mut arrived = false;
        if let Some(at) = target {
            self.staged += 1;
            let staged = self.servers[at]
                .folder()
                .join(format!("staged-{}", self.staged));
            arrived = self.shared.shelf.copy(shipment.folder.path(), &staged);
            if arrived {
                self.say(|| format!("a snapshot of member {from} has arrived at member {to}"));
                self.perhaps_kill_installation(at);
                let bytes = shipment.envelope.bytes.clone();
                self.input(
                    at,
                    Input::SnapshotReceived(bytes, SnapshotFolder::new(staged)),
                );
            }
        }
        if let Some(sender) = self.at(from) {
            self.input(sender, Input::SnapshotSent(to, arrived));
        }
    }

    fn perhaps_kill_installation(&mut self, at: usize) {
        if self.healing.is_some() || self.rng.random_range(0..3) != 0 {
            return;
        }
        if let Some(life) = &self.servers[at].life {
            self.tally.count(Fault::CrashInInstall);
            arm(&life.faults, self.rng.random_range(1..6), self.rng.random());
        }
    }

    pub(super) fn settled(&mut self, at: usize, life: u64) {
        if self.servers[at].lives == life {
            self.input(at, Input::Settled(Ok(())));
        }
    }

    /// Dies at one of its next writes.
    pub(super) fn crash_in_round(&mut self, at: usize) {
        if let Some(life) = &self.servers[at].life {
            arm(&life.faults, self.rng.random_range(1..8), self.rng.random());
        }
    }
}

fn arm(faults: &Arc<Faults>, writes: u64, before: bool) {
    let strike = match before {
        true => Strike::Before,
        false => Strike::After,
    };
    faults.fail_at(faults.writes() + writes, strike);
}

/// Whether a member ended by our hand.
fn is_injected(error: &FatalError) -> bool {
    error.to_string().contains("injected fault")
}
