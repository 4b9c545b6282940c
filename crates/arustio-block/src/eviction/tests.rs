//! Every policy beside a plain map.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[test]
fn lru_evicts_the_least_recently_used_and_fifo_the_first() {
    let order = |mut policy: Box<dyn EvictionPolicy<u8>>| {
        let first = policy.insert(1, 10);
        policy.insert(2, 10);
        policy.touch(first);
        policy.insert(3, 10);
        std::iter::from_fn(move || policy.pop_victim().map(|(key, _)| key)).collect::<Vec<_>>()
    };
    assert_eq!(order(Box::new(Lru::new(100))), [2, 1, 3]);
    assert_eq!(order(Box::new(Fifo::new(100))), [1, 2, 3]);
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u16, u64),
    Touch(u16),
    Reweigh(u16, u64),
    Remove(u16),
    Pin(u16),
    Unpin(u16),
    Capacity(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0u16..40;
    prop_oneof![
        4 => (key.clone(), 1u64..300).prop_map(|(k, w)| Op::Insert(k, w)),
        2 => key.clone().prop_map(Op::Touch),
        1 => (key.clone(), 1u64..300).prop_map(|(k, w)| Op::Reweigh(k, w)),
        1 => key.clone().prop_map(Op::Remove),
        1 => key.clone().prop_map(Op::Pin),
        1 => key.prop_map(Op::Unpin),
        1 => (0u64..2000).prop_map(Op::Capacity),
    ]
}

#[derive(Debug)]
struct Entry {
    slot: Slot,
    weight: u64,
    pins: u32,
}

/// Drives a policy the way a tier does, beside a plain map.
fn drive(mut policy: Box<dyn EvictionPolicy<u16>>, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut model: HashMap<u16, Entry> = HashMap::new();
    for op in ops {
        apply(&mut *policy, &mut model, op);
        while policy.excess(0) > 0 {
            let Some((key, weight)) = policy.pop_victim() else {
                break;
            };
            let gone = model.remove(&key).expect("a victim was there");
            prop_assert_eq!(gone.pins, 0, "pinned keys are never victims");
            prop_assert_eq!(gone.weight, weight);
        }
        let weight: u64 = model.values().map(|entry| entry.weight).sum();
        let pinned = model.values().filter(|entry| entry.pins > 0);
        prop_assert_eq!(policy.weight(), weight);
        prop_assert_eq!(
            policy.pinned_weight(),
            pinned.map(|entry| entry.weight).sum::<u64>()
        );
        let only_pins = model.values().all(|entry| entry.pins > 0);
        prop_assert!(weight <= policy.capacity() || only_pins);
    }
    Ok(())
}

fn apply(policy: &mut dyn EvictionPolicy<u16>, model: &mut HashMap<u16, Entry>, op: Op) {
    match op {
        Op::Insert(key, weight) => {
            model.entry(key).or_insert_with(|| Entry {
                slot: policy.insert(key, weight),
                weight,
                pins: 0,
            });
        }
        Op::Capacity(bytes) => policy.set_capacity(bytes),
        Op::Remove(key) => {
            if let Some(entry) = model.remove(&key) {
                policy.remove(entry.slot);
            }
        }
        Op::Touch(key) | Op::Reweigh(key, _) | Op::Pin(key) | Op::Unpin(key) => {
            if let Some(entry) = model.get_mut(&key) {
                change(policy, entry, &op);
            }
        }
    }
}

fn change(policy: &mut dyn EvictionPolicy<u16>, entry: &mut Entry, op: &Op) {
    match op {
        Op::Touch(_) => policy.touch(entry.slot),
        Op::Reweigh(_, weight) => {
            policy.reweigh(entry.slot, *weight);
            entry.weight = *weight;
        }
        Op::Pin(_) => {
            policy.pin(entry.slot);
            entry.pins += 1;
        }
        _ if entry.pins > 0 => {
            policy.unpin(entry.slot);
            entry.pins -= 1;
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn bytes_stay_within_capacity_and_pins_hold(ops in proptest::collection::vec(op(), 1..200)) {
        drive(Box::new(Lru::new(1000)), ops.clone())?;
        drive(Box::new(Fifo::new(1000)), ops)?;
    }
}
