//! The way of a request to the server that can answer it.
//!
//! Three things are decided here: whom to ask ([`Want`]), how long to wait for one server
//! before another is tried, and when to give up. What repeating means for the request is
//! the caller's: most may be repeated freely, because they ask or carry an id under which
//! they are applied once; some ([`Repeat::Undone`]) only after a server has said that
//! nothing was done.
//!
//! Nobody knows who leads: all servers are asked at once, and the first that says it does
//! is taken, so that one that is switched off costs no time. Those who ask meanwhile share
//! that look. A leader that does not answer is given longer each time, because it may be
//! slow and not gone.
//!
//! Invariant: a request is *undecided* from the first try that may have reached a server
//! and was not answered with a plain no; nothing that comes later undoes that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arustio_proto::convert::COMMAND_FORMAT;
use arustio_proto::failure::Failure;
use arustio_proto::meta::v1 as wire;
use arustio_proto::meta::v1::metadata_service_client::MetadataServiceClient;
use arustio_types::{Classify, ClusterId, ErrorKind, Incarnation};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::Channel;

use super::ClusterIdentity;
use super::servers::Servers;
use super::trouble::{Failed, Trouble, Troubles, plain};
use crate::config::ClientConfig;
use crate::entropy::Entropy;
use crate::error::Result as FsResult;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a server that has answered before is waited for at first: longer than an
/// election takes, so that there is somebody else to ask then.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a server that has not answered yet may take beside making the connection.
const FIRST_ANSWER: Duration = Duration::from_millis(300);
/// How long the others are waited for once one has answered that it does not lead.
const GRACE: Duration = Duration::from_millis(500);
/// Tries in a row without a pause: hints may lead in a circle.
const MOST_HOPS: u32 = 3;

/// Which server will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// The one that leads.
    Leader,
    /// The one that leads, or else any that can find out what is newest.
    Newest,
    /// Any.
    Any,
}

/// Whether a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Always.
    Freely,
    /// After a server has said that it did nothing.
    Undone,
}

/// How a request is carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) want: Want,
    pub(crate) repeat: Repeat,
    /// Repeats included.
    pub(crate) timeout: Duration,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answered<T> {
    pub(crate) value: T,
    /// How often it may have reached a server, this time included.
    pub(crate) attempts: u32,
    /// Whose answer it is.
    pub(crate) server: String,
}

/// The servers, and how they are asked.
#[derive(Debug)]
pub(crate) struct Route {
    servers: Servers,
    entropy: Arc<Entropy>,
    /// Held by whoever looks around; the others wait for what is seen.
    looking: tokio::sync::Mutex<()>,
    /// Tries that were not the first of their request.
    repeats: AtomicU64,
    /// The last look, and when it ended.
    looked: Mutex<Option<(Instant, Arc<Seen>)>>,
}

/// In the transport's words about an answer of something that does not speak gRPC.
const NO_GRPC: &str = "mapped from HTTP status";

/// What a look around has shown.
#[derive(Debug, Default)]
struct Seen {
    leader: Option<String>,
    /// Answered, and do not lead.
    others: Vec<String>,
    troubles: Troubles,
}

/// A try that failed.
#[derive(Debug)]
struct Tried {
    failure: Failure,
    /// It certainly did not reach the server.
    unsent: bool,
    /// The server was not waited for any longer.
    late: bool,
}

impl Tried {
    fn trouble(&self) -> Trouble {
        let failure = &self.failure;
        if self.unsent {
            return Trouble::Unreachable(plain(&failure.message));
        }
        if failure.message.contains(NO_GRPC) {
            let words = "what answers there is not the gRPC port of an arustio-server, whose \
                         first line says where that is (`ready: grpc ...`)";
            return Trouble::Silent(words.to_owned());
        }
        if !failure.answered {
            return Trouble::Silent(plain(&failure.message));
        }
        if failure.not_leader {
            return Trouble::Follows(failure.leader.clone());
        }
        Trouble::Unable(failure.message.clone())
    }

