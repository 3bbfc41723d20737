//! stddev of the sample (n − 1), from the exact sums of the values and of their squares.

use super::definition::Definition;
use super::exact::{Exact, SQUARE_UNIT, UNIT, root};
use super::states::{Accumulator, ResultInputs, States, each_number};
use super::sum::{SUM, Specials};
use crate::error::Result;
use crate::op::snapshot::{Reader, put_u64};
use arrow::array::ArrayRef;
use num_bigint::{BigInt, BigUint};

/// `stddev(x)`.
pub(super) const STDDEV: Definition = Definition {
    name: "stddev",
    usage: "stddev(x)",
    about: "sample standard deviation, exact within one unit in the last place; NULL for fewer than two values",
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

impl Stddev {
    #[inline(always)]
    fn push(&mut self, value: f64) {
        self.count += 1;
        if value.is_finite() {
            self.sum.add(value);
            self.squares.add_square(value);
        } else {
            self.specials.note(value);
        }
    }
}

impl Accumulator for Stddev {
    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        each_number(states, slots, rows, args, Self::push);
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
        let (sum, sum_shift) = self.sum.total();
        let (squares, squares_shift) = self.squares.total();
        let (square_of_sum, shift) = (&sum * &sum, 2 * sum_shift);
        let low = shift.min(squares_shift);
        let left: BigInt = (squares * self.count) << (squares_shift - low).unsigned_abs();
        let right: BigInt = square_of_sum << (shift - low).unsigned_abs();
        // The difference is never negative, by the Cauchy–Schwarz inequality, because both sides are exact.
        let spread = left - right;
        let pairs = BigUint::from(self.count) * (self.count - 1);
        debug_assert_eq!(SQUARE_UNIT, 2 * UNIT);
        Some(root(spread.magnitude(), &pairs, SQUARE_UNIT + low))
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

    fn load(reader: &mut Reader<'_>) -> Result<Self> {
        let (count, specials) = (reader.rows()?, Specials::load(reader)?);
        Ok(Self { count, specials, sum: Exact::load(reader)?, squares: Exact::load(reader)? })
    }
}
