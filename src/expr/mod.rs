//! Expressions: SQL text → typed leaves → evaluation over batches.
//!
//! The meaning is by row, whatever its neighbours; a kind is fixed when the spec is read, never by data.
//!
//! **Names** are unquoted or "quoted" and case-sensitive. A name is a column of the stream's kind if there is one,
//! else a property; `a.b` steps into objects, `"a.b"` is one name, `properties.x` is always the property. Of two
//! equal names inside the properties the last counts.
//!
//! **Kinds** are Number (f64), Text, Bool and Time (µs UTC). A column has its own; a property takes the kind asked of
//! it: arithmetic and numeric functions ask Number; `like`, `~`, `||` and text functions Text; `where`, `and`, `or`,
//! `not` Bool; in a comparison, `in`, `between`, `case` and `coalesce` it is the kind of the other side, and `'...'`
//! beside a Time is an instant. `is null` and `count(x)` ask for none. One property asked with two kinds is two
//! leaves.
//!
//! **Reading a JSON value** ([`leaf`]): absent, null, or below a parent that is no object → NULL. A value of another
//! type than asked is *wrong*: its row is dead. Wrongness is by leaf and by row: neither `and`, `case` nor `coalesce`
//! saves a row from a leaf that stands in the expression, so a row's fate does not hang on the order of evaluation;
//! `try_cast` does, it gives NULL.
//!
//! **Values**: NULL is SQL's, with Kleene's `and` and `or`. Arithmetic is IEEE 754 (1/0 is ∞); there is one NaN, it
//! equals itself and is the greatest number, and −0 is 0, so that results hang on no platform. Text compares by its
//! bytes. `cast(... as double)` of an instant is seconds since 1970, and back.

mod bind;
mod cast;
mod dimension;
mod eval;
mod filter;
mod function;
mod leaf;
mod node;
mod parse;
mod read;
mod tree;

pub use dimension::{Coded, Dimension, canonical_dimensions, write_dimensions};
pub use filter::{Filter, Nulls, Passed};
pub use function::{FUNCTIONS, Function};
pub use leaf::Leaves;
pub use read::{LeafBatch, Wrong};

pub(crate) use node::{Node, literal_number};
pub(crate) use parse::{parse_call, refused};

use crate::error::Result;
use arrow::array::ArrayRef;
use tree::Tree;

/// What a value is; every leaf and every expression has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueKind {
    /// A double: `Float64Array`.
    Number,
    /// `StringArray`.
    Text,
    /// `BooleanArray`.
    Bool,
    /// Microseconds since 1970, UTC: `Int64Array`.
    Time,
}

impl ValueKind {
    /// The word in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Text => "text",
            Self::Bool => "boolean",
            Self::Time => "instant",
        }
    }

    /// The word in `cast(x as ...)`.
    pub(crate) fn cast_name(self) -> &'static str {
        match self {
            Self::Number => "double",
            Self::Text => "text",
            Self::Bool => "boolean",
            Self::Time => "timestamp",
        }
    }
}

/// What is asked of an expression by the place it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A value of this kind: `where` asks Bool, `sum` Number.
    Kind(ValueKind),
    /// No kind: only whether it is NULL counts (`count(x)`).
    Presence,
    /// Any value, as text (`approx_distinct`).
    AsText,
    /// A column or path, as text (`by`).
    Dimension,
}

/// One typed expression over the leaves of the [`Leaves`] that parsed it.
#[derive(Debug)]
pub struct Expr {
    tree: Tree,
    kind: ValueKind,
    text: String,
    leaves: Vec<usize>,
    paths: Vec<String>,
    warnings: Vec<String>,
}

impl Expr {
    /// The kind of its values.
    pub fn kind(&self) -> ValueKind {
        self.kind
    }

    /// Its text without blanks, but for those inside quotes and between words: the default name of a metric.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names it reads, as written and in that order, each once.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// What it may not mean as it was meant, one line each (`amount > '10'` compares text).
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Its value for every row of `batch`; NULL where a leaf is of the wrong type. An error is a bug of ours (70).
    pub fn eval(&self, batch: &LeafBatch) -> Result<ArrayRef> {
        eval::eval(&self.tree, batch)
    }

    /// The same for a dimension, as it is coded where it is.
    pub fn dimension(&self, batch: &LeafBatch) -> Result<Dimension> {
        match self.tree {
            Tree::Leaf(leaf) if let Some(coded) = batch.coded(leaf) => Ok(Dimension::Coded(coded.clone())),
            _ => self.eval(batch).map(Dimension::Rows),
        }
    }

    /// The rows in which a leaf of this expression is of the wrong type, leaf by leaf, each in order of rows.
    pub fn wrong<'a>(&'a self, batch: &'a LeafBatch) -> impl Iterator<Item = Wrong<'a>> {
        self.leaves.iter().flat_map(move |leaf| batch.wrong(*leaf))
    }

    /// What `--check` prints about it: its leaves with their kinds, then its warnings; one line each.
    pub fn explain(&self, leaves: &Leaves) -> String {
        let mut out = String::new();
        for leaf in &self.leaves {
            out.push_str(&format!("  {}\n", leaves.describe(*leaf)));
        }
        for warning in &self.warnings {
            out.push_str(&format!("  warning: {warning}\n"));
        }
        out
    }
}

/// `text` without blanks, but for those inside quotes and one between two words or two minus signs (`a - -b`: two in a
/// row begin a comment).
pub(crate) fn without_blanks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    let mut blank = false;
    for c in text.trim().chars() {
        if quote.is_none() && c.is_whitespace() {
            blank = true;
            continue;
        }
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let joins = |before: char| word(before) && word(c) || before == '-' && c == '-';
        if std::mem::take(&mut blank) && out.chars().next_back().is_some_and(joins) {
            out.push(' ');
        }
        quote = match quote {
            None if matches!(c, '\'' | '"') => Some(c),
            Some(open) if open == c => None,
            open => open,
        };
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::events as tests_events;
