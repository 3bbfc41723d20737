//! What a query answers.

use crate::labels::LabelSet;

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryAnswer {
    /// Its value.
    pub value: AnswerValue,
    /// What its readers should know, a sentence each.
    pub warnings: Vec<String>,
}

/// The value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerValue {
    /// A number at each instant.
    Scalar(Vec<InstantValue>),
    /// Series with the instants at which they have a value. Those of one instant are in the order of `sort` and `topk`.
    Series(Vec<AnswerSeries>),
}

/// A value at an instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstantValue {
    /// The instant (ms since 1970).
    pub at: i64,
    /// The value.
    pub value: f64,
}

/// A series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerSeries {
    /// Its labels.
    pub labels: LabelSet,
    /// Its values, in the order of their instants.
    pub values: Vec<InstantValue>,
}
