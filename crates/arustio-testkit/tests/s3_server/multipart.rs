//! Multipart uploads, by bytes and by copies.

use arustio_testkit::s3::{Profile, S3Server};

use crate::client::{Answer, Client};
use crate::start;

async fn begin(client: &Client, key: &str) -> String {
    let call = client
        .call("POST", &format!("/data/{key}"))
        .query("uploads", "");
    let answer = call.header("x-amz-meta-write-id", "w1").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.one("UploadId")
}

async fn part(client: &Client, key: &str, id: &str, number: u32, body: &str) -> Answer {
    let call = client
        .call("PUT", &format!("/data/{key}"))
        .query("uploadId", id);
    let call = call.query("partNumber", &number.to_string());
    call.body(body.to_owned()).send().await
}

async fn complete(
    client: &Client,
    key: &str,
    id: &str,
    parts: &[(u32, &str)],
    condition: Option<(&str, &str)>,
) -> Answer {
    let part = |(number, tag): &(u32, &str)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
    };
    let parts: String = parts.iter().map(part).collect();
    let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let mut call = client
        .call("POST", &format!("/data/{key}"))
        .query("uploadId", id);
    if let Some((name, value)) = condition {
        call = call.header(name, value);
    }
    call.body(body).send().await
}

/// An upload of `abcd` and `ef`, not completed yet.
async fn two_parts(client: &Client, key: &str) -> (String, [String; 2]) {
    let id = begin(client, key).await;
    let one = part(client, key, &id, 1, "abcd").await.etag();
    let two = part(client, key, &id, 2, "ef").await.etag();
    (id, [one, two])
}

fn nothing_is_left(server: &S3Server) -> bool {
    server.backdoor().uploads("data").is_empty()
}

