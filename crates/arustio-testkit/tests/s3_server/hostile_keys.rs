//! Keys that cannot be paths, and listings that must not trip over them.

use std::collections::BTreeSet;

use arustio_testkit::s3::Profile;

use crate::client::{Answer, Client, encode};
use crate::start;

const KEYS: &[&str] = &[
    "../x",
    "./y",
    "//lead",
    "a",
    "a b",
    "a%2Fb",
    "a&b<c>\"d'",
    "a+b",
    "a.txt",
    "a/",
    "a//b",
    "a/b",
    "a/b/c",
    "a\nb",
    "a\rb",
    "dir/",
    "dir/../up",
    "\u{e4}/\u{1F980}",
];

/// Lists with every page's token until the end; keys and groups together.
async fn list(client: &Client, query: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut groups) = (Vec::new(), Vec::new());
    let mut token = None::<String>;
    loop {
        let mut call = client.call("GET", "/data").query("list-type", "2");
        call = call.query("encoding-type", "url");
        for (name, value) in query {
            call = call.query(name, value);
        }
        if let Some(token) = &token {
            call = call.query("continuation-token", token);
        }
        let page = call.send().await;
        assert_eq!(page.status, 200, "{}", page.text());
        keys.extend(page.all("Key").iter().map(|key| decode(key)));
        groups.extend(groups_of(&page));
        if page.one("IsTruncated") == "false" {
            return (keys, groups);
        }
        token = Some(page.one("NextContinuationToken"));
    }
}

fn groups_of(page: &Answer) -> Vec<String> {
    let groups = page.all("CommonPrefixes");
    let inner = |group: &String| {
        let prefix = group.strip_prefix("<Prefix>").unwrap();
        decode(prefix.strip_suffix("</Prefix>").unwrap())
    };
    groups.iter().map(inner).collect()
}

fn decode(key: &str) -> String {
    let blanks = key.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&blanks);
    decoded.decode_utf8().unwrap().into_owned()
}

#[tokio::test]
async fn any_key_is_written_read_listed_and_deleted() {
    let (server, client) = start(Profile::Aws).await;
    for key in KEYS {
        assert_eq!(client.put(key, *key).await.status, 200, "{key:?}");
    }
    for key in KEYS {
        assert_eq!(client.get(key).await.text(), *key);
    }
    let mut sorted = KEYS.to_vec();
    sorted.sort_unstable();
    assert_eq!(server.backdoor().list("data", ""), sorted);
    for size in ["1", "2", "7", "1000"] {
        assert_eq!(list(&client, &[("max-keys", size)]).await.0, sorted);
    }
    for key in KEYS {
        assert_eq!(client.delete(key).await.status, 204, "{key:?}");
    }
    assert!(server.backdoor().list("data", "").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_delimiter_groups_in_pages_of_any_size() {
    let (server, client) = start(Profile::Aws).await;
    for key in KEYS {
        server.backdoor().put("data", key, "x");
    }
    let plain: BTreeSet<_> = KEYS.iter().filter(|key| !key.contains('/')).collect();
    for size in ["1", "3", "1000"] {
        let (keys, groups) = list(&client, &[("delimiter", "/"), ("max-keys", size)]).await;
        assert!(
            keys.iter()
                .map(String::as_str)
                .eq(plain.iter().map(|key| **key))
        );
        assert_eq!(groups, ["../", "./", "/", "a/", "dir/", "\u{e4}/"]);
        let below = [("delimiter", "/"), ("prefix", "a/"), ("max-keys", size)];
        let (keys, groups) = list(&client, &below).await;
        assert_eq!(keys, ["a/", "a/b"]);
        assert_eq!(groups, ["a//", "a/b/"]);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_listing_starts_after_a_key() {
    for (profile, groups) in [(Profile::Aws, vec!["a/"]), (Profile::Minio, vec![])] {
        let (server, client) = start(profile).await;
        for key in ["a", "a/b", "a/c", "a0"] {
            server.backdoor().put("data", key, "x");
        }
        let (keys, _) = list(&client, &[("start-after", "a/b")]).await;
        assert_eq!(keys, ["a/c", "a0"]);
        let inside = [("start-after", "a/b"), ("delimiter", "/")];
        let (keys, found) = list(&client, &inside).await;
        assert_eq!(
            (keys, found),
            (
                vec!["a0".to_owned()],
                groups.iter().map(|g| (*g).to_owned()).collect()
            )
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn the_first_version_of_listing_pages_by_marker() {
    let (server, client) = start(Profile::Aws).await;
    for key in ["a/1", "a/2", "b", "c"] {
        server.backdoor().put("data", key, "x");
    }
    let mut marker = String::new();
    let mut found = Vec::new();
    loop {
        let call = client
            .call("GET", "/data")
            .query("delimiter", "/")
            .query("max-keys", "1");
        let page = call.query("marker", &marker).send().await;
        found.extend(page.all("Key"));
        found.extend(groups_of(&page));
        if page.one("IsTruncated") == "false" {
            break;
        }
        marker = page.one("NextMarker");
    }
    assert_eq!(found, ["a/", "b", "c"]);
    server.stop().await;
}

#[tokio::test]
async fn a_bad_page_is_refused() {
    let (server, client) = start(Profile::Aws).await;
    for (name, value) in [("continuation-token", "junk"), ("max-keys", "-1")] {
        let call = client.call("GET", "/data").query("list-type", "2");
        let answer = call.query(name, value).send().await;
        assert_eq!(
            answer.error(),
            (400, "InvalidArgument".to_owned()),
            "{name}"
        );
    }
    let call = client.call("GET", "/data").query("list-type", "2");
    let none = call.query("max-keys", "0").send().await;
    assert_eq!(none.one("IsTruncated"), "false");
    server.stop().await;
}

#[tokio::test]
async fn hostile_keys_can_be_copied() {
    let (server, client) = start(Profile::Aws).await;
    for key in KEYS {
        client.put(key, *key).await;
        let source = format!("data/{}", encode(key));
        let call = client
            .call("PUT", "/data/copy")
            .header("x-amz-copy-source", &source);
        assert_eq!(call.send().await.status, 200, "{key:?}");
        assert_eq!(server.backdoor().get("data", "copy").unwrap(), *key);
    }
    server.stop().await;
}
