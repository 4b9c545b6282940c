//! A doubly linked list in a vector, with weights and pins: what FIFO and LRU share.
//!
//! Pinned entries are taken off the list, so finding a victim never has to look past
//! them; the last unpin puts them back as the youngest.

use super::Slot;

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Node<K> {
    key: K,
    weight: u32,
    pins: u32,
    prev: u32,
    next: u32,
}

#[derive(Debug)]
pub(super) struct List<K> {
    nodes: Vec<Node<K>>,
    free: u32,
    oldest: u32,
    youngest: u32,
    pub(super) weight: u64,
    pub(super) pinned: u64,
    pub(super) capacity: u64,
}

impl<K: Copy> List<K> {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            nodes: Vec::new(),
            free: NONE,
            oldest: NONE,
            youngest: NONE,
            weight: 0,
            pinned: 0,
            capacity,
        }
    }

    pub(super) fn insert(&mut self, key: K, weight: u64) -> Slot {
        let node = Node {
            key,
            weight: narrow(weight),
            pins: 0,
            prev: NONE,
            next: NONE,
        };
        let at = self.allocate(node);
        self.weight += weight;
        self.link(at);
        Slot(at)
    }

    pub(super) fn renew(&mut self, slot: Slot) {
        if self.nodes[slot.0 as usize].pins == 0 && self.youngest != slot.0 {
            self.unlink(slot.0);
            self.link(slot.0);
        }
    }

    pub(super) fn reweigh(&mut self, slot: Slot, weight: u64) {
        let node = &mut self.nodes[slot.0 as usize];
        let before = u64::from(std::mem::replace(&mut node.weight, narrow(weight)));
        self.weight = self.weight - before + weight;
        if node.pins > 0 {
            self.pinned = self.pinned - before + weight;
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let node = &self.nodes[slot.0 as usize];
        let weight = u64::from(node.weight);
        if node.pins > 0 {
            self.pinned -= weight;
        } else {
            self.unlink(slot.0);
        }
        self.weight -= weight;
        self.release(slot.0);
    }

    pub(super) fn pop_oldest(&mut self) -> Option<(K, u64)> {
        let at = self.oldest;
        let node = self.nodes.get(at as usize)?;
        let (key, weight) = (node.key, u64::from(node.weight));
        self.remove(Slot(at));
        Some((key, weight))
    }

    pub(super) fn pin(&mut self, slot: Slot) {
        let node = &mut self.nodes[slot.0 as usize];
        node.pins += 1;
        if node.pins == 1 {
            self.pinned += u64::from(node.weight);
            self.unlink(slot.0);
        }
    }

    pub(super) fn unpin(&mut self, slot: Slot) {
        let node = &mut self.nodes[slot.0 as usize];
        if node.pins == 0 {
            return;
        }
        node.pins -= 1;
        if node.pins == 0 {
            self.pinned -= u64::from(node.weight);
            self.link(slot.0);
        }
    }

    pub(super) fn memory(&self) -> u64 {
        (self.nodes.capacity() * size_of::<Node<K>>()) as u64
    }

    fn allocate(&mut self, node: Node<K>) -> u32 {
        if self.free == NONE {
            self.nodes.push(node);
            return narrow(self.nodes.len() as u64 - 1);
        }
        let at = self.free;
        self.free = self.nodes[at as usize].next;
        self.nodes[at as usize] = node;
        at
    }

    fn release(&mut self, at: u32) {
        self.nodes[at as usize].next = self.free;
        self.free = at;
    }

    fn link(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.youngest, at);
        let node = &mut self.nodes[at as usize];
        node.prev = before;
        node.next = NONE;
        match self.nodes.get_mut(before as usize) {
            Some(neighbour) => neighbour.next = at,
            None => self.oldest = at,
        }
    }

    fn unlink(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let (prev, next) = (node.prev, node.next);
        match self.nodes.get_mut(prev as usize) {
            Some(neighbour) => neighbour.next = next,
            None => self.oldest = next,
        }
        match self.nodes.get_mut(next as usize) {
            Some(neighbour) => neighbour.prev = prev,
            None => self.youngest = prev,
        }
    }
}

/// Entries weigh at most a block with its header (below 2^29), and there are fewer
/// entries than 2^32 - 1; both are bounded by the tier.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("block weights and entry counts fit 32 bits")
}
