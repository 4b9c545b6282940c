//! The table against a model, and readers over a store on a clock that a test moves.

use std::time::Duration;

use arustio_types::{BlockKey, MountId, SystemClock};
use proptest::prelude::*;

use super::*;
use crate::memory::MemoryTier;
use crate::store::WriteHint;
use crate::testing::{Seed, config, content_bytes, small_key};

const LEN: u64 = 64 << 10;
/// The smallest block has two chunks.
const HALF: u64 = CHUNK;

fn settings() -> FillConfig {
    FillConfig {
        lease: Duration::from_secs(3),
        leases: 6,
        waiters: 4,
    }
}

fn fills_over(memory: u64, settings: FillConfig) -> Arc<Fills> {
    let config = config(memory, 0);
    let store = MemoryTier::new(&config.memory, Arc::new(SystemClock));
    Fills::new(Arc::new(store), settings, 1)
}

fn fills() -> Arc<Fills> {
    fills_over(8 << 20, settings())
}

fn want(key: BlockKey, range: Range<u64>, holder: u64) -> FillWant {
    FillWant {
        key,
        range,
        block_len: LEN,
        holder: Holder(holder),
    }
}

fn write(key: BlockKey, range: Range<u64>) -> BlockWrite {
    let payload = content_bytes(key.content, range.start, range.end - range.start);
    BlockWrite {
        key,
        offset: range.start,
        checksum: chunk::checksum(&payload),
        payload,
        block_len: LEN,
        mount: MountId::new(1),
        hint: WriteHint::Cache,
        sealed: None,
    }
}

async fn offer(fills: &Arc<Fills>, want: &FillWant) -> FillOffer {
    match fills.look(want).await.unwrap() {
        Look::Offer(offer) => offer,
        Look::Wait(_) => panic!("nothing is offered"),
    }
}

async fn waiting(fills: &Arc<Fills>, want: &FillWant) -> Waiting {
    match fills.look(want).await.unwrap() {
        Look::Wait(waiting) => waiting,
        Look::Offer(offer) => panic!("not left to wait: {offer:?}"),
    }
}

/// The only lease that a reader gets for what it wants.
async fn lease(fills: &Arc<Fills>, want: &FillWant) -> LeaseId {
    let offer = offer(fills, want).await;
    assert!(offer.refused.is_none() && offer.parts.is_empty());
    assert_eq!(offer.grants.len(), 1, "{offer:?}");
    assert_eq!(offer.grants[0].range, want.range);
    offer.grants[0].lease
}

