//! Merged states of runs of slices, so that a window of many slices takes few merges.
//!
//! Slices are numbered along the time line. The node (level, at) is the sum of the slices from `at · 2^level` up to,
//! but not including, `(at + 1) · 2^level`. Any run of n slices is the sum of at most 2 · log₂ n nodes. A node is built
//! when a window first needs it, and kept until a slice below it changes or is dropped. Nodes are not saved: a restored
//! operator builds them again.

use super::slots::Slots;
use ahash::AHashMap;
use std::ops::Range;

/// A key's state in a node or a slice: a slot of its own, or the slot of the only slice below that has the key.
#[derive(Clone, Copy)]
pub(crate) struct KeySlot {
    pub(crate) key: u32,
    pub(crate) slot: u32,
    own: bool,
}

impl KeySlot {
    /// Creates a part that refers to a slot owned elsewhere.
    pub(crate) fn borrowed(key: u32, slot: u32) -> Self {
        Self { key, slot, own: false }
    }

    /// Adds the state of another slot.
    pub(crate) fn add(&mut self, slot: u32, slots: &mut Slots) {
        if !self.own {
            let sum = slots.claim();
            slots.merge(sum, self.slot);
            (self.slot, self.own) = (sum, true);
        }
        slots.merge(self.slot, slot);
    }

    /// Frees its slot if it owns it.
    pub(crate) fn free(self, slots: &mut Slots) {
        if self.own {
            slots.free(self.slot);
        }
    }
}

/// Access to the slices below the nodes.
pub(crate) trait Leaves {
    /// Returns the parts of a slice, in the order of keys.
    fn parts(&self, number: i64) -> Vec<KeySlot>;
    /// Whether there is no slice among these.
    fn is_empty(&self, numbers: Range<i64>) -> bool;
}

/// The position of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeIndex {
    /// A node of level 0 is a slice; one of another level sums two of the level below.
    level: u32,
    /// The number of the node in its level.
    at: i64,
}

/// No node sums more than 2^18 slices, because an event is in at most 100,000 windows.
const LEVEL_MAX: u32 = 18;

/// The nodes built so far, each with its parts in the order of keys.
#[derive(Default)]
pub(crate) struct Tree {
    nodes: AHashMap<NodeIndex, Vec<KeySlot>>,
}

impl Tree {
    /// Returns the nodes and slices (level 0) that sum up these slices, the largest first.
    pub(crate) fn cover(numbers: Range<i64>) -> Vec<NodeIndex> {
        let Range { start: mut low, end: mut high } = numbers;
        let mut nodes = vec![];
        let mut level = 0;
        while low < high {
            if level == LEVEL_MAX {
                nodes.extend((low..high).map(|at| NodeIndex { level, at }));
                break;
            }
            if low & 1 == 1 {
                nodes.push(NodeIndex { level, at: low });
                low += 1;
            }
            if high & 1 == 1 {
                high -= 1;
                nodes.push(NodeIndex { level, at: high });
            }
            (low, high, level) = (low >> 1, high >> 1, level + 1);
        }
        nodes.reverse();
        nodes
    }

    /// Calls `f` for each part of a node, or for those of the keys in `asked`.
    pub(crate) fn each(
        &mut self,
        node: NodeIndex,
        asked: Option<&[u32]>,
        leaves: &impl Leaves,
        slots: &mut Slots,
        mut f: impl FnMut(KeySlot, &mut Slots),
    ) {
        let made;
        let parts = if node.level == 0 {
            made = leaves.parts(node.at);
            &made
        } else {
            self.make(node, leaves, slots);
            match self.nodes.get(&node) {
                Some(parts) => parts,
                None => return,
            }
        };
        match asked {
            None => parts.iter().for_each(|part| f(*part, slots)),
            Some(keys) => {
                let found = keys.iter().filter_map(|key| parts.binary_search_by_key(key, |part| part.key).ok());
                found.for_each(|at| f(parts[at], slots));
            }
        }
    }

    /// Builds a node that does not exist yet, unless it contains no slice.
    fn make(&mut self, node: NodeIndex, leaves: &impl Leaves, slots: &mut Slots) {
        let NodeIndex { level, at } = node;
        if self.nodes.contains_key(&node) || leaves.is_empty(at << level..(at + 1) << level) {
            return;
        }
        let halves = [2 * at, 2 * at + 1].map(|at| NodeIndex { level: level - 1, at });
        let parts = if level == 1 {
            let [first, second] = halves.map(|half| leaves.parts(half.at));
            merge(&first, &second, slots)
        } else {
            halves.into_iter().for_each(|half| self.make(half, leaves, slots));
            let [first, second] = halves.map(|half| self.nodes.get(&half).map_or(&[][..], Vec::as_slice));
            merge(first, second, slots)
        };
        self.nodes.insert(node, parts);
    }

    /// Removes the nodes above a slice that changes or is dropped.
    pub(crate) fn forget(&mut self, number: i64, slots: &mut Slots) {
        if self.nodes.is_empty() {
            return;
        }
        for level in 1..=LEVEL_MAX {
            let parts = self.nodes.remove(&NodeIndex { level, at: number >> level });
            parts.into_iter().flatten().for_each(|part| part.free(slots));
        }
    }
}

/// Merges the parts of two neighbours. A key that only one of them has keeps its slot.
fn merge(first: &[KeySlot], second: &[KeySlot], slots: &mut Slots) -> Vec<KeySlot> {
    let mut merged = Vec::with_capacity(first.len().max(second.len()));
    let (mut first, mut second) = (first.iter().peekable(), second.iter().peekable());
    loop {
        let order = match (first.peek(), second.peek()) {
            (None, None) => return merged,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.key.cmp(&b.key),
        };
        let a = if order.is_le() { first.next() } else { None };
        let b = if order.is_ge() { second.next() } else { None };
        match (a, b) {
            (Some(a), Some(b)) => {
                let mut sum = KeySlot::borrowed(a.key, a.slot);
                sum.add(b.slot, slots);
                merged.push(sum);
            }
            (Some(one), None) | (None, Some(one)) => merged.push(KeySlot::borrowed(one.key, one.slot)),
            (None, None) => return merged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_slices_is_covered_once_by_few_nodes_the_greatest_first() {
        for low in -40i64..40 {
            for high in low..low + 90 {
                let nodes = Tree::cover(low..high);
                let slices = |node: &NodeIndex| node.at << node.level..(node.at + 1) << node.level;
                let mut numbers: Vec<i64> = nodes.iter().flat_map(slices).collect();
                numbers.sort_unstable();
                assert_eq!(numbers, (low..high).collect::<Vec<_>>());
                assert!(nodes.is_sorted_by(|a, b| a.level >= b.level));
                assert!(nodes.len() <= 2 * (64 - ((high - low) as u64).leading_zeros() as usize), "{low}..{high}");
            }
        }
    }
}
