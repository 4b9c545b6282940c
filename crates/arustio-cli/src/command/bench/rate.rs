//! Requests at a fixed rate, whether the ones before were answered or not.
//!
//! A loop that asks again when it was answered waits with a server that has stopped, and so
//! sees one slow request where everybody who would have come meanwhile had waited as well
//! (coordinated omission). Here each request has a planned start, which whichever stream is
//! free takes next, and its time is counted from there.
//!
//! A thread of its own lets the starts go: the runtime's timers are exact to a millisecond,
//! in which many requests would begin at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arustio_types::{Timestamp, WallClock};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// How exact starts are; less costs a core.
const TICK: Duration = Duration::from_micros(100);
/// More than one machine asks for in a second.
const MOST: u64 = 10_000_000;

/// A number such as `20000`, or `20000/s`.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match number.trim().parse() {
        Ok(rate) if (1..=MOST).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "{text:?} is no rate: say how many requests a second, as in 20000/s"
        )),
    }
}

/// When each request starts.
#[derive(Debug)]
pub(super) struct Schedule {
    began: Instant,
    /// The same on the clock of the wall, so that others can tell what happened when.
    began_at: Timestamp,
    rate: u64,
    requests: u64,
    taken: AtomicU64,
    due: Arc<Semaphore>,
    pacer: JoinHandle<()>,
}

/// When a request should have begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    /// Since the schedule began.
    pub(super) at: Duration,
    /// Until now.
    began: Instant,
}

impl Planned {
    /// From its planned start until now, in whole microseconds.
    pub(super) fn micros(self) -> u32 {
        let took = self.began.elapsed().saturating_sub(self.at);
        u32::try_from(took.as_micros()).unwrap_or(u32::MAX)
    }
}

impl Schedule {
    /// So many requests at so many a second, from now on.
    pub(super) fn begin(rate: u64, requests: u64, clock: &dyn WallClock) -> Self {
        let (began, due) = (Instant::now(), Arc::new(Semaphore::new(0)));
        let due_there = Arc::clone(&due);
        Self {
            began,
            began_at: clock.now(),
            rate,
            requests,
            taken: AtomicU64::new(0),
            due,
            pacer: tokio::task::spawn_blocking(move || pace(began, rate, requests, &due_there)),
        }
    }

    /// The next start, once it is due; `None` after the last one.
    pub(super) async fn next(&self) -> Option<Planned> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if number >= self.requests {
            return None;
        }
        // One permit for each request.
        self.due.acquire().await.ok()?.forget();
        Some(Planned {
            at: start_of(number, self.rate),
            began: self.began,
        })
    }

    /// What came of it: `all` are planned starts with times in microseconds.
    pub(super) fn report(&self, all: &[(Duration, u32)]) -> Value {
        json!({
            "rate": self.rate,
            "began_unix_ms": self.began_at.millis(),
            "p99_us_by_second": p99_by_second(all),
        })
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.due.close();
        self.pacer.abort();
    }
}

fn start_of(number: u64, rate: u64) -> Duration {
    let seconds = Duration::from_secs(number / rate);
    seconds + Duration::from_secs(number % rate) / u32::try_from(rate).unwrap_or(u32::MAX)
}

/// Lets requests go when they are due, until all have gone or nobody waits any more.
fn pace(began: Instant, rate: u64, requests: u64, due: &Semaphore) {
    let mut gone = 0;
    while gone < requests && !due.is_closed() {
        let elapsed = began.elapsed().as_secs_f64();
        let now = ((elapsed * rate as f64) as u64 + 1).min(requests);
        due.add_permits(usize::try_from(now - gone).unwrap_or(0));
        gone = now;
        std::thread::sleep(TICK);
    }
}

/// The slowest hundredth of those that should have begun in each whole second.
fn p99_by_second(all: &[(Duration, u32)]) -> Vec<u32> {
    let mut seconds: Vec<Vec<u32>> = Vec::new();
    for (at, took) in all {
        let second = usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
        if seconds.len() <= second {
            seconds.resize_with(second + 1, Vec::new);
        }
        seconds[second].push(*took);
    }
    let p99 = |mut second: Vec<u32>| {
        second.sort_unstable();
        let last = second.len().saturating_sub(1);
        second.get(last * 99 / 100).copied().unwrap_or(0)
    };
    seconds.into_iter().map(p99).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_numbers_a_second() {
        assert_eq!(parse("20000/s"), Ok(20_000));
        assert_eq!(parse("7"), Ok(7));
        for wrong in ["0", "-1", "1.5/s", "20000/m", "", "99999999999"] {
            assert!(parse(wrong).unwrap_err().contains("no rate"), "{wrong}");
        }
    }

    #[test]
    fn starts_are_spread_evenly_and_counted_by_second() {
        assert_eq!(start_of(0, 4), Duration::ZERO);
        assert_eq!(start_of(7, 4), Duration::from_millis(1750));
        let at = |millis, took| (Duration::from_millis(millis), took);
        let all = [at(0, 5), at(2100, 9), at(999, 7), at(2000, 8)];
        assert_eq!(p99_by_second(&all), [5, 0, 8]);
    }

    #[tokio::test]
    async fn a_request_that_could_not_begin_in_time_counts_from_its_plan() {
        let schedule = Schedule::begin(1000, 20, &arustio_types::SystemClock);
        let mut slowest = 0;
        while let Some(planned) = schedule.next().await {
            if planned.at.is_zero() {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            slowest = slowest.max(planned.micros());
            if planned.at == Duration::from_millis(1) {
                assert!(planned.micros() >= 29_000, "{planned:?}");
            }
        }
        assert!(slowest >= 29_000, "{slowest}");
    }
}
