//! sum and avg of decimals: exact, rounded once.

use super::decimal::{self, Decimal, ShortDecimal};
use super::definition::Definition;
use super::exact::{BINARY_UNIT, Exact};
use super::states::{Accumulator, ResultInputs, States, each_present};
use crate::error::Result;
use crate::expr::Want;
use crate::op::snapshot::{Reader, put_u64};
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};

/// `sum(x)`.
pub(super) const SUM: Definition = Definition {
    name: "sum",
    usage: "sum(x)",
    about: "exact sum of the decimals, rounded once: of 0.10 and 0.20 it is 0.3; NaN if a value is NaN or both infinities occur",
    star: false,
    args: &[Want::Decimal],
    least: 1,
    quantile: false,
    is_ordered: false,
    needs_length: false,
    not_additive: None,
    has_limit: false,
    create: States::<Sum<false>>::create,
};

/// `avg(x)`.
pub(super) const AVG: Definition = Definition {
    name: "avg",
    usage: "avg(x)",
    about: "exact sum of the decimals divided by the count, rounded once",
    not_additive: Some("averages"),
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

/// The version of the saved form of exact sums. Sums of version 1 are of doubles.
pub(super) const DECIMAL_VERSION: u8 = 2;

/// A number that a sum adds.
pub(super) trait Adds {
    /// Adds a decimal of at most 18 digits.
    fn add_short(&mut self, value: ShortDecimal);
    /// Adds a decimal of at most 38 digits.
    fn add_long(&mut self, value: Decimal);
    /// Adds an infinity or NaN.
    fn add_special(&mut self, value: f64);

    /// Adds the decimal of the shortest text of a double.
    #[inline(always)]
    fn add_double(&mut self, value: f64) {
        if value.is_finite() {
            self.add_short(decimal::shortest(value));
        } else {
            self.add_special(value);
        }
    }

    /// Adds a number as written, or the double nearest to it if it has too many digits.
    fn add_text(&mut self, text: &str) {
        match decimal::parse(text) {
            Some(value) => self.add_long(value),
            None => self.add_double(text.parse().unwrap_or(f64::NAN)),
        }
    }
}

/// Adds each number of the first argument, which is [`Want::Decimal`], to its state.
pub(super) fn add_each<A: Adds>(states: &mut [A], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
    if *args[0].data_type() == DataType::Utf8 {
        let texts = args[0].as_string::<i32>();
        return each_present(texts, slots, rows, |slot, row| states[slot].add_text(texts.value(row)));
    }
    let numbers = args[0].as_primitive::<Float64Type>();
    let values = numbers.values();
    each_present(numbers, slots, rows, |slot, row| states[slot].add_double(values[row]));
}

/// An exact sum and its number of values; with `MEAN` its result is the mean.
#[derive(Debug, Default)]
struct Sum<const MEAN: bool> {
    exact: Exact,
    count: u64,
    specials: Specials,
}

impl<const MEAN: bool> Adds for Sum<MEAN> {
    #[inline(always)]
    fn add_short(&mut self, value: ShortDecimal) {
        self.count += 1;
        self.exact.add(value);
    }

    fn add_long(&mut self, value: Decimal) {
        self.count += 1;
        self.exact.add_long(value);
    }

    fn add_special(&mut self, value: f64) {
        self.count += 1;
        self.specials.note(value);
    }
}

impl<const MEAN: bool> Accumulator for Sum<MEAN> {
    const VERSION: u8 = DECIMAL_VERSION;

    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        add_each(states, slots, rows, args);
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
        self.specials.sum().or_else(|| Some(self.exact.divided(if MEAN { self.count } else { 1 })))
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

    fn load(version: u8, reader: &mut Reader<'_>) -> Result<Self> {
        let (count, specials) = (reader.rows()?, Specials::load(reader)?);
        let exact = match version {
            Self::VERSION => Exact::load(reader)?,
            _ => Exact::load_binary(reader, BINARY_UNIT)?,
        };
        Ok(Self { count, specials, exact })
    }
}
