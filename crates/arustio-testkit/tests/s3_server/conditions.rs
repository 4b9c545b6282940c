//! Conditions, as AWS keeps them and as MinIO does.

use arustio_testkit::s3::Profile;

use crate::client::{Answer, Client};
use crate::start;

const WRONG: &str = "\"00000000000000000000000000000000\"";

async fn if_(client: &Client, method: &str, key: &str, condition: &str, value: &str) -> Answer {
    let call = client
        .call(method, &format!("/data/{key}"))
        .header(condition, value);
    let call = if method == "PUT" {
        call.body("new")
    } else {
        call
    };
    call.send().await
}

#[tokio::test]
async fn conditional_reads() {
    let (server, client) = start(Profile::Aws).await;
    let tag = client.put("x", "old").await.etag();
    assert_eq!(
        if_(&client, "GET", "x", "if-match", &tag).await.text(),
        "old"
    );
    assert_eq!(
        if_(&client, "GET", "x", "if-match", tag.trim_matches('"'))
            .await
            .status,
        200
    );
    let refused = if_(&client, "GET", "x", "if-match", WRONG).await;
    assert_eq!(refused.error(), (412, "PreconditionFailed".to_owned()));
    assert_eq!(
        if_(&client, "HEAD", "x", "if-match", WRONG).await.status,
        412
    );
    let same = if_(&client, "GET", "x", "if-none-match", &tag).await;
    assert_eq!((same.status.as_u16(), same.text().as_str()), (304, ""));
    assert_eq!(
        if_(&client, "GET", "x", "if-none-match", WRONG)
            .await
            .status,
        200
    );
    server.stop().await;
}

#[tokio::test]
async fn conditional_writes_in_both_profiles() {
    for profile in [Profile::Aws, Profile::Minio] {
        let (server, client) = start(profile).await;
        let created = if_(&client, "PUT", "x", "if-none-match", "*").await;
        assert_eq!(created.status, 200);
        let again = if_(&client, "PUT", "x", "if-none-match", "*").await;
        assert_eq!(again.error(), (412, "PreconditionFailed".to_owned()));
        assert_eq!(
            if_(&client, "PUT", "x", "if-match", &created.etag())
                .await
                .status,
            200
        );
        let lost = if_(&client, "PUT", "x", "if-match", WRONG).await;
        assert_eq!(lost.error(), (412, "PreconditionFailed".to_owned()));
        let absent = if_(&client, "PUT", "none", "if-match", WRONG).await;
        assert_eq!(absent.error(), (404, "NoSuchKey".to_owned()));
        let odd = if_(&client, "PUT", "y", "if-none-match", WRONG).await;
        assert_eq!(odd.error(), (501, "NotImplemented".to_owned()));
        server.stop().await;
    }
}

#[tokio::test]
async fn of_writers_that_race_to_create_one_wins() {
    let (server, client) = start(Profile::Aws).await;
    let race: Vec<_> = (0..16)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { if_(&client, "PUT", "x", "if-none-match", "*").await.status })
        })
        .collect();
    let mut won = 0;
    for racer in race {
        won += usize::from(racer.await.unwrap() == 200);
    }
    assert_eq!(won, 1);
    server.stop().await;
}

#[tokio::test]
async fn aws_obeys_the_condition_of_a_delete() {
    let (server, client) = start(Profile::Aws).await;
    let tag = client.put("x", "old").await.etag();
    let refused = if_(&client, "DELETE", "x", "if-match", WRONG).await;
    assert_eq!(refused.error(), (412, "PreconditionFailed".to_owned()));
    assert!(server.backdoor().get("data", "x").is_some());
    assert_eq!(
        if_(&client, "DELETE", "x", "if-match", &tag).await.status,
        204
    );
    assert!(server.backdoor().get("data", "x").is_none());
    assert_eq!(
        if_(&client, "DELETE", "x", "if-match", "*").await.status,
        412
    );
    server.stop().await;
}

#[tokio::test]
async fn minio_deletes_whatever_the_condition() {
    let (server, client) = start(Profile::Minio).await;
    client.put("x", "old").await;
    assert_eq!(
        if_(&client, "DELETE", "x", "if-match", WRONG).await.status,
        204
    );
    assert!(server.backdoor().get("data", "x").is_none());
    server.stop().await;
}

async fn copy(client: &Client, to: &str, headers: &[(&str, &str)]) -> Answer {
    let mut call = client.call("PUT", &format!("/data/{to}"));
    call = call.header("x-amz-copy-source", "/data/source%20of%20it");
    for (name, value) in headers {
        call = call.header(name, value);
    }
    call.send().await
}

#[tokio::test]
async fn the_source_of_a_copy_has_a_condition_in_both_profiles() {
    for profile in [Profile::Aws, Profile::Minio] {
        let (server, client) = start(profile).await;
        let tag = client.put("source of it", "bytes").await.etag();
        let copied = copy(&client, "x", &[("x-amz-copy-source-if-match", &tag)]).await;
        assert_eq!(copied.one("ETag"), tag);
        let refused = copy(&client, "y", &[("x-amz-copy-source-if-match", WRONG)]).await;
        assert_eq!(refused.error(), (412, "PreconditionFailed".to_owned()));
        let refused = copy(&client, "y", &[("x-amz-copy-source-if-none-match", &tag)]).await;
        assert_eq!(refused.error(), (412, "PreconditionFailed".to_owned()));
        assert!(server.backdoor().get("data", "y").is_none());
        server.stop().await;
    }
}

#[tokio::test]
async fn only_aws_obeys_conditions_on_the_destination_of_a_copy() {
    for (profile, expected) in [(Profile::Aws, 412), (Profile::Minio, 200)] {
        let (server, client) = start(profile).await;
        client.put("source of it", "bytes").await;
        let tag = client.put("x", "old").await.etag();
        assert_eq!(copy(&client, "x", &[("if-match", &tag)]).await.status, 200);
        let taken = copy(&client, "x", &[("if-none-match", "*")]).await;
        assert_eq!(taken.status, expected, "{profile:?}");
        let other = copy(&client, "x", &[("if-match", WRONG)]).await;
        assert_eq!(other.status, expected, "{profile:?}");
        assert_eq!(
            copy(&client, "free", &[("if-none-match", "*")])
                .await
                .status,
            200
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn a_copy_takes_its_metadata_from_where_it_is_told_to() {
    let (server, client) = start(Profile::Aws).await;
    let put = client
        .call("PUT", "/data/source of it")
        .header("x-amz-meta-id", "1");
    put.body("bytes").send().await;
    let said = ("x-amz-meta-id", "2");
    copy(&client, "kept", &[said]).await;
    copy(
        &client,
        "replaced",
        &[said, ("x-amz-metadata-directive", "REPLACE")],
    )
    .await;
    let id = |key| server.backdoor().stat("data", key).unwrap().metadata["id"].clone();
    assert_eq!(
        (id("kept"), id("replaced")),
        ("1".to_owned(), "2".to_owned())
    );
    server.stop().await;
}
