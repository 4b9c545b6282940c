//! What no node has comes from the store, under leases as readers get them (R5).
//!
//! A run of blocks goes round by round until nothing of it is missing. In a round the node
//! says what has come meanwhile, what this load is to bring, or that others bring it; what
//! is this load's is one request to the store. Only acknowledged bytes count. A round in
//! which nothing came is repeated for [`LONGEST`], then the file is given up with the
//! reason that was met last.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arustio_types::ErrorKind;
use arustio_types::cluster::{ClusterView, NodeInfo};
use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::broken;
use super::file::{Loader, Need, PATIENT, give};
use crate::block::fill::{Filler, Lease};
use crate::block::{Alone, BlockLease, BlockOffer, BlockWant, BlockWrite, LeaseWord};
use crate::error::{FsError, Result};
use crate::read::cold::{AHEAD, FEED, POLL};
use crate::read::fetch::{Cut, Cutter, Source};
use crate::read::gather::Gather;
use crate::read::plan;

/// How long nothing may come.
const LONGEST: Duration = Duration::from_secs(10);
/// Time between rounds in which somebody refused.
const PAUSE: Duration = Duration::from_millis(200);
/// Time between looks at an object that is too young: each is a request to the store.
const YOUNG: Duration = Duration::from_secs(1);

/// What a round came to.
struct Round {
    /// Bytes that are there now.
    came: u64,
    /// Why not all of them.
    why: Option<FsError>,
    /// When to try again, if somebody refused.
    pause: Duration,
}

impl Round {
    /// An object must not be cached yet (U8).
    fn young(&mut self) {
        let message = "it changed just now, and its version cannot be told from the next one \
                       yet; load it again";
        self.why = Some(FsError::new(ErrorKind::Conflict, message));
        self.pause = YOUNG;
    }
}

/// A range that this load has to bring, and to whom. Unless all of it was acknowledged, its
/// lease is given up when it is dropped.
struct Duty {
    node: NodeInfo,
    /// Others that the block belongs on.
    copies: Vec<NodeInfo>,
    range: Range<u64>,
    lease: Option<Held>,
    /// Bytes that were not acknowledged.
    left: u64,
}

struct Held {
    filler: Filler,
    lease: Arc<Lease>,
    id: u64,
    lasts: Duration,
}

impl Duty {
    fn say(&self, word: LeaseWord) {
        if let Some(held) = &self.lease {
            held.filler.say(&held.lease, word);
        }
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if self.left > 0 {
            self.say(LeaseWord::GiveUp);
        }
    }
}

/// What became of bytes that were sent.
struct Sent {
    range: Range<u64>,
    given: Result<()>,
}

