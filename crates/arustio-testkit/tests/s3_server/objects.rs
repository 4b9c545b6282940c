//! Buckets and single objects: what a client writes is what it reads.

use arustio_testkit::s3::{Operation, Profile, S3Server, StartError};

use crate::client::Client;
use crate::start;

/// MD5 of `hello`, which S3 promises as the tag of a plain object.
const HELLO: &str = "\"5d41402abc4b2a76b9719d911017c592\"";

#[tokio::test]
async fn an_object_comes_back_with_all_that_was_said_about_it() {
    let (server, client) = start(Profile::Aws).await;
    let put = client
        .call("PUT", "/data/dir/hello")
        .header("content-type", "text/plain")
        .header("cache-control", "no-cache")
        .header("x-amz-meta-arustio-write-id", "abc")
        .header("x-amz-checksum-crc32c", "mnG7TA==")
        .body("hello")
        .send()
        .await;
    assert_eq!((put.status.as_u16(), put.etag().as_str()), (200, HELLO));
    for method in ["GET", "HEAD"] {
        let answer = client.call(method, "/data/dir/hello").send().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "text/plain");
        assert_eq!(answer.header("cache-control"), "no-cache");
        assert_eq!(answer.header("x-amz-meta-arustio-write-id"), "abc");
        assert_eq!(answer.header("content-length"), "5");
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.etag(), HELLO);
        assert!(answer.header("last-modified").ends_with("GMT"));
    }
    assert_eq!(client.get("dir/hello").await.text(), "hello");
    assert_eq!(server.backdoor().get("data", "dir/hello").unwrap(), "hello");
    let info = server.backdoor().stat("data", "dir/hello").unwrap();
    assert_eq!(info.metadata["arustio-write-id"], "abc");
    server.stop().await;
}

#[tokio::test]
async fn ranges_of_an_object() {
    let (server, client) = start(Profile::Aws).await;
    let all: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    client.put("big", all.clone()).await;
    let cases = [
        ("bytes=0-0", 0..1),
        ("bytes=1048570-1048590", 1_048_570..1_048_591),
        ("bytes=2999990-", 2_999_990..3_000_000),
        ("bytes=-7", 2_999_993..3_000_000),
        ("bytes=5-99999999", 5..3_000_000),
    ];
    for (range, expected) in cases {
        let answer = client
            .call("GET", "/data/big")
            .header("range", range)
            .send()
            .await;
        assert_eq!(answer.status, 206, "{range}");
        let said = format!("bytes {}-{}/3000000", expected.start, expected.end - 1);
        assert_eq!(answer.header("content-range"), said);
        assert_eq!(answer.body.unwrap(), all[expected], "{range}");
    }
    let behind = client
        .call("GET", "/data/big")
        .header("range", "bytes=3000000-")
        .send()
        .await;
    assert_eq!(behind.error(), (416, "InvalidRange".to_owned()));
    client.put("empty", "").await;
    assert_eq!(client.get("empty").await.text(), "");
    server.stop().await;
}

