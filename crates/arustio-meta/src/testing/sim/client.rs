//! Clients: sessions, requests that are repeated until they are answered, and what they
//! do with them.

pub(super) mod files;
mod names;
mod owed;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use arustio_types::meta::command::Principal;
use arustio_types::meta::credential::Credential;
use arustio_types::meta::mount::{MountCapabilities, MountSpec};
use arustio_types::meta::{Answer, Command, Outcome, Query, RequestContext};
use arustio_types::{
    ClusterId, ContentId, Incarnation, IntentId, NodeId, RequestId, SessionId, Timestamp, WriteId,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::oracle::Histories;
use super::port::{Ask, Port, Told};
use crate::error::StoreError;
use crate::namespace::Namespace;
use crate::state_machine::StateMachine as _;

/// How long a session lives without renewal.
pub(super) const TTL: Duration = Duration::from_secs(3);
/// Of a lease so much is used: clocks run apart, and a renewal travels.
const USABLE: f64 = 0.7;
/// How long a small request to the store may be carried out.
const REQUEST: Duration = Duration::from_millis(1_200);
/// Bounds of a wait for an unanswered request.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(500);
/// Between two tries.
const PAUSE: std::ops::Range<u64> = 5..60;

/// What all clients share.
#[derive(Debug)]
pub(super) struct House {
    pub(super) now: Cell<Duration>,
    /// Nobody starts anything new.
    pub(super) stopping: Cell<bool>,
    /// Whoever is left finishes what is owed.
    pub(super) users_done: Cell<bool>,
    pub(super) names: RefCell<Histories>,
    pub(super) files: RefCell<Histories>,
    pub(super) servers: RefCell<Vec<NodeId>>,
    minted: Cell<u128>,
    /// Things that clients have done or given up.
    pub(super) operations: Cell<u64>,
    /// Nothing is announced or owed any more, as far as anybody knows.
    pub(super) settled: Cell<bool>,
    /// What a look at the store calls the contents that writers have put there. One that
    /// lands when its writer has just given it up is found under that name.
    pub(super) landed: RefCell<BTreeMap<ContentId, u128>>,
    /// Writes that were ended without a last look: what has landed of them before is found
    /// by whoever looks next.
    pub(super) given_up: RefCell<BTreeSet<WriteId>>,
}

impl House {
    pub(super) fn new() -> Self {
        Self {
            now: Cell::new(Duration::ZERO),
            stopping: Cell::new(false),
            users_done: Cell::new(false),
            names: RefCell::default(),
            files: RefCell::default(),
            servers: RefCell::default(),
            minted: Cell::new(0),
            operations: Cell::new(0),
            settled: Cell::new(false),
            landed: RefCell::default(),
            given_up: RefCell::default(),
        }
    }

    /// Writes that landed although they had been ended without a last look. To everybody
    /// else such an object is an outsider's, which replaces files and stops moves, so
    /// nothing can be said of the names that it came to.
    pub(super) fn landed_unseen(&self) -> BTreeSet<u128> {
        let (landed, given_up) = (self.landed.borrow(), self.given_up.borrow());
        let tokens = landed.values().copied();
        tokens
            .filter(|token| given_up.contains(&WriteId::new(*token)))
            .collect()
    }

    /// A number that nobody else has.
    fn mint(&self) -> u128 {
        self.minted.set(self.minted.get() + 1);
        self.minted.get()
    }
}

/// What came of a request that was not answered as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// It may have taken effect, or may still do so.
    Unknown,
    /// It has not taken effect and will not.
    Never,
}

#[derive(Debug)]
struct Me {
    rng: StdRng,
    session: Option<Lease>,
    sequence: u64,
    /// Writes that are published and whose intents stay for a while.
    published: Vec<(IntentId, SessionId)>,
    /// It has done what it was there for.
    ended: bool,
    /// Whom it asks first.
    server: NodeId,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    session: SessionId,
    until: Duration,
}

/// A client.
#[derive(Debug, Clone)]
pub(super) struct Client {
    port: Port,
    house: Rc<House>,
    me: Rc<RefCell<Me>>,
}

