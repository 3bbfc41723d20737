//! The parts of a query.

use crate::labels::LabelSet;

/// A part of a query. Its value is a number ([`Node::is_scalar`]) or a set of samples.
#[derive(Debug)]
pub(crate) enum Node {
    /// A number.
    Number(f64),
    /// `time()`: the instant in seconds.
    Time,
    /// The last windows of the series of a selector, by its index.
    Instant(usize),
    /// A function of all windows of the range of a selector.
    OverTime(OverTime, usize),
    /// A function of each sample, with its further arguments.
    Each(EachFunction, Box<Node>, Vec<Node>),
    /// `absent`: one sample with these labels if there is none.
    Absent(Box<Node>, LabelSet),
    /// `vector`: a number as a sample without labels.
    Vector(Box<Node>),
    /// `scalar`: the only sample as a number.
    Scalar(Box<Node>),
    /// `sort` and `sort_desc`, which order the samples of one instant.
    Sort { arg: Box<Node>, descends: bool },
    /// An aggregation.
    Aggregate(Aggregate, Grouping, Box<Node>),
    /// `topk` and `bottomk`: the samples with the `count` greatest or least values.
    Rank { greatest: bool, count: Box<Node>, grouping: Grouping, arg: Box<Node> },
    /// An operator between two values.
    Binary(Box<BinaryNode>),
}

/// An operator between two values.
#[derive(Debug)]
pub(crate) struct BinaryNode {
    pub operator: BinaryOperator,
    /// `bool`: 0 or 1 in place of a filter.
    pub returns_bool: bool,
    /// `on` and `ignoring`.
    pub matching: Grouping,
    pub left: Node,
    pub right: Node,
}

/// An operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

/// A function of the windows of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverTime {
    Sum,
    Average,
    Least,
    Greatest,
    Count,
    Last,
    Present,
}

/// A function of each sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EachFunction {
    Absolute,
    Round,
    Clamp,
    ClampLeast,
    ClampGreatest,
    Negate,
}

/// An aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Sum,
    Average,
    Least,
    Greatest,
    Count,
}

/// The labels that samples are grouped or matched by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// These (`by`, `on`).
    Of(Vec<String>),
    /// All but these and the name of the metric (`without`, `ignoring`).
    Without(Vec<String>),
}

impl BinaryOperator {
    /// Whether it compares.
    pub fn compares(self) -> bool {
        !matches!(self, Self::Add | Self::Subtract | Self::Multiply | Self::Divide | Self::Modulo | Self::Power)
    }
}

impl Node {
    /// Whether its value is a number.
    pub fn is_scalar(&self) -> bool {
        match self {
            Self::Number(_) | Self::Time | Self::Scalar(_) => true,
            Self::Binary(binary) => binary.left.is_scalar() && binary.right.is_scalar(),
            Self::Each(EachFunction::Negate, arg, _) => arg.is_scalar(),
            _ => false,
        }
    }
}
