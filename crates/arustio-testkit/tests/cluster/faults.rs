//! Leaders that die or are held up under load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arustio_client::{ArustioFileSystem, FileSystem, StatOptions};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::house::{House, below, make, p};

const WRITERS: usize = 6;
const KILLS: usize = 2;

/// Makes directories until it is told to stop; none may fail. Returns what was made.
async fn write(fs: ArustioFileSystem, base: String, stop: Arc<AtomicBool>) -> Vec<String> {
    make(&fs, &base).await.unwrap();
    let mut made = vec![base.clone()];
    while !stop.load(Ordering::Acquire) {
        let path = format!("{base}/{}", made.len());
        let result = make(&fs, &path).await;
        result.unwrap_or_else(|error| panic!("a user saw it: {error}"));
        made.push(path);
    }
    fs.close().await.unwrap();
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn n2_n3_a_leader_killed_under_load_loses_nothing_and_nothing_is_made_twice() {
    let mut house = House::start(3, 0).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let fs = house.client().await;
        let writing = write(fs, format!("/w{writer}"), Arc::clone(&stop));
        writers.push(tokio::spawn(writing));
    }
    for _ in 0..KILLS {
        sleep(Duration::from_millis(500)).await;
        let leader = house.leader().await;
        house.cluster.signal(&leader, Signal::KILL).await.unwrap();
        house.leader_other_than(&leader).await;
        house.cluster.start(&leader).await.unwrap();
    }
    sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Release);
    // A directory that was made twice would have failed: it must not exist before.
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert!(acknowledged.len() > 10 * WRITERS, "{}", acknowledged.len());
    let fs = house.client().await;
    let found: BTreeSet<String> = below(&fs, "/").await.into_iter().collect();
    let found: BTreeSet<String> = found.into_iter().filter(|path| path != "/").collect();
    assert_eq!(found, acknowledged);
    fs.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn n1_a_leader_that_was_held_up_answers_nothing_old() {
    let mut house = House::start(3, 0).await;
    let fs = house.client().await;
    make(&fs, "/before").await.unwrap();
    let old = house.leader().await;
    let held = house.client_of(&old).await;
    // It knows where to ask.
    held.stat(&p("/before"), StatOptions::default())
        .await
        .unwrap();
    house.cluster.signal(&old, Signal::STOP).await.unwrap();
    let began = Instant::now();
    make(&fs, "/after").await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    house.cluster.signal(&old, Signal::CONT).await.unwrap();
    // It believes that it leads until it hears of the others.
    for _ in 0..50 {
        let seen = held.stat(&p("/after"), StatOptions::default()).await;
        seen.unwrap_or_else(|error| panic!("an old answer: {error}"));
    }
    held.close().await.unwrap();
    fs.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn n3_all_servers_killed_at_once_come_back_with_everything() {
    let mut house = House::start(3, 1).await;
    let fs = house.client().await;
    for number in 0..20 {
        make(&fs, &format!("/d{number}")).await.unwrap();
    }
    let names = ["meta-1", "meta-2", "meta-3"];
    for name in names {
        house.cluster.signal(name, Signal::KILL).await.unwrap();
    }
    for name in names {
        house.cluster.launch(name).unwrap();
    }
    // The same client goes on, in the same session.
    make(&fs, "/more").await.unwrap();
    assert_eq!(
        below(&fs, "/")
            .await
            .iter()
            .filter(|path| *path != "/")
            .count(),
        21
    );
    fs.close().await.unwrap();
}
