//! Turns one state into many: every aggregate is an [`Accumulator`], and [`States`] has one per slot.

use super::definition::Aggregate;
use super::quantile::Quantile;
use crate::error::{Error, Result};
use crate::op::snapshot::Reader;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Float64Type;

/// The version that every saved form starts with, unless its aggregate has a later one.
pub(super) const VERSION: u8 = 1;

/// The inputs of a result beside the state.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResultInputs {
    /// The quantile, for percentiles.
    pub(super) quantile: Quantile,
    /// Length of the window (µs), for rates.
    pub(super) window_micros: i64,
}

/// The state of one slot.
pub(super) trait Accumulator: Send + Default + 'static {
    /// The version of the saved form. Those from 1 on can be loaded.
    const VERSION: u8 = VERSION;
    /// Adds row `rows[i]` of the arguments to `states[slots[i]]`.
    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]);
    /// Adds another state.
    fn merge(&mut self, other: &Self);
    /// Returns the value; `None` is NULL.
    fn result(&self, asked: ResultInputs) -> Option<f64>;
    /// Returns the bytes on the heap.
    fn heap(&self) -> usize {
        0
    }
    /// Saves the state. The same values in any order and any splits give the same bytes. [`States`] writes the version
    /// before it.
    fn save(&self, out: &mut Vec<u8>);
    /// Restores a state that was saved with a version. Errors: exit status 65 if [`Accumulator::save`] cannot have
    /// written the bytes.
    fn load(version: u8, reader: &mut Reader<'_>) -> Result<Self>;
}

/// The states of one metric.
pub(super) struct States<A> {
    quantile: Quantile,
    states: Vec<A>,
}

impl<A: Accumulator> States<A> {
    /// Creates the states of a metric, without slots. The rows of the table of aggregates name this function.
    pub(super) fn create(quantile: f64) -> Box<dyn Aggregate> {
        Box::new(Self { quantile: Quantile::of(quantile), states: Vec::new() })
    }
}

impl<A: Accumulator> Aggregate for States<A> {
    fn ensure(&mut self, slots: usize) {
        if self.states.len() < slots {
            self.states.resize_with(slots, A::default);
        }
    }

    fn add(&mut self, slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        A::add(&mut self.states, slots, rows, args);
    }

    fn merge(&mut self, into: u32, from: u32) {
        if let Ok([into, from]) = self.states.get_disjoint_mut([into as usize, from as usize]) {
            into.merge(from);
        } else {
            debug_assert!(false, "merge of a slot with itself, or of one that is not there");
        }
    }

    fn result(&self, slot: u32, window_micros: i64) -> Option<f64> {
        self.states[slot as usize].result(ResultInputs { quantile: self.quantile, window_micros })
    }

    fn clear(&mut self, slot: u32) {
        self.states[slot as usize] = A::default();
    }

    fn size(&self, slot: u32) -> usize {
        size_of::<A>() + self.states[slot as usize].heap()
    }

    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(A::VERSION);
        self.states[slot as usize].save(out);
    }

    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte()?;
        if !(1..=A::VERSION).contains(&version) {
            let known = A::VERSION;
            return Err(Error::corrupt(format!("saved aggregate: expected version {known}, found {version}")));
        }
        let state = A::load(version, &mut reader)?;
        reader.finish()?;
        self.states[slot as usize] = state;
        Ok(())
    }
}

/// Calls `f(slot, row)` for every row where the argument is not NULL.
#[inline(always)]
pub(super) fn each_present(arg: &dyn Array, slots: &[u32], rows: &[u32], mut f: impl FnMut(usize, usize)) {
    let pairs = slots.iter().zip(rows).map(|(slot, row)| (*slot as usize, *row as usize));
    match arg.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => pairs.for_each(|(slot, row)| f(slot, row)),
        Some(nulls) => pairs.filter(|(_, row)| nulls.is_valid(*row)).for_each(|(slot, row)| f(slot, row)),
    }
}

/// Calls `f(state, number)` for every row where the first argument, a Number, is not NULL.
#[inline(always)]
pub(super) fn each_number<A>(
    states: &mut [A],
    slots: &[u32],
    rows: &[u32],
    args: &[ArrayRef],
    f: impl Fn(&mut A, f64),
) {
    let numbers = args[0].as_primitive::<Float64Type>();
    let values = numbers.values();
    each_present(numbers, slots, rows, |slot, row| f(&mut states[slot], values[row]));
}
