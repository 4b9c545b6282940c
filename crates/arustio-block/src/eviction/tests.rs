//! Every policy beside a plain map, and S3-FIFO beside a naive one and in pictures.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::testing::Seed;

/// Keys are small numbers here, and their own fingerprints.
fn key(number: u32) -> Print {
    Print(number)
}

/// A policy with the keys of its slots.
#[derive(Debug)]
struct Owner<P> {
    policy: P,
    slots: HashMap<u32, Slot>,
}

impl<P: EvictionPolicy> Owner<P> {
    fn new(policy: P) -> Self {
        Self {
            policy,
            slots: HashMap::new(),
        }
    }

    fn insert(&mut self, number: u32, weight: u64) {
        let slot = self.policy.insert(key(number), weight);
        self.slots.insert(number, slot);
    }

    fn touch(&mut self, number: u32) {
        self.policy.touch(self.slots[&number]);
    }

    fn pop(&mut self) -> Option<u32> {
        let (slot, _) = self.policy.pop_victim()?;
        let number = *self.slots.iter().find(|(_, s)| **s == slot)?.0;
        self.slots.remove(&number);
        Some(number)
    }

    /// A read: a hit is a use, a miss comes in. Whether it was a hit.
    fn read(&mut self, number: u32, capacity: u64) -> bool {
        if self.slots.contains_key(&number) {
            self.touch(number);
            return true;
        }
        while self.policy.weight() >= capacity {
            self.pop().expect("nothing is pinned");
        }
        self.insert(number, 1);
        false
    }
}

#[test]
fn lru_evicts_the_least_recently_used_and_fifo_the_first() {
    fn order(policy: impl EvictionPolicy) -> Vec<u32> {
        let mut owner = Owner::new(policy);
        owner.insert(1, 10);
        owner.insert(2, 10);
        owner.touch(1);
        owner.insert(3, 10);
        std::iter::from_fn(|| owner.pop()).collect()
    }
    assert_eq!(order(Lru::new()), [2, 1, 3]);
    assert_eq!(order(Fifo::new()), [1, 2, 3]);
    assert_eq!(order(S3Fifo::new()), [2, 3, 1]);
}

#[test]
fn what_was_used_moves_on_and_what_was_not_becomes_a_ghost() {
    let mut owner = Owner::new(S3Fifo::new());
    for number in 1..=4 {
        owner.insert(number, 10);
    }
    owner.touch(1);
    owner.touch(3);
    owner.touch(3);
    assert_eq!(owner.policy.dump(), "small 1* 2 3** 4 | main | ghost");
    assert_eq!(owner.pop(), Some(2));
    assert_eq!(owner.policy.dump(), "small 3** 4 | main 1 | ghost 2");
    assert_eq!(owner.pop(), Some(4));
    assert_eq!(owner.policy.dump(), "small | main 1 3 | ghost 2 4");
    // What was a ghost comes into the main queue at once.
    owner.insert(2, 10);
    owner.insert(5, 3);
    owner.touch(1);
    assert_eq!(owner.policy.dump(), "small 5 | main 1* 3 2 | ghost 4");
    // The small queue has less than a tenth: the main one gives, but not what was used.
    assert_eq!(owner.pop(), Some(3));
    assert_eq!(owner.policy.dump(), "small 5 | main 2 1 | ghost 4");
    assert!(owner.policy.remembers(key(4)) && !owner.policy.remembers(key(3)));
}

#[test]
fn uses_saturate_and_each_turn_takes_one_off() {
    let mut owner = Owner::new(S3Fifo::new());
    owner.insert(1, 10);
    for _ in 0..9 {
        owner.touch(1);
    }
    owner.insert(2, 10);
    assert_eq!(owner.policy.dump(), "small 1*** 2 | main | ghost");
    assert_eq!(owner.pop(), Some(2));
    for _ in 0..9 {
        owner.touch(1);
    }
    assert_eq!(owner.policy.dump(), "small | main 1*** | ghost 2");
    assert_eq!(owner.pop(), Some(1), "alone, it goes after three turns");
}

