//! An operand of an expression.

use crate::error::Result;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Datum, UInt32Array};
use arrow::compute::take;
use std::sync::Arc;

/// One value per row, or one for all rows.
#[derive(Clone, Debug)]
pub(in crate::expr) struct Value {
    pub(in crate::expr) array: ArrayRef,
    pub(in crate::expr) scalar: bool,
}

impl Datum for Value {
    fn get(&self) -> (&dyn Array, bool) {
        (&self.array, self.scalar)
    }
}

impl Value {
    pub(in crate::expr) fn rows_of(array: impl Array + 'static, scalar: bool) -> Self {
        Self { array: Arc::new(array), scalar }
    }

    /// Returns the values; a single one for a scalar.
    pub(in crate::expr) fn array(&self) -> &ArrayRef {
        &self.array
    }

    /// Returns the number of values.
    pub(in crate::expr) fn rows(&self) -> usize {
        self.array.len()
    }

    /// Returns the values of `rows` rows.
    pub(in crate::expr) fn full(&self, rows: usize) -> Result<ArrayRef> {
        if !self.scalar || rows == 1 {
            return Ok(self.array.clone());
        }
        Ok(take(&self.array, &UInt32Array::from(vec![0; rows]), None)?)
    }

    pub(in crate::expr) fn truth(&self, rows: usize) -> Result<BooleanArray> {
        Ok(self.full(rows)?.as_boolean().clone())
    }
}
