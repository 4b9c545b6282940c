//! Doubly linked queues in one vector, with weights and pins: what all policies share.
//!
//! A pinned entry keeps its place until eviction comes upon it; then it is *parked*, off
//! its queue, so that it is looked at once however long it stays pinned. Its last unpin
//! puts it back as the youngest.

use super::{Print, Slot, push_lean};

const NONE: u32 = u32::MAX;

/// An entry of a queue.
#[derive(Debug)]
pub(super) struct Node {
    weight: u32,
    prev: u32,
    next: u32,
    pub(super) print: Print,
    pins: u16,
    /// How often it was used, as far as the policy counts.
    pub(super) uses: u8,
    queue: u8,
    parked: bool,
}

/// Queues whose entries can move from one to the other.
#[derive(Debug)]
pub(super) struct List<const QUEUES: usize> {
    nodes: Vec<Node>,
    free: u32,
    queues: [Queue; QUEUES],
    keys: usize,
    weight: u64,
    pinned: u64,
}

#[derive(Debug, Clone, Copy)]
struct Queue {
    oldest: u32,
    youngest: u32,
    weight: u64,
}

impl<const QUEUES: usize> List<QUEUES> {
    pub(super) fn new() -> Self {
        let empty = Queue {
            oldest: NONE,
            youngest: NONE,
            weight: 0,
        };
        Self {
            nodes: Vec::new(),
            free: NONE,
            queues: [empty; QUEUES],
            keys: 0,
            weight: 0,
            pinned: 0,
        }
    }

    pub(super) fn insert(&mut self, print: Print, weight: u64, queue: u8) -> Slot {
        let node = Node {
            weight: narrow(weight),
            prev: NONE,
            next: NONE,
            print,
            pins: 0,
            uses: 0,
            queue,
            parked: false,
        };
        let at = self.allocate(node);
        self.keys += 1;
        self.weight += weight;
        self.link(at);
        Slot(at)
    }

    pub(super) fn node(&mut self, slot: Slot) -> &mut Node {
        &mut self.nodes[slot.index()]
    }

    /// Makes it the youngest of a queue.
    pub(super) fn renew(&mut self, slot: Slot, queue: u8) {
        let parked = self.nodes[slot.index()].parked;
        if !parked {
            self.unlink(slot.0);
        }
        self.nodes[slot.index()].queue = queue;
        if !parked {
            self.link(slot.0);
        }
    }

    pub(super) fn reweigh(&mut self, slot: Slot, weight: u64) {
        let node = &mut self.nodes[slot.index()];
        let before = u64::from(std::mem::replace(&mut node.weight, narrow(weight)));
        self.weight = self.weight - before + weight;
        if node.pins > 0 {
            self.pinned = self.pinned - before + weight;
        }
        if !node.parked {
            let queue = &mut self.queues[usize::from(node.queue)];
            queue.weight = queue.weight - before + weight;
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) -> u64 {
        let node = &self.nodes[slot.index()];
        let (weight, pinned) = (u64::from(node.weight), node.pins > 0);
        if !node.parked {
            self.unlink(slot.0);
        }
        if pinned {
            self.pinned -= weight;
        }
        self.keys -= 1;
        self.weight -= weight;
        self.nodes[slot.index()].next = self.free;
        self.free = slot.0;
        weight
    }

    /// The oldest of a queue that is not pinned. Those in front of it are parked.
    pub(super) fn oldest(&mut self, queue: u8) -> Option<Slot> {
        loop {
            let at = self.queues[usize::from(queue)].oldest;
            let node = self.nodes.get(at as usize)?;
            if node.pins == 0 {
                return Some(Slot(at));
            }
            self.unlink(at);
            self.nodes[at as usize].parked = true;
        }
    }

    pub(super) fn pin(&mut self, slot: Slot) {
        let node = &mut self.nodes[slot.index()];
        node.pins = node.pins.saturating_add(1);
        if node.pins == 1 {
            self.pinned += u64::from(node.weight);
        }
    }

    pub(super) fn unpin(&mut self, slot: Slot) {
        let node = &mut self.nodes[slot.index()];
        if node.pins == 0 {
            return;
        }
        node.pins -= 1;
        if node.pins > 0 {
            return;
        }
        self.pinned -= u64::from(node.weight);
        if std::mem::take(&mut node.parked) {
            self.link(slot.0);
        }
    }

    /// How many there are.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn pinned(&self) -> u64 {
        self.pinned
    }

    /// Bytes of what is on a queue.
    pub(super) fn weight_of(&self, queue: u8) -> u64 {
        self.queues[usize::from(queue)].weight
    }

    pub(super) fn memory(&self) -> u64 {
        (self.nodes.capacity() * size_of::<Node>()) as u64
    }

    /// What is on a queue, oldest first.
    #[cfg(test)]
    pub(super) fn walk(&self, queue: u8) -> Vec<&Node> {
        let first = self
            .nodes
            .get(self.queues[usize::from(queue)].oldest as usize);
        std::iter::successors(first, |node| self.nodes.get(node.next as usize)).collect()
    }

    fn allocate(&mut self, node: Node) -> u32 {
        if self.free == NONE {
            push_lean(&mut self.nodes, node);
            return narrow(self.nodes.len() as u64 - 1);
        }
        let at = self.free;
        self.free = self.nodes[at as usize].next;
        self.nodes[at as usize] = node;
        at
    }

    fn link(&mut self, at: u32) {
        let node = &mut self.nodes[at as usize];
        let queue = &mut self.queues[usize::from(node.queue)];
        queue.weight += u64::from(node.weight);
        let before = std::mem::replace(&mut queue.youngest, at);
        node.prev = before;
        node.next = NONE;
        match self.nodes.get_mut(before as usize) {
            Some(neighbour) => neighbour.next = at,
            None => queue.oldest = at,
        }
    }

    fn unlink(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let (prev, next) = (node.prev, node.next);
        let queue = &mut self.queues[usize::from(node.queue)];
        queue.weight -= u64::from(node.weight);
        match self.nodes.get_mut(prev as usize) {
            Some(neighbour) => neighbour.next = next,
            None => queue.oldest = next,
        }
        match self.nodes.get_mut(next as usize) {
            Some(neighbour) => neighbour.prev = prev,
            None => queue.youngest = prev,
        }
    }
}

/// Entries weigh at most a block with its header (below 2^29), and there are fewer
/// entries than 2^32 - 1; both are bounded by the tier.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("block weights and entry counts fit 32 bits")
}
