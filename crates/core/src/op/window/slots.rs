//! Slots of a metric: an accumulator and a row count each. A slot is used again after its window's state is dropped.

use crate::error::Result;
use crate::op::aggregate::Aggregate;
use crate::op::snapshot::{Reader, Writer};
use arrow::array::ArrayRef;

/// The accumulators of one metric.
pub struct Slots {
    aggregate: Box<dyn Aggregate>,
    rows: Vec<u64>,
    free: Vec<u32>,
    pending: Pending,
    measured: Measured,
}

/// Approximate bytes of a slot beside its state: row count, place in a map of keys, unused capacity.
const SLOT_BYTES: usize = 40;
/// Minimum number of rows between two measurements.
const MEASURED_ROWS: usize = 1 << 16;

/// The size of the slots when it was last measured.
#[derive(Default)]
struct Measured {
    slots: usize,
    bytes: usize,
    /// Rows added since then.
    rows: usize,
}

/// Rows of a batch that are counted in their slots, but whose values have not been added yet.
#[derive(Default)]
struct Pending {
    slots: Vec<u32>,
    rows: Vec<u32>,
}

impl Slots {
    /// Creates an empty set of slots.
    pub fn new(aggregate: Box<dyn Aggregate>) -> Self {
        Self { aggregate, rows: vec![], free: vec![], pending: Pending::default(), measured: Measured::default() }
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

    /// Makes room for the rows of a batch.
    pub fn reserve(&mut self, rows: usize) {
        self.pending.slots.reserve(rows);
        self.pending.rows.reserve(rows);
    }

    /// Counts a row of the batch in a slot; [`Slots::flush`] adds its values.
    #[inline(always)]
    pub fn add(&mut self, slot: u32, row: u32) {
        self.rows[slot as usize] += 1;
        self.pending.slots.push(slot);
        self.pending.rows.push(row);
    }

    /// Takes the empty list of slots, to be filled with one for each row of a batch.
    pub fn take_list(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.pending.slots)
    }

    /// Counts each row of a batch in its slot; [`Slots::flush`] adds their values.
    pub fn add_all(&mut self, slots: Vec<u32>) {
        slots.iter().for_each(|slot| self.rows[*slot as usize] += 1);
        self.pending.rows.extend(0..slots.len() as u32);
        self.pending.slots = slots;
    }

    /// Adds the values of the counted rows; `args` are the columns of the batch.
    pub fn flush(&mut self, args: &[ArrayRef]) {
        let Pending { slots, rows } = &mut self.pending;
        if !rows.is_empty() {
            self.measured.rows += rows.len();
            self.aggregate.add(slots, rows, args);
            slots.clear();
            rows.clear();
        }
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

    /// Returns the approximate bytes of all slots, free ones too. States grow with their rows, so they are measured
    /// again after as many rows as there are slots.
    pub fn allocated(&mut self) -> usize {
        let slots = self.rows.len();
        let Self { aggregate, measured, .. } = self;
        if measured.rows >= slots.max(MEASURED_ROWS) || slots > 2 * measured.slots {
            let bytes = (0..slots as u32).map(|slot| aggregate.size(slot) + SLOT_BYTES).sum();
            *measured = Measured { slots, bytes, rows: 0 };
        }
        measured.bytes * slots / measured.slots.max(1)
    }

    /// Skips a saved slot.
    pub fn skip(saved: &mut Reader<'_>) -> Result<()> {
        saved.rows()?;
        saved.bytes().map(|_| ())
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
