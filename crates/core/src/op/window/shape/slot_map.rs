//! The slots of a slice, by key.

use crate::op::window::key::Keys;
use crate::op::window::slots::Slots;
use ahash::AHashMap;

/// Slots of keys with numbers below this are in a plain array, so most metrics need no hashing (0.03 CPU-s per million
/// rows).
const DENSE_KEYS: usize = 4096;
/// Maximum places of the array per key of the slice; one key more than the slice has is counted.
const PLACES_PER_KEY: usize = 16;
const NO_SLOT: u32 = u32::MAX;

/// The slots of a slice, by key: keys below the length of `dense` are in `dense`, the others in `hashed`.
#[derive(Default)]
pub(super) struct SlotMap {
    dense: Vec<u32>,
    /// Number of keys in `dense`.
    count: usize,
    hashed: AHashMap<u32, u32>,
}

impl SlotMap {
    #[inline]
    pub(super) fn get(&self, key: u32) -> Option<u32> {
        match self.dense.get(key as usize) {
            Some(&NO_SLOT) => None,
            Some(slot) => Some(*slot),
            None if self.hashed.is_empty() => None,
            None => self.hashed.get(&key).copied(),
        }
    }

    pub(super) fn insert(&mut self, key: u32, slot: u32) {
        let at = key as usize;
        if at >= self.dense.len() && !self.widen(at) {
            self.hashed.insert(key, slot);
            return;
        }
        self.dense[at] = slot;
        self.count += 1;
    }

    /// Adds the slot of a key, or adds it to that which the key has.
    pub(super) fn add(&mut self, key: u32, slot: u32, keys: &mut Keys, slots: &mut Slots) {
        match self.get(key) {
            Some(into) => {
                slots.merge(into, slot);
                slots.free(slot);
            }
            None => {
                keys.retain(key);
                self.insert(key, slot);
            }
        }
    }

    /// Extends the array to a key, unless most of it would be empty; returns whether it did.
    fn widen(&mut self, at: usize) -> bool {
        let count = self.count + self.hashed.len() + 1;
        if at >= DENSE_KEYS || at >= PLACES_PER_KEY * (count + 1) {
            return false;
        }
        self.dense.resize(at + 1, NO_SLOT);
        let Self { dense, hashed, count } = self;
        hashed.retain(|key, slot| match dense.get_mut(*key as usize) {
            Some(place) => {
                (*place, *count) = (*slot, *count + 1);
                false
            }
            None => true,
        });
        true
    }

    /// Returns the number of keys.
    pub(super) fn len(&self) -> usize {
        self.count + self.hashed.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0 && self.hashed.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        let dense = (0u32..).zip(self.dense.iter().copied()).filter(|(_, slot)| *slot != NO_SLOT);
        dense.chain(self.hashed.iter().map(|(key, slot)| (*key, *slot)))
    }
}
