//! The way to one peer: its queue, its stream, and what is wrong with it.

use std::sync::Arc;
use std::time::Duration;

use arustio_proto::failure::Failure;
use arustio_proto::raft::v1 as wire;
use arustio_proto::raft::v1::raft_service_client::RaftServiceClient;
use arustio_types::NodeId;
use futures::stream::{self, Stream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::queue::Queue;
use super::{Inner, Silent};
use crate::introduction::{connect, say_peer};

/// A stream that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(1);
/// A peer that says that this member was removed is asked again after this.
const REMOVED: Duration = Duration::from_secs(5);

/// The way to one peer.
#[derive(Debug)]
pub(super) struct Link {
    to: NodeId,
    pub(super) queue: Queue,
    pub(super) stop: CancellationToken,
    addresses: watch::Sender<Vec<String>>,
    /// The address that was tried last, and why nobody answered there.
    broken: Mutex<Option<(String, String)>>,
}

/// How a stream ended.
enum End {
    /// The peer is elsewhere now.
    Moved,
    /// The group has removed this member.
    Removed,
    Broken(String),
}

impl Link {
    pub(super) fn new(to: NodeId, addresses: Vec<String>) -> Self {
        Self {
            to,
            queue: Queue::default(),
            stop: CancellationToken::new(),
            addresses: watch::Sender::new(addresses),
            broken: Mutex::default(),
        }
    }

    /// The peer may be reached here from now on.
    pub(super) fn readdress(&self, addresses: Vec<String>) {
        self.addresses.send_if_modified(|known| {
            let changed = *known != addresses;
            *known = addresses;
            changed
        });
    }

    pub(super) fn silent(&self) -> Option<Silent> {
        let (address, why) = self.broken.lock().clone()?;
        Some(Silent {
            member: self.to,
            address,
            why,
        })
    }

    /// Notes why the peer cannot be reached; says whether that is news.
    fn note(&self, broken: Option<(String, String)>) -> bool {
        let mut known = self.broken.lock();
        let news = *known != broken;
        *known = broken;
        news
    }
}

/// Sends what queues up, until everything stops or the peer is gone.
pub(super) async fn run(inner: Arc<Inner>, link: Arc<Link>) {
    let work = async {
        let mut failures = 0;
        loop {
            link.queue.filled().await;
            let began = Instant::now();
            let address = link.address(failures);
            let end = stream(&inner, &link, &address).await;
            if began.elapsed() >= GOOD {
                failures = 0;
            }
            match end {
                End::Moved => {}
                End::Removed => {
                    if let Some(member) = inner.member().await {
                        member.removed();
                    }
                    tokio::time::sleep(REMOVED).await;
                }
                End::Broken(why) => {
                    broken(&inner, &link, address, why).await;
                    tokio::time::sleep(inner.pause(failures)).await;
                    failures += 1;
                }
            }
        }
    };
    let stop = inner.stopping();
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
        () = link.stop.cancelled() => {}
    }
}

async fn broken(inner: &Inner, link: &Link, address: String, why: String) {
    let member = link.to;
    if link.note(Some((address.clone(), why.clone()))) {
        tracing::warn!(%member, address, "another metadata server cannot be reached: {why}");
    }
    link.queue.clear();
    if let Some(own) = inner.member().await {
        own.unreachable(member);
    }
}

impl Link {
    /// Where to try after so many failures: one address after the other.
    pub(super) fn address(&self, failures: u32) -> String {
        let addresses = self.addresses.borrow();
        let at = usize::try_from(failures).unwrap_or(0) % addresses.len().max(1);
        addresses.get(at).cloned().unwrap_or_default()
    }
}

/// One stream, from the connection to its end.
async fn stream(inner: &Arc<Inner>, link: &Arc<Link>, address: &str) -> End {
    let mut addresses = link.addresses.subscribe();
    addresses.mark_unchanged();
    let channel = match connect(address).await {
        Ok(channel) => channel,
        Err(failure) => return End::Broken(failure.message),
    };
    let first = wire::MessagesRequest {
        from: Some(say_peer(inner.identity)),
        to: link.to.get(),
        messages: Vec::new(),
        address: inner.address.clone(),
    };
    let mut client = RaftServiceClient::new(channel);
    let streamed = client.messages(requests(Arc::clone(inner), Arc::clone(link), first));
    tokio::pin!(streamed);
    let greeted = tokio::time::sleep(GOOD);
    tokio::pin!(greeted);
    let mut fresh = true;
    loop {
        tokio::select! {
            ended = &mut streamed => return match ended {
                Ok(answer) if answer.get_ref().removed => End::Removed,
                Ok(_) => End::Broken("it has ended the stream".to_owned()),
                Err(status) => End::Broken(Failure::from(&status).message),
            },
            changed = addresses.changed() => if changed.is_err() || link.address(0) != address {
                return End::Moved;
            },
            // Not refused so far: it is taking what is sent.
            () = &mut greeted, if fresh => {
                fresh = false;
                if link.note(None) {
                    tracing::info!(member = %link.to, address, "another metadata server is reached");
                }
            }
        }
    }
}

/// Batches, one after the other, for as long as the stream lasts.
fn requests(
    inner: Arc<Inner>,
    link: Arc<Link>,
    first: wire::MessagesRequest,
) -> impl Stream<Item = wire::MessagesRequest> + Send + 'static {
    stream::unfold(Some(first), move |first| {
        let (inner, link) = (Arc::clone(&inner), Arc::clone(&link));
        async move {
            if let Some(first) = first {
                return Some((first, None));
            }
            let messages = link.queue.take().await;
            if link.queue.has_dropped()
                && let Some(own) = inner.member().await
            {
                own.unreachable(link.to);
            }
            let batch = wire::MessagesRequest {
                messages,
                ..wire::MessagesRequest::default()
            };
            Some((batch, None))
        }
    })
}