impl Loader<'_> {
    /// Brings a run of adjoining blocks; `news` tells of their bytes.
    pub(super) async fn bring(&self, mut run: Vec<Need>, news: bool) -> Result<()> {
        let mut last_came = Instant::now();
        loop {
            let round = self.round(&mut run).await?;
            run.retain(|need| !need.missing.is_empty());
            if news {
                self.job.came(round.came).await;
            }
            if run.is_empty() {
                return Ok(());
            }
            if round.came > 0 {
                last_came = Instant::now();
            }
            let hopeless = round.why.is_some() && self.job.hopeless.load(Ordering::Relaxed);
            if hopeless || last_came.elapsed() >= LONGEST {
                return Err(self.give_up(round.why));
            }
            if round.why.is_some() {
                sleep(round.pause).await;
            }
        }
    }

    fn give_up(&self, why: Option<FsError>) -> FsError {
        let waited = || {
            let message = format!(
                "another client brings some of its bytes to a block node, and none came for \
                 {LONGEST:?}; load it again"
            );
            FsError::new(ErrorKind::Timeout, message)
        };
        let why = why.unwrap_or_else(waited);
        if matches!(why.kind(), ErrorKind::Unavailable | ErrorKind::NoSpace) {
            self.job.hopeless.store(true, Ordering::Relaxed);
        }
        why
    }

    async fn round(&self, run: &mut [Need]) -> Result<Round> {
        // Before it is asked for leases: they would be over when its turn came.
        let _turn = self.job.requests.acquire().await.map_err(|_| broken())?;
        let view = self.job.client.metadata.cluster_view().await?;
        let mut duties = Vec::new();
        let mut round = Round {
            came: 0,
            why: None,
            pause: PAUSE,
        };
        let Some((first, mut rest)) = run.split_first_mut() else {
            return Ok(round);
        };
        let offered = self.want(&view, first, POLL).await;
        let mut whole = self.take(first, offered, &mut duties, &mut round);
        while whole && !rest.is_empty() {
            let (some, later) = rest.split_at_mut(rest.len().min(AHEAD));
            rest = later;
            let offers = some
                .iter()
                .map(|need| self.want(&view, need, Duration::ZERO));
            let offers = join_all(offers).await;
            for (need, offered) in some.iter_mut().zip(offers) {
                whole &= self.take(need, offered, &mut duties, &mut round);
            }
        }
        for duties in runs(duties) {
            let sent = self.carry(duties, &mut round).await?;
            round.came += settle(run, &sent);
        }
        Ok(round)
    }

    /// Asks the node that a block belongs on for the first of its missing bytes.
    async fn want(
        &self,
        view: &ClusterView,
        need: &Need,
        wait: Duration,
    ) -> Result<(Vec<NodeInfo>, BlockOffer)> {
        let client = &self.job.client;
        let replicas = self.job.replicas;
        let takers = client
            .owners
            .takers(view, &need.key, replicas, Instant::now());
        let takers: Vec<NodeInfo> = takers.into_iter().cloned().collect();
        let (Some(node), Some(missing)) = (takers.first(), need.missing.first()) else {
            let message = "no block node answers; see: arustio admin node list";
            return Err(FsError::new(ErrorKind::Unavailable, message));
        };
        let start = need.key.start();
        let request = BlockWant {
            key: need.key,
            range: missing.start - start..missing.end - start,
            block_length: need.key.len_in(self.fetcher.pin.length()),
            epoch: view.epoch,
            wait,
        };
        match client.blocks.want(node, request, wait + PATIENT).await {
            Ok(offer) => {
                client.owners.succeeded(node.id);
                Ok((takers, offer))
            }
            Err(error) => {
                self.fetcher.failed_at(node, need.key, &error).await;
                Err(FsError::caused_by(error))
            }
        }
    }

    /// Takes what a node offers of a block. True: the end of it is to be brought.
    fn take(
        &self,
        need: &mut Need,
        offered: Result<(Vec<NodeInfo>, BlockOffer)>,
        duties: &mut Vec<Duty>,
        round: &mut Round,
    ) -> bool {
        let (takers, offer) = match offered {
            Ok(offered) => offered,
            Err(why) => {
                round.why = Some(why);
                return false;
            }
        };
        let block = self.range(&need.key);
        self.fetcher.count_cached(&offer.parts);
        for part in &offer.parts {
            let at = block.start + part.offset;
            round.came += need.came(&(at..at + part.bytes.len() as u64));
        }
        let mut end = None;
        for lease in offer.leases {
            let range = block.start + lease.range.start..block.start + lease.range.end;
            end = Some(range.end);
            duties.extend(self.duty(&takers, range, Some(lease)));
        }
        match offer.alone {
            // Only the store is believed.
            Some(Alone::Unsupported | Alone::Stale | Alone::Uncacheable) => {
                let rest = need.missing.first().cloned();
                duties.extend(rest.and_then(|rest| self.duty(&takers, rest, None)));
            }
            Some(Alone::Busy) => {
                let message = "the block node has no room for more at the moment";
                round.why = Some(FsError::new(ErrorKind::Unavailable, message));
            }
            None => {}
        }
        end == Some(block.end)
    }

    /// The duty to bring a range to these nodes, the first of which gave the lease.
    fn duty(
        &self,
        takers: &[NodeInfo],
        range: Range<u64>,
        lease: Option<BlockLease>,
    ) -> Option<Duty> {
        let (node, copies) = takers.split_first()?;
        let held = |lease: BlockLease| Held {
            filler: self.job.client.filler.clone(),
            lease: Lease::new(node.clone(), lease.lease),
            id: lease.lease,
            lasts: lease.lasts,
        };
        Some(Duty {
            node: node.clone(),
            copies: copies.to_vec(),
            left: range.end - range.start,
            range,
            lease: lease.map(held),
        })
    }

    /// Reads what adjoining duties are about from the store, and sends it.
    async fn carry(&self, mut duties: Vec<Duty>, round: &mut Round) -> Result<Vec<Sent>> {
        let renewed = renewals(&duties);
        let work = async {
            let sent = self.send_all(&duties).await;
            if let Err(error) = &sent
                && error.kind() == ErrorKind::Stale
            {
                duties.iter().for_each(|duty| duty.say(LeaseWord::Stale));
            }
            sent
        };
        let sent = tokio::select! {
            sent = work => sent?,
            () = renewed => return Err(broken()),
        };
        let Some(mut sent) = sent else {
            round.young();
            return Ok(Vec::new());
        };
        for sent in &mut sent {
            let holds = |duty: &&mut Duty| duty.range.contains(&sent.range.start);
            match &sent.given {
                Ok(()) => {
                    if let Some(duty) = duties.iter_mut().find(holds) {
                        duty.left -= duty.left.min(sent.range.end - sent.range.start);
                    }
                }
                Err(error) => round.why = Some(error.clone()),
            }
        }
        Ok(sent)
    }

    /// `None`: the bytes must not be cached yet.
    async fn send_all(&self, duties: &[Duty]) -> Result<Option<Vec<Sent>>> {
        let (Some(first), Some(last)) = (duties.first(), duties.last()) else {
            return Ok(Some(Vec::new()));
        };
        let range = first.range.start..last.range.end;
        if range.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut source = self.fetcher.open(range.clone()).await?;
        if !source.cacheable {
            duties
                .iter()
                .for_each(|duty| duty.say(LeaseWord::Uncacheable));
            return Ok(None);
        }
        let grid = FEED.min(self.fetcher.pin.block_size.bytes());
        let mut cutter = Cutter::new(range.start, grid);
        let mut gather = Gather::new(self.fetcher.client.config.read.fill_buffer.get());
        let (mut sending, mut sent) = (JoinSet::new(), Vec::new());
        while let Some(bytes) = self.next(&mut source).await? {
            for cut in cutter.push(bytes) {
                let end = end_of(duties, cut.at);
                if let Some(cut) = gather.push(cut, end, Instant::now()) {
                    self.send(cut, duties, &mut sending).await?;
                }
            }
            while let Some(done) = sending.try_join_next() {
                sent.push(done.map_err(|_| broken())?);
            }
        }
        let end = range.end;
        let last = gather.push(cutter.finish(), end, Instant::now());
        if let Some(cut) = last.or_else(|| gather.take()) {
            self.send(cut, duties, &mut sending).await?;
        }
        while let Some(done) = sending.join_next().await {
            sent.push(done.map_err(|_| broken())?);
        }
        Ok(Some(sent))
    }

    async fn next(&self, source: &mut Source) -> Result<Option<bytes::Bytes>> {
        let Some(piece) = source.next(&self.fetcher).await? else {
            return Ok(None);
        };
        if let Some(pace) = &self.job.pace {
            pace.take(piece.bytes.len() as u64).await;
        }
        Ok(Some(piece.bytes))
    }

    /// Sends bytes to the nodes that they belong on, as soon as there is room.
    async fn send(&self, cut: Cut, duties: &[Duty], sending: &mut JoinSet<Sent>) -> Result<()> {
        let at = cut.at;
        let Some(write) = self.fetcher.write(cut) else {
            return Ok(());
        };
        let Some(duty) = duties.iter().find(|duty| duty.range.contains(&at)) else {
            return Ok(());
        };
        let range = at..at + write.len();
        let room = self.job.room(write.len()).await?;
        let client = Arc::clone(&self.job.client);
        let (node, copies) = (duty.node.clone(), duty.copies.clone());
        let lease = duty.lease.as_ref().map(|held| held.id);
        sending.spawn(async move {
            let copied = copies
                .iter()
                .map(|node| give(&client, node, BlockWrite::clone(&write), None));
            let copied = join_all(copied);
            let (given, copied) = tokio::join!(give(&client, &node, write.clone(), lease), copied);
            drop(room);
            // A copy that failed is made from this one later, or told then.
            drop(copied);
            Sent { range, given }
        });
        Ok(())
    }
}

