//! How a cluster begins, and who cannot take part.

use arustio_server::{Engine, Server};
use arustio_types::meta::{Answer, Consistency};
use arustio_types::{Classify as _, ErrorKind};

use crate::house::{Cluster, eventually, propose, query, readyz, stat};

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_found_one_cluster_and_all_of_them_answer() {
    let mut cluster = Cluster::formed(3).await;
    cluster.client().mkdir("/a/b").await;
    let identity = cluster.members[0].store().identity().cluster;
    for member in &cluster.members {
        assert_eq!(member.store().identity().cluster, identity);
        let answer = query(&member.address, stat("/a/b"), Consistency::Linearizable).await;
        assert!(matches!(answer.unwrap(), Answer::Status(_)));
        let members = member.store().membership();
        assert_eq!(members.voters.len(), 3);
        assert!(members.members.values().all(|info| info.instance != 0));
        let ready = readyz(member.server.as_ref().unwrap()).await;
        assert_eq!(ready.status, 200, "{ready:?}");
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn founding_waits_for_all_and_says_for_whom() {
    let mut cluster = Cluster::new(3);
    cluster.open(0).await.unwrap();
    cluster.open(1).await.unwrap();
    let first = cluster.members[0].server.as_ref().unwrap();
    let missing = format!("member 3 at {}", cluster.members[2].address);
    eventually("it says who is missing", async || {
        let waiting = first.waiting().unwrap_or_default();
        (waiting.contains(&missing) && !waiting.contains("member 2")).then_some(())
    })
    .await;
    let ready = readyz(first).await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.text.contains(&missing), "{ready:?}");
    let address = &cluster.members[0].address;
    let early = query(address, stat("/"), Consistency::Linearizable).await;
    let failure = early.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Unavailable);
    assert!(failure.message.contains(&missing), "{failure}");
    cluster.open(2).await.unwrap();
    for at in 0..3 {
        cluster.ready(at).await.unwrap();
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_is_refused_and_told_what_to_do() {
    let mut cluster = Cluster::formed(3).await;
    let at = cluster.follower().await;
    cluster.members[at].stop().await;
    cluster.members[at].wipe();
    cluster.open(at).await.unwrap();
    let error = cluster.ready(at).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let number = cluster.members[at].number;
    let told = format!("arustio admin raft remove {number}");
    assert!(error.to_string().contains(&told), "{error}");
    // The others go on.
    cluster.members[at].stop().await;
    cluster.client().mkdir("/still").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_log_alone_is_gone_is_refused() {
    let mut cluster = Cluster::formed(3).await;
    let at = cluster.follower().await;
    cluster.members[at].stop().await;
    cluster.members[at].engine = Engine::kept();
    cluster.open(at).await.unwrap();
    let error = cluster.ready(at).await.unwrap_err().to_string();
    assert!(error.contains("is gone, and with it its votes"), "{error}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_cluster_key_is_refused() {
    let mut cluster = Cluster::new(3);
    let home = tempfile::tempdir().unwrap();
    let other = home.path().join("other.key");
    arustio_server::data_dir::make_key(&other).unwrap();
    cluster.open(0).await.unwrap();
    cluster.open(1).await.unwrap();
    let mut config = cluster.config(2);
    config.cluster.key_file = Some(other);
    cluster.open_with(2, config).await.unwrap();
    let error = cluster.ready(2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.to_string().contains("another cluster key"), "{error}");
    cluster.members[2].stop().await;
    // With the right one it is taken.
    cluster.open(2).await.unwrap();
    for at in 0..3 {
        cluster.ready(at).await.unwrap();
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_and_another_members_folder_are_refused_at_once() {
    let mut cluster = Cluster::formed(3).await;
    cluster.members[2].stop().await;
    let mut config = cluster.config(2);
    config.cluster.key_file = Some("/nowhere/cluster.key".into());
    let error = cluster.open_with(2, config).await.unwrap_err().to_string();
    assert!(error.contains("--make-key"), "{error}");
    let mut config = cluster.config(2);
    config.cluster.member = Some(5);
    let error = cluster.open_with(2, config).await.unwrap_err().to_string();
    assert!(error.contains("belongs to member 3"), "{error}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_majority_waits_says_so_and_can_be_stopped() {
    let mut cluster = Cluster::formed(3).await;
    cluster.client().mkdir("/before").await;
    cluster.stop_all().await;
    cluster.open(0).await.unwrap();
    let server = cluster.members[0].server.as_ref().unwrap();
    let missing = format!("member 2 at {}", cluster.members[1].address);
    eventually("it says who is missing", async || {
        let ready = readyz(server).await;
        let told = ["2 of its 3 voters", &missing];
        let tells = told.iter().all(|words| ready.text.contains(words));
        (ready.status == 503 && tells).then_some(())
    })
    .await;
    cluster.members[0].stop().await;
    cluster.start_all().await;
    cluster.sees(0, "/before").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_lead_says_who_does() {
    let mut cluster = Cluster::formed(3).await;
    cluster.client().mkdir("/a").await;
    let follower = cluster.follower().await;
    let address = &cluster.members[follower].address;
    let context = arustio_types::meta::RequestContext {
        deadline: std::time::Duration::from_secs(5),
        ..Default::default()
    };
    let failure = eventually("a hint", async || {
        let refused = propose(address, &context, &crate::house::mkdir("/b")).await;
        refused.err().filter(|failure| failure.leader.is_some())
    })
    .await;
    assert!(failure.not_leader && !failure.undecided);
    let leader = cluster.leader().await;
    let leads = &cluster.members[leader];
    assert_eq!(failure.leader.as_deref(), Some(leads.address.as_str()));
    assert_eq!(failure.leader_member.unwrap().get(), leads.number);
    let view = query(
        address,
        arustio_types::meta::Query::ClusterView,
        Consistency::Stale,
    );
    assert!(view.await.unwrap_err().not_leader);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_alone_needs_no_list_and_no_key() {
    let cluster = Cluster::new(1);
    let mut config = cluster.config(0);
    config.cluster.members.clear();
    config.cluster.member = None;
    config.cluster.key_file = None;
    let engine = cluster.members[0].engine.clone();
    let server = Server::start(config.clone().validate().unwrap(), engine.clone())
        .await
        .unwrap();
    let members = server.metadata().unwrap().membership();
    let info = members.members.values().next().unwrap().clone();
    assert_eq!(info.address, cluster.members[0].address);
    assert_ne!(info.instance, 0);
    server.stop().await;
    // Moved, it is bound to its new address.
    config.server.listen = crate::house::free_address();
    let server = Server::start(config.clone().validate().unwrap(), engine)
        .await
        .unwrap();
    let store = server.metadata().unwrap();
    eventually("it is bound to its new address", async || {
        let members = store.membership();
        let info = members.members.values().next()?;
        (info.address == config.server.listen).then_some(())
    })
    .await;
    server.stop().await;
}
