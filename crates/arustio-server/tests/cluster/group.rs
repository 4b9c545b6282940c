//! What a group of three survives.

use arustio_meta::store::MetadataStore as _;
use arustio_proto::failure::Failure;
use arustio_proto::meta::v1 as meta;
use arustio_types::meta::{Answer, Consistency};
use arustio_types::{ErrorKind, LogIndex, NodeId};

use crate::house::{Cluster, DEADLINE, eventually, query, service, stat};

#[tokio::test(flavor = "multi_thread")]
async fn n3_what_was_acknowledged_survives_the_loss_of_a_minority_and_a_new_leader_goes_on() {
    let mut cluster = Cluster::formed(3).await;
    let mut client = cluster.client();
    client.mkdir("/first").await;
    let lost = cluster.leader().await;
    cluster.members[lost].stop().await;
    client.mkdir("/second").await;
    let leader = cluster.leader().await;
    assert_ne!(leader, lost);
    for path in ["/first", "/second"] {
        let address = &cluster.members[leader].address;
        let answer = query(address, stat(path), Consistency::Linearizable).await;
        assert!(matches!(answer.unwrap(), Answer::Status(_)), "{path}");
    }
    // Who was lost catches up.
    cluster.start(lost).await;
    cluster.sees(lost, "/second").await;
    cluster.stop_all().await;
    // All of them come back from what they kept.
    cluster.start_all().await;
    for at in 0..3 {
        cluster.sees(at, "/second").await;
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_for_too_long_gets_a_snapshot() {
    let mut cluster = Cluster::new(3);
    cluster.forgetful = true;
    cluster.start_all().await;
    let mut client = cluster.client();
    client.mkdir("/before").await;
    let away = cluster.follower().await;
    cluster.members[away].stop().await;
    for number in 0..300 {
        client.mkdir(&format!("/while-away/{number}")).await;
    }
    let leader = cluster.leader().await;
    let first = cluster.members[leader]
        .store()
        .group()
        .await
        .unwrap()
        .log_first;
    assert!(first.get() > 100, "the log was not compacted: {first}");
    cluster.start(away).await;
    cluster.sees(away, "/while-away/299").await;
    let group = cluster.members[away].store().group().await.unwrap();
    assert!(group.log_first.get() > 100, "it came without a snapshot");
    client.mkdir("/after").await;
    cluster.sees(away, "/after").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_moved_is_found_and_bound_to_its_new_address() {
    let mut cluster = Cluster::formed(3).await;
    let moved = cluster.follower().await;
    cluster.members[moved].stop().await;
    cluster.members[moved].address = crate::house::free_address();
    let number = cluster.members[moved].number;
    let address = cluster.members[moved].address.clone();
    let mut config = cluster.config(moved);
    config.cluster.members[moved] = format!("{number}={address}");
    cluster.open_with(moved, config).await.unwrap();
    cluster.ready(moved).await.unwrap();
    let leader = cluster.leader().await;
    let store = cluster.members[leader].store();
    eventually("the group knows the new address", async || {
        let members = store.membership();
        (members.address(NodeId::new(number)) == Some(&address)).then_some(())
    })
    .await;
    cluster.client().mkdir("/after").await;
    cluster.sees(moved, "/after").await;
    cluster.stop_all().await;
}

/// What it waits for comes from the others, whose streams to it end when it stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_sends_away_at_once_who_waits_in_it() {
    let mut cluster = Cluster::formed(3).await;
    let at = cluster.follower().await;
    cluster.members[at].stop().await;
    let mut config = cluster.config(at);
    config.server.shutdown_grace = 3 * DEADLINE;
    cluster.open_with(at, config).await.unwrap();
    cluster.ready(at).await.unwrap();
    let own = NodeId::new(cluster.members[at].number);
    eventually("it leads", async || {
        let store = cluster.members[cluster.leader().await].store();
        let leads = store.status().member == own;
        (leads || store.transfer(Some(own), DEADLINE).await.is_ok()).then_some(())
    })
    .await;

    let applied = cluster.members[at].store().status().applied;
    let never = Consistency::AtLeast(LogIndex::new(applied.get() + 1_000_000));
    let request = meta::QueryRequest {
        consistency: Some((&never).into()),
        query: Some((&stat("/")).into()),
        deadline_millis: 2 * DEADLINE.as_millis() as u64,
        ..meta::QueryRequest::default()
    };
    let mut first = service(&cluster.members[at].address).await.unwrap();
    let mut second = first.clone();
    let member = &mut cluster.members[at];
    let stopping = async {
        // Goes behind the question on the same connection, so that one has arrived.
        let hello = second.hello(meta::HelloRequest::default()).await;
        hello.unwrap();
        tokio::time::timeout(DEADLINE, member.stop()).await
    };
    let (answer, stopped) = tokio::join!(first.query(request), stopping);
    stopped.expect("it waited for what never comes");
    let failure = Failure::from(&answer.unwrap_err());
    assert_eq!(failure.kind, ErrorKind::Unavailable, "{failure}");
    assert!(failure.message.contains("stopping"), "{failure}");
    cluster.stop_all().await;
}