impl Need {
    /// These bytes are there: how many of them were missing.
    fn came(&mut self, range: &Range<u64>) -> u64 {
        let length = |ranges: &[Range<u64>]| -> u64 {
            let each = ranges.iter().map(|range| range.end - range.start);
            each.sum()
        };
        let before = length(&self.missing);
        let cut = |missing: &Range<u64>| plan::gaps(missing, std::iter::once(range.clone()));
        self.missing = self.missing.iter().flat_map(cut).collect();
        before - length(&self.missing)
    }
}

/// Where the duty ends that a byte belongs to.
fn end_of(duties: &[Duty], at: u64) -> u64 {
    let duty = duties.iter().find(|duty| duty.range.contains(&at));
    duty.map_or(at, |duty| duty.range.end)
}

/// Takes acknowledged bytes off what is missing; how many they were.
fn settle(run: &mut [Need], sent: &[Sent]) -> u64 {
    let index: HashMap<u64, usize> = run
        .iter()
        .enumerate()
        .map(|(at, need)| (need.key.index, at))
        .collect();
    let mut came = 0;
    for sent in sent.iter().filter(|sent| sent.given.is_ok()) {
        let Some(first) = run.first() else {
            break;
        };
        let block = first.key.size.index_of(sent.range.start);
        if let Some(need) = index.get(&block).and_then(|at| run.get_mut(*at)) {
            came += need.came(&sent.range);
        }
    }
    came
}

