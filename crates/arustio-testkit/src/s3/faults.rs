//! Faults by rule: which requests fail, and how.
//!
//! A rule says which requests it looks at (operations, bucket, keys), which of
//! those it strikes (all, all but the first few, some by chance, at most so
//! many) and what happens to them. Rules are tried in the order in which they
//! were added; delays add up, the first other action that strikes wins.
//!
//! Chance comes from a seed in the rule, so the same requests in the same
//! order meet the same faults. Faults strike after the signature was checked
//! and before the body is read, unless the action says otherwise.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wildmatch::WildMatch;

use super::operation::Operation;

/// What happens to a request that is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// Not carried out; answered 503 `SlowDown`.
    SlowDown,
    /// Not carried out; answered 500 `InternalError`.
    InternalError,
    /// Not carried out; answered 429 `TooManyRequests`.
    TooManyRequests,
    /// Not carried out; the connection is reset.
    Reset,
    /// Carried out; the connection is reset instead of an answer.
    ApplyThenReset,
    /// Carried out that much later.
    Delay(Duration),
    /// The body is received, then the change is made that much later, even if
    /// the client has gone by then: a request that outlives its sender. Reads
    /// and listings, which change nothing, are not delayed by it.
    DelayApply(Duration),
    /// Carried out; half of the answer's body is sent, then the connection is
    /// closed.
    TruncateBody,
    /// Carried out; the answer is well-formed but its body is one byte shorter
    /// than the object or range asked for, and so says its `Content-Length`.
    WrongLength,
    /// Nothing, until the client goes away or the server stops.
    Hang,
}

/// Names a rule that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleId(u64);

/// Which requests fail, and how.
///
/// ```
/// use arustio_testkit::s3::{FaultAction, FaultRule, Operation};
///
/// // The third and fourth GET below `data/` lose half of their bodies.
/// let rule = FaultRule::new(FaultAction::TruncateBody)
///     .on(Operation::GetObject)
///     .key_prefix("data/")
///     .skip(2)
///     .times(2);
/// # drop(rule);
/// ```
#[derive(Clone, Debug)]
pub struct FaultRule {
    action: FaultAction,
    operations: Vec<Operation>,
    bucket: Option<String>,
    key: KeyPattern,
    skip: u64,
    times: u64,
    chance: Option<(f64, StdRng)>,
}

#[derive(Clone, Debug)]
enum KeyPattern {
    Any,
    Prefix(String),
    Glob(WildMatch),
}

impl FaultRule {
    /// A rule that strikes every request of every operation.
    #[must_use]
    pub fn new(action: FaultAction) -> Self {
        Self {
            action,
            operations: Vec::new(),
            bucket: None,
            key: KeyPattern::Any,
            skip: 0,
            times: u64::MAX,
            chance: None,
        }
    }

    /// Only this operation, and those of further calls.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// Only requests in this bucket.
    #[must_use]
    pub fn bucket(mut self, bucket: impl Into<String>) -> Self {
        self.bucket = Some(bucket.into());
        self
    }

    /// Only keys that start so. A listing has no key and matches no pattern.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key = KeyPattern::Prefix(prefix.into());
        self
    }

    /// Only keys of this form; `*` stands for any characters, slashes
    /// included, `?` for one.
    #[must_use]
    pub fn key_glob(mut self, glob: &str) -> Self {
        self.key = KeyPattern::Glob(WildMatch::new(glob));
        self
    }

    /// Spares the first `requests` that match.
    #[must_use]
    pub fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Strikes at most so many requests.
    #[must_use]
    pub fn times(mut self, requests: u64) -> Self {
        self.times = requests;
        self
    }

    /// Strikes only the `n`th request that matches, counted from one.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        self.skip(n.saturating_sub(1)).times(1)
    }

    /// Strikes a matching request with this probability, drawn from `seed`.
    #[must_use]
    pub fn probability(mut self, probability: f64, seed: u64) -> Self {
        self.chance = Some((probability.clamp(0.0, 1.0), StdRng::seed_from_u64(seed)));
        self
    }

    fn matches(&self, operation: Operation, bucket: Option<&str>, key: Option<&str>) -> bool {
        let operation = self.operations.is_empty() || self.operations.contains(&operation);
        let wanted = self.bucket.as_deref();
        operation && (wanted.is_none() || wanted == bucket) && self.key.matches(key)
    }

    /// Does it strike this request, which matches?
    fn strike(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.times == 0 {
            return false;
        }
        if let Some((probability, random)) = &mut self.chance
            && !random.random_bool(*probability)
        {
            return false;
        }
        self.times -= 1;
        true
    }
}

