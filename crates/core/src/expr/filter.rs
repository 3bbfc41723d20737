//! Filters: selects the rows for which an expression is true, and finds names without a value in any row, most of which
//! are misspelled.

use super::expression::Expr;
use super::leaf::{Leaf, LeafType, Leaves};
use super::read::{LeafBatch, Wrong, WrongRows};
use super::value::{ValueKind, Want};
use crate::error::Result;
use crate::parse::excerpt::brief;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use std::sync::Arc;

/// A `--where`.
#[derive(Clone, Debug)]
pub struct Filter {
    leaves: Leaves,
    expr: Expr,
    observed: ObservedLeaves,
}

/// The result of a filter on a batch.
#[derive(Clone, Debug)]
pub struct Passed {
    /// The rows for which it is true.
    pub keep: BooleanArray,
    /// Rows in which a value has the wrong type; none of them is kept.
    pub wrong: WrongRows,
}

/// Returns the wrong values of a filter in any row, and those of the `rest` in the rows that pass it.
pub fn wrong_of<'a>(
    filter: Option<&'a Expr>,
    rest: impl Iterator<Item = &'a Expr>,
    leaves: &'a LeafBatch,
    passes: impl Fn(usize) -> bool,
) -> impl Iterator<Item = Wrong<'a>> {
    let rest = rest.flat_map(|expr| expr.wrong(leaves)).filter(move |wrong| passes(wrong.row()));
    filter.into_iter().flat_map(|filter| filter.wrong(leaves)).chain(rest)
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
        self.observed.warnings(flag, &self.expr)
    }

    /// Applies the filter to a batch.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<Passed> {
        let leaves = LeafBatch::read(&self.leaves, batch)?;
        self.observed.observe(&leaves);
        let truth = self.expr.eval(&leaves)?;
        let truth = truth.as_boolean();
        let mut wrong = WrongRows::new();
        self.expr.wrong(&leaves).for_each(|found| found.note(&mut wrong, Wrong::advice));
        let mut keep: Vec<bool> = (0..truth.len()).map(|row| truth.is_valid(row) && truth.value(row)).collect();
        wrong.keys().for_each(|row| keep[*row] = false);
        Ok(Passed { keep: keep.into(), wrong })
    }
}

/// What the rows so far had at the leaves of expressions.
#[derive(Clone, Debug)]
pub struct ObservedLeaves {
    leaves: Vec<ObservedLeaf>,
    has_rows: bool,
}

#[derive(Clone, Debug)]
struct ObservedLeaf {
    leaf: Arc<Leaf>,
    is_all_null: bool,
    /// Whether it had an integer that no double is equal to.
    is_rounded: bool,
    /// Whether it had values that `try_cast` made NULL.
    is_uncast: bool,
}

impl ObservedLeaves {
    /// Creates the state before the first row: no leaf has had a value.
    pub fn new(leaves: &Leaves) -> Self {
        let leaves = leaves.leaves.iter().cloned();
        let new = |leaf| ObservedLeaf { leaf, is_all_null: true, is_rounded: false, is_uncast: false };
        Self { leaves: leaves.map(new).collect(), has_rows: false }
    }

    /// Records a batch.
    pub fn observe(&mut self, batch: &LeafBatch) {
        self.has_rows |= batch.num_rows() > 0;
        for (at, leaf) in self.leaves.iter_mut().enumerate() {
            leaf.is_all_null = leaf.is_all_null && batch.is_all_null(at);
            leaf.is_rounded |= batch.is_rounded(at);
            leaf.is_uncast |= batch.is_uncast(at);
        }
    }

    /// Returns the leaves of a name. A property with two spellings has one leaf, with its first name.
    fn named(&self, name: &str) -> impl Iterator<Item = &ObservedLeaf> {
        self.leaves.iter().filter(move |observed| observed.leaf.name == name)
    }

    /// Returns the names of an expression that had no value in any row; none before the first row.
    fn always_null(&self, expr: &Expr) -> impl Iterator<Item = String> {
        let has_leaf = |name: &str| self.named(name).next().is_some();
        let is_null = move |name: &&String| {
            self.has_rows && has_leaf(name) && self.named(name).all(|observed| observed.is_all_null)
        };
        expr.paths().iter().filter(is_null).cloned()
    }

    /// Returns the names of an expression that had integers beyond 2^53 which were rounded.
    pub fn rounded(&self, expr: &Expr) -> Vec<String> {
        let leaves = expr.doubles().iter().filter_map(|leaf| self.leaves.get(*leaf));
        leaves.filter(|observed| observed.is_rounded).map(|observed| observed.leaf.name.clone()).collect()
    }

    /// Returns the names of an expression that no row has, as far as the expression uses their values; none before the
    /// first row.
    pub fn unknown(&self, expr: &Expr) -> Vec<String> {
        self.always_null(expr).filter(|name| !self.is_presence(name) && !self.is_uncast(name)).collect()
    }

    /// Returns a line for each name of an expression that had no value in any row; none before the first row. `row` is
    /// the word for a row in these lines.
    pub fn null_lines(&self, expr: &Expr, row: &str) -> Vec<String> {
        self.always_null(expr).map(|name| self.null_line(&name, row)).collect()
    }

    fn null_line(&self, name: &str, row: &str) -> String {
        let shown = brief(name);
        match self.is_uncast(name) {
            // The rows have the name, so the name is right.
            true => format!("{shown} was NULL in every {row}: try_cast reads none of its values"),
            false => format!("{shown} was NULL in every {row}; check the name"),
        }
    }

    fn is_uncast(&self, name: &str) -> bool {
        self.named(name).any(|observed| observed.is_uncast)
    }

    /// Whether an expression only tests a name for NULL. Such a name may be correct although it is NULL in every row.
    fn is_presence(&self, name: &str) -> bool {
        self.named(name).all(|observed| observed.leaf.leaf_type == LeafType::Presence)
    }

    /// Returns a warning for each name without a value in any row, and for each whose integers were rounded; `flag` has
    /// the expression.
    pub fn warnings(&self, flag: &str, expr: &Expr) -> Vec<String> {
        let warning = |name: String| match self.is_presence(&name) {
            true => format!("{flag}: {} was NULL or absent in every row", brief(name)),
            false => format!("{flag}: {}", self.null_line(&name, "row")),
        };
        let rounded = self.rounded(expr).into_iter().map(|name| format!("{flag}: {}", rounded_integers(&name)));
        self.always_null(expr).map(warning).chain(rounded).collect()
    }
}

/// Returns the message about a name whose integers were rounded.
pub fn rounded_integers(name: &str) -> String {
    let name = brief(name);
    format!("integers of {name} beyond 2^53 were rounded, because numbers are doubles; cast({name} as text) is exact")
}
