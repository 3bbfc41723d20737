//! A column of numbers most of which may be NULL.

use crate::mapping::options::BATCH_ROWS;
use arrow::array::{ArrayBuilder, ArrowPrimitiveType, PrimitiveArray, PrimitiveBuilder};

/// A column under construction. A row without a number costs nothing: NULLs are added before the next number.
pub(super) struct Sparse<T: ArrowPrimitiveType>(PrimitiveBuilder<T>);

impl<T: ArrowPrimitiveType> Default for Sparse<T> {
    fn default() -> Self {
        Self(PrimitiveBuilder::with_capacity(0))
    }
}

impl<T: ArrowPrimitiveType> Sparse<T> {
    /// Adds the number of a row that is after `before` others, if it has one.
    #[inline(always)]
    pub(super) fn push(&mut self, before: usize, number: Option<T::Native>) {
        if let Some(number) = number {
            if self.0.len() < before {
                self.skip_to(before);
            }
            self.0.append_value(number);
        }
    }

    #[inline(never)]
    fn skip_to(&mut self, rows: usize) {
        self.0.append_nulls(rows - self.0.len());
    }

    /// Takes the numbers of `rows` rows; an empty array if no row has one.
    pub(super) fn finish(&mut self, rows: usize) -> PrimitiveArray<T> {
        if self.0.is_empty() {
            return self.0.finish();
        }
        self.skip_to(rows);
        std::mem::replace(&mut self.0, PrimitiveBuilder::with_capacity(BATCH_ROWS)).finish()
    }

    /// Drops the numbers.
    pub(super) fn clear(&mut self) {
        drop(self.0.finish());
    }
}