/// Adjoining duties together: each is one request to the store.
fn runs(duties: Vec<Duty>) -> Vec<Vec<Duty>> {
    let mut runs: Vec<Vec<Duty>> = Vec::new();
    for duty in duties {
        let run = runs.last_mut().filter(|run| {
            let end = run.last().map(|last| last.range.end);
            end == Some(duty.range.start)
        });
        match run {
            Some(run) => run.push(duty),
            None => runs.push(vec![duty]),
        }
    }
    runs
}

/// Keeps leases alive while their bytes are on their way; never ends.
fn renewals(duties: &[Duty]) -> impl Future<Output = ()> + use<> {
    let held: Vec<(Filler, Arc<Lease>, Duration)> = duties
        .iter()
        .filter_map(|duty| duty.lease.as_ref())
        .map(|held| (held.filler.clone(), Arc::clone(&held.lease), held.lasts))
        .collect();
    let often = held.iter().map(|(_, _, lasts)| *lasts / 3).min();
    async move {
        let Some(often) = often else {
            return std::future::pending().await;
        };
        loop {
            sleep(often.max(PAUSE)).await;
            for (filler, lease, _) in &held {
                filler.say(lease, LeaseWord::Renew);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arustio_types::{BlockKey, BlockSize, ContentId};

    use super::*;

    fn need(index: u64, missing: &[(u64, u64)]) -> Need {
        let key = BlockKey {
            content: ContentId::new(1),
            size: BlockSize::MIN,
            index,
        };
        Need::of(
            key,
            missing.iter().map(|&(start, end)| start..end).collect(),
        )
    }

    #[test]
    fn what_came_is_counted_once() {
        let mut need = need(0, &[(0, 100)]);
        assert_eq!(need.came(&(20..40)), 20);
        assert_eq!(need.came(&(30..50)), 10);
        assert_eq!(need.missing, [0..20, 50..100]);
        assert_eq!(need.came(&(0..100)), 70);
        assert!(need.missing.is_empty());
    }

    #[test]
    fn only_acknowledged_bytes_are_taken_off_their_block() {
        let block = BlockSize::MIN.bytes();
        let mut run = [need(0, &[(0, block)]), need(1, &[(block, 2 * block)])];
        let refused = FsError::new(ErrorKind::NoSpace, "full");
        let sent = [
            Sent {
                range: 0..block,
                given: Ok(()),
            },
            Sent {
                range: block..2 * block,
                given: Err(refused),
            },
        ];
        assert_eq!(settle(&mut run, &sent), block);
        assert!(run[0].missing.is_empty() && run[1].missing.len() == 1);
    }
}
