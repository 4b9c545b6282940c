//! Members that come and go.

use std::time::Duration;

use arustio_meta::StoreError;
use arustio_meta::consensus::Change;
use arustio_types::{Classify as _, ErrorKind, NodeId};

use crate::house::{Cluster, Member, eventually};

const CHANGE: Duration = Duration::from_secs(5);

/// Changes the group at its leader; what cannot be done yet is tried again.
async fn change(cluster: &Cluster, change: Change) {
    eventually("the group changes", async || {
        let store = cluster.members[cluster.leader().await].store();
        match store.change(change.clone(), CHANGE).await {
            Ok(_) => Some(()),
            Err(StoreError::ChangeRefused {
                kind: ErrorKind::AlreadyExists | ErrorKind::NotFound,
                ..
            }) => Some(()),
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::InvalidArgument, "{error}");
                None
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_joins_learns_by_a_snapshot_and_replaces_another() {
    let mut cluster = Cluster::new(3);
    cluster.forgetful = true;
    cluster.start_all().await;
    let mut client = cluster.client();
    for number in 0..200 {
        client.mkdir(&format!("/early/{number}")).await;
    }

    // It waits, and says which command makes it a member.
    cluster.members.push(Member::new(4));
    cluster.open(3).await.unwrap();
    let address = cluster.members[3].address.clone();
    let joiner = cluster.members[3].server.as_ref().unwrap();
    let command = format!("arustio admin raft add 4 {address}");
    eventually("it says how it becomes a member", async || {
        joiner.waiting().filter(|text| text.contains(&command))
    })
    .await;

    let id = NodeId::new(4);
    change(&cluster, Change::AddLearner { id, address }).await;
    cluster.ready(3).await.unwrap();
    cluster.sees(3, "/early/199").await;
    let store = cluster.members[3].store();
    eventually("it is a learner, bound to its folder", async || {
        let members = store.membership();
        let bound = members.members.get(&id)?.instance != 0;
        (bound && members.learners.contains(&id)).then_some(())
    })
    .await;

    // It replaces a follower, which ends and is told why.
    let old = cluster.follower().await;
    let replacing = Some(NodeId::new(cluster.members[old].number));
    change(&cluster, Change::Promote { id, replacing }).await;
    let replaced = cluster.members[old].server.as_ref().unwrap();
    let error = tokio::time::timeout(crate::house::DEADLINE, replaced.failed());
    let error = error.await.unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("removed"), "{error}");
    cluster.members[old].stop().await;
    client.mkdir("/late").await;
    cluster.sees(3, "/late").await;

    // It does not come back under its number, with its old folder or an empty one.
    cluster.open(old).await.unwrap();
    let error = cluster.members[old].server.as_ref().unwrap().failed();
    let error = tokio::time::timeout(crate::house::DEADLINE, error)
        .await
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    cluster.members[old].stop().await;
    cluster.members[old].wipe();
    cluster.open(old).await.unwrap();
    let error = cluster.ready(old).await.unwrap_err();
    assert!(error.to_string().contains("never comes back"), "{error}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_grows() {
    let mut cluster = Cluster::formed(1).await;
    cluster.client().mkdir("/alone").await;
    cluster.members.push(Member::new(2));
    cluster.open(1).await.unwrap();
    let (id, address) = (NodeId::new(2), cluster.members[1].address.clone());
    change(&cluster, Change::AddLearner { id, address }).await;
    cluster.ready(1).await.unwrap();
    let replacing = None;
    change(&cluster, Change::Promote { id, replacing }).await;
    cluster.sees(1, "/alone").await;
    let store = cluster.members[1].store();
    eventually("it votes", async || {
        (store.membership().voters.len() == 2).then_some(())
    })
    .await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_a_vote_that_was_removed_while_it_was_away_is_told() {
    let mut cluster = Cluster::formed(1).await;
    cluster.members.push(Member::new(2));
    cluster.open(1).await.unwrap();
    let (id, address) = (NodeId::new(2), cluster.members[1].address.clone());
    change(&cluster, Change::AddLearner { id, address }).await;
    cluster.ready(1).await.unwrap();
    cluster.client().mkdir("/a").await;
    cluster.sees(1, "/a").await;
    cluster.members[1].stop().await;
    change(&cluster, Change::Remove { id }).await;
    cluster.open(1).await.unwrap();
    let error = cluster.ready(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("was removed"), "{error}");
    cluster.stop_all().await;
}
