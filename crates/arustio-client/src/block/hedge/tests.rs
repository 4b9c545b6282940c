//! Hedging on a paused clock: nothing here depends on how fast the machine is.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::sleep;

use super::*;

const NODE: NodeId = NodeId::new(1);
const ZERO: Duration = Duration::ZERO;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn after(wait: Duration, value: u32) -> Result<u32, &'static str> {
    sleep(wait).await;
    Ok(value)
}

async fn nothing() -> Option<u32> {
    panic!("nobody else was to be asked")
}

/// A client that has read so often from a node that takes so long.
async fn used_to(wait: Duration, reads: u32) -> Hedges {
    let hedges = Hedges::new(true);
    for _ in 0..reads {
        let raced = hedges.race(NODE, ZERO, after(wait, 1), |_| true, nothing);
        assert!(!raced.await.hedged);
    }
    hedges
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_late_by_its_own_measure_is_given_up_for_whoever_answers_first() {
    let hedges = used_to(ms(20), 100).await;
    let began = Instant::now();
    let backup = || async { after(ms(5), 7).await.ok() };
    let raced = hedges
        .race(NODE, ZERO, after(ms(900), 1), |_| true, backup)
        .await;
    assert!(raced.asked.is_none() && raced.hedged);
    assert_eq!(raced.backup, Some(7));
    let took = began.elapsed();
    assert!(took >= ms(25) && took < ms(31), "{took:?}");
    assert_eq!(hedges.stats().won, 1);
}

#[tokio::test(start_paused = true)]
async fn the_node_wins_when_it_is_first_after_all_and_the_loser_is_dropped() {
    struct Told(Arc<AtomicU32>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let hedges = used_to(ms(20), 100).await;
    let dropped = Arc::new(AtomicU32::new(0));
    let told = Told(Arc::clone(&dropped));
    let backup = || async move {
        let _told = told;
        pending::<Option<u32>>().await
    };
    let raced = hedges
        .race(NODE, ZERO, after(ms(40), 1), |_| true, backup)
        .await;
    assert_eq!((raced.asked, raced.backup), (Some(Ok(1)), None));
    assert!(raced.hedged);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    assert_eq!(hedges.stats().won, 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_without_what_was_wanted_leaves_the_other_request_running() {
    for late in [Ok(0), Err("gone")] {
        let hedges = used_to(ms(20), 100).await;
        let asked = async {
            sleep(ms(40)).await;
            late
        };
        let backup = || async { after(ms(60), 7).await.ok() };
        let raced = hedges.race(NODE, ZERO, asked, |got| *got > 0, backup).await;
        assert_eq!((raced.asked, raced.backup), (Some(late), Some(7)));
    }
    // Neither had it: what the node said counts.
    let hedges = used_to(ms(20), 100).await;
    let backup = || async {
        sleep(ms(5)).await;
        None
    };
    let raced = hedges
        .race(NODE, ZERO, after(ms(200), 3), |_| true, backup)
        .await;
    assert_eq!((raced.asked, raced.backup), (Some(Ok(3)), None));
}

#[tokio::test(start_paused = true)]
async fn at_most_two_of_a_hundred_requests_are_asked_twice_however_slow_nodes_are() {
    let mut chance = StdRng::seed_from_u64(20);
    let hedges = Hedges::new(true);
    for _ in 0..5_000 {
        let node = NodeId::new(chance.random_range(1..4));
        // A quarter is slow, and then as slow as can be.
        let wait = match chance.random_range(0..4) {
            0 => ms(3_000),
            _ => ms(chance.random_range(1..30)),
        };
        let backup = || async { after(ms(1), 7).await.ok() };
        hedges
            .race(node, ZERO, after(wait, 1), |_| true, backup)
            .await;
        let stats = hedges.stats();
        assert!(stats.hedges * 50 <= stats.requests, "{stats:?}");
    }
    let stats = hedges.stats();
    assert_eq!(stats.requests, 5_000);
    assert!(stats.hedges > 90, "the budget is used: {stats:?}");
}

#[tokio::test(start_paused = true)]
async fn how_long_is_waited_follows_the_node_and_stays_in_its_bounds() {
    let unknown = Hedges::new(true);
    assert_eq!(unknown.begin(NODE), MOST);
    assert_eq!(used_to(ms(0), 100).await.begin(NODE), LEAST);
    let hedges = used_to(ms(100), 100).await;
    let usual = hedges.begin(NODE);
    assert!(usual > ms(100) && usual <= ms(125), "{usual:?}");
    assert_eq!(hedges.begin(NodeId::new(2)), MOST, "each node for itself");
    // It has become fast, and what was is forgotten in time.
    for _ in 0..20_000 {
        hedges.took(NODE, Instant::now() - ms(12));
    }
    assert!(hedges.begin(NODE) < ms(15));
    // It has become slow.
    for _ in 0..2_000 {
        hedges.took(NODE, Instant::now() - ms(5_000));
    }
    assert_eq!(hedges.begin(NODE), MOST);
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_want_it_and_whoever_waits_for_a_costly_way_is_not_hedged() {
    let slow = |hedges: Hedges, floor| async move {
        for _ in 0..100 {
            let raced = hedges.race(NODE, floor, after(ms(1), 1), |_| true, nothing);
            raced.await;
        }
        let asked = after(ms(90), 1);
        hedges.race(NODE, floor, asked, |_| true, nothing).await
    };
    assert_eq!(slow(Hedges::new(false), ZERO).await.asked, Some(Ok(1)));
    assert_eq!(slow(Hedges::new(true), ms(100)).await.asked, Some(Ok(1)));
}

#[test]
fn buckets_ascend_and_hold_what_they_say() {
    let mut chance = StdRng::seed_from_u64(3);
    for _ in 0..10_000 {
        let micros = chance.random_range(64..4_000_000);
        let took = Duration::from_micros(micros);
        let at = bucket(took);
        assert!(took < end_of(at), "{took:?} in {at}");
        assert!(at == 0 || took >= end_of(at - 1), "{took:?} in {at}");
    }
    assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    assert_eq!(bucket(ZERO), 0);
}