    /// Repeating it does not change the answer.
    fn is_last_word(&self) -> bool {
        let kind = self.failure.kind();
        self.failure.answered && !matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// What a server said that should have done it, and cannot for now.
    fn unable(self) -> Option<Failure> {
        let failure = self.failure;
        (failure.answered && !failure.not_leader && !failure.undecided).then_some(failure)
    }

    /// What was asked for may have been done, or may yet be.
    fn is_undecided(&self) -> bool {
        let failure = &self.failure;
        match failure.answered {
            false => !self.unsent,
            true => failure.undecided || failure.kind == ErrorKind::Timeout,
        }
    }
}

/// One request on its way.
#[derive(Debug)]
struct Run {
    call: Call,
    began: Instant,
    pause: Duration,
    hops: u32,
    late: u32,
    undecided: u32,
    unable: Option<Failure>,
    troubles: Troubles,
    /// Servers that were asked since the last pause.
    asked: Vec<String>,
}

impl Run {
    fn new(call: Call) -> Self {
        Self {
            call,
            began: Instant::now(),
            pause: FIRST_PAUSE,
            hops: 0,
            late: 0,
            undecided: 0,
            unable: None,
            troubles: Troubles::default(),
            asked: Vec::new(),
        }
    }

    fn left(&self) -> Duration {
        self.call.timeout.saturating_sub(self.began.elapsed())
    }

    /// How long to wait for one server: a slow one gets longer each time.
    fn limit(&self, at_first: Duration) -> Duration {
        match self.call.repeat {
            Repeat::Freely => self.left().min(at_first * (1 << self.late.min(4))),
            Repeat::Undone => self.left(),
        }
    }

    fn failed(self, last_word: Option<Failure>) -> Failed {
        Failed {
            last_word,
            unable: self.unable,
            undecided: self.undecided > 0,
            troubles: self.troubles,
            waited: self.began.elapsed(),
        }
    }
}

impl Route {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// `InvalidArgument` for an address that cannot be one.
    pub(crate) fn new(config: &ClientConfig, entropy: Arc<Entropy>) -> FsResult<Self> {
        let chance = usize::try_from(entropy.bits() >> 96).unwrap_or_default();
        Ok(Self {
            servers: Servers::new(config, chance)?,
            entropy,
            looking: tokio::sync::Mutex::new(()),
            repeats: AtomicU64::new(0),
            looked: Mutex::default(),
        })
    }

    /// How often a request was tried again, since a server did not answer or was not able to.
    pub(crate) fn repeats(&self) -> u64 {
        self.repeats.load(Ordering::Relaxed)
    }

    /// Which cluster the first server belongs to that answered.
    pub(crate) async fn identity(&self, timeout: Duration) -> Result<ClusterIdentity, Failed> {
        let mut run = Run::new(Call {
            want: Want::Any,
            repeat: Repeat::Freely,
            timeout,
        });
        loop {
            if let Some(identity) = self.servers.book(|book| book.identity()) {
                return Ok(identity);
            }
            self.look(&mut run).await;
            if self.servers.book(|book| book.identity()).is_none() {
                run = self.rest(run).await?;
            }
        }
    }

    /// Asks until there is an answer that repeating does not change, or the time is over.
    pub(crate) async fn call<T, F>(
        &self,
        call: Call,
        request: impl Fn(Channel, Duration) -> F + Send + Sync,
    ) -> Result<Answered<T>, Failed>
    where
        T: Send,
        F: Future<Output = Result<T, tonic::Status>> + Send,
    {
        let mut run = Run::new(call);
        loop {
            let (server, from_memory) = match self.remembered(call.want) {
                Some(server) => (server, true),
                None => match self.found(&mut run).await {
                    Some(server) => (server, false),
                    None => {
                        run = self.rest(run).await?;
                        continue;
                    }
                },
            };
            let limit = run.limit(self.patience(&server));
            match self.attempt(&server, limit, &request).await {
                Ok(value) => {
                    self.served(call.want, &server);
                    return Ok(Answered {
                        value,
                        attempts: run.undecided + 1,
                        server,
                    });
                }
                Err(tried) => run = self.next(run, server, from_memory, tried).await?,
            }
        }
    }

