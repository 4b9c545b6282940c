//! The group changes: members come, get a vote, leave, and are refused.

use arustio_client::admin::{GroupChange, GroupRole};
use arustio_client::{ErrorKind, FileSystem};
use arustio_types::NodeId;
use rustix::process::Signal;

use crate::house::{House, make};

fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_replaces_an_old_one_and_the_group_goes_on() {
    let mut house = House::start(3, 0).await;
    let fs = house.client().await;
    make(&fs, "/before").await.unwrap();
    let admin = house.operator();
    let new = house.cluster.join(4).unwrap();
    let address = house.cluster.plan().find(&new).unwrap().grpc.to_string();
    let add = GroupChange::Add { id: id(4), address };
    let group = admin.change(&add).await.unwrap();
    let learner = group.members.iter().find(|member| member.id == id(4));
    assert_eq!(learner.unwrap().role, GroupRole::Learner);
    house.cluster.ready(&new).await.unwrap();

    let leader = group.leader.unwrap();
    let old = [1, 2, 3]
        .map(id)
        .into_iter()
        .find(|id| *id != leader)
        .unwrap();
    let replacing = Some(old);
    let promote = GroupChange::Promote {
        id: id(4),
        replacing,
    };
    let group = admin.change(&promote).await.unwrap();
    assert!(
        group.members.iter().all(|member| member.id != old),
        "{group:?}"
    );
    assert_eq!(group.removed, [old]);
    house
        .cluster
        .signal(&format!("meta-{old}"), Signal::TERM)
        .await
        .ok();

    // The new one counts: without it the two that are left would be too few.
    let third = group.members.iter().map(|member| member.id);
    let third = third
        .into_iter()
        .find(|id| *id != leader && id.get() != 4)
        .unwrap();
    house
        .cluster
        .signal(&format!("meta-{third}"), Signal::KILL)
        .await
        .unwrap();
    make(&fs, "/after").await.unwrap();
    fs.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_and_nobody_notices() {
    let house = House::start(3, 0).await;
    let fs = house.client().await;
    let admin = house.operator();
    let leader = admin.group().await.unwrap().leader.unwrap();
    let to = [1, 2, 3]
        .map(id)
        .into_iter()
        .find(|id| *id != leader)
        .unwrap();
    let (made, led) = tokio::join!(make(&fs, "/meanwhile"), admin.transfer(Some(to)));
    made.unwrap();
    assert_eq!(led.unwrap(), to);
    make(&fs, "/afterwards").await.unwrap();
    let snapshot = admin.snapshot().await.unwrap();
    assert!(snapshot.index.get() > 0);
    fs.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_folder_is_told_what_to_do() {
    let mut house = House::start(3, 0).await;
    let leader = house.leader().await;
    let victim = ["meta-1", "meta-2", "meta-3"];
    let victim = victim.into_iter().find(|name| *name != leader).unwrap();
    house.cluster.signal(victim, Signal::KILL).await.unwrap();
    house.cluster.wipe(victim).unwrap();
    let error = house.cluster.start(victim).await.unwrap_err().to_string();
    assert!(error.contains("arustio admin raft remove"), "{error}");
    let fs = house.client().await;
    make(&fs, "/goes-on").await.unwrap();
    fs.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_a_reason() {
    let house = House::start(3, 0).await;
    let admin = house.operator();
    let leader = admin.group().await.unwrap().leader.unwrap();
    let remove = |id| GroupChange::Remove { id };
    let error = admin.change(&remove(leader)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("raft transfer"), "{error}");
    let error = admin.change(&remove(id(9))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let address = "nonsense".to_owned();
    let error = admin.change(&GroupChange::Add { id: id(9), address }).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument);
}
