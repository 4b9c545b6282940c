//! Backups, checks and dumps of servers that run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arustio_client::admin::{Admin, BackupStream, Verification};
use arustio_client::entropy::Entropy;
use arustio_client::{ClientConfig, FsError};
use arustio_meta::MemberIdentity;
use arustio_meta::backup;
use arustio_meta::engine::{
    Batch, Durability, EngineKind, Family, KvEngine, KvEngineExt as _, MemEngine, Scan,
};
use arustio_meta::namespace::Namespace;
use arustio_meta::state_machine::{Entry, StateMachine as _};
use arustio_meta::store::MetadataStore as _;
use arustio_server::Engine;
use arustio_types::meta::credential::{Credential, SecretOptions};
use arustio_types::meta::mount::{MountCapabilities, MountSpec};
use arustio_types::meta::{Answer, Command, Outcome, Query, RequestContext};
use arustio_types::{ByteSize, ClusterId, ErrorKind, FsPath, Incarnation, NodeId};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::house::{Cluster, eventually};

const SECRET: &str = "a-secret-that-nobody-may-see";

fn operator(cluster: &Cluster) -> Admin {
    let addresses = cluster.members.iter().map(|member| member.address.clone());
    let config = ClientConfig {
        addresses: addresses.collect(),
        ..ClientConfig::default()
    };
    Admin::new(&config, Entropy::from_seed(1)).unwrap()
}

/// Makes directories until it is told to stop; returns how many.
fn writer(cluster: &Cluster, name: &str) -> (Arc<AtomicBool>, JoinHandle<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (mut client, stopped) = (cluster.client(), Arc::clone(&stop));
    let base = name.to_owned();
    let runtime = Handle::current();
    let writing = spawn_blocking(move || {
        runtime.block_on(async {
            let mut made = 0;
            while !stopped.load(Ordering::Acquire) {
                client.mkdir(&format!("{base}/{made}")).await;
                made += 1;
            }
            made
        })
    });
    (stop, writing)
}

async fn received(backup: &mut BackupStream) -> Result<Vec<u8>, FsError> {
    let mut bytes = Vec::new();
    while let Some(piece) = backup.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// What a restore makes of a backup.
fn restored(bytes: &[u8]) -> Namespace {
    let log = MemEngine::new(EngineKind::Log);
    let state = Arc::new(MemEngine::new(EngineKind::State));
    let identity = MemberIdentity {
        cluster: ClusterId::default(),
        incarnation: Incarnation::new(77),
        member: NodeId::new(1),
    };
    let mut from = bytes;
    let done = backup::restore(&mut from, &log, &*state, identity).unwrap();
    assert!(done.verified.is_sound(), "{:?}", done.verified.problems);
    let cluster = done.summary.header.cluster;
    Namespace::open(state, cluster, identity.incarnation).unwrap()
}

/// Copies of the state that lie in a data folder.
fn copies(data: &Path) -> usize {
    let folder = std::fs::read_dir(data.join("meta/snapshots"));
    let names = folder.into_iter().flatten();
    let names = names.map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("copy-"))
        .count()
}