    /// Asks this server, once: for what only it can answer.
    pub(crate) async fn one<T, F>(
        &self,
        server: &str,
        timeout: Duration,
        request: impl Fn(Channel, Duration) -> F + Send + Sync,
    ) -> Result<T, Failed>
    where
        T: Send,
        F: Future<Output = Result<T, tonic::Status>> + Send,
    {
        let mut run = Run::new(Call {
            want: Want::Any,
            repeat: Repeat::Undone,
            timeout,
        });
        let tried = match self.attempt(server, timeout, &request).await {
            Ok(value) => return Ok(value),
            Err(tried) => tried,
        };
        run.undecided = u32::from(tried.is_undecided());
        run.troubles.note(server, tried.trouble());
        let answered = tried.failure.answered.then_some(tried.failure);
        Err(run.failed(answered))
    }

    /// What follows from a try that failed; on return the next one may be made.
    async fn next(
        &self,
        mut run: Run,
        server: String,
        from_memory: bool,
        tried: Tried,
    ) -> Result<Run, Failed> {
        run.undecided += u32::from(tried.is_undecided());
        run.late += u32::from(tried.late);
        run.troubles.note(&server, tried.trouble());
        if tried.is_last_word() {
            return Err(run.failed(Some(tried.failure)));
        }
        if run.call.repeat == Repeat::Undone && run.undecided > 0 {
            return Err(run.failed(None));
        }
        let hinted = self.learn(&server, &tried);
        run.unable = tried.unable();
        run.asked.push(server);
        run.hops += 1;
        if (hinted || from_memory) && run.hops <= MOST_HOPS && !run.left().is_zero() {
            self.repeats.fetch_add(1, Ordering::Relaxed);
            return Ok(run);
        }
        self.rest(run).await
    }

    /// Takes down what a failed try says about the servers; says whether it names a leader
    /// that is worth following.
    fn learn(&self, server: &str, tried: &Tried) -> bool {
        if !tried.failure.answered {
            self.servers
                .book(|book| book.failed(server, Instant::now()));
            return false;
        }
        self.servers.book(|book| book.follows(server));
        let Some(leader) = tried.failure.leader.as_deref() else {
            return false;
        };
        let worth = self.servers.hint(server, leader);
        if worth {
            self.servers.book(|book| book.leads(leader));
        }
        worth
    }

    /// A server did what was asked of it.
    fn served(&self, want: Want, server: &str) {
        self.servers.book(|book| {
            book.answered(server);
            if want == Want::Leader {
                book.leads(server);
            }
        });
    }

    fn patience(&self, server: &str) -> Duration {
        match self.servers.book(|book| book.is_proven(server)) {
            true => PATIENCE,
            false => self.servers.connect_timeout() + FIRST_ANSWER,
        }
    }

    /// Waits before the next try, or ends. Where no server was ever reached, nobody is
    /// waited for longer than a connection may take.
    async fn rest(&self, mut run: Run) -> Result<Run, Failed> {
        let known = self.servers.book(|book| book.identity()).is_some();
        let reached = known || run.undecided > 0 || run.troubles.anybody_answered();
        let most = match reached {
            true => run.call.timeout,
            false => self.servers.connect_timeout().min(run.call.timeout),
        };
        if most.saturating_sub(run.began.elapsed()) <= run.pause {
            return Err(run.failed(None));
        }
        self.repeats.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.entropy.jitter(run.pause)).await;
        run.pause = (run.pause * 2).min(LONGEST_PAUSE);
        run.hops = 0;
        Ok(run)
    }

    fn remembered(&self, want: Want) -> Option<String> {
        self.servers.book(|book| match want {
            Want::Leader | Want::Newest => book.leader(),
            Want::Any => book.usual(),
        })
    }

    /// Looks around for a server that will do.
    async fn found(&self, run: &mut Run) -> Option<String> {
        let seen = self.look(run).await?;
        if seen.leader.is_some() {
            return seen.leader.clone();
        }
        if run.call.want == Want::Leader {
            return None;
        }
        // Each of them once, then all again.
        let fresh = seen.others.iter().find(|other| !run.asked.contains(other));
        if fresh.is_none() {
            run.asked.clear();
        }
        fresh.or_else(|| seen.others.first()).cloned()
    }

