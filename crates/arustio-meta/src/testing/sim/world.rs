//! The world of a seed: servers, clients and a store on one calendar. One event is one
//! step, and after each the invariants are asked.

mod clients;
mod schedule;
mod servers;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arustio_types::NodeId;
use arustio_types::meta::{Answer, Query};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::calendar::Calendar;
use super::client::{House, Role};
use super::invariants::objects::Foreign;
use super::invariants::{Checked, Finding, Invariants};
use super::network::{Network, Weather};
use super::port::{Task, Told};
use super::server::{Asker, Server, Shared, Wire};
use super::store::{Request, Store};
use super::tally::Tally;
use super::truth::Truth;
use super::watched::Note;
use super::{Flavour, Report, Setup};
use crate::consensus::{Envelope, MemberInfo, Membership, Shipment};
use crate::state_machine::StateMachine as _;
use clients::Incoming;

/// How long after the last fault everything has to be well.
const HEALING: Duration = Duration::from_secs(60);
/// How long faults may keep the group from getting anything done.
const LONGEST: Duration = Duration::from_secs(300);
/// Entries between two looks at every record of the state.
const VERIFY_EVERY: u64 = 100;

/// Something that happens.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "answers are large and few: a box for each would say nothing"
)]
pub(super) enum Event {
    /// A beat of a server's clock, in one of its lives.
    Tick(usize, u64),
    /// A round of a server.
    Run(usize, u64),
    Deliver(Envelope),
    /// A snapshot arrives, or is lost on the way.
    Ship(Shipment, bool),
    Settled(usize, u64),
    /// A server learns that the group has removed it.
    Removed(usize, u64),
    Restart(usize),
    /// A client's request arrives at a server.
    Arrive(Incoming),
    /// A task is told something.
    Tell(Asker, Told),
    /// The store carries a request out, and answers or not.
    Land(Request, Asker, bool),
    /// The store is looked at.
    Look(Asker, Option<arustio_types::UfsKey>),
    Fault,
    Mend,
}

/// A client: what it works at, and what keeps its session alive.
#[derive(Debug)]
struct Player {
    role: Role,
    tasks: [usize; 2],
    frozen: Duration,
}

/// Where readable lines go.
pub(super) type Teller<'t> = Option<&'t mut dyn FnMut(&str)>;

pub(super) struct World<'t> {
    flavour: Flavour,
    setup: Setup,
    calendar: Calendar<Event>,
    rng: StdRng,
    network: Network,
    tally: Tally,
    shared: Shared,
    servers: Vec<Server>,
    founders: u64,
    house: Rc<House>,
    tasks: Vec<Task>,
    players: Vec<Player>,
    store: Store,
    /// Requests to the store that may still be carried out.
    travelling: usize,
    truth: Truth,
    foreign: Foreign,
    invariants: Invariants,
    healing: Option<Duration>,
    clock_changed: Duration,
    staged: u64,
    steps: u64,
    trace: u64,
    /// Found in the middle of a step.
    broken: Option<Finding>,
    teller: Teller<'t>,
}

impl<'t> World<'t> {
    pub(super) fn new(seed: u64, setup: Setup, teller: Teller<'t>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let founders = setup.peers.map_or_else(|| 3 + 2 * (seed % 2), u64::from);
        let flavour = Flavour::draw(&mut rng);
        let weather = flavour.weather(&mut rng);
        let shared = Shared {
            config: flavour.config(&mut rng),
            wire: Arc::new(Wire::default()),
            notes: Arc::default(),
            shelf: Arc::default(),
            broken: setup.broken,
        };
        let network = Network::new(weather, StdRng::seed_from_u64(rng.random()));
        Self {
            flavour,
            setup,
            calendar: Calendar::new(),
            network,
            tally: Tally::default(),
            shared,
            servers: Vec::new(),
            founders,
            house: Rc::new(House::new()),
            tasks: Vec::new(),
            players: Vec::new(),
            store: Store::default(),
            travelling: 0,
            truth: Truth::new(setup.broken),
            foreign: Foreign::default(),
            invariants: Invariants::default(),
            healing: None,
            clock_changed: Duration::ZERO,
            staged: 0,
            steps: 0,
            trace: seed,
            broken: None,
            teller,
            rng,
        }
    }

