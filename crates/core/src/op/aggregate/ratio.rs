//! ratio: the number of rows in which a condition holds, divided by the number of rows in which a second condition
//! holds.

use super::definition::Definition;
use super::exact;
use super::states::{Accumulator, ResultInputs, States};
use super::sum::SUM;
use crate::error::Result;
use crate::expr::{ValueKind, Want};
use crate::op::snapshot::{Reader, put_u64};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};

/// `ratio(COND[, OF])`.
pub(super) const RATIO: Definition = Definition {
    name: "ratio",
    usage: "ratio(COND) or ratio(COND, OF)",
    about: "rows where COND holds, divided by rows where OF holds or, without OF, by all rows: purchases per view; NULL if there are none of these",
    args: &[Want::Kind(ValueKind::Bool), Want::Kind(ValueKind::Bool)],
    not_additive: Some("ratios"),
    create: States::<Ratio>::create,
    ..SUM
};

#[derive(Default)]
struct Ratio {
    hits: u64,
    of: u64,
}

fn holds(truth: &BooleanArray, row: usize) -> bool {
    truth.is_valid(row) && truth.value(row)
}

impl Accumulator for Ratio {
    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        let (cond, of) = (args[0].as_boolean(), args[1].as_boolean());
        for (slot, row) in slots.iter().zip(rows) {
            let (state, row) = (&mut states[*slot as usize], *row as usize);
            state.hits += u64::from(holds(cond, row));
            state.of += u64::from(holds(of, row));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.hits += other.hits;
        self.of += other.of;
    }

    fn result(&self, _: ResultInputs) -> Option<f64> {
        (self.of > 0).then(|| exact::round(&self.hits.into(), &self.of.into()))
    }

    fn save(&self, out: &mut Vec<u8>) {
        put_u64(out, self.hits);
        put_u64(out, self.of);
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { hits: reader.rows()?, of: reader.rows()? })
    }
}