async fn no_copies(data: &Path) {
    eventually("the copy is removed", async || {
        (copies(data) == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_holds_everything_that_was_acknowledged_before() {
    let mut cluster = Cluster::formed(3).await;
    let mut client = cluster.client();
    let (stop, writing) = writer(&cluster, "/load");
    for number in 0..20 {
        client.mkdir(&format!("/before/{number}")).await;
        let mut backup = operator(&cluster).back_up().await.unwrap();
        let bytes = received(&mut backup).await.unwrap();
        let made = backup.made().unwrap().clone();
        assert_eq!(made.bytes, bytes.len() as u64);
        for member in &cluster.members {
            assert_eq!(copies(member.folder.path()), 0);
        }
        let state = restored(&bytes);
        let path = FsPath::new(&format!("/before/{number}")).unwrap();
        let found = state.query(Query::Stat { path }).unwrap();
        assert!(matches!(found, Answer::Status(_)), "{found:?}");
    }
    stop.store(true, Ordering::Release);
    assert!(writing.await.unwrap() > 0);
    cluster.stop_all().await;
}

/// A server whose state takes several pieces, and minutes to leave.
async fn slow() -> Cluster {
    let mut cluster = Cluster::new(1);
    cluster.start(0).await;
    cluster.stop_all().await;
    let Engine::Kept { state, .. } = &cluster.members[0].engine else {
        panic!("an engine of tests");
    };
    let mut batch = Batch::new();
    for number in 0..40_u8 {
        batch.put(Family::Settings, [b'x', number], vec![number; 100 << 10]);
    }
    state.write(batch, Durability::Synced).unwrap();
    let mut config = cluster.config(0);
    config.metadata.raft.snapshot_rate = ByteSize::kib(64);
    cluster.open_with(0, config).await.unwrap();
    cluster.ready(0).await.unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_given_up_leaves_nothing_and_the_next_one_has_its_turn() {
    let mut cluster = slow().await;
    let admin = operator(&cluster);
    let data = cluster.members[0].folder.path().to_owned();
    let mut backup = admin.back_up().await.unwrap();
    assert_eq!(backup.next().await.unwrap().unwrap().len(), 1 << 20);
    assert_eq!(copies(&data), 1);
    let error = admin.back_up().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = admin.dump(None, None).await.unwrap_err();
    assert!(error.message().contains("under way"), "{error}");
    // A server at a backup goes on with everything else.
    cluster.client().mkdir("/meanwhile").await;
    drop(backup);
    no_copies(&data).await;
    eventually("the next one has its turn", async || {
        admin.back_up().await.ok().map(drop)
    })
    .await;
    no_copies(&data).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_ends_a_backup_and_leaves_nothing() {
    let mut cluster = slow().await;
    let admin = operator(&cluster);
    let mut backup = admin.back_up().await.unwrap();
    backup.next().await.unwrap();
    let began = tokio::time::Instant::now();
    cluster.stop_all().await;
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    let error = received(&mut backup).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(copies(cluster.members[0].folder.path()), 0);
    let error = operator(&cluster).back_up().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("cannot reach"), "{error}");
}

async fn verified(cluster: &Cluster) -> Verification {
    let found = operator(cluster).verify(None, 20, |_, _| {}).await;
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_hold_the_same_are_found_to_at_rest_and_under_load() {
    let mut cluster = Cluster::formed(3).await;
    cluster.client().mkdir("/a/b").await;
    for at in 0..3 {
        cluster.sees(at, "/a/b").await;
    }
    let found = verified(&cluster).await;
    found.verdict().unwrap();
    for check in &found.members {
        let report = check.found.as_ref().unwrap();
        assert_eq!((report.files, report.directories), (0, 3));
        assert_eq!(report.wrong(), 0);
    }
    let (stop, writing) = writer(&cluster, "/load");
    for _ in 0..5 {
        let found = verified(&cluster).await;
        found.verdict().unwrap();
        let sums = found.compared.unwrap().unwrap();
        assert!(sums.agree() && sums.sums.len() == 3, "{sums:?}");
    }
    stop.store(true, Ordering::Release);
    assert!(writing.await.unwrap() > 0);
    let admin = operator(&cluster);
    let only = admin.verify(Some(NodeId::new(2)), 20, |_, _| {});
    let only = only.await.unwrap();
    only.verdict().unwrap();
    assert_eq!(only.members.len(), 1);
    assert!(only.compared.is_none());
    cluster.stop_all().await;
}

/// Changes what a stopped follower holds, and starts it again.
async fn tampered(cluster: &mut Cluster, change: impl FnOnce(&Arc<dyn KvEngine>)) -> NodeId {
    let at = cluster.follower().await;
    cluster.members[at].stop().await;
    let Engine::Kept { state, .. } = &cluster.members[at].engine else {
        panic!("an engine of tests");
    };
    change(state);
    cluster.start(at).await;
    NodeId::new(cluster.members[at].number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_found_and_its_member_named() {
    let mut cluster = Cluster::formed(3).await;
    cluster.client().mkdir("/a/b").await;
    let bad = tampered(&mut cluster, |state| {
        let names = state.scan_to_vec(Family::Dentries, Scan::all()).unwrap();
        let mut batch = Batch::new();
        batch.delete(Family::Dentries, names.last().unwrap().0.clone());
        state.write(batch, Durability::Synced).unwrap();
    })
    .await;
    let found = verified(&cluster).await;
    for check in &found.members {
        let wrong = check.found.as_ref().unwrap().wrong();
        assert_eq!(wrong > 0, check.id == bad, "{check:?}");
    }
    let error = found.verdict().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let told = format!("member {bad} has");
    assert!(error.message().contains(&told), "{error}");
    cluster.stop_all().await;
}

/// Applies a command of nobody else at the position that the state has, with all that
/// belongs to it: a state that is sound and another one.
fn deviate(state: &Arc<dyn KvEngine>, identity: (ClusterId, Incarnation)) {
    let (cluster, incarnation) = identity;
    let mut namespace = Namespace::open(Arc::clone(state), cluster, incarnation).unwrap();
    let open = Command::OpenSession {
        nonce: 99,
        ttl: std::time::Duration::from_secs(300),
    };
    let payload = Namespace::encode(&RequestContext::default(), &open);
    let applied = namespace.applied();
    let entry = Entry {
        position: applied.position,
        time: applied.time,
        payload: &payload,
        members: None,
    };
    namespace.apply(&[entry]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_deviates_is_named_at_rest_and_under_load() {
    let mut cluster = Cluster::formed(3).await;
    cluster.client().mkdir("/a").await;
    let identity = cluster.members[0].store().identity();
    let identity = (identity.cluster, identity.incarnation);
    let bad = tampered(&mut cluster, |state| deviate(state, identity)).await;
    let named = |found: &Verification| {
        let error = found.verdict().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let told = format!("against member {bad}.");
        assert!(error.message().contains(&told), "{error}");
        let sums = found.compared.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(sums.groups()[1], [bad]);
    };
    let leader = cluster.leader().await;
    let commit = cluster.members[leader].store().status().commit;
    eventually("all have applied the same", async || {
        let applied = cluster.members.iter();
        let mut applied = applied.map(|member| member.store().status().applied);
        applied.all(|applied| applied >= commit).then_some(())
    })
    .await;
    named(&verified(&cluster).await);
    let (stop, writing) = writer(&cluster, "/load");
    for _ in 0..3 {
        named(&verified(&cluster).await);
    }
    stop.store(true, Ordering::Release);
    writing.await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_run_is_named_and_the_others_are_checked() {
    let mut cluster = Cluster::formed(3).await;
    cluster.client().mkdir("/a").await;
    let at = cluster.follower().await;
    cluster.members[at].stop().await;
    let found = verified(&cluster).await;
    let error = found.verdict().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let number = cluster.members[at].number;
    assert!(
        error.to_string().contains(&format!("member {number}")),
        "{error}"
    );
    let checked = found.members.iter().filter(|check| check.found.is_ok());
    assert_eq!(checked.count(), 2);
    let admin = operator(&cluster);
    let none = admin.verify(Some(NodeId::new(9)), 20, |_, _| {});
    assert_eq!(none.await.unwrap_err().kind(), ErrorKind::NotFound);
    cluster.stop_all().await;
}

async fn dumped(admin: &Admin, path: Option<&str>, member: Option<u64>) -> Result<String, FsError> {
    let path = path.map(|path| FsPath::new(path).unwrap());
    let mut dump = admin.dump(path.as_ref(), member.map(NodeId::new)).await?;
    let mut text = Vec::new();
    while let Some(piece) = dump.next().await? {
        text.extend_from_slice(&piece);
    }
    let text = String::from_utf8(text).unwrap();
    assert_eq!(dump.records(), Some(text.lines().count() as u64));
    Ok(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_shows_the_newest_records_and_no_secret() {
    let mut cluster = Cluster::formed(3).await;
    let mut client = cluster.client();
    let secrets = [("secret_access_key".to_owned(), SECRET.to_owned())];
    let mount = Command::Mount(MountSpec {
        path: FsPath::new("/data").unwrap(),
        uri: "s3://bucket/prefix".to_owned(),
        options: [].into(),
        credential: Credential::Clear(SecretOptions::new(secrets.into())),
        readonly: true,
        shared: false,
        bound_to: None,
        capabilities: MountCapabilities::default(),
    });
    let mounted = client.propose(&mount).await;
    assert!(matches!(mounted, Outcome::Mounted { .. }), "{mounted:?}");
    client.mkdir("/seen/now").await;
    let admin = operator(&cluster);
    let text = dumped(&admin, None, None).await.unwrap();
    assert!(text.contains(r#""name":"now""#) && text.contains("s3://bucket/prefix"));
    assert!(text.contains(r#""credential":"sealed""#), "{text}");
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(!text.contains(SECRET) && !text.contains(&hex), "{text}");
    let part = dumped(&admin, Some("/seen"), None).await.unwrap();
    assert_eq!(part.lines().count(), 4, "{part}");
    for at in 0..3 {
        cluster.sees(at, "/seen/now").await;
        let number = cluster.members[at].number;
        let one = dumped(&admin, None, Some(number)).await.unwrap();
        assert!(one.contains(r#""name":"now""#), "{one}");
    }
    let error = dumped(&admin, Some("/never"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = dumped(&admin, None, Some(9)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_is_looked_into_while_nobody_leads() {
    let mut cluster = Cluster::formed(3).await;
    cluster.client().mkdir("/a").await;
    let left = cluster.follower().await;
    cluster.sees(left, "/a").await;
    for at in (0..3).filter(|at| *at != left) {
        cluster.members[at].stop().await;
    }
    let admin = operator(&cluster);
    let number = NodeId::new(cluster.members[left].number);
    let found = admin.verify(Some(number), 20, |_, _| {}).await.unwrap();
    found.verdict().unwrap();
    let text = dumped(&admin, Some("/a"), Some(number.get()))
        .await
        .unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    cluster.stop_all().await;
}