    /// Plays until everything has healed, or something is wrong.
    pub(super) fn play(&mut self) -> Checked<Report> {
        let seed = self.trace;
        for _ in 0..self.founders {
            self.found_server()?;
        }
        self.populate();
        self.calendar
            .after(Duration::from_millis(400), Event::Fault);
        while !self.is_over()? {
            self.step()?;
        }
        self.settle_accounts()?;
        let undecided = self.house.names.borrow().check(&BTreeSet::new())?
            + self
                .house
                .files
                .borrow()
                .check(&self.house.landed_unseen())?;
        Ok(Report {
            seed,
            trace: self.trace,
            steps: self.steps,
            operations: self.house.operations.get(),
            calls: self.calls() as u64,
            histories: self.histories() as u64,
            undecided: undecided as u64,
            entries: self.applied_by_all(),
            faults: self.tally.clone(),
            virtual_time: self.calendar.now(),
        })
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    fn calls(&self) -> usize {
        self.house.names.borrow().calls() + self.house.files.borrow().calls()
    }

    fn histories(&self) -> usize {
        self.house.names.borrow().count() + self.house.files.borrow().count()
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        let now = self.calendar.now();
        if let Some(teller) = &mut self.teller {
            teller(&format!("{:>10.3} ms  {}", now.as_secs_f64() * 1e3, line()));
        }
    }

    fn mix(&mut self, fact: u64) {
        self.trace = (self.trace.rotate_left(7) ^ fact).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn step(&mut self) -> Checked<()> {
        let Some(event) = self.calendar.next() else {
            return Err(Finding::new(
                "everything heals",
                "nothing happens any more".to_owned(),
            ));
        };
        self.steps += 1;
        let now = self.calendar.now();
        self.house.now.set(now);
        self.mix(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        self.handle(event)?;
        match self.broken.take() {
            Some(found) => Err(found),
            None => self.take_notes(),
        }
    }

    fn handle(&mut self, event: Event) -> Checked<()> {
        match event {
            Event::Tick(at, life) => self.tick(at, life),
            Event::Run(at, life) => return self.run(at, life),
            Event::Deliver(envelope) => self.deliver(envelope),
            Event::Ship(shipment, arrives) => self.ship(shipment, arrives),
            Event::Settled(at, life) => self.settled(at, life),
            Event::Removed(at, life) => self.tell_removed(at, life),
            Event::Restart(at) => return self.restart(at),
            Event::Arrive(incoming) => self.arrive(incoming),
            Event::Tell(asker, told) => self.tell(asker, told),
            Event::Land(request, asker, answers) => return self.land(&request, asker, answers),
            Event::Look(asker, key) => self.look(asker, key),
            Event::Fault => return self.strike(),
            Event::Mend => {
                self.say(|| "the network is whole".to_owned());
                self.network.mend();
            }
        }
        Ok(())
    }

    /// What replicas have noted since the last step.
    fn take_notes(&mut self) -> Checked<()> {
        let notes = std::mem::take(&mut *self.shared.notes.lock());
        for note in notes {
            match note {
                Note::Entry(taken) => self.take_entry(taken)?,
                Note::Outcome { by, index, outcome } => {
                    let known = self.truth.record(index);
                    if known.is_some_and(|record| record.outcome.as_ref() != outcome.as_deref()) {
                        let what = format!("entry {index} came to {outcome:?} at member {by}");
                        return Err(Finding::new("replicas have equal states", what));
                    }
                }
                Note::State { applied, hash } => {
                    self.truth.compare(applied.position.index.get(), hash)?;
                }
                Note::Installed { by, applied } => {
                    let index = applied.position.index;
                    self.say(|| format!("member {by} installed a snapshot at {index}"));
                }
            }
        }
        Ok(())
    }

    fn take_entry(&mut self, taken: super::watched::Taken) -> Checked<()> {
        let (by, at) = (taken.by, taken.position);
        for index in self.truth.take(taken)? {
            let Some(record) = self.truth.record(index) else {
                continue;
            };
            self.invariants.decided(record)?;
            let request = super::invariants::applied_once::request(record);
            let outcome = record.outcome.clone();
            if let Some((context, command)) = request {
                self.learn_versions(&command);
                self.say(|| {
                    let id = context.id;
                    format!(
                        "entry {index} (term {}, first at member {by}): session {} request {}: \
                         {command:?} => {outcome:?}",
                        at.term, id.session, id.sequence
                    )
                });
            }
            self.check_objects()?;
            if index % VERIFY_EVERY == 0 {
                self.verify()?;
            }
        }
        Ok(())
    }

    fn verify(&self) -> Checked<()> {
        let broken = |what: String| Finding::new("the state is sound", what);
        let found = self
            .truth
            .namespace
            .verify()
            .map_err(|error| broken(error.to_string()))?;
        match found.is_sound() {
            true => Ok(()),
            false => {
                let problems = found.problems.iter().map(ToString::to_string);
                Err(broken(problems.collect::<Vec<_>>().join("; ")))
            }
        }
    }

    /// Who belongs to the group, as decided.
    fn membership(&self) -> Membership {
        let stored = self.truth.namespace.members().ok().flatten();
        let known = stored.and_then(|bytes| Membership::decode(&bytes).ok());
        known.unwrap_or_else(|| self.founding())
    }

    fn founding(&self) -> Membership {
        let info = |id: u64| MemberInfo {
            address: format!("host{id}:1"),
            instance: u128::from(id),
        };
        Membership::founding((1..=self.founders).map(|id| (NodeId::new(id), info(id))))
    }

    fn at(&self, id: NodeId) -> Option<usize> {
        self.servers.iter().position(|server| server.id == id)
    }

    fn pending(
        &self,
    ) -> (
        Vec<arustio_types::meta::intent::Intent>,
        Vec<arustio_types::meta::effect::Effect>,
    ) {
        let query = Query::Pending {
            after: None,
            limit: 1_000,
        };
        match self.truth.namespace.query(query) {
            Ok(Answer::Pending {
                intents, effects, ..
            }) => (intents, effects),
            _ => (Vec::new(), Vec::new()),
        }
    }

    // ---- the end ----

    fn is_over(&mut self) -> Checked<bool> {
        let now = self.calendar.now();
        let Some(since) = self.healing else {
            let enough = self.steps >= self.setup.steps
                && self.calls() as u64 >= super::OPERATIONS
                && self.tally.scheduled() >= super::FAULTS;
            if enough {
                self.heal();
            } else if now > LONGEST {
                let calls = self.calls();
                let what = format!("{calls} calls in {LONGEST:?}: faults stop everything");
                return Err(Finding::new("faults leave room for progress", what));
            }
            return Ok(false);
        };
        if self.is_well() {
            return Ok(true);
        }
        match now > since + HEALING {
            true => Err(Finding::new("everything heals", self.ailments())),
            false => Ok(false),
        }
    }

    /// The faults stop.
    fn heal(&mut self) {
        let now = self.calendar.now();
        self.say(|| "no more faults".to_owned());
        self.healing = Some(now);
        self.house.stopping.set(true);
        self.network.weather = Weather::FINE;
        self.network.mend();
        for server in &mut self.servers {
            server.stalled = now;
            server.clock.change(now, Duration::ZERO, 1.0);
        }
        for player in &mut self.players {
            player.frozen = now;
        }
    }

    fn is_well(&mut self) -> bool {
        let ended = |world: &Self, role: fn(Role) -> bool| {
            let mut of = world.players.iter().filter(|player| role(player.role));
            of.all(|player| world.tasks[player.tasks[0]].has_ended())
        };
        if !ended(self, |role| role != Role::Recoverer) {
            return false;
        }
        self.house.users_done.set(true);
        if !ended(self, |_| true) {
            return false;
        }
        self.house.settled.set(true);
        let all = self.tasks.iter().all(Task::has_ended);
        all && self.travelling == 0 && self.is_level()
    }

    /// Every member has applied the same, and nobody waits.
    fn is_level(&self) -> bool {
        let members = self.membership();
        let mut here = self
            .servers
            .iter()
            .filter(|server| members.contains(server.id));
        let commit = self
            .servers
            .iter()
            .filter_map(|server| server.life.as_ref());
        let commit = commit.map(|life| life.member.status().commit.get()).max();
        here.all(|server| {
            let waits = server.life.as_ref().is_none_or(|life| {
                !life.writers.is_empty() || !life.readers.is_empty() || !life.inbox.is_empty()
            });
            server.applied() == commit && !waits
        }) && !members.is_joint()
    }

    fn applied_by_all(&self) -> u64 {
        self.servers
            .iter()
            .filter_map(Server::applied)
            .max()
            .unwrap_or(0)
    }

    fn ailments(&self) -> String {
        let open = self.tasks.iter().filter(|task| !task.has_ended()).count();
        let server = |server: &Server| {
            let life = server.life.as_ref();
            let status = life.map(|life| life.member.status());
            let waiting = life.map_or(0, |life| life.writers.len() + life.readers.len());
            let log = life.map(|life| life.member.peer().look().last);
            let progress = life.map(|life| life.member.peer().progress());
            format!(
                "member {}: {status:?}, log {log:?}, {waiting} waiting, {progress:?}",
                server.id
            )
        };
        let servers: Vec<_> = self.servers.iter().map(server).collect();
        let (intents, effects) = self.pending();
        format!(
            "after {HEALING:?} {open} clients are still at work, {} announced, {} owed, group \
             {:?}; {}",
            intents.len(),
            effects.len(),
            self.membership(),
            servers.join("; ")
        )
    }

    /// Everything is at rest: replicas, records and store agree.
    fn settle_accounts(&mut self) -> Checked<()> {
        self.take_notes()?;
        self.verify()?;
        let applied = self.applied_by_all();
        for server in self
            .servers
            .iter()
            .filter(|server| server.applied() == Some(applied))
        {
            if let Some(life) = &server.life {
                let hash = life.machine.read().namespace.state_hash().get();
                self.truth.compare(applied, hash)?;
            }
        }
        let (intents, effects) = self.pending();
        if !intents.is_empty() || !effects.is_empty() {
            let what = format!("{intents:?} {effects:?}");
            return Err(Finding::new("what is owed is done", what));
        }
        self.check_objects()?;
        self.compare_store()
    }
}
