//! N5: listings stream, name everything once, and ask for no more than is taken.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arustio_client::types::meta::setting::{PathConf, SyncInterval};
use arustio_client::{FileSystem, ListOptions, StatOptions};
use arustio_testkit::s3::{FaultAction, FaultRule, Operation, Profile};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::house::{House, Short, p, within};

const DIRS: usize = 3;
const FILES: usize = 1100;

fn all_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for dir in 0..DIRS {
        names.insert(format!("/data/t/d{dir}"));
        for file in 0..FILES {
            names.insert(format!("/data/t/d{dir}/f{file:05}"));
        }
    }
    names
}

fn fill(house: &House) {
    for name in all_names() {
        if name.contains("/f") {
            house.put(name.trim_start_matches("/data/"), "x");
        }
    }
}

#[tokio::test]
async fn n5_a_recursive_listing_of_thousands_names_everything_once() {
    for profile in [Profile::Aws, Profile::Minio] {
        let (house, fs) = House::mounted_with(profile).await;
        fill(&house);
        for client in [&fs, &house.client().await] {
            let entries = client.list(
                &p("/data/t"),
                ListOptions {
                    recursive: true,
                    ..ListOptions::default()
                },
            );
            let listed: Vec<String> = entries
                .map_ok(|entry| entry.path.to_string())
                .try_collect()
                .await
                .unwrap();
            assert_eq!(listed.len(), all_names().len());
            assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), all_names());
            for (at, path) in listed.iter().enumerate() {
                let parent = p(path).parent().unwrap().to_string();
                let before = parent == "/data/t" || listed[..at].contains(&parent);
                assert!(before, "{path} comes before its parent");
                if at > 400 {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn n5_the_first_entries_come_while_the_store_still_lists() {
    let (house, fs) = House::mounted().await;
    for i in 0..3500 {
        house.put(&format!("flat/f{i:05}"), "x");
    }
    fs.sync_all("/data").await;
    let fresh = house.fresh_namespace().await;
    house.s3.stats().reset();
    // Its name and three pages are asked for; the fourth page never comes. A request that is
    // repeated on a busy machine takes one of the pages away, and not the first.
    let hang = FaultRule::new(FaultAction::Hang).on(Operation::ListObjectsV2);
    let rule = house.fault(hang.skip(4));
    let mut entries = fresh.fs.list(&p("/data/flat"), ListOptions::default());
    let first = within(entries.next()).await.unwrap().unwrap();
    assert_eq!(first.path.as_str(), "/data/flat/f00000");
    house.struck(rule).await;
}

#[tokio::test]
async fn l4_whoever_comes_next_does_not_wait_for_a_look_that_was_dropped() {
    let (house, fs) = House::mounted().await;
    house.put("d/f", "x");
    house.put("g", "x");
    let other = house.client().await;
    fs.exists("/data/d").await;
    let hang = |operation| house.fault(FaultRule::new(FaultAction::Hang).on(operation));
    let (lists, heads) = (hang(Operation::ListObjectsV2), hang(Operation::HeadObject));
    let listing = fs.list(&p("/data/d"), ListOptions::default());
    house.struck(lists).await;
    drop(listing);
    let looking = tokio::spawn(async move { fs.exists("/data/g").await });
    house.struck(heads).await;
    looking.abort();
    house.s3.faults().clear();
    // A turn that nobody gives back is waited for much longer.
    let short = Duration::from_secs(15);
    let names = tokio::time::timeout(short, other.names("/data/d"));
    assert_eq!(names.await.unwrap(), ["f"]);
    let found = tokio::time::timeout(short, other.exists("/data/g"));
    assert!(found.await.unwrap());
}

#[tokio::test]
async fn n5_a_listing_that_nobody_takes_asks_for_little() {
    let (house, fs) = House::mounted().await;
    fill(&house);
    fs.exists("/data/t").await;
    house.s3.stats().reset();
    let mut entries = fs.list(
        &p("/data/t"),
        ListOptions {
            recursive: true,
            ..ListOptions::default()
        },
    );
    for _ in 0..3 {
        entries.next().await.unwrap().unwrap();
    }
    // Another whole listing takes longer than the first one needs to run full.
    let other = house.client().await;
    other.exists("/data/t/d0/f00000").await;
    let lists = house
        .s3
        .stats()
        .snapshot()
        .requests(Operation::ListObjectsV2);
    assert!(lists <= 5, "{lists} listings for three entries");
}

#[tokio::test]
async fn l4_a_name_that_somebody_else_is_looking_for_is_found_by_all_who_wait() {
    let (house, fs) = House::mounted().await;
    let other = house.client().await;
    house.put("d/f", "put there");
    let looks = FaultRule::new(FaultAction::Delay(Duration::from_millis(300)));
    let looks = house.fault(looks.on(Operation::ListObjectsV2).times(1));
    let first = tokio::spawn(async move { fs.read("/data/d/f").await });
    house.struck(looks).await;
    assert_eq!(other.read("/data/d/f").await.unwrap(), "put there");
    assert_eq!(first.await.unwrap().unwrap(), "put there");
}

#[tokio::test]
async fn many_names_of_a_directory_are_looked_at_with_one_listing() {
    let (house, fs) = House::mounted().await;
    for i in 0..100 {
        house.put(&format!("d/f{i:02}"), "x");
    }
    house.s3.stats().reset();
    for i in 0..100 {
        assert_eq!(fs.read(&format!("/data/d/f{i:02}")).await.unwrap(), "x");
    }
    let asked = house.s3.stats().snapshot();
    // The directory itself and the first eight names by themselves, then all of them.
    assert_eq!(asked.requests(Operation::HeadObject), 9, "{asked:?}");
    assert_eq!(asked.requests(Operation::ListObjectsV2), 10, "{asked:?}");
    house.put("d/late", "x");
    assert!(!fs.exists("/data/d/late").await, "R3: within the interval");
    fs.sync_all("/data/d").await;
    assert!(fs.exists("/data/d/late").await);
}

#[tokio::test]
async fn a_directory_that_is_too_large_to_be_listed_for_a_few_names_is_left_alone() {
    let (house, fs) = House::mounted().await;
    // A page has 1,000 names: eight of them are what eight looks are worth.
    for i in 0..8_001 {
        house.put(&format!("d/f{i:04}"), "x");
    }
    house.s3.stats().reset();
    for i in 0..40 {
        assert!(fs.exists(&format!("/data/d/f{i:04}")).await);
    }
    let asked = house.s3.stats().snapshot();
    let lists = asked.requests(Operation::ListObjectsV2);
    assert!((40..60).contains(&lists), "{asked:?}");
}

#[tokio::test]
async fn r3_what_another_client_has_looked_at_lately_is_one_question() {
    let (house, fs) = House::mounted().await;
    for i in 0..10 {
        house.put(&format!("d/f{i}"), "x");
    }
    fs.names("/data/d").await;
    let (other, sent) = house.counted_client().await;
    // Mounts and what else is asked for once.
    assert!(other.exists("/data/d/f0").await);
    house.s3.stats().reset();
    let before = sent.load(Ordering::Relaxed);
    for i in 1..10 {
        assert!(other.exists(&format!("/data/d/f{i}")).await);
    }
    assert_eq!(sent.load(Ordering::Relaxed) - before, 9);
    assert_eq!(house.s3.stats().snapshot().total().requests, 0);
}

#[tokio::test]
async fn r3_what_is_older_than_the_interval_of_its_path_is_looked_at_again() {
    let (house, fs) = House::mounted().await;
    house.put("d/f", "x");
    fs.names("/data/d").await;
    house.put("d/f", "changed");
    let size = async || {
        let status = fs.stat(&p("/data/d/f"), StatOptions::default()).await;
        status.unwrap().size
    };
    assert_eq!(size().await, 1, "known for less than a minute");
    let each_time = PathConf {
        sync_interval: Some(SyncInterval::Every(Duration::ZERO)),
        ..PathConf::default()
    };
    fs.set_conf(&p("/data/d"), each_time, vec![]).await.unwrap();
    assert_eq!(size().await, 7);
}
