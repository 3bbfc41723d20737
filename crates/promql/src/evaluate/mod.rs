//! The evaluation of a query, instant by instant.
//!
//! - `answer.rs`: what a query answers.
//! - `cursor.rs`: the windows of a series that an instant sees; both move on with the instants, so that each window is
//!   passed once.
//! - `interned.rs`: sets of labels, of which equal ones are one, so that they are compared by their place.
//! - `samples.rs`: functions and aggregations of the samples of an instant; `binary.rs`: operators between them.

pub mod answer;
mod binary;
mod cursor;
mod interned;
mod samples;

use crate::error::{QueryError, Result};
use crate::evaluate::answer::{AnswerSeries, AnswerValue, InstantValue, QueryAnswer};
use crate::evaluate::cursor::SeriesCursor;
use crate::evaluate::interned::{InternedLabels, LabelledValue};
use crate::labels::NAME;
use crate::plan::Query;
use crate::plan::node::{EachFunction, Node, OverTime};
use crate::plan::selector::Selector;
use crate::range::QueryRange;
use crate::series::WindowSeries;
use std::collections::{BTreeSet, HashMap};

/// Evaluates a query over a range. `series` has the series of each of its [selections](Query::selections); the answer
/// has at most `limit` values.
///
/// Errors: the series do not fit the query (samples with equal labels, several matches), or the limit.
pub fn evaluate(query: &Query, range: &QueryRange, series: &[Vec<WindowSeries>], limit: usize) -> Result<QueryAnswer> {
    let mut labels = InternedLabels::default();
    let mut cursors = vec![];
    for of_selector in series {
        cursors
            .push(of_selector.iter().map(|series| SeriesCursor::new(series, labels.intern(&series.labels))).collect());
    }
    let mut evaluation = Evaluation { range, selectors: &query.selectors, cursors, labels, instant: 0 };
    let mut collected = Collected { series: vec![], places: HashMap::new(), left: limit, limit };
    let mut numbers = vec![];
    for instant in range.steps() {
        evaluation.instant = instant;
        match evaluation.value(&query.root)? {
            NodeValue::Number(value) => numbers.push(InstantValue { at: instant, value }),
            NodeValue::Samples(samples) => collected.add(instant, &samples)?,
        }
    }
    let value = match query.root.is_scalar() {
        true => AnswerValue::Scalar(numbers),
        false => AnswerValue::Series(collected.series),
    };
    Ok(QueryAnswer { value, warnings: warnings(query, series) })
}

/// Returns what an answer must say about the series that were added up.
fn warnings(query: &Query, series: &[Vec<WindowSeries>]) -> Vec<String> {
    let mut warnings = BTreeSet::new();
    for (_, of_selector) in query.selectors.iter().zip(series).filter(|(selector, _)| selector.adds_up) {
        for series in of_selector {
            let Some(what) = series.not_additive else { continue };
            let name = series.labels.value(NAME);
            warnings.insert(format!("sum_over_time adds up {what} of {name}, which has no meaning as a sum"));
        }
    }
    warnings.into_iter().collect()
}

/// The value of a part of a query at an instant.
enum NodeValue {
    Number(f64),
    Samples(Vec<LabelledValue>),
}

/// The series of an answer, as far as they are known.
struct Collected {
    series: Vec<AnswerSeries>,
    /// The index of each set of labels.
    places: HashMap<usize, usize>,
    /// How many values may follow.
    left: usize,
    limit: usize,
}

impl Collected {
    fn add(&mut self, at: i64, samples: &[LabelledValue]) -> Result<()> {
        let Some(left) = self.left.checked_sub(samples.len()) else {
            let limit = self.limit;
            return Err(QueryError::execution(format!(
                "the answer has more than {limit} values; ask for fewer series or steps"
            )));
        };
        self.left = left;
        for sample in samples {
            let place = *self.places.entry(sample.labels.place()).or_insert_with(|| {
                self.series.push(AnswerSeries { labels: sample.labels.set().clone(), values: vec![] });
                self.series.len() - 1
            });
            if let Some(series) = self.series.get_mut(place) {
                series.values.push(InstantValue { at, value: sample.value });
            }
        }
        Ok(())
    }
}

/// The state of an evaluation.
struct Evaluation<'a> {
    range: &'a QueryRange,
    selectors: &'a [Selector],
    cursors: Vec<Vec<SeriesCursor<'a>>>,
    labels: InternedLabels,
    /// The instant (ms since 1970).
    instant: i64,
}