    /// Asks every server who it is; one look serves everybody who waits for it.
    async fn look(&self, run: &mut Run) -> Option<Arc<Seen>> {
        let came = Instant::now();
        let limit = self.servers.connect_timeout() + FIRST_ANSWER;
        let limit = limit.min(run.left());
        let _alone = timeout(limit, self.looking.lock()).await.ok()?;
        let shared = self.looked.lock().clone();
        let shared = shared.filter(|(ended, _)| *ended >= came);
        let seen = match shared {
            Some((_, seen)) => seen,
            None => {
                let seen = Arc::new(self.look_around(limit).await);
                *self.looked.lock() = Some((Instant::now(), Arc::clone(&seen)));
                seen
            }
        };
        run.troubles.extend(&seen.troubles);
        Some(seen)
    }

    async fn look_around(&self, limit: Duration) -> Seen {
        let mut asked = self.servers.book(|book| book.all());
        let hello = |server: &String| self.hello(server.clone(), limit);
        let mut hellos: FuturesUnordered<_> = asked.iter().map(hello).collect();
        let mut until = Instant::now() + limit;
        let mut seen = Seen::default();
        while let Ok(Some((server, said))) = timeout_at(until, hellos.next()).await {
            let trouble = match said {
                Ok(hello) => match self.greeted(&server, &hello) {
                    Ok(()) if hello.leading => {
                        seen.leader = Some(server);
                        return seen;
                    }
                    Ok(()) => {
                        until = until.min(Instant::now() + GRACE);
                        seen.others.push(server.clone());
                        let leader = hello.leader;
                        if !asked.contains(&leader) && self.servers.hint(&server, &leader) {
                            hellos.push(self.hello(leader.clone(), limit));
                            asked.push(leader.clone());
                        }
                        Trouble::Follows(Some(leader).filter(|leader| !leader.is_empty()))
                    }
                    Err(foreign) => foreign,
                },
                Err(trouble) => trouble,
            };
            seen.troubles.note(&server, trouble);
        }
        seen
    }

    /// Takes down who answered; refuses one that belongs elsewhere.
    fn greeted(&self, server: &str, hello: &wire::HelloResponse) -> Result<(), Trouble> {
        let identity = ClusterIdentity {
            cluster: ClusterId::new(hello.cluster.map(u128::from).unwrap_or_default()),
            incarnation: Incarnation::new(hello.incarnation),
        };
        self.servers.book(|book| {
            if !book.belongs(identity) {
                let cluster = identity.cluster;
                return Err(Trouble::Foreign(format!(
                    "belongs to another cluster, {cluster}"
                )));
            }
            book.answered(server);
            match hello.leading {
                true => book.leads(server),
                false => book.follows(server),
            }
            Ok(())
        })
    }

    async fn hello(
        &self,
        server: String,
        limit: Duration,
    ) -> (String, Result<wire::HelloResponse, Trouble>) {
        let hello = wire::HelloRequest {
            software: concat!("arustio-client ", env!("CARGO_PKG_VERSION")).to_owned(),
            command_format: COMMAND_FORMAT,
        };
        let say = |channel, left| {
            let hello = request(hello.clone(), left);
            async move { MetadataServiceClient::new(channel).hello(hello).await }
        };
        let said = self.attempt(&server, limit, &say).await;
        let said = said.map(tonic::Response::into_inner).map_err(|tried| {
            self.servers
                .book(|book| book.failed(&server, Instant::now()));
            tried.trouble()
        });
        (server, said)
    }

    async fn attempt<T, F>(
        &self,
        server: &str,
        limit: Duration,
        request: &(impl Fn(Channel, Duration) -> F + Send + Sync),
    ) -> Result<T, Tried>
    where
        F: Future<Output = Result<T, tonic::Status>> + Send,
    {
        let channel = self.servers.channel(server).map_err(|error| Tried {
            failure: Failure::new(error.kind(), error.message()),
            unsent: true,
            late: false,
        })?;
        match timeout(limit, request(channel, limit)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(Tried {
                unsent: never_left(&status),
                failure: Failure::from(&status),
                late: false,
            }),
            Err(_) => {
                let message = format!("no answer within {:.1} s", limit.as_secs_f64());
                let mut failure = Failure::new(ErrorKind::Timeout, message);
                failure.answered = false;
                Err(Tried {
                    failure,
                    unsent: false,
                    late: true,
                })
            }
        }
    }
}

/// A message that the server need not work on for longer than it is waited for.
pub(crate) fn request<T>(message: T, deadline: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Whether a request certainly did not leave: there was no connection.
fn never_left(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