#[tokio::test]
async fn buckets_come_and_go() {
    let (server, client) = start(Profile::Aws).await;
    assert_eq!(client.call("PUT", "/other").send().await.status, 200);
    let again = client.call("PUT", "/other").send().await;
    assert_eq!(again.error(), (409, "BucketAlreadyOwnedByYou".to_owned()));
    assert_eq!(
        client.call("GET", "/").send().await.all("Name"),
        ["data", "other"]
    );
    assert_eq!(client.call("HEAD", "/other").send().await.status, 200);
    assert_eq!(
        client
            .call("GET", "/other")
            .query("location", "")
            .send()
            .await
            .status,
        200
    );
    client.call("PUT", "/other/x").body("x").send().await;
    let full = client.call("DELETE", "/other").send().await;
    assert_eq!(full.error(), (409, "BucketNotEmpty".to_owned()));
    client.call("DELETE", "/other/x").send().await;
    assert_eq!(client.call("DELETE", "/other").send().await.status, 204);
    assert_eq!(client.call("HEAD", "/other").send().await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn what_is_absent_is_said_to_be_absent() {
    let (server, client) = start(Profile::Aws).await;
    assert_eq!(
        client.get("none").await.error(),
        (404, "NoSuchKey".to_owned())
    );
    assert_eq!(client.call("HEAD", "/data/none").send().await.status, 404);
    assert_eq!(client.delete("none").await.status, 204);
    let elsewhere = client.call("GET", "/nowhere/x").send().await;
    assert_eq!(elsewhere.error(), (404, "NoSuchBucket".to_owned()));
    let put = client.call("PUT", "/nowhere/x").body("x").send().await;
    assert_eq!(put.error(), (404, "NoSuchBucket".to_owned()));
    let version = client
        .call("GET", "/data/none")
        .query("versionId", "v1")
        .send()
        .await;
    assert_eq!(version.error(), (404, "NoSuchVersion".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn strangers_are_refused_and_counted() {
    let (server, _) = start(Profile::Aws).await;
    let wrong_key = Client::new(&server.endpoint(), "nobody", "secret");
    let answer = wrong_key.put("x", "x").await;
    assert_eq!(answer.error(), (403, "InvalidAccessKeyId".to_owned()));
    let wrong_secret = Client::new(&server.endpoint(), "key", "guess");
    let answer = wrong_secret.put("x", "x").await;
    assert_eq!(answer.error(), (403, "SignatureDoesNotMatch".to_owned()));
    assert!(server.backdoor().list("data", "").is_empty());
    assert_eq!(
        server.stats().snapshot().of(Operation::Other).client_errors,
        2
    );
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_the_announced_one_is_refused() {
    let (server, client) = start(Profile::Aws).await;
    let md5 = client
        .call("PUT", "/data/x")
        .header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")
        .body("x")
        .send()
        .await;
    assert_eq!(md5.error(), (400, "BadDigest".to_owned()));
    assert!(server.backdoor().get("data", "x").is_none());
    server.stop().await;
}

#[tokio::test]
async fn many_objects_are_deleted_at_once() {
    let (server, client) = start(Profile::Aws).await;
    for key in ["a", "b", "c"] {
        client.put(key, "hello").await;
    }
    let body = format!(
        "<Delete><Object><Key>a</Key></Object><Object><Key>none</Key></Object>\
         <Object><Key>b</Key><ETag>{HELLO}</ETag></Object>\
         <Object><Key>c</Key><ETag>\"0\"</ETag></Object></Delete>"
    );
    let answer = client
        .call("POST", "/data")
        .query("delete", "")
        .body(body)
        .send()
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.all("Key"), ["a", "none", "b", "c"]);
    assert_eq!(answer.one("Code"), "PreconditionFailed");
    assert_eq!(server.backdoor().list("data", ""), ["c"]);
    server.stop().await;
}

#[tokio::test]
async fn requests_and_bytes_are_counted() {
    let (server, client) = start(Profile::Aws).await;
    client.put("x", vec![7; 100_000]).await;
    client.get("x").await;
    client
        .call("GET", "/data/x")
        .header("range", "bytes=0-9")
        .send()
        .await;
    client.get("none").await;
    let stats = server.stats().snapshot_and_reset();
    assert_eq!(stats.of(Operation::PutObject).bytes_in, 100_000);
    let gets = stats.of(Operation::GetObject);
    assert_eq!((gets.requests, gets.ok, gets.client_errors), (3, 2, 1));
    let error_body = gets.bytes_out - 100_010;
    assert!((1..1000).contains(&error_body), "{gets:?}");
    assert_eq!(stats.total().requests, 4);
    assert_eq!(stats.connections, 4);
    assert_eq!(server.stats().snapshot().total().requests, 0);
    server.stop().await;
}

#[tokio::test]
async fn an_overwrite_leaves_a_read_that_has_begun_alone() {
    use http_body_util::BodyExt;
    let (server, client) = start(Profile::Aws).await;
    let old = vec![1; 64 << 20];
    server.backdoor().put("data", "x", old.clone());
    let response = client.call("GET", "/data/x").send_streaming().await;
    server.backdoor().put("data", "x", vec![2; 10]);
    assert_eq!(response.collect().await.unwrap().to_bytes(), old);
    assert_eq!(client.get("x").await.body.unwrap(), vec![2; 10]);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let bad = S3Server::builder()
        .bucket("No Bucket")
        .start()
        .await
        .unwrap_err();
    assert!(matches!(bad, StartError::BucketName { .. }), "{bad}");
    let (server, _) = start(Profile::Aws).await;
    let taken = S3Server::builder()
        .listen(server.address())
        .start()
        .await
        .unwrap_err();
    assert!(matches!(taken, StartError::Listen { .. }), "{taken}");
    server.stop().await;
}

#[test]
fn settings_do_not_show_the_secret() {
    let builder = S3Server::builder().credentials("canary-key", "canary-secret");
    assert!(!format!("{builder:?}").contains("canary"));
}
