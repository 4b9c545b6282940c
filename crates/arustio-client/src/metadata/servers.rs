//! Which metadata servers there are, and which of them to ask next.
//!
//! What is known is kept in a [`Book`]: the configured servers, those that hints have
//! named, who leads, and whose address led nowhere lately. It decides and does nothing
//! else. A hint is advice and not a fact: the address of a leader may mean nothing on
//! this network, so an address that led nowhere is not followed again for a while, and
//! looking around always asks every configured server itself.
//!
//! A server that belongs to another cluster than the first one that answered is never
//! asked for anything.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use arustio_types::ErrorKind;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::ClusterIdentity;
use crate::config::ClientConfig;
use crate::error::{FsError, Result};
use crate::net;

/// Servers that are known beside the configured ones, from hints; the oldest are forgotten.
const MOST_LEARNT: usize = 16;
/// How long an address that led nowhere is not followed when a hint names it.
const DOUBT: Duration = Duration::from_secs(5);

/// The servers and the connections to them.
#[derive(Debug)]
pub(super) struct Servers {
    connect_timeout: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    book: Book,
    channels: HashMap<String, Channel>,
}

/// What is known of the servers.
#[derive(Debug)]
pub(super) struct Book {
    configured: Vec<String>,
    learnt: VecDeque<String>,
    leader: Option<String>,
    /// Answers whoever accepts old answers, until it fails.
    usual: Option<String>,
    doubted: HashMap<String, Instant>,
    /// Have answered since they last failed.
    proven: HashSet<String>,
    /// The cluster of the first server that ever answered.
    identity: Option<ClusterIdentity>,
}

impl Book {
    fn new(configured: &[String], chance: usize) -> Self {
        let mut once: Vec<String> = Vec::new();
        for address in configured {
            if !once.contains(address) {
                once.push(address.clone());
            }
        }
        Self {
            usual: once.get(chance % once.len().max(1)).cloned(),
            configured: once,
            learnt: VecDeque::new(),
            leader: None,
            doubted: HashMap::new(),
            proven: HashSet::new(),
            identity: None,
        }
    }

    /// Everybody who may be asked, the configured ones first.
    pub(super) fn all(&self) -> Vec<String> {
        self.configured
            .iter()
            .chain(&self.learnt)
            .cloned()
            .collect()
    }

    /// Who is thought to lead.
    pub(super) fn leader(&self) -> Option<String> {
        self.leader.clone()
    }

    /// Whom to ask where any server will do: always the same one while it answers, and
    /// not the same one for all clients.
    pub(super) fn usual(&self) -> Option<String> {
        self.usual.clone().or_else(|| self.leader.clone())
    }

    /// A server says that it leads, or did what only a leader does.
    pub(super) fn leads(&mut self, address: &str) {
        if self.leader.as_deref() != Some(address) {
            self.leader = Some(address.to_owned());
        }
    }

    /// A server has answered.
    pub(super) fn answered(&mut self, address: &str) {
        if !self.proven.contains(address) {
            self.proven.insert(address.to_owned());
            self.doubted.remove(address);
        }
        if self.usual.is_none() {
            self.usual = Some(address.to_owned());
        }
    }

    /// A server does not lead.
    pub(super) fn follows(&mut self, address: &str) {
        if self.leader.as_deref() == Some(address) {
            self.leader = None;
        }
    }

    /// A server could not be reached, or did not answer in time.
    pub(super) fn failed(&mut self, address: &str, now: Instant) {
        self.follows(address);
        if self.usual.as_deref() == Some(address) {
            self.usual = None;
        }
        self.proven.remove(address);
        self.doubted.retain(|_, until| *until > now);
        self.doubted.insert(address.to_owned(), now + DOUBT);
    }

    /// A server names another one as the leader; says whether that is worth a try.
    pub(super) fn hint(&mut self, from: &str, leader: &str, now: Instant) -> bool {
        let doubted = self.doubted.get(leader).is_some_and(|until| *until > now);
        if leader == from || doubted {
            return false;
        }
        self.learn(leader);
        true
    }

    fn learn(&mut self, address: &str) {
        let known = self.configured.iter().chain(&self.learnt);
        if known.into_iter().any(|known| known == address) {
            return;
        }
        if self.learnt.len() == MOST_LEARNT {
            self.learnt.pop_front();
        }
        self.learnt.push_back(address.to_owned());
    }

    /// Whether a server has answered since it last failed.
    pub(super) fn is_proven(&self, address: &str) -> bool {
        self.proven.contains(address)
    }

    /// Whether any server of the cluster has ever answered.
    pub(super) fn identity(&self) -> Option<ClusterIdentity> {
        self.identity
    }

    /// A server says which cluster it belongs to; says whether it is ours.
    pub(super) fn belongs(&mut self, identity: ClusterIdentity) -> bool {
        let known = *self.identity.get_or_insert(identity);
        if known.cluster == identity.cluster {
            // Another incarnation is the same cluster after a restore; requests of the
            // earlier one are refused by the service.
            return true;
        }
        false
    }
}

