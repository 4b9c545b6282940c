//! Sessions with a service that counts leases by a clock of its own.

use arustio_types::cluster::ClusterView;
use arustio_types::meta::sync::{SyncRequest, SyncTarget, SyncTurn};
use arustio_types::meta::{Answer, Consistency, Query};
use arustio_types::{LogIndex, SystemClock};
use async_trait::async_trait;

use super::*;

/// It opens one session and keeps it as long as it has contact.
#[derive(Debug)]
struct Service {
    rate: f64,
    started: Instant,
    lease: Mutex<Lease>,
}

#[derive(Debug, Default)]
struct Lease {
    ttl: Duration,
    until: Duration,
    out_of_reach: bool,
}

impl Service {
    /// While ours advances by one second, its clock advances by `rate` seconds.
    fn running(rate: f64) -> Arc<Self> {
        Arc::new(Self {
            rate,
            started: Instant::now(),
            lease: Mutex::default(),
        })
    }

    fn lose_contact(&self) {
        self.lease.lock().out_of_reach = true;
    }

    /// What its clock shows, in whole milliseconds as replicated time is.
    fn shows(&self) -> Duration {
        let millis = self.shows_after(Duration::ZERO).as_millis();
        Duration::from_millis(u64::try_from(millis).unwrap())
    }

    /// What it will show when ours has advanced so far.
    fn shows_after(&self, ours: Duration) -> Duration {
        (self.started.elapsed() + ours).mul_f64(self.rate)
    }

    fn lease_until(&self) -> Duration {
        self.lease.lock().until
    }
}

#[async_trait]
impl MetadataClient for Service {
    async fn identity(&self) -> Result<ClusterIdentity> {
        Ok(ClusterIdentity::default())
    }

    async fn propose(&self, _: &RequestContext, command: &Command) -> Result<Proposed> {
        let mut lease = self.lease.lock();
        if lease.out_of_reach {
            return Err(FsError::new(ErrorKind::Unavailable, "out of reach"));
        }
        let outcome = match command {
            Command::OpenSession { ttl, .. } => {
                lease.ttl = *ttl;
                let session = SessionId::new(1);
                Outcome::SessionOpened { session }
            }
            _ => Outcome::Done,
        };
        lease.until = self.shows() + lease.ttl;
        Ok(Proposed {
            outcome,
            position: LogIndex::new(1),
            attempts: 1,
        })
    }

    async fn query(&self, _: Query, _: Consistency) -> Result<Answer> {
        Err(FsError::new(
            ErrorKind::Unsupported,
            "nothing is asked here",
        ))
    }

    async fn begin_sync(&self, _: SyncRequest) -> Result<SyncTurn> {
        Err(FsError::new(
            ErrorKind::Unsupported,
            "nothing is asked here",
        ))
    }

    async fn end_sync(&self, _: SyncTarget, _: u64, _: bool) -> Result<()> {
        Ok(())
    }

    async fn cluster_view(&self) -> Result<Arc<ClusterView>> {
        Ok(Arc::default())
    }
}

/// A client's sessions with such a service.
struct House {
    service: Arc<Service>,
    sessions: Sessions,
}

impl House {
    fn new(service: Arc<Service>, late_request: Duration) -> Self {
        let metadata: Arc<dyn MetadataClient> = Arc::<Service>::clone(&service);
        let sessions = Sessions::new(SessionParts {
            metadata,
            identity: ClusterIdentity::default(),
            principal: Principal::default(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(Entropy::from_seed(1)),
            tasks: Tasks::default(),
            ttl: Duration::from_secs(60),
            request_timeout: Duration::from_secs(30),
            late_request,
        });
        Self { service, sessions }
    }
}

const WANTED: Duration = Duration::from_secs(20);

/// A service whose clock is as fast as the bound allows: what it lets go too early, it
/// lets go too early here.
fn house(late: Duration) -> House {
    House::new(Service::running(16.0 / 15.0), late)
}

#[tokio::test(start_paused = true)]
async fn p4_no_request_outlives_the_lease_on_the_clock_of_the_service() {
    for late in [Duration::ZERO, Duration::from_secs(40)] {
        let house = house(late);
        let session = house.sessions.open().await.unwrap();
        house.service.lose_contact();
        let mut sent = 0;
        while let Ok(deadline) = house.sessions.deadline(session, WANTED).await {
            let end = house.service.shows_after(deadline + late);
            let lease = house.service.lease_until();
            assert!(end <= lease, "after {sent} s: {end:?} of {lease:?}");
            tokio::time::advance(Duration::from_secs(1)).await;
            sent += 1;
        }
        assert!(sent > 50, "only {sent} s of the lease are used");
    }
}

#[tokio::test(start_paused = true)]
async fn p5_an_unanswered_request_has_ended_before_the_service_takes_it_for_dead() {
    for late in [Duration::ZERO, Duration::from_secs(40)] {
        let house = house(late);
        let sent = Sent::now(WANTED);
        for passed in 0..20 {
            let noted = house.service.shows() + house.sessions.still_open(sent);
            let left = WANTED - Duration::from_secs(passed);
            let end = house.service.shows_after(left + late);
            assert!(end <= noted, "after {passed} s: {end:?} of {noted:?}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(late * 2 + Duration::from_secs(1)).await;
        assert_eq!(house.sessions.still_open(sent), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn p5_a_store_whose_clock_is_slow_is_waited_for() {
    let late = Duration::from_secs(150);
    let house = house(late);
    let sent = Sent::now(WANTED);
    let waited = house.sessions.expired_at(sent) - sent.at;
    assert!(waited >= WANTED + late * 16 / 15, "{waited:?}");
}

#[test]
fn n2_the_first_unacked_request_moves_only_over_answered_ones() {
    let session = SessionId::new(7);
    let mut requests = Requests::default();
    let one = requests.begin(session);
    let two = requests.begin(session);
    assert_eq!((one.sequence, one.first_unacked), (1, 1));
    assert_eq!((two.sequence, two.first_unacked), (2, 1));
    requests.end(2);
    assert_eq!(requests.begin(session).first_unacked, 1);
    requests.end(1);
    assert_eq!(requests.first_unacked(), 3);
    requests.end(3);
    assert_eq!(requests.begin(session).first_unacked, 4);
}
