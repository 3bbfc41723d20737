//! count and rate: the number of rows, or of rows in which the argument is not NULL.

use super::definition::Definition;
use super::exact;
use super::states::{Accumulator, ResultInputs, States, each_present};
use super::sum::SUM;
use crate::error::Result;
use crate::expr::Want;
use crate::op::snapshot::{Reader, put_u64};
use crate::time::SECOND;
use arrow::array::ArrayRef;
use num_bigint::BigInt;

/// `count(*)`, `count(x)`.
pub(super) const COUNT: Definition = Definition {
    name: "count",
    usage: "count(*) or count(x)",
    about: "number of rows, or of rows where x is not NULL",
    star: true,
    args: &[Want::Presence],
    create: States::<Count<false>>::create,
    ..SUM
};

/// `rate(*)`, `rate(x)`.
pub(super) const RATE: Definition = Definition {
    name: "rate",
    usage: "rate(*) or rate(x)",
    about: "count per second of the window, rounded once",
    not_additive: Some("rates"),
    create: States::<Count<true>>::create,
    needs_length: true,
    ..COUNT
};

/// A number of rows; with `RATE` its result is per second of the window.
#[derive(Default)]
struct Count<const RATE: bool>(u64);

impl<const RATE: bool> Accumulator for Count<RATE> {
    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        match args.first() {
            Some(arg) => each_present(arg, slots, rows, |slot, _| states[slot].0 += 1),
            None => slots.iter().for_each(|slot| states[*slot as usize].0 += 1),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.0 += other.0;
    }

    fn result(&self, asked: ResultInputs) -> Option<f64> {
        if !RATE {
            return Some(self.0 as f64);
        }
        let micros = u64::try_from(asked.window_micros).ok().filter(|micros| *micros > 0)?;
        Some(exact::round(&(BigInt::from(self.0) * SECOND), &micros.into()))
    }

    fn save(&self, out: &mut Vec<u8>) {
        put_u64(out, self.0);
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Result<Self> {
        reader.rows().map(Self)
    }
}
