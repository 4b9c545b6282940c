//! Clients and the store in the world: what they ask for travels, and so do answers.

use std::time::Duration;

use arustio_types::meta::command::Command;
use arustio_types::meta::merge::MergeKind;
use arustio_types::meta::{Answer, FileKind, Query};
use arustio_types::{ContentId, FsPath, NodeId, UfsKey};
use rand::Rng as _;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::client::{Client, Role, files};
use super::super::invariants::{Checked, Finding, objects, one_executor};
use super::super::port::{Ask, Port, Task, Told};
use super::super::server::Asker;
use super::super::store::{Request, Verb};
use super::super::tally::Fault;
use super::{Event, Player, World};
use crate::consensus::inside::Input;
use crate::state_machine::StateMachine as _;

/// How long a client waits for a server, in milliseconds.
const PATIENCE: u64 = 400;
/// How long a client waits for the store.
const STORE_PATIENCE: Duration = Duration::from_millis(120);
/// How long the way to the store and back takes, in microseconds.
const STORE: std::ops::Range<u64> = 500..15_000;
/// Clients have addresses above those of servers.
const FIRST_CLIENT: u64 = 1_000;

/// A request on its way to a server.
#[derive(Debug, Clone)]
pub(in crate::testing::sim) struct Incoming {
    asker: Asker,
    to: NodeId,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Propose(Vec<u8>),
    Query(Query),
}

fn address((task, _): Asker) -> u64 {
    FIRST_CLIENT + task as u64
}