impl Servers {
    /// Connects to nobody yet; `chance` spreads clients over the servers.
    pub(super) fn new(config: &ClientConfig, chance: usize) -> Result<Self> {
        if config.addresses.is_empty() {
            let message = "no address of a metadata server is configured";
            return Err(FsError::new(ErrorKind::InvalidArgument, message));
        }
        for address in &config.addresses {
            endpoint(address, config.connect_timeout)?;
        }
        Ok(Self {
            connect_timeout: config.connect_timeout,
            inner: Mutex::new(Inner {
                book: Book::new(&config.addresses, chance),
                channels: HashMap::new(),
            }),
        })
    }

    /// Looks at what is known, or changes it.
    pub(super) fn book<R>(&self, look: impl FnOnce(&mut Book) -> R) -> R {
        look(&mut self.inner.lock().book)
    }

    /// Whether a hint can be an address and is worth a try.
    pub(super) fn hint(&self, from: &str, leader: &str) -> bool {
        let possible = endpoint(leader, self.connect_timeout).is_ok();
        possible && self.book(|book| book.hint(from, leader, Instant::now()))
    }

    /// The connection to a server, made when it is first used.
    pub(super) fn channel(&self, address: &str) -> Result<Channel> {
        let mut inner = self.inner.lock();
        if let Some(channel) = inner.channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = net::channel(&endpoint(address, self.connect_timeout)?);
        // Connections to servers that were forgotten go with them.
        let known = inner.book.all();
        inner.channels.retain(|address, _| known.contains(address));
        inner.channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// How long making a connection may take.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}

/// What an address stands for.
fn endpoint(address: &str, connect_timeout: Duration) -> Result<Endpoint> {
    let refuse = || {
        let message =
            format!("{address:?} is not an address; write host:port, such as 127.0.0.1:7411");
        FsError::new(ErrorKind::InvalidArgument, message)
    };
    let port = address
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    if address.contains('/') || !matches!(port, Some(Ok(_))) {
        return Err(refuse());
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| refuse())?;
    Ok(endpoint
        .connect_timeout(connect_timeout)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arustio_types::{ClusterId, Incarnation};

    fn book() -> Book {
        let addresses = ["a:1", "b:1", "a:1", "c:1"].map(str::to_owned);
        Book::new(&addresses, 5)
    }

    #[test]
    fn addresses_that_cannot_be_one_are_refused_at_once() {
        for bad in ["", "localhost", "http://x:1", "host:99999", "host:"] {
            let error = endpoint(bad, Duration::from_secs(1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
        }
        assert!(endpoint("127.0.0.1:7411", Duration::from_secs(1)).is_ok());
        assert!(endpoint("[::1]:7411", Duration::from_secs(1)).is_ok());
    }

    #[tokio::test]
    async fn a_server_that_is_given_twice_is_asked_once() {
        assert_eq!(book().all(), ["a:1", "b:1", "c:1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_to_an_address_that_led_nowhere_is_not_followed_for_a_while() {
        let mut book = book();
        assert!(book.hint("a:1", "inside:1", Instant::now()));
        book.leads("inside:1");
        book.failed("inside:1", Instant::now());
        assert_eq!(book.leader(), None);
        assert!(!book.hint("b:1", "inside:1", Instant::now()));
        tokio::time::advance(DOUBT).await;
        assert!(book.hint("b:1", "inside:1", Instant::now()));
    }

    #[tokio::test]
    async fn a_server_that_names_itself_while_it_refuses_is_not_believed() {
        assert!(!book().hint("a:1", "a:1", Instant::now()));
    }

    #[tokio::test]
    async fn hints_without_end_are_forgotten_again() {
        let mut book = book();
        for number in 0..100 {
            book.hint("a:1", &format!("h{number}:1"), Instant::now());
        }
        let all = book.all();
        assert_eq!(all.len(), 3 + MOST_LEARNT);
        assert_eq!(all[0], "a:1");
        assert_eq!(all.last().map(String::as_str), Some("h99:1"));
    }

    #[test]
    fn the_first_server_that_answers_says_which_cluster_it_is() {
        let identity = |cluster, incarnation| ClusterIdentity {
            cluster: ClusterId::new(cluster),
            incarnation: Incarnation::new(incarnation),
        };
        let mut book = book();
        assert!(book.belongs(identity(7, 1)));
        assert!(!book.belongs(identity(8, 1)));
        assert!(book.belongs(identity(7, 2)), "it was restored meanwhile");
        assert_eq!(book.identity(), Some(identity(7, 1)));
    }

    #[tokio::test]
    async fn whoever_fails_is_no_longer_asked_first() {
        let mut book = book();
        assert_eq!(book.usual().as_deref(), Some("c:1"));
        book.failed("c:1", Instant::now());
        book.answered("b:1");
        book.leads("b:1");
        assert_eq!(book.usual().as_deref(), Some("b:1"));
        assert!(book.is_proven("b:1"));
        book.failed("b:1", Instant::now());
        assert_eq!((book.leader(), book.usual()), (None, None));
        assert!(!book.is_proven("b:1"));
    }
}
