//! Functions and aggregations of the samples of an instant. Where numbers could differ in their last digits, the order
//! of operations is that of Prometheus.

use crate::error::{QueryError, Result};
use crate::evaluate::interned::{DerivedFor, Interned, InternedLabels, LabelledValue};
use crate::labels::{LabelSet, NAME};
use crate::plan::node::{Aggregate, EachFunction, Grouping, OverTime};
use crate::series::WindowValue;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// Checks that no two samples have the same labels.
pub fn distinct(samples: Vec<LabelledValue>) -> Result<Vec<LabelledValue>> {
    let mut seen = HashSet::with_capacity(samples.len());
    match samples.iter().all(|sample| seen.insert(sample.labels.place())) {
        true => Ok(samples),
        false => Err(QueryError::execution("vector cannot contain metrics with the same labelset")),
    }
}

/// A sum with the part that its rounding has lost, after Neumaier.
#[derive(Clone, Copy, Default)]
struct ExactSum {
    sum: f64,
    lost: f64,
}

impl ExactSum {
    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        self.lost += if self.sum.abs() >= value.abs() { (self.sum - sum) + value } else { (value - sum) + self.sum };
        self.sum = sum;
    }

    fn get(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

/// Whether a mean stays as it is: an infinite one changes only by the opposite infinity and by NaN.
fn keeps_mean(mean: f64, value: f64) -> bool {
    mean.is_infinite() && !value.is_nan() && (value.is_finite() || (mean > 0.0) == (value > 0.0))
}

/// Returns a function of windows; `None` without windows.
pub fn over_time(function: OverTime, windows: &[WindowValue]) -> Option<f64> {
    let (first, last) = (windows.first()?, windows.last()?);
    let values = windows.iter().map(|window| window.value);
    Some(match function {
        OverTime::Sum => {
            let mut sum = ExactSum::default();
            values.for_each(|value| sum.add(value));
            sum.get()
        }
        OverTime::Average => {
            let (mut mean, mut count) = (ExactSum::default(), 0.0);
            for value in values {
                count += 1.0;
                if !keeps_mean(mean.sum, value) {
                    mean.add(value / count - mean.sum / count);
                }
            }
            mean.get()
        }
        OverTime::Least => values.fold(first.value, least),
        OverTime::Greatest => values.fold(first.value, greatest),
        OverTime::Count => windows.len() as f64,
        OverTime::Last => last.value,
        OverTime::Present => 1.0,
    })
}

fn least(known: f64, value: f64) -> f64 {
    if value < known || known.is_nan() { value } else { known }
}

fn greatest(known: f64, value: f64) -> f64 {
    if value > known || known.is_nan() { value } else { known }
}

/// Returns the lesser of two numbers; NaN if one is.
fn lesser(one: f64, other: f64) -> f64 {
    if one.is_nan() || other.is_nan() { f64::NAN } else { one.min(other) }
}

/// Returns the greater of two numbers; NaN if one is.
fn greater(one: f64, other: f64) -> f64 {
    if one.is_nan() || other.is_nan() { f64::NAN } else { one.max(other) }
}

/// Applies a function with further arguments to each sample.
pub fn each(
    function: EachFunction,
    mut samples: Vec<LabelledValue>,
    rest: &[f64],
    labels: &mut InternedLabels,
) -> Result<Vec<LabelledValue>> {
    let apply = |value: f64| match (function, rest) {
        (EachFunction::Absolute, _) => value.abs(),
        (EachFunction::Negate, _) => -value,
        (EachFunction::Round, _) => {
            let inverse = 1.0 / rest.first().copied().unwrap_or(1.0);
            (value * inverse + 0.5).floor() / inverse
        }
        (EachFunction::Clamp, [least, greatest, ..]) => greater(*least, lesser(*greatest, value)),
        (EachFunction::ClampLeast, [least, ..]) => greater(*least, value),
        (EachFunction::ClampGreatest, [greatest, ..]) => lesser(*greatest, value),
        _ => value,
    };
    if let (EachFunction::Clamp, [least, greatest, ..]) = (function, rest)
        && greatest < least
    {
        return Ok(vec![]);
    }
    for sample in &mut samples {
        sample.value = apply(sample.value);
        sample.labels = labels.without_name(&sample.labels);
    }
    distinct(samples)
}

/// Sorts samples by their values; those that are NaN are the last.
pub fn sorted(mut samples: Vec<LabelledValue>, descends: bool) -> Vec<LabelledValue> {
    samples.sort_by(|one, other| by_value(one.value, other.value, descends));
    samples
}

fn by_value(one: f64, other: f64, descends: bool) -> Ordering {
    match (one.is_nan(), other.is_nan()) {
        (false, false) if descends => other.partial_cmp(&one).unwrap_or(Ordering::Equal),
        (false, false) => one.partial_cmp(&other).unwrap_or(Ordering::Equal),
        (one, other) => one.cmp(&other),
    }
}

/// Returns the labels of the group of a sample.
pub fn group(grouping: &Grouping, labels: &Interned, interned: &mut InternedLabels) -> Interned {
    interned.derive(DerivedFor::Group, grouping, labels, |labels: &LabelSet| match grouping {
        Grouping::Of(names) => labels.filtered(|name| names.iter().any(|kept| kept == name)),
        Grouping::Without(names) => labels.filtered(|name| name != NAME && names.iter().all(|gone| gone != name)),
    })
}

/// Returns the samples by their groups, in the order of the first sample of each.
fn groups(grouping: &Grouping, samples: &[LabelledValue], interned: &mut InternedLabels) -> Vec<SampleGroup> {
    let (mut groups, mut places): (Vec<SampleGroup>, HashMap<usize, usize>) = (vec![], HashMap::new());
    for (at, sample) in samples.iter().enumerate() {
        let labels = group(grouping, &sample.labels, interned);
        let place = *places.entry(labels.place()).or_insert_with(|| {
            groups.push(SampleGroup { labels, samples: vec![] });
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(place) {
            group.samples.push(at);
        }
    }
    groups
}

/// A group of samples.
struct SampleGroup {
    labels: Interned,
    /// Their indexes.
    samples: Vec<usize>,
}

/// Returns the value of each group.
pub fn aggregated(
    aggregate: Aggregate,
    grouping: &Grouping,
    samples: &[LabelledValue],
    interned: &mut InternedLabels,
) -> Vec<LabelledValue> {
    let groups = groups(grouping, samples, interned).into_iter();
    let value = |of_group: &SampleGroup| {
        let mut values = of_group.samples.iter().filter_map(|at| samples.get(*at)).map(|sample| sample.value);
        let first = values.next().unwrap_or(f64::NAN);
        match aggregate {
            Aggregate::Sum => values.fold(first, |sum, value| sum + value),
            Aggregate::Average => mean(first, values),
            Aggregate::Least => values.fold(first, least),
            Aggregate::Greatest => values.fold(first, greatest),
            Aggregate::Count => of_group.samples.len() as f64,
        }
    };
    groups.map(|group| LabelledValue { value: value(&group), labels: group.labels }).collect()
}

fn mean(first: f64, values: impl Iterator<Item = f64>) -> f64 {
    let (mut mean, mut count) = (first, 1.0);
    for value in values {
        count += 1.0;
        if !keeps_mean(mean, value) {
            mean += value / count - mean / count;
        }
    }
    mean
}

/// Returns the number of samples of `topk`. Errors: it is NaN or beyond 64 bits.
pub fn count_of(number: f64) -> Result<usize> {
    if number.is_nan() || number.abs() >= 9.2e18 {
        return Err(QueryError::execution(format!("Scalar value {number} overflows int64")));
    }
    Ok(number.max(0.0) as usize)
}

/// Returns the samples of each group with the greatest or least values, the foremost first; those that are NaN are the
/// last.
pub fn ranked(
    is_greatest: bool,
    count: usize,
    grouping: &Grouping,
    samples: &[LabelledValue],
    interned: &mut InternedLabels,
) -> Vec<LabelledValue> {
    let mut found = vec![];
    if count == 0 {
        return found;
    }
    for group in groups(grouping, samples, interned) {
        let mut of_group: Vec<_> = group.samples.iter().filter_map(|at| samples.get(*at)).cloned().collect();
        of_group.sort_by(|one, other| by_value(one.value, other.value, is_greatest));
        of_group.truncate(count);
        found.append(&mut of_group);
    }
    found
}
