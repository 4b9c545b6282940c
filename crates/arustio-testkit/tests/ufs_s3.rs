//! The S3 backend of `arustio-ufs` against the S3 server of this crate, in both of its
//! characters: the suite that every backend passes, and what only S3 can get wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use arustio_testkit::s3::{FaultAction, FaultRule, Operation, Profile, S3Server};
use arustio_types::meta::mount::MountCapabilities;
use arustio_types::{Classify, ErrorKind, ObjectVersion, UfsKey, WriteId};
use arustio_ufs::probe::probe;
use arustio_ufs::registry::{Environment, OpenRequest, UfsRegistry};
use arustio_ufs::testing::conformance::{self, Bench};
use arustio_ufs::{
    CompleteOptions, CopyOptions, DeleteOptions, Guard, ListOptions, ReadOptions, Support,
    UfsError, UfsExt, UnderFileSystem, UploadOptions, WriteMode, WriteOptions,
};
use bytes::Bytes;
use futures::TryStreamExt;

const DEADLINE: Duration = Duration::from_secs(20);

async fn start(profile: Profile) -> S3Server {
    let server = S3Server::builder()
        .profile(profile)
        .credentials("key", "hush-hush")
        .bucket("bucket");
    server.start().await.unwrap()
}

fn open(server: &S3Server, uri: &str) -> Arc<dyn UnderFileSystem> {
    open_with(&server.endpoint(), uri, "hush-hush")
}

fn open_measured(
    server: &S3Server,
    uri: &str,
    measured: MountCapabilities,
) -> Arc<dyn UnderFileSystem> {
    let endpoint = server.endpoint();
    let options = [
        ("access_key_id", "key"),
        ("secret_access_key", "hush-hush"),
        ("endpoint", &endpoint),
    ];
    let mut request = OpenRequest::parse(uri, options, Environment::default()).unwrap();
    request.measured = Some(measured);
    UfsRegistry::with_all(7).open(&request).unwrap().ufs
}

fn open_with(endpoint: &str, uri: &str, secret: &str) -> Arc<dyn UnderFileSystem> {
    let options = [
        ("access_key_id", "key"),
        ("secret_access_key", secret),
        ("endpoint", endpoint),
    ];
    let request = OpenRequest::parse(uri, options, Environment::default()).unwrap();
    UfsRegistry::with_all(7).open(&request).unwrap().ufs
}

