//! A filter: which rows of a batch an expression is true for.

use super::{Expr, Leaves, ValueKind, Want};
use crate::error::Result;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;

/// A `--where`.
#[derive(Debug)]
pub struct Filter {
    leaves: Leaves,
    expr: Expr,
    /// For each leaf whether every row so far had nothing there.
    all_null: Vec<bool>,
    has_seen: bool,
}

/// What a filter says of a batch.
#[derive(Debug)]
pub struct Passed {
    /// The rows for which it is true.
    pub keep: BooleanArray,
    /// Rows in which a value is of the wrong type, each once, in order, with the message; none of them is kept.
    pub wrong: Vec<(usize, String)>,
}

impl Filter {
    /// The filter `text` over rows of `schema`; exit 78 if it is none.
    pub fn new(text: &str, schema: &SchemaRef) -> Result<Self> {
        let mut leaves = Leaves::new(schema);
        let expr = leaves.parse(text, Want::Kind(ValueKind::Bool))?;
        let all_null = vec![true; leaves.leaves.len()];
        Ok(Self { leaves, expr, all_null, has_seen: false })
    }

    /// Bits of the first 32 columns that it names.
    pub fn columns(&self) -> u32 {
        self.leaves.columns()
    }

    /// Names that had no value in any row, if rows were looked at.
    pub fn always_null(&self) -> Vec<String> {
        let has_value = |name: &str| {
            let leaves = self.leaves.leaves.iter().zip(&self.all_null);
            leaves.filter(|(leaf, _)| leaf.name == name).any(|(_, all_null)| !all_null)
        };
        let names = self.expr.paths().iter().map(String::as_str);
        names.filter(|name| self.has_seen && !has_value(name)).map(str::to_owned).collect()
    }

    /// Looks at a batch.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<Passed> {
        let leaves = self.leaves.read(batch)?;
        self.has_seen |= batch.num_rows() > 0;
        for (leaf, all_null) in self.all_null.iter_mut().enumerate().filter(|(_, all_null)| **all_null) {
            *all_null = leaves.is_all_null(leaf);
        }
        let truth = self.expr.eval(&leaves)?;
        let truth = truth.as_boolean();
        let mut wrong: Vec<(usize, String)> =
            self.expr.wrong(&leaves).map(|wrong| (wrong.row() as usize, wrong.message())).collect();
        wrong.sort_by_key(|(row, _)| *row);
        wrong.dedup_by_key(|(row, _)| *row);
        let mut keep: Vec<bool> = (0..truth.len()).map(|row| truth.is_valid(row) && truth.value(row)).collect();
        wrong.iter().for_each(|(row, _)| keep[*row] = false);
        Ok(Passed { keep: keep.into(), wrong })
    }
}
