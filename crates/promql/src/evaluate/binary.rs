//! Operators between samples and numbers.

use crate::error::{QueryError, Result};
use crate::evaluate::interned::{DerivedFor, Interned, InternedLabels, LabelledValue};
use crate::evaluate::samples::{distinct, group};
use crate::labels::LabelSet;
use crate::plan::node::{BinaryNode, BinaryOperator, Grouping};
use std::collections::{HashMap, HashSet};

/// Returns the value of an operator between numbers; 1 for a comparison that holds, else 0.
pub fn numbers(operator: BinaryOperator, left: f64, right: f64) -> f64 {
    let of = |holds: bool| if holds { 1.0 } else { 0.0 };
    match operator {
        BinaryOperator::Add => left + right,
        BinaryOperator::Subtract => left - right,
        BinaryOperator::Multiply => left * right,
        BinaryOperator::Divide => left / right,
        BinaryOperator::Modulo => left % right,
        BinaryOperator::Power => left.powf(right),
        BinaryOperator::Equal => of(left == right),
        BinaryOperator::NotEqual => of(left != right),
        BinaryOperator::Greater => of(left > right),
        BinaryOperator::Less => of(left < right),
        BinaryOperator::GreaterOrEqual => of(left >= right),
        BinaryOperator::LessOrEqual => of(left <= right),
    }
}

/// Returns the value of an operator with a sample; `kept` is the value of a comparison that holds. `None`: it does not.
fn outcome(binary: &BinaryNode, left: f64, right: f64, kept: f64) -> Option<f64> {
    let value = numbers(binary.operator, left, right);
    match binary.operator.compares() && !binary.returns_bool {
        true => (value == 1.0).then_some(kept),
        false => Some(value),
    }
}

/// Whether the result of an operator has another meaning than its sample, so that the name of the metric goes.
fn drops_name(binary: &BinaryNode) -> bool {
    !binary.operator.compares() || binary.returns_bool
}

/// Applies an operator to each sample and a number, which is on the left if `is_left`.
pub fn with_number(
    binary: &BinaryNode,
    samples: Vec<LabelledValue>,
    number: f64,
    is_left: bool,
    labels: &mut InternedLabels,
) -> Result<Vec<LabelledValue>> {
    let mut found = Vec::with_capacity(samples.len());
    for LabelledValue { labels: of_sample, value } in samples {
        let (left, right) = if is_left { (number, value) } else { (value, number) };
        if let Some(value) = outcome(binary, left, right, value) {
            let labels = if drops_name(binary) { labels.without_name(&of_sample) } else { of_sample };
            found.push(LabelledValue { labels, value });
        }
    }
    distinct(found)
}

/// Applies an operator to the pairs of samples that match. Errors: several of one side match.
pub fn matched(
    binary: &BinaryNode,
    left: &[LabelledValue],
    right: &[LabelledValue],
    labels: &mut InternedLabels,
) -> Result<Vec<LabelledValue>> {
    if left.is_empty() || right.is_empty() {
        return Ok(vec![]);
    }
    let mut others: HashMap<usize, &LabelledValue> = HashMap::with_capacity(right.len());
    for sample in right {
        let matched = group(&binary.matching, &sample.labels, labels);
        if let Some(other) = others.insert(matched.place(), sample) {
            return Err(ambiguous(&matched, other, sample));
        }
    }
    let (mut found, mut seen) = (vec![], HashSet::new());
    for sample in left {
        let matched = group(&binary.matching, &sample.labels, labels);
        let Some(other) = others.get(&matched.place()) else { continue };
        let Some(value) = outcome(binary, sample.value, other.value, sample.value) else { continue };
        if !seen.insert(matched.place()) {
            let message = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
            return Err(QueryError::execution(message));
        }
        let labels = result_labels(binary, &sample.labels, labels);
        found.push(LabelledValue { labels, value });
    }
    distinct(found)
}

/// Returns the labels of the result for a sample of the left side.
fn result_labels(binary: &BinaryNode, sample: &Interned, labels: &mut InternedLabels) -> Interned {
    let kept = match &binary.matching {
        Grouping::Of(_) => group(&binary.matching, sample, labels),
        Grouping::Without(names) => labels.derive(DerivedFor::Result, &binary.matching, sample, |labels: &LabelSet| {
            labels.filtered(|name| names.iter().all(|gone| gone != name))
        }),
    };
    if drops_name(binary) { labels.without_name(&kept) } else { kept }
}

fn ambiguous(matched: &Interned, one: &LabelledValue, other: &LabelledValue) -> QueryError {
    QueryError::execution(format!(
        "found duplicate series for the match group {} on the right hand-side of the operation: [{}, {}];many-to-many \
         matching not allowed: matching labels must be unique on one side",
        matched.set(),
        other.labels.set(),
        one.labels.set()
    ))
}
