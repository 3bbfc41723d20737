//! Slots of a metric: an accumulator and a row count each. A slot is used again after its window's state is dropped.

use crate::error::Result;
use crate::op::aggregate::Aggregate;
use crate::op::snapshot::{Reader, Writer};

/// The accumulators of one metric.
pub struct Slots {
    aggregate: Box<dyn Aggregate>,
    rows: Vec<u64>,
    free: Vec<u32>,
}

impl Slots {
    /// Creates an empty set of slots.
    pub fn new(aggregate: Box<dyn Aggregate>) -> Self {
        Self { aggregate, rows: vec![], free: vec![] }
    }

    /// Returns an empty slot.
    pub fn claim(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        self.rows.push(0);
        self.aggregate.ensure(self.rows.len());
        (self.rows.len() - 1) as u32
    }

    /// Empties a slot and makes it available again.
    pub fn free(&mut self, slot: u32) {
        self.aggregate.clear(slot);
        self.rows[slot as usize] = 0;
        self.free.push(slot);
    }

    /// Counts one more row in a slot; its values are added with [`Slots::aggregate`].
    #[inline]
    pub fn count(&mut self, slot: u32) {
        self.rows[slot as usize] += 1;
    }

    /// Counts one more row in each of these slots.
    pub fn count_all(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.rows[*slot as usize] += 1);
    }

    /// Returns the rows of a slot.
    pub fn rows(&self, slot: u32) -> u64 {
        self.rows[slot as usize]
    }

    /// Adds the state of slot `from` to slot `into`; `from` keeps its own.
    pub fn merge(&mut self, into: u32, from: u32) {
        self.aggregate.merge(into, from);
        self.rows[into as usize] += self.rows[from as usize];
    }

    /// Returns the value of a slot for a window of `length` µs.
    pub fn result(&self, slot: u32, length: i64) -> Option<f64> {
        self.aggregate.result(slot, length)
    }

    /// Returns the accumulators.
    pub fn aggregate(&mut self) -> &mut dyn Aggregate {
        &mut *self.aggregate
    }

    /// Returns the bytes of the slots in use.
    pub fn size(&self) -> usize {
        let free: std::collections::BTreeSet<u32> = self.free.iter().copied().collect();
        (0..self.rows.len() as u32).filter(|slot| !free.contains(slot)).map(|slot| self.aggregate.size(slot) + 8).sum()
    }

    /// Saves one slot.
    pub fn save(&self, slot: u32, out: &mut Writer) {
        let mut state = vec![];
        self.aggregate.save(slot, &mut state);
        out.count(self.rows(slot) as usize);
        out.bytes(&state);
    }

    /// Restores a saved state into a new slot; returns the slot.
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<u32> {
        let rows = saved.rows()?;
        let state = saved.bytes()?;
        let slot = self.claim();
        self.aggregate.load(slot, state)?;
        self.rows[slot as usize] = rows;
        Ok(slot)
    }
}
