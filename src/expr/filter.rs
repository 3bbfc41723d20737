//! Filters: selects the rows for which an expression is true, and finds names without a value in any row, most of which
//! are misspelled.

use super::expression::Expr;
use super::leaf::{LeafType, Leaves};
use super::read::LeafBatch;
use super::value::{ValueKind, Want};
use crate::error::Result;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;

/// A `--where`.
#[derive(Debug)]
pub struct Filter {
    leaves: Leaves,
    expr: Expr,
    observed: ObservedLeaves,
}

/// A row of a batch in which a value has the wrong type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    /// The index of the row.
    pub row: usize,
    /// The message: the expected type and the value that was found.
    pub message: String,
}

/// The result of a filter on a batch.
#[derive(Debug)]
pub struct Passed {
    /// The rows for which it is true.
    pub keep: BooleanArray,
    /// Rows in which a value has the wrong type, each once, in order, with the message; none of them is kept.
    pub wrong: Vec<RowFault>,
}

impl Filter {
    /// Parses the filter `text` for rows of `schema`.
    ///
    /// Errors: exit status 78 if it is not a filter.
    pub fn new(text: &str, schema: &SchemaRef) -> Result<Self> {
        let mut leaves = Leaves::new(schema);
        let expr = Expr::parse(text, Want::Kind(ValueKind::Bool), &mut leaves)?;
        let observed = ObservedLeaves::new(&leaves);
        Ok(Self { leaves, expr, observed })
    }

    /// Returns a bit for each of the first 32 columns that the filter names.
    pub fn columns(&self) -> u32 {
        self.leaves.columns()
    }

    /// Returns warnings about names: those without a value in any row, and those whose integers were rounded; `flag`
    /// has the expression.
    pub fn warnings(&self, flag: &str) -> Vec<String> {
        self.observed.warnings(flag, &self.leaves, &self.expr)
    }

    /// Applies the filter to a batch.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<Passed> {
        let leaves = LeafBatch::read(&self.leaves, batch)?;
        self.observed.observe(&leaves);
        let truth = self.expr.eval(&leaves)?;
        let truth = truth.as_boolean();
        let faults = self.expr.wrong(&leaves);
        let faults = faults.map(|wrong| RowFault { row: wrong.row() as usize, message: wrong.advice() });
        let mut wrong: Vec<RowFault> = faults.collect();
        wrong.sort_by_key(|fault| fault.row);
        wrong.dedup_by_key(|fault| fault.row);
        let mut keep: Vec<bool> = (0..truth.len()).map(|row| truth.is_valid(row) && truth.value(row)).collect();
        wrong.iter().for_each(|fault| keep[fault.row] = false);
        Ok(Passed { keep: keep.into(), wrong })
    }
}

/// The leaves without a value in any row so far, and those with integers that no double is equal to.
#[derive(Debug)]
pub struct ObservedLeaves {
    all_null: Vec<bool>,
    rounded: Vec<bool>,
    /// Those with values that `try_cast` made NULL.
    uncast: Vec<bool>,
    has_rows: bool,
}

impl ObservedLeaves {
    /// Creates the state before the first row: no leaf has had a value.
    pub fn new(leaves: &Leaves) -> Self {
        let count = leaves.leaves.len();
        Self { all_null: vec![true; count], rounded: vec![false; count], uncast: vec![false; count], has_rows: false }
    }

    /// Records a batch.
    pub fn observe(&mut self, batch: &LeafBatch) {
        self.has_rows |= batch.num_rows() > 0;
        for (leaf, all_null) in self.all_null.iter_mut().enumerate().filter(|(_, all_null)| **all_null) {
            *all_null = batch.is_all_null(leaf);
        }
        for (leaf, rounded) in self.rounded.iter_mut().enumerate() {
            *rounded |= batch.is_rounded(leaf);
        }
        for (leaf, uncast) in self.uncast.iter_mut().enumerate() {
            *uncast |= batch.is_uncast(leaf);
        }
    }

    /// Returns the names of an expression that had no value in any row; none before the first row.
    fn always_null(&self, leaves: &Leaves, expr: &Expr) -> Vec<String> {
        let is_null = |name: &&String| {
            // A property with two spellings has one leaf, with its first name.
            let named = || leaves.leaves.iter().zip(&self.all_null).filter(|(leaf, _)| leaf.name == **name);
            self.has_rows && named().next().is_some() && named().all(|(_, all_null)| *all_null)
        };
        expr.paths().iter().filter(is_null).cloned().collect()
    }

    /// Returns the names of an expression that had integers beyond 2^53 which were rounded.
    pub fn rounded(&self, leaves: &Leaves, expr: &Expr) -> Vec<String> {
        let is_rounded = |name: &&String| {
            leaves.leaves.iter().zip(&self.rounded).any(|(leaf, rounded)| *rounded && leaf.name == **name)
        };
        expr.paths().iter().filter(is_rounded).cloned().collect()
    }

    /// Returns the names of an expression that no row has, as far as the expression uses their values; none before the
    /// first row.
    pub fn unknown(&self, leaves: &Leaves, expr: &Expr) -> Vec<String> {
        let is_unknown = |name: &String| !is_presence(leaves, name) && !self.is_uncast(leaves, name);
        self.always_null(leaves, expr).into_iter().filter(is_unknown).collect()
    }

    /// Returns a line for each name of an expression that had no value in any row; none before the first row. `row` is
    /// the word for a row in these lines.
    pub fn null_lines(&self, leaves: &Leaves, expr: &Expr, row: &str) -> Vec<String> {
        self.always_null(leaves, expr).iter().map(|name| self.null_line(leaves, name, row)).collect()
    }

    fn null_line(&self, leaves: &Leaves, name: &str, row: &str) -> String {
        match self.is_uncast(leaves, name) {
            // The rows have the name, so the name is right.
            true => format!("{name} was NULL in every {row}: try_cast reads none of its values"),
            false => format!("{name} was NULL in every {row}; check the name"),
        }
    }

    fn is_uncast(&self, leaves: &Leaves, name: &str) -> bool {
        leaves.leaves.iter().zip(&self.uncast).any(|(leaf, uncast)| *uncast && leaf.name == *name)
    }

    /// Returns a warning for each name without a value in any row, and for each whose integers were rounded; `flag` has
    /// the expression.
    pub fn warnings(&self, flag: &str, leaves: &Leaves, expr: &Expr) -> Vec<String> {
        let warning = |name: String| match is_presence(leaves, &name) {
            true => format!("{flag}: {name} was NULL or absent in every row"),
            false => format!("{flag}: {}", self.null_line(leaves, &name, "row")),
        };
        let rounded = self.rounded(leaves, expr).into_iter().map(|name| format!("{flag}: {}", rounded_integers(&name)));
        self.always_null(leaves, expr).into_iter().map(warning).chain(rounded).collect()
    }
}

/// Returns the message about a name whose integers were rounded.
pub fn rounded_integers(name: &str) -> String {
    format!("integers of {name} beyond 2^53 were rounded, because numbers are doubles; cast({name} as text) is exact")
}

/// Whether an expression only tests a name for NULL. Such a name may be correct although it is NULL in every row.
fn is_presence(leaves: &Leaves, name: &str) -> bool {
    leaves.leaves.iter().all(|leaf| leaf.name != name || leaf.leaf_type == LeafType::Presence)
}
