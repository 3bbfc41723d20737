//! Typed expression trees: names are leaves, types are known and patterns are compiled.

use super::function::Function;
use super::node::{Branch, Operator};
use super::value::ValueKind;
use arrow::array::ArrayRef;
use regex::Regex;
use std::collections::HashSet;

/// A typed node. Its operands have the types it requires, so evaluation checks no types.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    /// Index of a leaf.
    Leaf(usize),
    /// Index of a leaf with numbers, which keep the decimals that are written.
    Decimal(usize),
    /// An array of one value.
    Constant(ArrayRef),
    Not(Box<Tree>),
    Negate(Box<Tree>),
    Binary(Operator, Box<Tree>, Box<Tree>),
    IsNull {
        value: Box<Tree>,
        negated: bool,
    },
    In {
        value: Box<Tree>,
        list: Vec<Tree>,
        negated: bool,
    },
    /// `in` with a list of text constants only.
    InTexts {
        value: Box<Tree>,
        list: HashSet<String>,
        negated: bool,
    },
    Between {
        value: Box<Tree>,
        low: Box<Tree>,
        high: Box<Tree>,
        negated: bool,
    },
    Like {
        value: Box<Tree>,
        pattern: Box<Tree>,
        negated: bool,
        any_case: bool,
    },
    Match {
        value: Box<Tree>,
        pattern: Regex,
        negated: bool,
    },
    Case {
        operand: Option<Box<Tree>>,
        branches: Vec<Branch<Tree>>,
        otherwise: Box<Tree>,
    },
    Coalesce(Vec<Tree>),
    Cast {
        value: Box<Tree>,
        from: ValueKind,
        to: ValueKind,
        /// Whether a value that cannot be converted makes the row a dead letter; otherwise it is NULL.
        is_strict: bool,
    },
    Call {
        function: &'static Function,
        args: Vec<Tree>,
        /// The second argument, if it is a regular expression.
        pattern: Option<Regex>,
    },
}