#[tokio::test]
async fn parts_become_one_object() {
    let (server, client) = start(Profile::Aws).await;
    let (id, [one, two]) = two_parts(&client, "x").await;
    assert!(server.backdoor().get("data", "x").is_none());
    let done = complete(&client, "x", &id, &[(1, &one), (2, &two)], None).await;
    assert_eq!(done.status, 200, "{}", done.text());
    // md5(md5("abcd") + md5("ef")), two parts.
    let tag = "\"fa40dffba3d56c6098e0477379f300bd-2\"";
    let read = client.get("x").await;
    assert_eq!(read.text(), "abcdef");
    assert_eq!(
        (read.etag().as_str(), done.one("ETag").as_str()),
        (tag, tag)
    );
    assert_eq!(read.header("x-amz-meta-write-id"), "w1");
    assert!(nothing_is_left(&server));
    let again = complete(&client, "x", &id, &[(1, &one), (2, &two)], None).await;
    assert_eq!(again.error(), (404, "NoSuchUpload".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn completing_is_conditional_in_both_profiles() {
    for profile in [Profile::Aws, Profile::Minio] {
        let (server, client) = start(profile).await;
        let (id, [one, two]) = two_parts(&client, "x").await;
        let parts = [(1, one.as_str()), (2, two.as_str())];
        let tag = client.put("x", "in the way").await.etag();
        let lost = complete(&client, "x", &id, &parts, Some(("if-none-match", "*"))).await;
        assert_eq!(lost.error(), (412, "PreconditionFailed".to_owned()));
        let lost = complete(&client, "x", &id, &parts, Some(("if-match", "\"0\""))).await;
        assert_eq!(lost.error(), (412, "PreconditionFailed".to_owned()));
        assert_eq!(client.get("x").await.text(), "in the way");
        let done = complete(&client, "x", &id, &parts, Some(("if-match", &tag))).await;
        assert_eq!(done.status, 200, "{}", done.text());
        assert_eq!(client.get("x").await.text(), "abcdef");
        server.stop().await;
    }
}

#[tokio::test]
async fn parts_that_do_not_fit_are_refused() {
    let (server, client) = start(Profile::Aws).await;
    let (id, [one, two]) = two_parts(&client, "x").await;
    let wrong = complete(&client, "x", &id, &[(1, &two)], None).await;
    assert_eq!(wrong.error(), (400, "InvalidPart".to_owned()));
    let order = complete(&client, "x", &id, &[(2, &two), (1, &one)], None).await;
    assert_eq!(order.error(), (400, "InvalidPartOrder".to_owned()));
    let three = part(&client, "x", &id, 3, "last").await.etag();
    let parts = [(1, one.as_str()), (2, &two), (3, &three)];
    let small = complete(&client, "x", &id, &parts, None).await;
    assert_eq!(small.error(), (400, "EntityTooSmall".to_owned()));
    assert_eq!(part(&client, "x", &id, 10_001, "x").await.status, 400);
    let gone = part(&client, "x", "nope", 1, "x").await;
    assert_eq!(gone.error(), (404, "NoSuchUpload".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn uploads_are_listed_and_aborted() {
    let (server, client) = start(Profile::Aws).await;
    let keys = ["a\nb", "dir/x", "dir/y", "z"];
    for key in keys {
        begin(&client, key).await;
    }
    let list = async |query: &[(&str, &str)]| {
        let mut call = client.call("GET", "/data").query("uploads", "");
        call = call.query("encoding-type", "url");
        for (name, value) in query {
            call = call.query(name, value);
        }
        call.send().await
    };
    assert_eq!(list(&[]).await.all("Key"), ["a%0Ab", "dir/x", "dir/y", "z"]);
    let page = list(&[("prefix", "dir/"), ("max-uploads", "1")]).await;
    assert_eq!(
        (page.all("Key"), page.one("IsTruncated")),
        (vec!["dir/x".to_owned()], "true".to_owned())
    );
    let (key, id) = (page.one("NextKeyMarker"), page.one("NextUploadIdMarker"));
    let rest = list(&[
        ("prefix", "dir/"),
        ("key-marker", &key),
        ("upload-id-marker", &id),
    ])
    .await;
    assert_eq!(rest.all("Key"), ["dir/y"]);

    for upload in server.backdoor().uploads("data") {
        let call = client.call("DELETE", &format!("/data/{}", upload.key));
        let answer = call.query("uploadId", &upload.upload_id).send().await;
        assert_eq!(answer.status, 204);
    }
    assert!(nothing_is_left(&server));
    server.stop().await;
}

#[tokio::test]
async fn parts_are_listed_in_pages() {
    let (server, client) = start(Profile::Aws).await;
    let (id, tags) = two_parts(&client, "x").await;
    let list = async |marker: &str| {
        let call = client.call("GET", "/data/x").query("uploadId", &id);
        call.query("max-parts", "1")
            .query("part-number-marker", marker)
            .send()
            .await
    };
    let page = list("0").await;
    assert_eq!(
        (page.one("PartNumber"), page.one("IsTruncated")),
        ("1".to_owned(), "true".to_owned())
    );
    let rest = list(&page.one("NextPartNumberMarker")).await;
    assert_eq!(
        (rest.one("ETag"), rest.one("Size")),
        (tags[1].clone(), "2".to_owned())
    );
    assert_eq!(rest.one("IsTruncated"), "false");
    let upload = &server.backdoor().uploads("data")[0];
    assert_eq!(upload.parts, [(1, 4), (2, 2)]);
    assert!(server.backdoor().abort_upload("data", "x", &id));
    server.stop().await;
}

#[tokio::test]
async fn a_part_can_be_a_range_of_another_object() {
    let (server, client) = start(Profile::Minio).await;
    let tag = client.put("source", "0123456789").await.etag();
    let id = begin(&client, "x").await;
    let copy = async |number: &str, headers: &[(&str, &str)]| {
        let mut call = client.call("PUT", "/data/x").query("uploadId", &id);
        call = call.query("partNumber", number);
        call = call.header("x-amz-copy-source", "data/source");
        for (name, value) in headers {
            call = call.header(name, value);
        }
        call.send().await
    };
    let matching = ("x-amz-copy-source-if-match", tag.as_str());
    let one = copy("1", &[matching, ("x-amz-copy-source-range", "bytes=2-5")]).await;
    let two = copy("2", &[matching]).await;
    let parts = [(1, one.one("ETag")), (2, two.one("ETag"))];
    let refused = copy("3", &[("x-amz-copy-source-if-match", "\"0\"")]).await;
    assert_eq!(refused.error(), (412, "PreconditionFailed".to_owned()));
    let behind = copy("3", &[("x-amz-copy-source-range", "bytes=5-10")]).await;
    assert_eq!(behind.error(), (416, "InvalidRange".to_owned()));
    let parts = parts
        .each_ref()
        .map(|(number, tag)| (*number, tag.as_str()));
    let done = complete(&client, "x", &id, &parts, Some(("if-none-match", "*"))).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(client.get("x").await.text(), "23450123456789");
    server.stop().await;
}
