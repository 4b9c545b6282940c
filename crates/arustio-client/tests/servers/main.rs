//! The client of a metadata cluster: leaders change, hints lie, answers get lost, and
//! whoever uses the client sees nothing of it.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod fake;

use std::sync::Arc;
use std::time::Duration;

use arustio_client::metadata::{MetadataClient, Proposed, RemoteMetadata};
use arustio_client::{ErrorKind, Result};
use arustio_types::meta::{Command, Consistency, Query, RequestContext};
use arustio_types::{RequestId, SessionId};
use tokio::time::Instant;

use fake::{Cluster, Mood, Running, client, client_within, nobody};

/// A change under this number.
async fn change(remote: &RemoteMetadata, sequence: u64) -> Result<Proposed> {
    change_within(remote, sequence, Duration::from_secs(10)).await
}

async fn change_within(
    remote: &RemoteMetadata,
    sequence: u64,
    deadline: Duration,
) -> Result<Proposed> {
    let context = RequestContext {
        id: RequestId {
            session: SessionId::new(1),
            sequence,
            first_unacked: sequence,
        },
        deadline,
        ..RequestContext::default()
    };
    remote.propose(&context, &Command::KeepSession).await
}

async fn read(remote: &RemoteMetadata, consistency: Consistency) {
    remote.query(Query::Identity, consistency).await.unwrap();
}