/// What a client is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Calls on names outside of mounts, and on files.
    User {
        /// Files of a hundred calls.
        files: u32,
    },
    /// Finishes what nobody does.
    Recoverer,
    /// Mounts the store.
    Founder,
}

impl Client {
    pub(super) fn new(house: Rc<House>, seed: u64) -> (Self, Port) {
        let mut rng = StdRng::seed_from_u64(seed);
        let server = NodeId::new(rng.random_range(1..=3));
        let port = Port::default();
        let me = Me {
            rng,
            session: None,
            sequence: 0,
            published: Vec::new(),
            ended: false,
            server,
        };
        let client = Self {
            port: port.clone(),
            house,
            me: Rc::new(RefCell::new(me)),
        };
        (client, port)
    }

    /// The same client, at something else at the same time.
    pub(super) fn beside(&self) -> (Self, Port) {
        let port = Port::default();
        let other = Self {
            port: port.clone(),
            ..self.clone()
        };
        (other, port)
    }

    /// Its life.
    pub(super) async fn live(self, role: Role) {
        if role == Role::Founder {
            return self.mount().await;
        }
        while !self.house.stopping.get() {
            let think = self.draw(1..120);
            self.sleep(Duration::from_millis(think)).await;
            match role {
                Role::User { files } if self.draw(0..100) < u64::from(files) => {
                    self.use_files().await;
                }
                Role::User { .. } => self.use_names().await,
                Role::Recoverer | Role::Founder => drop(self.recover_some().await),
            }
            self.count();
        }
        if role == Role::Recoverer {
            while !self.house.users_done.get() || self.recover_some().await {
                self.sleep(Duration::from_millis(50)).await;
            }
            self.sync_all().await;
        }
        self.me.borrow_mut().ended = true;
    }

    async fn mount(&self) {
        let spec = MountSpec {
            path: names::path(files::MOUNT),
            uri: "mem://simulated".to_owned(),
            options: BTreeMap::new(),
            credential: Credential::Provider,
            readonly: false,
            shared: true,
            capabilities: MountCapabilities::default(),
            bound_to: None,
        };
        loop {
            let session = self.session().await;
            let mounted = self.propose_in(session, Command::Mount(spec.clone())).await;
            if let Ok(Outcome::Mounted { .. }) = mounted {
                return;
            }
        }
    }

    /// Renews its session as long as there is one.
    pub(super) async fn keep_alive(self) {
        while !self.house.settled.get() && !self.me.borrow().ended {
            self.sleep(TTL / 5).await;
            let session = self.me.borrow().session.map(|lease| lease.session);
            if let Some(session) = session {
                self.renew(session).await;
            }
        }
    }

    fn count(&self) {
        let operations = &self.house.operations;
        operations.set(operations.get() + 1);
    }

    fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.me.borrow_mut().rng.random_range(range)
    }

    fn chance(&self, percent: u64) -> bool {
        self.draw(0..100) < percent
    }

    async fn sleep(&self, time: Duration) {
        self.port.ask(Ask::Sleep(time)).await;
    }

    async fn pause(&self) {
        let millis = self.draw(PAUSE);
        self.sleep(Duration::from_millis(millis)).await;
    }

    /// The next server to ask, after one that did not help.
    fn ask_another(&self, hint: Option<NodeId>) {
        let servers = self.house.servers.borrow();
        let mut me = self.me.borrow_mut();
        let any = me.rng.random_range(0..servers.len().max(1));
        let any = servers.get(any).copied().unwrap_or(NodeId::new(1));
        me.server = hint.filter(|hint| servers.contains(hint)).unwrap_or(any);
    }

    // ---- requests ----

    /// Has a command decided on, as often as it takes. The number of tries comes with it.
    async fn decide(&self, context: RequestContext, command: &Command) -> (Outcome, u32) {
        let payload = Namespace::encode(&context, command);
        for tries in 1.. {
            let server = self.me.borrow().server;
            let told = self.port.ask(Ask::Propose(server, payload.clone())).await;
            match told {
                Told::Proposed(Ok(outcome)) => return (outcome, tries),
                Told::Proposed(Err(StoreError::NotLeader { leader })) => self.ask_another(leader),
                _ => self.ask_another(None),
            }
            self.pause().await;
        }
        (Outcome::SessionExpired, u32::MAX)
    }

    fn context(&self, id: RequestId, user: u128) -> RequestContext {
        RequestContext {
            cluster: ClusterId::new(7),
            incarnation: Incarnation::new(1),
            id,
            principal: Principal {
                user: user.to_string(),
                groups: Vec::new(),
            },
            now: Timestamp::from_millis(0),
            ..RequestContext::default()
        }
    }

    /// The session, opened where there is none.
    async fn session(&self) -> SessionId {
        loop {
            if let Some(lease) = self.me.borrow().session {
                return lease.session;
            }
            let sent = self.house.now.get();
            let nonce = self.house.mint();
            let command = Command::OpenSession { nonce, ttl: TTL };
            let context = self.context(RequestId::default(), 0);
            let (outcome, _) = self.decide(context, &command).await;
            if let Outcome::SessionOpened { session } = outcome {
                let mut me = self.me.borrow_mut();
                me.sequence = 0;
                let until = sent + TTL.mul_f64(USABLE);
                me.session = Some(Lease { session, until });
            }
        }
    }

    fn forget(&self, session: SessionId) {
        let mut me = self.me.borrow_mut();
        me.session.take_if(|lease| lease.session == session);
    }

    async fn renew(&self, session: SessionId) {
        let sent = self.house.now.get();
        let id = RequestId {
            session,
            ..RequestId::default()
        };
        let context = self.context(id, 0);
        let (outcome, _) = self.decide(context, &Command::KeepSession).await;
        if outcome == Outcome::SessionExpired {
            self.forget(session);
        }
        let mut me = self.me.borrow_mut();
        if let Some(lease) = me.session.as_mut().filter(|lease| lease.session == session) {
            lease.until = lease.until.max(sent + TTL.mul_f64(USABLE));
        }
    }

    /// Proposes a command in a session that holds what it is about.
    async fn propose_in(&self, session: SessionId, command: Command) -> Result<Outcome, Lost> {
        self.propose_as(session, command, 0).await
    }

    async fn propose_as(
        &self,
        session: SessionId,
        command: Command,
        user: u128,
    ) -> Result<Outcome, Lost> {
        let id = {
            let mut me = self.me.borrow_mut();
            if me.session.is_none_or(|lease| lease.session != session) {
                return Err(Lost::Never);
            }
            me.sequence += 1;
            RequestId {
                session,
                sequence: me.sequence,
                first_unacked: me.sequence,
            }
        };
        let (outcome, tries) = self.decide(self.context(id, user), &command).await;
        if outcome != Outcome::SessionExpired {
            return Ok(outcome);
        }
        self.forget(session);
        match tries {
            1 => Err(Lost::Never),
            _ => Err(Lost::Unknown),
        }
    }

    /// Answers a question from what is newest.
    async fn query(&self, query: Query) -> Answer {
        loop {
            let server = match self.chance(40) {
                true => self.me.borrow().server,
                false => {
                    self.ask_another(None);
                    self.me.borrow().server
                }
            };
            let told = self.port.ask(Ask::Query(server, query.clone())).await;
            if let Told::Answered(Ok(answer)) = told {
                return answer;
            }
            self.ask_another(None);
            self.pause().await;
        }
    }

    /// How long a request to the store may be carried out that is sent now; `None`: the
    /// lease is over.
    async fn deadline(&self, session: SessionId) -> Option<Duration> {
        let left = || {
            let lease = self.me.borrow().session;
            let lease = lease.filter(|lease| lease.session == session)?;
            Some(lease.until.saturating_sub(self.house.now.get()))
        };
        if left()? < REQUEST {
            self.renew(session).await;
        }
        let deadline = left()?.min(REQUEST);
        (deadline > Duration::from_millis(20)).then_some(deadline)
    }
}
