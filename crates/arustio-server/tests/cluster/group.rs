//! What a group of three survives.

use arustio_types::meta::{Answer, Consistency};

use crate::house::{Cluster, eventually, query, stat};

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
        (members.address(arustio_types::NodeId::new(number)) == Some(&address)).then_some(())
    })
    .await;
    cluster.client().mkdir("/after").await;
    cluster.sees(moved, "/after").await;
    cluster.stop_all().await;
}
