//! The `object_store` crate as the client: one that we did not write.

use arustio_testkit::s3::{FaultAction, FaultRule, Operation, Profile, S3Server};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};

use crate::start;

fn connect(server: &S3Server) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(server.endpoint())
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name("data")
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .build()
        .unwrap()
}

#[tokio::test]
async fn it_reads_writes_lists_copies_and_deletes() {
    let (server, _) = start(Profile::Aws).await;
    let store = connect(&server);
    let paths = ["a/b c.txt", "a/d", "e"].map(Path::from);
    for path in &paths {
        store.put(path, path.to_string().into()).await.unwrap();
    }
    let found: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert!(found.iter().map(|meta| &meta.location).eq(&paths));
    let level = store.list_with_delimiter(None).await.unwrap();
    assert_eq!(level.common_prefixes, [Path::from("a")]);
    assert_eq!(level.objects[0].location, paths[2]);
    assert_eq!(store.get_range(&paths[0], 2..5).await.unwrap(), "b c");
    store.copy(&paths[0], &Path::from("copy")).await.unwrap();
    let copy = store.get(&Path::from("copy")).await.unwrap();
    assert_eq!(copy.bytes().await.unwrap(), "a/b c.txt");
    store.delete(&paths[0]).await.unwrap();
    let gone = store.head(&paths[0]).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
    server.stop().await;
}

#[tokio::test]
async fn its_conditional_writes_are_obeyed() {
    let (server, _) = start(Profile::Aws).await;
    let store = connect(&server);
    let path = Path::from("x");
    let create = PutOptions::from(PutMode::Create);
    let first = store
        .put_opts(&path, "one".into(), create.clone())
        .await
        .unwrap();
    let taken = store
        .put_opts(&path, "two".into(), create)
        .await
        .unwrap_err();
    assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken}");
    let version = UpdateVersion::from(first);
    let update = PutOptions::from(PutMode::Update(version.clone()));
    store.put_opts(&path, "three".into(), update).await.unwrap();
    let update = PutOptions::from(PutMode::Update(version));
    let lost = store
        .put_opts(&path, "four".into(), update)
        .await
        .unwrap_err();
    assert!(matches!(lost, Error::Precondition { .. }), "{lost}");
    server.stop().await;
}

#[tokio::test]
async fn its_multipart_uploads_arrive_and_its_retries_succeed() {
    let (server, _) = start(Profile::Aws).await;
    let store = connect(&server);
    let path = Path::from("big");
    let faults = [Operation::UploadPart, Operation::GetObject];
    for operation in faults {
        server
            .faults()
            .add(FaultRule::new(FaultAction::SlowDown).on(operation).nth(1));
    }
    let mut upload = store.put_multipart(&path).await.unwrap();
    let parts: Vec<Bytes> = (0..3).map(|i| Bytes::from(vec![i; 5 << 20])).collect();
    for part in &parts {
        upload.put_part(part.clone().into()).await.unwrap();
    }
    upload.complete().await.unwrap();
    let read = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(read, parts.concat());
    let stats = server.stats().snapshot();
    assert_eq!(stats.requests(Operation::UploadPart), 4);
    assert_eq!(stats.of(Operation::GetObject).bytes_out >> 20, 15);
    server.stop().await;
}
