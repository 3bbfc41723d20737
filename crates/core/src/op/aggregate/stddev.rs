//! stddev of the sample (n − 1), from the exact sums of the values and of their squares.

use super::decimal::{Decimal, ShortDecimal};
use super::definition::Definition;
use super::exact::{BINARY_UNIT, Exact, Total, root};
use super::states::{Accumulator, ResultInputs, States};
use super::sum::{Adds, DECIMAL_VERSION, SUM, Specials, add_each};
use crate::error::Result;
use crate::op::snapshot::{Reader, put_u64};
use arrow::array::ArrayRef;
use num_bigint::BigInt;

/// `stddev(x)`.
pub(super) const STDDEV: Definition = Definition {
    name: "stddev",
    usage: "stddev(x)",
    about: "sample standard deviation of the decimals, exact and rounded once; NULL for fewer than two values",
    not_additive: Some("standard deviations"),
    create: States::<Stddev>::create,
    ..SUM
};

#[derive(Default)]
struct Stddev {
    sum: Exact,
    squares: Exact,
    count: u64,
    specials: Specials,
}

impl Adds for Stddev {
    #[inline(always)]
    fn add_short(&mut self, value: ShortDecimal) {
        self.count += 1;
        self.sum.add(value);
        self.squares.add_square(value);
    }

    fn add_long(&mut self, value: Decimal) {
        self.count += 1;
        self.sum.add_long(value);
        self.squares.add_long_square(value);
    }

    fn add_special(&mut self, value: f64) {
        self.count += 1;
        self.specials.note(value);
    }
}

impl Accumulator for Stddev {
    const VERSION: u8 = DECIMAL_VERSION;

    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        add_each(states, slots, rows, args);
    }

    fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
        self.count += other.count;
        self.specials.merge(other.specials);
    }

    /// Computes √((n·Σx² − (Σx)²) / (n·(n − 1))); NaN if a value is not finite.
    fn result(&self, _: ResultInputs) -> Option<f64> {
        if self.count < 2 {
            return None;
        }
        if self.specials != Specials::default() {
            return Some(f64::NAN);
        }
        let (sum, squares) = (self.sum.total(), self.squares.total());
        let least = squares.exponent.min(2 * sum.exponent);
        let square_of_sum = Total { mantissa: &sum.mantissa * &sum.mantissa, exponent: 2 * sum.exponent };
        // The difference is never negative, by the Cauchy–Schwarz inequality, because both sides are exact.
        let spread = squares.at(least) * self.count - square_of_sum.at(least);
        let pairs = BigInt::from(self.count) * (self.count - 1);
        Some(root(&spread, &pairs, least))
    }

    fn heap(&self) -> usize {
        self.sum.heap() + self.squares.heap()
    }

    fn save(&self, out: &mut Vec<u8>) {
        let Self { sum, squares, count, specials } = self;
        put_u64(out, *count);
        specials.save(out);
        sum.save(out);
        squares.save(out);
    }

    fn load(version: u8, reader: &mut Reader<'_>) -> Result<Self> {
        let (count, specials) = (reader.rows()?, Specials::load(reader)?);
        let (sum, squares) = match version {
            Self::VERSION => (Exact::load(reader)?, Exact::load(reader)?),
            _ => (Exact::load_binary(reader, BINARY_UNIT)?, Exact::load_binary(reader, 2 * BINARY_UNIT)?),
        };
        Ok(Self { count, specials, sum, squares })
    }
}