impl Evaluation<'_> {
    fn value(&mut self, node: &Node) -> Result<NodeValue> {
        Ok(NodeValue::Samples(match node {
            Node::Number(number) => return Ok(NodeValue::Number(*number)),
            Node::Time => return Ok(NodeValue::Number(self.instant as f64 / 1_000.0)),
            Node::Scalar(arg) => {
                let samples = self.samples(arg)?;
                return Ok(NodeValue::Number(if let [one] = &samples[..] { one.value } else { f64::NAN }));
            }
            Node::Binary(binary) => {
                let (left, right) = (self.value(&binary.left)?, self.value(&binary.right)?);
                match (left, right) {
                    (NodeValue::Number(left), NodeValue::Number(right)) => {
                        return Ok(NodeValue::Number(binary::numbers(binary.operator, left, right)));
                    }
                    (NodeValue::Samples(left), NodeValue::Number(right)) => {
                        binary::with_number(binary, left, right, false, &mut self.labels)?
                    }
                    (NodeValue::Number(left), NodeValue::Samples(right)) => {
                        binary::with_number(binary, right, left, true, &mut self.labels)?
                    }
                    (NodeValue::Samples(left), NodeValue::Samples(right)) => {
                        binary::matched(binary, &left, &right, &mut self.labels)?
                    }
                }
            }
            Node::Instant(selector) => self.last_windows(*selector),
            Node::OverTime(function, selector) => {
                let found = self.over_time(*function, *selector);
                samples::distinct(found)?
            }
            Node::Each(EachFunction::Negate, arg, _) if arg.is_scalar() => {
                return Ok(NodeValue::Number(-self.number(arg)?));
            }
            Node::Each(function, arg, rest) => {
                let rest = rest.iter().map(|arg| self.number(arg)).collect::<Result<Vec<f64>>>()?;
                let samples = self.samples(arg)?;
                samples::each(*function, samples, &rest, &mut self.labels)?
            }
            Node::Absent(arg, labels) => {
                let is_absent = self.samples(arg)?.is_empty();
                let sample = is_absent.then(|| LabelledValue { labels: self.labels.intern(labels), value: 1.0 });
                sample.into_iter().collect()
            }
            Node::Vector(arg) => {
                let value = self.number(arg)?;
                vec![LabelledValue { labels: self.labels.intern(&Default::default()), value }]
            }
            Node::Sort { arg, descends } => samples::sorted(self.samples(arg)?, *descends),
            Node::Aggregate(aggregate, grouping, arg) => {
                let samples = self.samples(arg)?;
                samples::aggregated(*aggregate, grouping, &samples, &mut self.labels)
            }
            Node::Rank { greatest, count, grouping, arg } => {
                let count = samples::count_of(self.number(count)?)?;
                let samples = self.samples(arg)?;
                samples::ranked(*greatest, count, grouping, &samples, &mut self.labels)
            }
        }))
    }

    /// Returns the samples of a part that is no number.
    fn samples(&mut self, node: &Node) -> Result<Vec<LabelledValue>> {
        match self.value(node)? {
            NodeValue::Samples(samples) => Ok(samples),
            NodeValue::Number(_) => Err(QueryError::bad_data("expected samples, found a number")),
        }
    }

    /// Returns the number of a part that is one.
    fn number(&mut self, node: &Node) -> Result<f64> {
        match self.value(node)? {
            NodeValue::Number(number) => Ok(number),
            NodeValue::Samples(_) => Err(QueryError::bad_data("expected a number, found samples")),
        }
    }

    /// Returns the last window of each series of a selector.
    fn last_windows(&mut self, selector: usize) -> Vec<LabelledValue> {
        let (Some(of_selector), Some(cursors)) = (self.selectors.get(selector), self.cursors.get_mut(selector)) else {
            return vec![];
        };
        let instant = of_selector.instant(self.instant, self.range);
        let last = |cursor: &mut SeriesCursor<'_>| {
            let value = cursor.last(instant)?;
            Some(LabelledValue { labels: cursor.labels.clone(), value })
        };
        cursors.iter_mut().filter_map(last).collect()
    }

    /// Returns a function of the windows of each series in the range of a selector.
    fn over_time(&mut self, function: OverTime, selector: usize) -> Vec<LabelledValue> {
        let (Some(of_selector), Some(cursors)) = (self.selectors.get(selector), self.cursors.get_mut(selector)) else {
            return vec![];
        };
        let (instant, length) = (of_selector.instant(self.instant, self.range), of_selector.range.unwrap_or(0));
        let mut found = vec![];
        for cursor in cursors {
            let windows = cursor.within(instant, length);
            if let Some(value) = samples::over_time(function, windows) {
                let labels = match function {
                    OverTime::Last => cursor.labels.clone(),
                    _ => self.labels.without_name(&cursor.labels),
                };
                found.push(LabelledValue { labels, value });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