#[tokio::test]
async fn the_leader_is_found_wherever_it_stands_in_the_list() {
    for leader in 0..3 {
        let cluster = Cluster::start(3).await;
        cluster.elect(leader);
        let remote = client(cluster.addresses());
        remote.identity().await.unwrap();
        let began = Instant::now();
        assert_eq!(change(&remote, 1).await.unwrap().attempts, 1);
        assert_eq!(cluster.log.lock().arrived, 1, "only the leader was asked");
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_hint_leads_to_a_server_that_was_not_configured() {
    let cluster = Cluster::start(3).await;
    let remote = client(vec![cluster.address(2)]);
    change(&remote, 1).await.unwrap();
    // It is remembered: the one that was configured may go.
    cluster.mood(2, Mood::Mute);
    change(&remote, 2).await.unwrap();
    assert_eq!(cluster.applied(), [1, 2]);
}

#[tokio::test]
async fn hints_in_a_circle_are_not_followed_for_ever() {
    let cluster = Cluster::start(3).await;
    let remote = client(cluster.addresses());
    change(&remote, 1).await.unwrap();
    let (first, second, third) = (cluster.address(0), cluster.address(1), cluster.address(2));
    cluster.mood(0, Mood::Follows(Some(second)));
    cluster.mood(1, Mood::Follows(Some(third)));
    cluster.mood(2, Mood::Follows(Some(first)));
    let deadline = Duration::from_millis(700);
    let error = change_within(&remote, 2, deadline).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Unavailable,
        "nothing was done: {error}"
    );
    assert!(error.message().contains("no leader"), "{error}");
    let arrived = cluster.log.lock().arrived;
    assert!(arrived < 40, "{arrived} requests in 0.7 s are a storm");
    cluster.elect(1);
    change(&remote, 3).await.unwrap();
    assert_eq!(cluster.applied(), [1, 3]);
}

#[tokio::test]
async fn an_address_that_means_nothing_here_is_no_trap() {
    let cluster = Cluster::start(3).await;
    let inside = nobody(1).remove(0);
    // The leader is reached at another address than the one that its followers know.
    cluster.mood(1, Mood::Follows(Some(inside.clone())));
    cluster.mood(2, Mood::Follows(Some(inside.clone())));
    let remote = client(cluster.addresses());
    for sequence in 1..=5 {
        change(&remote, sequence).await.unwrap();
    }
    // The next leader too.
    cluster.mood(0, Mood::Follows(Some(inside)));
    cluster.mood(2, Mood::Leads);
    let began = Instant::now();
    change(&remote, 6).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(cluster.applied(), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn n2_a_lost_answer_is_asked_for_under_the_same_id_and_applied_once() {
    let cluster = Cluster::start(3).await;
    let remote = client(cluster.addresses());
    change(&remote, 1).await.unwrap();
    for (sequence, mood) in [(2, Mood::Cuts), (3, Mood::Swallows)] {
        cluster.mood(0, mood);
        let changed = tokio::spawn({
            let remote = client(cluster.addresses());
            async move { change(&remote, sequence).await }
        });
        while cluster.applied().len() < usize::try_from(sequence).unwrap() {
            tokio::task::yield_now().await;
        }
        cluster.elect(1);
        let proposed = changed.await.unwrap().unwrap();
        assert!(proposed.attempts > 1, "{proposed:?}");
        assert_eq!(proposed.position.get(), sequence);
        cluster.elect(0);
    }
    assert_eq!(cluster.applied(), [1, 2, 3]);
}

#[tokio::test]
async fn a_dead_leader_is_replaced_without_a_word() {
    let mut cluster = Cluster::start(3).await;
    let remote = client(cluster.addresses());
    change(&remote, 1).await.unwrap();
    cluster.servers[0].kill().await;
    cluster.mood(1, Mood::Follows(None));
    cluster.mood(2, Mood::Follows(None));
    let waiting = tokio::spawn(async move { change(&remote, 2).await });
    // An election takes a while: the client comes back to those two, who could not help it.
    cluster.until_asked(2 + 2).await;
    cluster.elect(2);
    waiting.await.unwrap().unwrap();
    assert_eq!(cluster.applied(), [1, 2]);
}

#[tokio::test]
async fn a_leader_that_stops_answering_is_left_for_the_next_one() {
    let cluster = Cluster::start(3).await;
    let remote = client(cluster.addresses());
    change(&remote, 1).await.unwrap();
    cluster.elect(1);
    cluster.mood(0, Mood::Mute);
    let began = Instant::now();
    change(&remote, 2).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    // The next one goes straight to the new leader.
    let began = Instant::now();
    change(&remote, 3).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(cluster.applied(), [1, 2, 3]);
}

#[tokio::test]
async fn a_server_that_starts_again_is_found_again() {
    let mut cluster = Cluster::start(1).await;
    let remote = client(cluster.addresses());
    change(&remote, 1).await.unwrap();
    cluster.servers[0].kill().await;
    let waiting = tokio::spawn(async move { change(&remote, 2).await });
    // For longer than a client waits for a server that it never reached.
    let stranger = client(cluster.addresses());
    let error = stranger.identity().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    cluster.servers[0].restart().await;
    waiting.await.unwrap().unwrap();
    assert_eq!(cluster.applied(), [1, 2]);
}

#[tokio::test]
async fn n2_leadership_that_flaps_neither_loses_nor_repeats_a_change() {
    let cluster = Cluster::start(3).await;
    let log = Arc::clone(&cluster.log);
    let addresses = cluster.addresses();
    let flapping = tokio::spawn(async move {
        // The client meets each mood; how far it gets meanwhile is left to chance.
        for round in 0.. {
            cluster.mood(round % 3, Mood::Falters);
            cluster.until_asked(1).await;
            cluster.depose();
            cluster.mood((round + 1) % 3, Mood::Cuts);
            cluster.until_asked(2).await;
            cluster.elect((round + 1) % 3);
            cluster.until_asked(3).await;
        }
    });
    let remote = client(addresses);
    for sequence in 1..=40 {
        change(&remote, sequence).await.unwrap();
    }
    flapping.abort();
    assert_eq!(log.lock().applied, (1..=40).collect::<Vec<u64>>());
}

#[tokio::test]
async fn what_may_have_been_done_is_unknown_even_if_nobody_leads_afterwards() {
    let cluster = Cluster::start(3).await;
    let remote = client(cluster.addresses());
    change(&remote, 1).await.unwrap();
    cluster.depose();
    cluster.mood(0, Mood::Falters);
    let deadline = Duration::from_millis(500);
    let error = change_within(&remote, 2, deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
    assert!(error.message().contains("look before repeating"), "{error}");
}

#[tokio::test]
async fn servers_that_do_not_run_are_all_named_within_three_seconds() {
    for count in [1, 3] {
        let addresses = nobody(count);
        let remote = client(addresses.clone());
        let began = Instant::now();
        let error = remote.identity().await.unwrap_err();
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        for address in addresses {
            let named = format!("{address}: connection refused");
            assert!(error.message().contains(&named), "{error}");
        }
        assert!(error.message().contains("running?"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_switched_off_costs_no_time() {
    let cluster = Cluster::start(2).await;
    cluster.mood(0, Mood::Mute);
    cluster.mood(1, Mood::Leads);
    let began = Instant::now();
    change(&client(cluster.addresses()), 1).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_cluster_without_a_leader_says_so_and_names_its_servers() {
    let mut cluster = Cluster::start(3).await;
    cluster.depose();
    cluster.servers[2].kill().await;
    let remote = client(cluster.addresses());
    let deadline = Duration::from_millis(900);
    let error = change_within(&remote, 1, deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("no leader"), "{error}");
    let dead = format!("{}: connection refused", cluster.address(2));
    let alive = format!("{}: knows of no leader", cluster.address(0));
    assert!(error.message().contains(&dead), "{error}");
    assert!(error.message().contains(&alive), "{error}");
}

#[tokio::test]
async fn reads_go_to_the_leader_and_without_one_to_whoever_answers() {
    let cluster = Cluster::start(3).await;
    cluster.elect(1);
    let remote = client(cluster.addresses());
    read(&remote, Consistency::Linearizable).await;
    assert_eq!(cluster.log.lock().readers, [cluster.address(1)]);
    cluster.depose();
    cluster.mood(1, Mood::Mute);
    read(&client(cluster.addresses()), Consistency::Linearizable).await;
    assert_ne!(cluster.log.lock().readers[1], cluster.address(1));
}

#[tokio::test]
async fn old_answers_are_taken_from_one_server_that_need_not_lead() {
    let cluster = Cluster::start(3).await;
    let remote = client(cluster.addresses());
    for _ in 0..10 {
        read(&remote, Consistency::Stale).await;
    }
    let readers = cluster.log.lock().readers.clone();
    assert!(
        readers.iter().all(|reader| *reader == readers[0]),
        "{readers:?}"
    );
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..10 {
        let addresses = cluster.addresses();
        let config = arustio_client::ClientConfig {
            addresses,
            ..arustio_client::ClientConfig::default()
        };
        let entropy = Arc::new(arustio_client::entropy::Entropy::from_seed(
            seen.len() as u64
        ));
        let other = RemoteMetadata::new(&config, Default::default(), entropy).unwrap();
        read(&other, Consistency::Stale).await;
        seen.extend(cluster.log.lock().readers.last().cloned());
    }
    seen.sort();
    seen.dedup();
    assert!(seen.len() > 1, "every client asks the same one: {seen:?}");
}

#[tokio::test]
async fn a_server_of_another_cluster_is_never_asked() {
    let cluster = Cluster::start(1).await;
    let foreign = Running::start(8, Arc::default(), Mood::Mute).await;
    let remote = client_within(
        vec![cluster.address(0), foreign.fake.address()],
        Duration::from_secs(1),
    );
    change(&remote, 1).await.unwrap();
    cluster.depose();
    foreign.fake.set(Mood::Leads);
    let deadline = Duration::from_millis(500);
    let error = change_within(&remote, 2, deadline).await.unwrap_err();
    assert!(error.message().contains("another cluster"), "{error}");
    assert!(foreign.fake.applied().is_empty());
}