impl KeyPattern {
    fn matches(&self, key: Option<&str>) -> bool {
        match (self, key) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Prefix(prefix), Some(key)) => key.starts_with(prefix),
            (Self::Glob(glob), Some(key)) => glob.matches(key),
        }
    }
}

/// The rules of one server; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Rules>>);

#[derive(Debug, Default)]
struct Rules {
    next_id: u64,
    rules: Vec<ActiveRule>,
}

#[derive(Debug)]
struct ActiveRule {
    id: RuleId,
    rule: FaultRule,
    hits: u64,
}

impl Faults {
    /// Adds a rule behind those that are there.
    pub fn add(&self, rule: FaultRule) -> RuleId {
        let mut rules = self.0.lock();
        let id = RuleId(rules.next_id);
        rules.next_id += 1;
        rules.rules.push(ActiveRule { id, rule, hits: 0 });
        id
    }

    /// Removes a rule; how many requests it struck, `None` if it is not there.
    pub fn remove(&self, id: RuleId) -> Option<u64> {
        let mut rules = self.0.lock();
        let at = rules.rules.iter().position(|active| active.id == id)?;
        Some(rules.rules.remove(at).hits)
    }

    /// Removes all rules. Requests that hang already go on hanging.
    pub fn clear(&self) {
        self.0.lock().rules.clear();
    }

    /// How many requests a rule has struck, zero if it is not there.
    #[must_use]
    pub fn hits(&self, id: RuleId) -> u64 {
        let rules = self.0.lock();
        let found = rules.rules.iter().find(|active| active.id == id);
        found.map_or(0, |active| active.hits)
    }

    /// Decides what happens to a request.
    pub(crate) fn decide(
        &self,
        operation: Operation,
        bucket: Option<&str>,
        key: Option<&str>,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        for active in &mut self.0.lock().rules {
            if !active.rule.matches(operation, bucket, key) || !active.rule.strike() {
                continue;
            }
            active.hits += 1;
            verdict.faults += 1;
            match active.rule.action {
                FaultAction::Delay(time) => verdict.delay += time,
                FaultAction::DelayApply(time) => verdict.delay_apply += time,
                other => {
                    verdict.action = Some(other);
                    break;
                }
            }
        }
        verdict
    }
}

/// What was decided for one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) faults: u64,
    pub(crate) delay: Duration,
    pub(crate) delay_apply: Duration,
    /// Never one of the delays.
    pub(crate) action: Option<FaultAction>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(rule: FaultRule, key: &str, requests: u64) -> Vec<u64> {
        let faults = Faults::default();
        faults.add(rule);
        let strike = |_: &u64| {
            let verdict = faults.decide(Operation::GetObject, Some("b"), Some(key));
            verdict.action.is_some()
        };
        (1..=requests).filter(strike).collect()
    }

    #[test]
    fn rules_count_only_what_they_match() {
        let rule = || FaultRule::new(FaultAction::SlowDown);
        assert_eq!(strikes(rule().nth(3), "k", 6), [3]);
        assert_eq!(strikes(rule().skip(1).times(2), "k", 6), [2, 3]);
        assert!(strikes(rule().on(Operation::PutObject), "k", 3).is_empty());
        assert!(strikes(rule().bucket("other"), "k", 3).is_empty());
        assert_eq!(strikes(rule().key_prefix("a/").times(1), "a/x", 3), [1]);
        assert!(strikes(rule().key_glob("a/*.parquet"), "a/b/c.txt", 3).is_empty());
        assert_eq!(
            strikes(rule().key_glob("a/*.parquet"), "a/b/c.parquet", 1),
            [1]
        );
    }

    #[test]
    fn the_same_seed_strikes_the_same_requests() {
        let rule = || FaultRule::new(FaultAction::SlowDown).probability(0.3, 42);
        let struck = strikes(rule(), "k", 200);
        assert_eq!(struck, strikes(rule(), "k", 200));
        assert!((30..90).contains(&struck.len()), "{struck:?}");
    }

    #[test]
    fn delays_add_up_before_the_action() {
        let faults = Faults::default();
        faults.add(FaultRule::new(FaultAction::Delay(Duration::from_millis(2))));
        faults.add(FaultRule::new(FaultAction::Delay(Duration::from_millis(3))));
        let id = faults.add(FaultRule::new(FaultAction::Reset));
        faults.add(FaultRule::new(FaultAction::Hang));
        let verdict = faults.decide(Operation::ListBuckets, None, None);
        assert_eq!(verdict.delay, Duration::from_millis(5));
        assert_eq!(verdict.action, Some(FaultAction::Reset));
        assert_eq!(faults.remove(id), Some(1));
        assert_eq!(faults.hits(id), 0);
    }
}