#[test]
fn a_pinned_key_keeps_its_place_until_it_is_in_the_way() {
    let mut owner = Owner::new(S3Fifo::new());
    for number in 1..=3 {
        owner.insert(number, 10);
    }
    let first = owner.slots[&1];
    owner.policy.pin(first);
    owner.policy.unpin(first);
    assert_eq!(owner.policy.dump(), "small 1 2 3 | main | ghost");
    owner.policy.pin(first);
    assert_eq!(owner.pop(), Some(2));
    assert_eq!(
        owner.policy.dump(),
        "small 3 | main | ghost 2",
        "it is parked"
    );
    owner.policy.unpin(first);
    assert_eq!(owner.policy.dump(), "small 3 1 | main | ghost 2");
}

/// 900 keys that are read again and again survive keys that are read once, ten times as
/// many; with LRU they do not.
#[test]
fn a_scan_does_not_push_out_what_is_used() {
    fn hits_after_scan(policy: impl EvictionPolicy) -> usize {
        let mut owner = Owner::new(policy);
        for _ in 0..3 {
            for hot in 0..900 {
                owner.read(hot, 1000);
            }
        }
        for cold in 10_000..20_000 {
            owner.read(cold, 1000);
        }
        (0..900).filter(|hot| owner.read(*hot, 1000)).count()
    }
    assert_eq!(hits_after_scan(S3Fifo::new()), 900);
    assert_eq!(hits_after_scan(Lru::new()), 0);
}

#[test]
fn ghosts_are_as_many_as_keys_and_bounded_in_memory() {
    let mut owner = Owner::new(S3Fifo::new());
    let mut seed = Seed::new(7);
    for _ in 0..50_000 {
        owner.read(seed.next() as u32, 5000);
    }
    let each = owner.policy.memory() / 5000;
    assert!(each <= 48, "{each} bytes for each key");
    let fewest = "small | main | ghost".len();
    assert!(
        owner.policy.dump().len() > fewest + 4000,
        "it remembers many"
    );
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u32, u64),
    Touch(u32),
    Reweigh(u32, u64),
    Remove(u32),
    Pin(u32),
    Unpin(u32),
    Pop,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0u32..40;
    prop_oneof![
        6 => (key.clone(), 1u64..300).prop_map(|(k, w)| Op::Insert(k, w)),
        4 => key.clone().prop_map(Op::Touch),
        1 => (key.clone(), 1u64..300).prop_map(|(k, w)| Op::Reweigh(k, w)),
        1 => key.clone().prop_map(Op::Remove),
        1 => key.clone().prop_map(Op::Pin),
        1 => key.prop_map(Op::Unpin),
        4 => Just(Op::Pop),
    ]
}

/// S3-FIFO in vectors, to be read beside the paper.
#[derive(Debug, Default)]
struct Naive {
    small: Vec<u32>,
    main: Vec<u32>,
    parked: Vec<(u32, bool)>,
    ghosts: Vec<(u32, u32)>,
    evictions: u32,
    entries: HashMap<u32, Entry>,
}

#[derive(Debug, Default, Clone)]
struct Entry {
    weight: u64,
    pins: u32,
    uses: u32,
}

impl Naive {
    fn ghost(&self, number: u32) -> Option<usize> {
        let most = self.entries.len().max(64) as u32;
        let counts =
            |(other, since): &(u32, u32)| *other == number && self.evictions - since < most;
        self.ghosts.iter().position(counts)
    }

    fn insert(&mut self, number: u32, weight: u64) {
        match self.ghost(number) {
            Some(at) => {
                self.ghosts.remove(at);
                self.main.push(number);
            }
            None => self.small.push(number),
        }
        let entry = Entry {
            weight,
            ..Entry::default()
        };
        self.entries.insert(number, entry);
    }

    fn remove(&mut self, number: u32) -> Entry {
        self.small.retain(|other| *other != number);
        self.main.retain(|other| *other != number);
        self.parked.retain(|(other, _)| *other != number);
        self.entries.remove(&number).expect("it is there")
    }

    fn weight_of(&self, queue: &[u32]) -> u64 {
        queue.iter().map(|number| self.entries[number].weight).sum()
    }

    fn park(&mut self, main: bool) {
        let queue = if main {
            &mut self.main
        } else {
            &mut self.small
        };
        while let Some(first) = queue.first().copied() {
            if self.entries[&first].pins == 0 {
                return;
            }
            queue.remove(0);
            self.parked.push((first, main));
        }
    }

