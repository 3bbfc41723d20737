//! avg: the exact sum over the count, rounded once.

use super::definition::Definition;
use super::slots::{Accumulator, Asked, Slots, each_number};
use super::sum::{SUM, Sum};
use crate::error::Result;
use crate::op::snapshot::Reader;
use arrow::array::ArrayRef;

/// `avg(x)`.
pub(super) const AVG: Definition = Definition {
    name: "avg",
    usage: "avg(x)",
    about: "exact sum divided by the count, rounded once",
    create: Slots::<Avg>::create,
    ..SUM
};

#[derive(Default)]
struct Avg(Sum);

impl Accumulator for Avg {
    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        each_number(states, slots, rows, args, |state, value| state.0.push(value));
    }

    fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }

    fn result(&self, _: Asked) -> Option<f64> {
        self.0.mean()
    }

    fn heap(&self) -> usize {
        self.0.heap()
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
    }

    fn load(reader: &mut Reader<'_>) -> Result<Self> {
        Sum::load(reader).map(Self)
    }
}
