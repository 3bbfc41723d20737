//! sum and avg: exact, rounded once.

use super::definition::Definition;
use super::exact::{Exact, UNIT, round};
use super::states::{Accumulator, ResultInputs, States, each_number};
use crate::error::Result;
use crate::expr::{ValueKind, Want};
use crate::op::snapshot::{Reader, put_u64};
use arrow::array::ArrayRef;

/// `sum(x)`.
pub(super) const SUM: Definition = Definition {
    name: "sum",
    usage: "sum(x)",
    about: "exact sum, rounded once; NaN if a value is NaN or both infinities occur",
    star: false,
    args: &[Want::Kind(ValueKind::Number)],
    least: 1,
    quantile: false,
    is_ordered: false,
    needs_length: false,
    has_limit: false,
    create: States::<Sum<false>>::create,
};

/// `avg(x)`.
pub(super) const AVG: Definition = Definition {
    name: "avg",
    usage: "avg(x)",
    about: "exact sum divided by the count, rounded once",
    create: States::<Sum<true>>::create,
    ..SUM
};

/// The infinities and NaN that have been added: a bit for each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Specials(u8);

impl Specials {
    const POSITIVE: u8 = 1;
    const NEGATIVE: u8 = 2;
    const NAN: u8 = 4;

    #[cold]
    pub(super) fn note(&mut self, value: f64) {
        self.0 |= match value {
            f64::INFINITY => Self::POSITIVE,
            f64::NEG_INFINITY => Self::NEGATIVE,
            _ => Self::NAN,
        };
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Returns the sum of any values that include these infinities and NaN; `None` if none was added.
    pub(super) fn sum(self) -> Option<f64> {
        match self.0 {
            0 => None,
            Self::POSITIVE => Some(f64::INFINITY),
            Self::NEGATIVE => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    pub(super) fn save(self, out: &mut Vec<u8>) {
        out.push(self.0);
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Result<Self> {
        reader.byte().map(Self)
    }
}

/// An exact sum and its number of values; with `MEAN` its result is the mean.
#[derive(Debug, Default)]
struct Sum<const MEAN: bool> {
    exact: Exact,
    count: u64,
    specials: Specials,
}

impl<const MEAN: bool> Sum<MEAN> {
    #[inline(always)]
    fn push(&mut self, value: f64) {
        self.count += 1;
        if value.is_finite() {
            self.exact.add(value);
        } else {
            self.specials.note(value);
        }
    }
}

impl<const MEAN: bool> Accumulator for Sum<MEAN> {
    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        each_number(states, slots, rows, args, Self::push);
    }

    fn merge(&mut self, other: &Self) {
        self.exact.merge(&other.exact);
        self.count += other.count;
        self.specials.merge(other.specials);
    }

    fn result(&self, _: ResultInputs) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        if let Some(sum) = self.specials.sum() {
            return Some(sum);
        }
        let (total, shift) = self.exact.total();
        Some(round(&total, if MEAN { self.count } else { 1 }, UNIT + shift))
    }

    fn heap(&self) -> usize {
        self.exact.heap()
    }

    fn save(&self, out: &mut Vec<u8>) {
        let Self { exact, count, specials } = self;
        put_u64(out, *count);
        specials.save(out);
        exact.save(out);
    }

    fn load(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { count: reader.rows()?, specials: Specials::load(reader)?, exact: Exact::load(reader)? })
    }
}