async fn conforms(profile: Profile) {
    let server = start(profile).await;
    let ufs = open(&server, "s3://bucket/some/prefix");
    conformance::all(&Bench::new(Arc::clone(&ufs), "")).await;
    conformance::hostile_keys_break_nobody(&Bench::new(ufs, "")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_store_like_aws_conforms() {
    conforms(Profile::Aws).await;
}

#[tokio::test]
async fn a_store_like_minio_conforms() {
    conforms(Profile::Minio).await;
}

async fn put(
    ufs: &dyn UnderFileSystem,
    key: &str,
    mode: WriteMode,
) -> Result<ObjectVersion, UfsError> {
    let options = WriteOptions::new(mode, WriteId::new(9), DEADLINE);
    let written = ufs.write(&UfsKey::new(key), "mine".into(), options).await?;
    Ok(written.version)
}

#[tokio::test]
async fn w2_our_own_write_is_recognised_after_a_lost_reply() {
    let server = start(Profile::Aws).await;
    let ufs = open(&server, "s3://bucket");
    let rule = FaultRule::new(FaultAction::ApplyThenReset)
        .on(Operation::PutObject)
        .times(1);
    server.faults().add(rule);
    let options = WriteOptions::new(WriteMode::CreateOnly, WriteId::new(5), DEADLINE);
    let written = ufs
        .write(&UfsKey::new("k"), "mine".into(), options)
        .await
        .unwrap();
    assert!(written.unanswered, "an earlier try is still unanswered");
    assert_eq!(
        server.backdoor().get("bucket", "k"),
        Some(Bytes::from_static(b"mine"))
    );

    let refused = put(&*ufs, "k", WriteMode::CreateOnly).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    server.stop().await;
}

#[tokio::test]
async fn w2_our_own_completion_is_recognised_after_a_lost_reply() {
    let server = start(Profile::Aws).await;
    let ufs = open(&server, "s3://bucket");
    let begin = UploadOptions {
        write_id: WriteId::new(6),
        deadline: DEADLINE,
    };
    let upload = ufs.begin_upload(&UfsKey::new("k"), begin).await.unwrap();
    upload.put_part(1, "part".into(), DEADLINE).await.unwrap();
    let lost = FaultRule::new(FaultAction::ApplyThenReset);
    server
        .faults()
        .add(lost.on(Operation::CompleteMultipartUpload).times(1));
    let options = CompleteOptions::new(WriteMode::CreateOnly, DEADLINE);
    let written = upload.complete(options).await.unwrap();
    assert!(written.unanswered);
    assert_eq!(
        server.backdoor().get("bucket", "k"),
        Some(Bytes::from_static(b"part"))
    );
    server.stop().await;
}

#[tokio::test]
async fn p5_a_request_that_outlives_its_deadline_is_reported_as_unanswered() {
    let server = start(Profile::Aws).await;
    let ufs = open(&server, "s3://bucket");
    server
        .faults()
        .add(FaultRule::new(FaultAction::Hang).on(Operation::PutObject));
    let mode = WriteMode::CreateOnly;
    let options = WriteOptions::new(mode, WriteId::new(5), Duration::from_millis(200));
    let error = ufs
        .write(&UfsKey::new("k"), "mine".into(), options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.unanswered());
    server.stop().await;
}

#[tokio::test]
async fn w3_an_upload_that_is_dropped_is_aborted() {
    let server = start(Profile::Aws).await;
    let ufs = open(&server, "s3://bucket");
    let begin = UploadOptions {
        write_id: WriteId::new(6),
        deadline: DEADLINE,
    };
    let upload = ufs.begin_upload(&UfsKey::new("k"), begin).await.unwrap();
    assert_eq!(server.backdoor().uploads("bucket").len(), 1);
    drop(upload);
    let aborted = async {
        while !server.backdoor().uploads("bucket").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, aborted).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn u6_a_body_that_breaks_off_is_resumed() {
    let server = start(Profile::Aws).await;
    let ufs = open(&server, "s3://bucket");
    let bytes: Bytes = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    server.backdoor().put("bucket", "k", bytes.clone());
    let rule = FaultRule::new(FaultAction::TruncateBody)
        .on(Operation::GetObject)
        .times(1);
    server.faults().add(rule);
    let key = UfsKey::new("k");
    let read = ufs.read_bytes(&key, ReadOptions::default(), u64::MAX);
    assert_eq!(read.await.unwrap(), bytes);
    assert_eq!(server.stats().snapshot().requests(Operation::GetObject), 2);
    server.stop().await;
}

#[tokio::test]
async fn r1_a_body_that_breaks_off_is_never_mixed_with_another_version() {
    let server = start(Profile::Aws).await;
    let ufs = open(&server, "s3://bucket");
    server.backdoor().put("bucket", "k", vec![b'a'; 3_000_000]);
    let rule = FaultRule::new(FaultAction::TruncateBody)
        .on(Operation::GetObject)
        .times(1);
    server.faults().add(rule);
    let read = ufs
        .read(&UfsKey::new("k"), ReadOptions::default())
        .await
        .unwrap();
    server.backdoor().put("bucket", "k", vec![b'b'; 3_000_000]);
    let error = read.body.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
    server.stop().await;
}

#[tokio::test]
async fn u6_busy_answers_are_repeated_and_the_final_error_says_how_often() {
    let server = start(Profile::Aws).await;
    let ufs = open(&server, "s3://bucket");
    server
        .faults()
        .add(FaultRule::new(FaultAction::SlowDown).times(2));
    put(&*ufs, "k", WriteMode::CreateOnly).await.unwrap();

    server.faults().add(FaultRule::new(FaultAction::SlowDown));
    let error = ufs.head(&UfsKey::new("dir/k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!error.unanswered());
    let said = error.to_string();
    assert!(
        said.contains("s3://bucket/dir/k") && said.contains("3 attempts in"),
        "{said}"
    );
    server.stop().await;
}

#[tokio::test]
async fn u6_amplification_stays_below_three() {
    let server = start(Profile::Aws).await;
    let ufs = open(&server, "s3://bucket");
    server
        .faults()
        .add(FaultRule::new(FaultAction::InternalError));
    let wanted = 200;
    let heads = (0..wanted).map(|n| {
        let ufs = Arc::clone(&ufs);
        async move { ufs.head(&UfsKey::new(&format!("{n}"))).await.unwrap_err() }
    });
    futures::future::join_all(heads).await;
    let sent = server.stats().snapshot().requests(Operation::HeadObject);
    assert!(
        sent >= wanted && sent < 3 * wanted,
        "{sent} requests for {wanted} wanted"
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_mount_is_said_in_words() {
    let server = start(Profile::Aws).await;
    let list = |ufs: Arc<dyn UnderFileSystem>| async move {
        let pages = ufs.list(ListOptions::all("")).try_collect::<Vec<_>>();
        pages.await.unwrap_err()
    };
    let missing = list(open(&server, "s3://nowhere")).await;
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(
        missing
            .to_string()
            .contains("the bucket \"nowhere\" does not exist"),
        "{missing}"
    );

    let wrong = list(open_with(&server.endpoint(), "s3://bucket", "wrong-secret")).await;
    assert_eq!(wrong.kind(), ErrorKind::Unauthenticated, "{wrong}");
    assert!(!wrong.to_string().contains("wrong-secret"));

    let endpoint = server.endpoint();
    server.stop().await;
    let dead = list(open_with(&endpoint, "s3://bucket", "hush-hush")).await;
    assert_eq!(dead.kind(), ErrorKind::Unavailable);
    let said = dead.to_string();
    assert!(
        said.starts_with(&format!("the endpoint {endpoint} refused the connection")),
        "{said}"
    );
    assert!(said.contains("(3 attempts in") && said.contains(&format!("try: curl {endpoint}")));
}

#[tokio::test]
async fn u3_keys_that_cannot_be_sent_are_listed_all_the_same() {
    let server = start(Profile::Aws).await;
    for key in ["a/../b", "a/./b", "a//b", "a/\n", "plain"] {
        server.backdoor().put("bucket", key, "x");
    }
    let ufs = open(&server, "s3://bucket");
    let entries: Vec<_> = ufs
        .list_entries(ListOptions::all(""))
        .try_collect()
        .await
        .unwrap();
    let keys: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["a/\n", "a/../b", "a/./b", "a//b", "plain"]);
    server.stop().await;
}

#[tokio::test]
async fn u7_the_probe_sees_what_a_store_obeys() {
    for (profile, obeys) in [
        (Profile::Aws, Support::Atomic),
        (Profile::Minio, Support::Checked),
    ] {
        let server = start(profile).await;
        let ufs = open(&server, "s3://bucket/below");
        let found = probe(&*ufs, 0xabc, DEADLINE).await.unwrap();
        assert!(found.measured);
        assert_eq!(found.create_only, Support::Atomic, "{profile:?}");
        assert_eq!(found.replace_if, Support::Atomic, "{profile:?}");
        assert_eq!(found.complete_if, Support::Atomic, "{profile:?}");
        assert_eq!(found.read_if, Support::Atomic, "{profile:?}");
        assert_eq!(found.copy_source_if, Support::Atomic, "{profile:?}");
        assert_eq!(found.copy_target_if, obeys, "{profile:?}");
        assert_eq!(found.delete_if, obeys, "{profile:?}");
        assert!(
            server.backdoor().list("bucket", "").is_empty(),
            "nothing is left"
        );
        assert!(
            server.backdoor().uploads("bucket").is_empty(),
            "nothing is left"
        );

        // A store that is opened with what was measured keeps its promises too.
        let measured = found.to_mount();
        let ufs = open_measured(&server, "s3://bucket", measured);
        conformance::all(&Bench::new(ufs, "measured/")).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn u7_a_delete_of_another_version_spares_it_where_the_store_ignores_conditions() {
    let server = start(Profile::Minio).await;
    let ufs = open(&server, "s3://bucket");
    let old = put(&*ufs, "k", WriteMode::CreateOnly).await.unwrap();
    server.backdoor().put("bucket", "k", "somebody's");
    let options = DeleteOptions::new(Some(old.clone()), DEADLINE);
    let error = ufs.delete(&UfsKey::new("k"), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(server.backdoor().get("bucket", "k").is_some());
    let mut raw = DeleteOptions::new(Some(old), DEADLINE);
    raw.guard = Guard::StoreOnly;
    ufs.delete(&UfsKey::new("k"), raw).await.unwrap();
    assert!(
        server.backdoor().get("bucket", "k").is_none(),
        "the store alone does not care"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_copy_takes_along_what_people_see() {
    let server = start(Profile::Minio).await;
    let ufs = open(&server, "s3://bucket");
    server.backdoor().put("bucket", "a//b", "hostile");
    let source = ufs.head(&UfsKey::new("a//b")).await.unwrap().unwrap();
    let options = CopyOptions {
        source_version: source.version,
        mode: WriteMode::CreateOnly,
        write_id: WriteId::new(77),
        deadline: DEADLINE,
        guard: Guard::Careful,
    };
    ufs.copy(&UfsKey::new("a//b"), &UfsKey::new("c d+e"), options)
        .await
        .unwrap();
    let copied = ufs.head(&UfsKey::new("c d+e")).await.unwrap().unwrap();
    assert_eq!((copied.size, copied.write_id), (7, Some(WriteId::new(77))));
    server.stop().await;
}

#[tokio::test]
async fn u4_the_marker_of_a_directory_is_copied_where_no_upload_can_be() {
    for profile in [Profile::Aws, Profile::Minio] {
        let server = start(profile).await;
        let opened = open(&server, "s3://bucket");
        let found = probe(&*opened, 0xabc, DEADLINE).await.unwrap();
        let ufs = open_measured(&server, "s3://bucket", found.to_mount());
        let options = WriteOptions::new(WriteMode::CreateOnly, WriteId::new(8), DEADLINE);
        let written = ufs.write(&UfsKey::new("old/"), "".into(), options).await;
        let marker = written.unwrap().version;
        let copy = async || {
            let options = CopyOptions {
                source_version: marker.clone(),
                mode: WriteMode::CreateOnly,
                write_id: WriteId::new(9),
                deadline: DEADLINE,
                guard: Guard::Careful,
            };
            ufs.copy(&UfsKey::new("old/"), &UfsKey::new("new/"), options)
                .await
        };
        let copied = copy().await.unwrap();
        let there = ufs.head(&UfsKey::new("new/")).await.unwrap().unwrap();
        assert_eq!(
            (there.version, there.size),
            (copied.version, 0),
            "{profile:?}"
        );
        assert_eq!(there.write_id, Some(WriteId::new(9)));
        let again = copy().await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{profile:?}");
        server.stop().await;
    }
}
