//! Slots of a metric: an accumulator and a row count each, used again when a window's state goes.

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
    /// No slots yet.
    pub fn new(aggregate: Box<dyn Aggregate>) -> Self {
        Self { aggregate, rows: vec![], free: vec![] }
    }

    /// An empty slot.
    pub fn claim(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        self.rows.push(0);
        self.aggregate.ensure(self.rows.len());
        (self.rows.len() - 1) as u32
    }

    /// Gives a slot back, empty.
    pub fn free(&mut self, slot: u32) {
        self.aggregate.clear(slot);
        self.rows[slot as usize] = 0;
        self.free.push(slot);
    }

    /// One more row in a slot; its values come with [`Slots::aggregate`].
    #[inline]
    pub fn count(&mut self, slot: u32) {
        self.rows[slot as usize] += 1;
    }

    /// One more row in each of these slots.
    pub fn count_all(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.rows[*slot as usize] += 1);
    }

    /// Rows in a slot.
    pub fn rows(&self, slot: u32) -> u64 {
        self.rows[slot as usize]
    }

    /// Adds the state of one slot to another; the first keeps its own.
    pub fn merge(&mut self, into: u32, from: u32) {
        self.aggregate.merge(into, from);
        self.rows[into as usize] += self.rows[from as usize];
    }

    /// The value of a slot for a window of `length` µs.
    pub fn result(&self, slot: u32, length: i64) -> Option<f64> {
        self.aggregate.result(slot, length)
    }

    /// The accumulators themselves.
    pub fn aggregate(&mut self) -> &mut dyn Aggregate {
        &mut *self.aggregate
    }

    /// Bytes held by the slots in use.
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

    /// A new slot with a saved state.
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<u32> {
        let rows = saved.rows()?;
        let state = saved.bytes()?;
        let slot = self.claim();
        self.aggregate.load(slot, state)?;
        self.rows[slot as usize] = rows;
        Ok(slot)
    }
}