    fn unpin(&mut self, number: u32) {
        let entry = self.entries.get_mut(&number).expect("it is there");
        entry.pins -= 1;
        if entry.pins > 0 {
            return;
        }
        if let Some(at) = self.parked.iter().position(|(other, _)| *other == number) {
            let (_, main) = self.parked.remove(at);
            if main {
                self.main.push(number);
            } else {
                self.small.push(number);
            }
        }
    }

    fn pop(&mut self) -> Option<(u32, u64)> {
        loop {
            let small = self.weight_of(&self.small);
            let all = small + self.weight_of(&self.main);
            let mut main = small * 10 < all;
            self.park(main);
            let empty = |this: &Self, main| {
                if main {
                    this.main.is_empty()
                } else {
                    this.small.is_empty()
                }
            };
            if empty(self, main) {
                main = !main;
                self.park(main);
            }
            if empty(self, main) {
                return None;
            }
            let queue = if main {
                &mut self.main
            } else {
                &mut self.small
            };
            let number = queue.remove(0);
            let entry = self.entries.get_mut(&number).expect("it is there");
            if entry.uses > 0 {
                entry.uses = if main { entry.uses - 1 } else { 0 };
                self.main.push(number);
                continue;
            }
            let entry = self.remove(number);
            if !main {
                self.evictions += 1;
                self.ghosts.retain(|(other, _)| *other != number);
                self.ghosts.push((number, self.evictions));
            }
            return Some((number, entry.weight));
        }
    }
}

/// Drives a policy the way a tier does, beside the naive one or only its books.
fn drive(policy: impl EvictionPolicy, ops: &[Op], same_victims: bool) -> Result<(), TestCaseError> {
    let mut owner = Owner::new(policy);
    let mut naive = Naive::default();
    for op in ops {
        match *op {
            Op::Pop if same_victims => {
                let weight = owner.policy.weight();
                let expected = naive.pop();
                let popped = owner.pop();
                prop_assert_eq!(popped, expected.map(|(number, _)| number));
                let freed = weight - owner.policy.weight();
                prop_assert_eq!(freed, expected.map_or(0, |(_, weight)| weight));
            }
            Op::Pop => {
                let Some(number) = owner.pop() else {
                    prop_assert!(naive.entries.values().all(|entry| entry.pins > 0));
                    continue;
                };
                prop_assert_eq!(
                    naive.remove(number).pins,
                    0,
                    "pinned keys are never victims"
                );
            }
            ref op => apply(&mut owner, &mut naive, op),
        }
        let all = || naive.entries.values();
        prop_assert_eq!(owner.policy.weight(), all().map(|e| e.weight).sum::<u64>());
        let pinned = all().filter(|entry| entry.pins > 0);
        prop_assert_eq!(
            owner.policy.pinned_weight(),
            pinned.map(|entry| entry.weight).sum::<u64>()
        );
    }
    Ok(())
}

fn apply(owner: &mut Owner<impl EvictionPolicy>, naive: &mut Naive, op: &Op) {
    let (Op::Insert(number, _)
    | Op::Touch(number)
    | Op::Reweigh(number, _)
    | Op::Remove(number)
    | Op::Pin(number)
    | Op::Unpin(number)) = *op
    else {
        return;
    };
    let Some(slot) = owner.slots.get(&number).copied() else {
        if let Op::Insert(_, weight) = *op {
            owner.insert(number, weight);
            naive.insert(number, weight);
        }
        return;
    };
    let entry = naive.entries.get_mut(&number).expect("both have it");
    match *op {
        Op::Touch(_) => {
            owner.policy.touch(slot);
            entry.uses = (entry.uses + 1).min(3);
        }
        Op::Reweigh(_, weight) => {
            owner.policy.reweigh(slot, weight);
            entry.weight = weight;
        }
        Op::Pin(_) => {
            owner.policy.pin(slot);
            entry.pins += 1;
        }
        Op::Unpin(_) if entry.pins > 0 => {
            owner.policy.unpin(slot);
            naive.unpin(number);
        }
        Op::Remove(_) => {
            owner.policy.remove(slot);
            owner.slots.remove(&number);
            naive.remove(number);
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn books_are_kept_and_pins_hold(ops in proptest::collection::vec(op(), 1..200)) {
        drive(Lru::new(), &ops, false)?;
        drive(Fifo::new(), &ops, false)?;
    }

    #[test]
    fn s3_fifo_is_the_naive_one(ops in proptest::collection::vec(op(), 1..300)) {
        drive(S3Fifo::new(), &ops, true)?;
    }
}