/// Waits as a server does, until there is something to tell.
async fn served(fills: Arc<Fills>, want: FillWant, deadline: Instant) -> Option<FillOffer> {
    loop {
        match fills.look(&want).await.unwrap() {
            Look::Offer(offer) => return Some(offer),
            Look::Wait(waiting) => {
                if !waiting.changed(deadline).await {
                    return None;
                }
            }
        }
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test(start_paused = true)]
async fn r5_one_reader_brings_bytes_and_the_others_are_fed_as_they_arrive() {
    let (fills, key) = (fills(), small_key(1, 0));
    let id = lease(&fills, &want(key, 0..LEN, 1)).await;
    let reader = tokio::spawn(served(Arc::clone(&fills), want(key, 0..LEN, 2), soon()));
    tokio::task::yield_now().await;
    assert_eq!(fills.load(), (1, 0, 1), "it waits");
    let stored = fills.fill(id, write(key, 0..HALF)).await.unwrap();
    assert_eq!(stored, FillOutcome::Stored);
    let fed = reader.await.unwrap().unwrap();
    assert_eq!(fed.parts.len(), HALF);
    assert!(fed.grants.is_empty() && fed.refused.is_none());
    // The rest is still the first one's.
    let rest = waiting(&fills, &want(key, HALF..LEN, 2)).await;
    drop(rest);
    fills.fill(id, write(key, HALF..LEN)).await.unwrap();
    let all = offer(&fills, &want(key, 0..LEN, 3)).await;
    assert_eq!(
        all.parts.contiguous().unwrap(),
        content_bytes(key.content, 0, LEN)
    );
    assert_eq!(fills.load(), (0, 0, 0));
    let metrics = fills.metrics();
    assert_eq!((metrics.granted, metrics.lost, metrics.late), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn r5_what_nobody_brings_is_granted_at_once_beside_what_somebody_does() {
    let (fills, key) = (fills(), small_key(1, 0));
    lease(&fills, &want(key, 0..HALF, 1)).await;
    let offer = offer(&fills, &want(key, 0..LEN, 2)).await;
    let ranges: Vec<_> = offer
        .grants
        .iter()
        .map(|grant| grant.range.clone())
        .collect();
    assert_eq!(ranges, std::slice::from_ref(&(HALF..LEN)));
    assert!(
        fills.look(&want(key, 1..HALF, 1)).await.is_err(),
        "no whole chunk"
    );
}

#[tokio::test(start_paused = true)]
async fn r4_a_holder_that_is_too_slow_loses_its_lease_to_the_next_who_waits() {
    let (fills, key) = (fills(), small_key(1, 0));
    let first = lease(&fills, &want(key, 0..LEN, 1)).await;
    let (began, deadline) = (Instant::now(), soon());
    let next = served(Arc::clone(&fills), want(key, 0..LEN, 2), deadline).await;
    assert_eq!(Instant::now() - began, settings().lease);
    let second = next.unwrap().grants[0].lease;
    assert_ne!(first, second);
    // Late bytes are not kept, and compared with what is there.
    let late = |agrees| FillOutcome::Late { agrees };
    let came = fills.fill(first, write(key, 0..LEN)).await.unwrap();
    assert_eq!(came, late(false));
    assert!(
        waiting(&fills, &want(key, 0..LEN, 3))
            .await
            .fills
            .metrics()
            .late
            == 1
    );
    fills.fill(second, write(key, 0..LEN)).await.unwrap();
    assert_eq!(
        fills.fill(first, write(key, 0..LEN)).await.unwrap(),
        late(true)
    );
    let mut other = write(key, 0..LEN);
    other.checksum = Checksum(other.checksum.0 ^ 1);
    assert_eq!(fills.fill(first, other).await.unwrap(), late(false));
    assert_eq!(fills.metrics().lost, 1);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_slow_goes_on_as_long_as_nobody_else_wants_its_range() {
    let (fills, key) = (fills(), small_key(1, 0));
    let id = lease(&fills, &want(key, 0..LEN, 1)).await;
    tokio::time::advance(settings().lease * 4).await;
    let stored = fills.fill(id, write(key, 0..HALF)).await.unwrap();
    assert_eq!(stored, FillOutcome::Stored);
    // That was a sign of life; so is a renewal.
    tokio::time::advance(settings().lease / 2).await;
    assert!(fills.renew(id));
    tokio::time::advance(settings().lease / 2).await;
    drop(waiting(&fills, &want(key, HALF..LEN, 2)).await);
    // In the end it is forgotten.
    tokio::time::advance(settings().lease * 20).await;
    offer(&fills, &want(small_key(2, 0), 0..LEN, 2)).await;
    assert!(!fills.renew(id));
}

#[tokio::test(start_paused = true)]
async fn the_leases_of_a_holder_that_is_gone_are_free_at_once() {
    let (fills, key) = (fills(), small_key(1, 0));
    lease(&fills, &want(key, 0..LEN, 7)).await;
    let began = Instant::now();
    let reader = tokio::spawn(served(Arc::clone(&fills), want(key, 0..LEN, 2), soon()));
    tokio::task::yield_now().await;
    fills.abandon(Holder(7));
    assert_eq!(reader.await.unwrap().unwrap().grants.len(), 1);
    assert_eq!(Instant::now(), began);
}

#[tokio::test(start_paused = true)]
async fn what_concerns_all_readers_is_told_to_all_for_a_while() {
    for (why, told) in [
        (Ending::Stale, Refusal::Stale),
        (Ending::Uncacheable, Refusal::Uncacheable),
        (Ending::NoRoom, Refusal::Busy),
    ] {
        let (fills, key) = (fills(), small_key(1, 0));
        let id = lease(&fills, &want(key, 0..LEN, 1)).await;
        let reader = tokio::spawn(served(Arc::clone(&fills), want(key, 0..LEN, 2), soon()));
        tokio::task::yield_now().await;
        assert!(fills.end(id, why));
        assert!(!fills.end(id, why));
        assert_eq!(reader.await.unwrap().unwrap().refused, Some(told));
        assert_eq!(
            offer(&fills, &want(key, 0..LEN, 3)).await.refused,
            Some(told)
        );
        tokio::time::advance(settings().lease).await;
        lease(&fills, &want(key, 0..LEN, 3)).await;
        assert_eq!(fills.load(), (1, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_is_corrupt_is_not_kept_and_costs_the_lease() {
    let (fills, key) = (fills(), small_key(1, 0));
    let id = lease(&fills, &want(key, 0..LEN, 1)).await;
    let mut wrong = write(key, 0..LEN);
    wrong.checksum = Checksum(wrong.checksum.0 ^ 1);
    let outcome = fills.fill(id, wrong).await.unwrap();
    assert_eq!(outcome, FillOutcome::Rejected(Rejection::ChecksumMismatch));
    lease(&fills, &want(key, 0..LEN, 2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_room_sends_readers_below() {
    let (fills, key) = (fills_over(100, settings()), small_key(1, 0));
    let id = lease(&fills, &want(key, 0..LEN, 1)).await;
    let outcome = fills.fill(id, write(key, 0..LEN)).await.unwrap();
    assert_eq!(outcome, FillOutcome::Rejected(Rejection::TooLarge));
    assert_eq!(
        offer(&fills, &want(key, 0..LEN, 2)).await.refused,
        Some(Refusal::Busy)
    );
}

#[tokio::test(start_paused = true)]
async fn leases_and_waiters_are_bounded() {
    let fills = fills();
    for index in 0..6 {
        lease(&fills, &want(small_key(1, index), 0..LEN, 1)).await;
    }
    let more = want(small_key(1, 9), 0..LEN, 1);
    assert_eq!(offer(&fills, &more).await.refused, Some(Refusal::Busy));
    let reader = want(small_key(1, 0), 0..LEN, 2);
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(waiting(&fills, &reader).await);
    }
    assert_eq!(offer(&fills, &reader).await.refused, Some(Refusal::Busy));
    drop(readers);
    drop(waiting(&fills, &reader).await);
    // An overdue lease makes room.
    tokio::time::advance(settings().lease).await;
    lease(&fills, &more).await;
    assert_eq!(fills.load(), (6, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_come_without_a_lease_feed_those_who_wait() {
    let (fills, key) = (fills(), small_key(1, 0));
    lease(&fills, &want(key, 0..LEN, 1)).await;
    let reader = tokio::spawn(served(Arc::clone(&fills), want(key, 0..LEN, 2), soon()));
    tokio::task::yield_now().await;
    fills.store.write(write(key, 0..HALF)).await.unwrap();
    fills.came(&key);
    assert_eq!(reader.await.unwrap().unwrap().parts.len(), HALF);
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_no_longer_than_its_deadline() {
    let (fills, key) = (fills(), small_key(1, 0));
    lease(&fills, &want(key, 0..LEN, 1)).await;
    let deadline = Instant::now() + Duration::from_secs(1);
    let nothing = served(Arc::clone(&fills), want(key, 0..LEN, 2), deadline).await;
    assert!(nothing.is_none());
    assert_eq!(Instant::now(), deadline);
    assert_eq!(fills.load().2, 0);
}

/// A client that reads one block after the other, brings what it has to, and sometimes
/// dies or takes its time.
async fn client(fills: Arc<Fills>, number: u64, blocks: u64, faults: u8) -> u64 {
    let mut seed = Seed::new(number);
    let mut brought = 0;
    for index in 0..blocks {
        let key = small_key(4, index);
        let mut at = 0;
        while at < LEN {
            let offer = served(Arc::clone(&fills), want(key, at..LEN, number), soon()).await;
            let offer = offer.expect("somebody brings it, or nobody holds it up for so long");
            assert!(offer.refused.is_none());
            for part in offer.parts.parts {
                let there = content_bytes(key.content, part.range.start, part.bytes.len() as u64);
                assert!(part.verify() && part.bytes == there);
                if part.range.start == at {
                    at = part.range.end;
                }
            }
            for grant in offer.grants {
                let patience = Duration::from_millis(seed.below(100));
                tokio::time::sleep(patience).await;
                if seed.chance(faults) {
                    continue;
                }
                for start in (grant.range.start..grant.range.end).step_by(CHUNK as usize) {
                    let piece = write(key, start..start + CHUNK);
                    let outcome = fills.fill(grant.lease, piece).await.unwrap();
                    if outcome == FillOutcome::Stored {
                        brought += CHUNK;
                    }
                }
            }
        }
    }
    brought
}

#[tokio::test(start_paused = true)]
async fn r5_a_herd_brings_every_byte_once_and_gets_through_in_spite_of_faults() {
    for seed in 0..8 {
        for faults in [0, 30] {
            let wide = FillConfig {
                leases: 1000,
                waiters: 1000,
                ..settings()
            };
            let fills = fills_over(8 << 20, wide);
            let herd = (0..8).map(|n| {
                let client = client(Arc::clone(&fills), seed * 100 + n, 10, faults);
                tokio::spawn(client)
            });
            let mut brought = 0;
            for client in herd.collect::<Vec<_>>() {
                brought += client.await.unwrap();
            }
            assert_eq!(brought, 10 * LEN, "seed {seed}");
            let (leases, marks, waiters) = fills.load();
            assert_eq!((marks, waiters), (0, 0));
            if faults == 0 {
                assert_eq!((leases, fills.metrics().lost), (0, 0), "seed {seed}");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Want {
        block: u64,
        gaps: Vec<(u64, u64)>,
        holder: u64,
    },
    Progress {
        which: usize,
        bytes: u64,
    },
    Renew {
        which: usize,
    },
    End {
        which: usize,
        why: Ending,
    },
    Abandon {
        holder: u64,
    },
    Leave {
        which: usize,
    },
    Pass {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let gaps = proptest::collection::vec((0..16_u64, 1..5_u64), 1..4);
    let why = prop_oneof![
        Just(Ending::GaveUp),
        Just(Ending::Stale),
        Just(Ending::Uncacheable),
        Just(Ending::NoRoom)
    ];
    prop_oneof![
        6 => (0..3_u64, gaps, 0..3_u64)
            .prop_map(|(block, gaps, holder)| Step::Want { block, gaps, holder }),
        3 => (any::<usize>(), 1..6_u64)
            .prop_map(|(which, bytes)| Step::Progress { which, bytes }),
        1 => any::<usize>().prop_map(|which| Step::Renew { which }),
        1 => (any::<usize>(), why).prop_map(|(which, why)| Step::End { which, why }),
        1 => (0..3_u64).prop_map(|holder| Step::Abandon { holder }),
        1 => any::<usize>().prop_map(|which| Step::Leave { which }),
        2 => (1..4000_u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

/// What the table must know, kept the simple way.
#[derive(Debug, Default)]
struct Model {
    /// Everything that was ever granted, with when it is overdue.
    leases: Vec<(LeaseId, BlockKey, Range<u64>, Instant)>,
    waiters: Vec<BlockKey>,
}

/// Ascending, disjoint, apart.
fn tidy(gaps: Vec<(u64, u64)>) -> Vec<Range<u64>> {
    let mut at = 0;
    let mut tidy = Vec::new();
    for (skip, length) in gaps {
        at += skip + 1;
        tidy.push(at..at + length);
        at += length;
    }
    tidy
}

impl Model {
    fn pick(&self, which: usize) -> Option<LeaseId> {
        let at = which.checked_rem(self.leases.len())?;
        Some(self.leases[at].0)
    }

    fn extend(&mut self, id: LeaseId, now: Instant) {
        for lease in self.leases.iter_mut().filter(|lease| lease.0 == id) {
            lease.3 = now + settings().lease;
        }
    }

    /// No byte is granted twice while it is neither there nor overdue.
    fn granted(
        &mut self,
        table: &LeaseTable,
        key: BlockKey,
        gaps: &[Range<u64>],
        grants: &[Grant],
        now: Instant,
    ) {
        for grant in grants {
            assert!(
                gaps.iter()
                    .any(|gap| gap.start <= grant.range.start && grant.range.end <= gap.end)
            );
            for (id, block, range, expires) in &self.leases {
                let apart = range.end <= grant.range.start || grant.range.end <= range.start;
                let live = *expires > now && table.holds(*id, block, range);
                assert!(*block != key || apart || !live, "{grant:?} is {id}'s");
            }
            self.leases
                .push((grant.lease, key, grant.range.clone(), now + grant.lasts));
        }
    }
}

proptest! {
    #[test]
    fn any_run_keeps_the_table_bounded_and_its_live_leases_apart(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut table = LeaseTable::new(settings(), u64::MAX - 5);
        let mut model = Model::default();
        let mut now = Instant::now();
        for step in steps {
            match step {
                Step::Want { block, gaps, holder } => {
                    let (key, gaps) = (small_key(1, block), tidy(gaps));
                    // Looking again is the reader's; here nothing comes between.
                    let verdict = loop {
                        let seen = table.version(&key);
                        match table.want(key, &gaps, seen, Holder(holder), now) {
                            Verdict::Again => {}
                            other => break other,
                        }
                    };
                    match verdict {
                        Verdict::Granted(grants) => {
                            model.granted(&table, key, &gaps, &grants, now);
                        }
                        Verdict::Filling { until, .. } => {
                            prop_assert!(until > now);
                            model.waiters.push(key);
                        }
                        Verdict::Refused(_) | Verdict::Again => {}
                    }
                }
                Step::Progress { which, bytes } => if let Some(id) = model.pick(which) {
                    table.progress(id, bytes, now);
                    model.extend(id, now);
                },
                Step::Renew { which } => if let Some(id) = model.pick(which) {
                    table.renew(id, now);
                    model.extend(id, now);
                },
                Step::End { which, why } => if let Some(id) = model.pick(which) {
                    table.end(id, why, now);
                },
                Step::Abandon { holder } => table.abandon(Holder(holder), now),
                Step::Leave { which } => if !model.waiters.is_empty() {
                    let key = model.waiters.swap_remove(which % model.waiters.len());
                    table.leave(&key);
                },
                Step::Pass { millis } => now += Duration::from_millis(millis),
            }
            let (leases, marks, waiters) = table.load();
            prop_assert!(leases <= settings().leases && marks <= settings().leases);
            prop_assert!(waiters <= settings().waiters && waiters == model.waiters.len());
        }
        // Nothing stays.
        for key in std::mem::take(&mut model.waiters) {
            table.leave(&key);
        }
        now += settings().lease * 20;
        let last = small_key(9, 9);
        let verdict = table.want(last, std::slice::from_ref(&(0..1)), 0, Holder(9), now);
        let Verdict::Granted(grants) = verdict else {
            panic!("there is room: {verdict:?}");
        };
        prop_assert_eq!(table.load(), (1, 0, 0));
        table.end(grants[0].lease, Ending::GaveUp, now);
        prop_assert!(table.is_empty());
    }
}