impl World<'_> {
    pub(super) fn populate(&mut self) {
        self.add_player(Role::Founder);
        for _ in 0..self.flavour.users() {
            self.add_player(Role::User {
                files: self.flavour.files(),
            });
        }
        self.add_player(Role::Recoverer);
    }

    fn add_player(&mut self, role: Role) {
        let seed = self.rng.random();
        let (client, port) = Client::new(std::rc::Rc::clone(&self.house), seed);
        let (keeper, other) = client.beside();
        let live = self.add_task(port, client.live(role));
        let keep = self.add_task(other, keeper.keep_alive());
        self.players.push(Player {
            role,
            tasks: [live, keep],
            frozen: Duration::ZERO,
        });
        self.go_on(live, None);
        self.go_on(keep, None);
    }

    fn add_task(&mut self, port: Port, future: impl Future<Output = ()> + 'static) -> usize {
        self.tasks.push(Task::new(port, future));
        self.tasks.len() - 1
    }

    pub(super) fn kill_player(&mut self, at: usize) {
        let role = self.players[at].role;
        for task in self.players[at].tasks {
            self.tasks[task].kill();
        }
        self.add_player(role);
    }

    fn go_on(&mut self, task: usize, told: Option<Told>) {
        let Some(ask) = self.tasks[task].go_on(told) else {
            return;
        };
        let asker = (task, self.tasks[task].asked);
        match ask {
            Ask::Sleep(time) => self.calendar.after(time, Event::Tell(asker, Told::Nothing)),
            Ask::Propose(to, payload) => self.ask_server(asker, to, What::Propose(payload)),
            Ask::Query(to, query) => self.ask_server(asker, to, What::Query(query)),
            Ask::Change(request) => self.send_to_store(asker, request),
            Ask::Head(key) => self.look_later(asker, Some(key)),
            Ask::List => self.look_later(asker, None),
        }
    }

    fn ask_server(&mut self, asker: Asker, to: NodeId, what: What) {
        for way in self.network.send(address(asker), to.get(), &mut self.tally) {
            let what = what.clone();
            self.calendar
                .after(way, Event::Arrive(Incoming { asker, to, what }));
        }
        let patience = Duration::from_millis(PATIENCE);
        self.calendar
            .after(patience, Event::Tell(asker, Told::Nothing));
    }

    /// A client learns something; a frozen one later.
    pub(super) fn tell(&mut self, (task, asked): Asker, told: Told) {
        if self.tasks[task].asked != asked || self.tasks[task].has_ended() {
            return;
        }
        let now = self.calendar.now();
        let owner = self
            .players
            .iter()
            .find(|player| player.tasks.contains(&task));
        let frozen = owner.map_or(Duration::ZERO, |player| player.frozen);
        if frozen > now {
            self.calendar
                .after(frozen - now, Event::Tell((task, asked), told));
            return;
        }
        self.go_on(task, Some(told));
    }

    // ---- servers ----

    pub(super) fn arrive(&mut self, incoming: Incoming) {
        let Some(at) = self.at(incoming.to) else {
            return;
        };
        let Some(life) = &mut self.servers[at].life else {
            return;
        };
        let input = match incoming.what {
            What::Propose(payload) => {
                let (reply, answer) = oneshot::channel();
                life.writers.push((incoming.asker, answer));
                Input::Propose(payload, reply)
            }
            What::Query(query) => {
                let (ready, answer) = oneshot::channel();
                life.readers.push((incoming.asker, query, answer));
                Input::Read(ready)
            }
        };
        self.input(at, input);
    }

    /// Sends what a server has to say to those who wait for it.
    pub(super) fn answer(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let from = server.id;
        let Some(life) = &mut server.life else {
            return;
        };
        let mut answers = Vec::new();
        life.writers
            .retain_mut(|(asker, answer)| match answer.try_recv() {
                Ok(result) => {
                    answers.push((*asker, Told::Proposed(result.map(|done| done.outcome))));
                    false
                }
                Err(TryRecvError::Empty) => true,
                Err(TryRecvError::Closed) => false,
            });
        let machine = &life.machine;
        life.readers
            .retain_mut(|(asker, query, ready)| match ready.try_recv() {
                Ok(result) => {
                    let told = result.map(|()| machine.read().query(query.clone()));
                    match told {
                        Ok(Ok(answer)) => answers.push((*asker, Told::Answered(Ok(answer)))),
                        Ok(Err(_)) => {}
                        Err(error) => answers.push((*asker, Told::Answered(Err(error)))),
                    }
                    false
                }
                Err(TryRecvError::Empty) => true,
                Err(TryRecvError::Closed) => false,
            });
        for (asker, told) in answers {
            // One answer is enough: another would be an answer to nobody's question.
            let ways = self
                .network
                .send(from.get(), address(asker), &mut self.tally);
            if let Some(way) = ways.first() {
                self.calendar.after(*way, Event::Tell(asker, told));
            }
        }
    }

    // ---- the store ----

    fn way(&mut self) -> Duration {
        Duration::from_micros(self.rng.random_range(STORE))
    }

    fn look_later(&mut self, asker: Asker, key: Option<UfsKey>) {
        let way = self.way();
        self.calendar.after(way, Event::Look(asker, key));
    }

    pub(super) fn look(&mut self, asker: Asker, key: Option<UfsKey>) {
        let told = match key {
            Some(key) => Told::Object(self.store.head(&key).cloned()),
            None => {
                let all = self.store.all();
                Told::Objects(
                    all.map(|(key, object)| (key.clone(), object.clone()))
                        .collect(),
                )
            }
        };
        let way = self.way();
        self.calendar.after(way, Event::Tell(asker, told));
    }

    fn send_to_store(&mut self, asker: Asker, request: Request) {
        let now = self.calendar.now();
        let dice = match self.healing {
            None => self.rng.random_range(0..100),
            Some(_) => 100,
        };
        let trouble = self.flavour.store_trouble();
        let mut way = self.way();
        let answers = dice >= trouble;
        if !answers {
            self.tally.count(Fault::NoAnswer);
        }
        if dice < trouble / 2 {
            // It travels on for as long as it may.
            self.tally.count(Fault::Travelling);
            way = request.until.saturating_sub(now).mul_f64(self.rng.random());
        }
        if answers || dice % 4 != 0 {
            self.travelling += 1;
            self.calendar
                .after(way, Event::Land(request, asker, answers));
        }
        self.calendar
            .after(STORE_PATIENCE, Event::Tell(asker, Told::Nothing));
    }

    pub(super) fn land(&mut self, request: &Request, asker: Asker, answers: bool) -> Checked<()> {
        self.travelling -= 1;
        if self.calendar.now() >= request.until {
            return Ok(());
        }
        self.say(|| format!("the store is asked: {request:?}"));
        let (intents, effects) = self.pending();
        let before = self.store.head(&request.key).cloned();
        let reply = self.store.carry_out(request);
        let after = self.store.head(&request.key).cloned();
        if before != after {
            one_executor::check(request, &intents, &effects)?;
            self.foreign.check(before.as_ref(), after.as_ref())?;
            self.note_content(request);
            self.check_objects()?;
        }
        if answers {
            let way = self.way();
            self.calendar
                .after(way, Event::Tell(asker, Told::Carried(reply)));
        }
        Ok(())
    }

    /// Remembers what a look at the store will call what a writer has put there.
    fn note_content(&self, request: &Request) {
        let (Verb::Put { bytes, .. }, Some(object)) =
            (&request.verb, self.store.head(&request.key))
        else {
            return;
        };
        let mounts = self.truth.namespace.query(Query::Mounts);
        let Ok(Answer::Mounts(mounts)) = mounts else {
            return;
        };
        let incarnation = self.truth.namespace.identity().1;
        let names = mounts.iter().map(|mount| {
            let identity = &object.version.identity;
            ContentId::derived(
                incarnation,
                mount.id,
                mount.generation,
                &request.key,
                identity,
                1,
            )
        });
        let mut landed = self.house.landed.borrow_mut();
        landed.extend(names.map(|name| (name, *bytes)));
    }

    /// Somebody else works on the names that are shared.
    pub(super) fn meddle(&mut self) {
        let key = UfsKey::new(files::SHARED[self.rng.random_range(0..files::SHARED.len())]);
        let bytes = (self.rng.random_range(0..3) != 0).then(|| self.rng.random());
        self.say(|| format!("an outsider changes {key}"));
        self.store.meddle(&key, bytes);
    }

    /// What the namespace has been told of the store.
    pub(super) fn learn_versions(&mut self, command: &Command) {
        let Command::Merge(merge) = command else {
            return;
        };
        for entry in &merge.entries {
            if let MergeKind::File { version, .. } = &entry.kind {
                self.foreign.known(version);
            }
        }
    }

    fn own_paths(&self) -> Vec<FsPath> {
        let count = self.house.files.borrow().count();
        let all = (0..count).flat_map(|history| (0..3).map(move |at| files::file(history, at)));
        all.collect()
    }

    pub(super) fn check_objects(&self) -> Checked<()> {
        let (intents, _) = self.pending();
        let paths = self.own_paths();
        let given_up = self.house.given_up.borrow();
        objects::check(
            &self.truth.namespace,
            &self.store,
            &intents,
            &given_up,
            &paths,
        )
    }

    /// After the last sync the namespace shows what the store has, and nothing else.
    pub(super) fn compare_store(&self) -> Checked<()> {
        let wrong = |what: String| Err(Finding::new("namespace and store agree at rest", what));
        let shared = files::SHARED
            .iter()
            .map(|name| FsPath::new(&format!("{}/{name}", files::MOUNT)));
        let shared = shared.filter_map(Result::ok);
        for path in self.own_paths().into_iter().chain(shared) {
            let key = UfsKey::new(path.name().unwrap_or_default());
            let object = self.store.head(&key).map(|object| &object.version);
            let stat = self
                .truth
                .namespace
                .query(Query::Stat { path: path.clone() });
            let source = match stat {
                Ok(Answer::Status(status)) if status.kind == FileKind::File => status.source,
                _ => None,
            };
            let shown = source.as_ref().map(|source| &source.version);
            if shown != object {
                return wrong(format!(
                    "{path} is {source:?}, and the store has {object:?}"
                ));
            }
        }
        Ok(())
    }
}
