//! Aggregates: functions of the multiset of their arguments, held as mergeable states.
//!
//! A state does not depend on the order of its values, nor on how they were split and merged: sums are exact and
//! rounded once, sketches are counters or maxima. Its saved form is canonical (equal states, equal bytes) and starts
//! with a version. An aggregate is one file here and one row of [`ALL`].
//!
//! ```text
//! sum(a) ─► parse ─► AggregateCall ─► create ─► Aggregate: slot 0 │ slot 1 │ …    one slot for each key and slice
//! rows ─► add ─► slots;  merge: slices ─► a window;  result ─► number or NULL;  save ◄─► load
//! ```
//!
//! [`parse`] resolves a call such as `sum(a)`; [`AggregateCall::create`] makes its states. One [`Aggregate`]
//! (`definition.rs`) holds the states of one metric by slot, so a batch costs one dynamic call; `states.rs` builds it
//! from the `Accumulator` that each aggregate's file implements. `decimal.rs` has decimals, `exact.rs` exact sums of
//! them, `quantile.rs` ranks.

mod count;
mod count_distinct;
mod decimal;
mod definition;
mod distinct;
mod exact;
mod first_last;
mod min_max;
mod percentile;
mod quantile;
mod ratio;
mod states;
mod stddev;
mod sum;

pub use count_distinct::TEXTS_MAX;
pub use definition::{Aggregate, Definition};

use crate::error::Result;
use crate::expr::{Expr, Leaves, Node, literal_number, parse_call, refused, without_blanks};

/// Every aggregate, in the order of the manual.
pub const ALL: &[&Definition] = &[
    &count::COUNT,
    &sum::SUM,
    &sum::AVG,
    &min_max::MIN,
    &min_max::MAX,
    &first_last::FIRST,
    &first_last::LAST,
    &stddev::STDDEV,
    &count_distinct::COUNT_DISTINCT,
    &distinct::APPROX_DISTINCT,
    &percentile::APPROX_PERCENTILE,
    &count::RATE,
    &ratio::RATIO,
];

/// A call of an aggregate with its arguments.
#[derive(Debug)]
pub struct AggregateCall {
    definition: &'static Definition,
    args: Vec<Expr>,
    quantile: f64,
    text: String,
}

impl AggregateCall {
    /// Returns the aggregate.
    pub fn definition(&self) -> &'static Definition {
        self.definition
    }

    /// Returns the arguments, whose values [`Aggregate::add`] takes in this order; empty for `count(*)`.
    pub fn args(&self) -> &[Expr] {
        &self.args
    }

    /// Returns the quantile of a percentile; 0 for other aggregates.
    pub fn quantile(&self) -> f64 {
        self.quantile
    }

    /// Returns the text without spaces, which is the default name of the metric.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Creates the states of a metric that computes this call, without slots.
    pub fn create(&self) -> Box<dyn Aggregate> {
        (self.definition.create)(self.quantile)
    }
}

/// Parses a call such as `count(*)`, `approx_percentile(latency_ms, 0.99)` or `sum(a) filter (where b)`.
///
/// A filter makes the arguments NULL if it is not true, as in SQL.
///
/// Errors: exit status 78; the message has the text and a remedy.
pub fn parse(text: &str, leaves: &mut Leaves) -> Result<AggregateCall> {
    let written = parse_call(text)?;
    let name = match (written.name.as_str(), written.is_distinct) {
        ("count", true) => count_distinct::COUNT_DISTINCT.name,
        (name, true) => {
            return Err(refused(
                text,
                &format!("unsupported {name}(distinct ...); count(distinct x) counts distinct values"),
            ));
        }
        (name, false) => name,
    };
    let definition = *ALL.iter().find(|row| row.name == name).ok_or_else(|| {
        let names = ALL.iter().map(|row| row.name).collect::<Vec<_>>().join(" ");
        let meant = match name {
            "median" | "quantile" | "percentile" => "; approx_percentile(x, 0.5) is the median",
            "mean" | "average" => "; did you mean avg?",
            _ => "",
        };
        refused(text, &format!("unknown aggregate {name}; expected one of {names}{meant}"))
    })?;
    let misused = || refused(text, &format!("expected {}", definition.usage));
    let mut args = written.args;
    let quantile = match (definition.quantile, args.len()) {
        (true, 2) => args.pop().as_ref().and_then(literal_number).filter(|q| (0.0..=1.0).contains(q)),
        (true, _) => None,
        (false, _) => Some(0.0),
    };
    let quantile = quantile.ok_or_else(misused)?;
    let every = written.star || args.is_empty();
    if every && !definition.star || !every && !(definition.least..=definition.most()).contains(&args.len()) {
        return Err(misused());
    }
    if definition.is_ordered {
        let value = args.clone();
        args.extend([Node::column("event_time"), Node::column("event_id")]);
        args.extend(value);
    }
    if !every || written.filter.is_some() {
        args.resize(definition.args.len(), Node::truth());
    }
    let args = args.into_iter().zip(definition.args).map(|(arg, want)| {
        let arg = match &written.filter {
            Some(filter) => Node::only_where(filter.clone(), arg),
            None => arg,
        };
        Expr::of(&arg, *want, text, leaves)
    });
    Ok(AggregateCall { definition, args: args.collect::<Result<_>>()?, quantile, text: without_blanks(text) })
}

#[cfg(test)]
#[path = "law_tests.rs"]
mod law_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
#[cfg(test)]
#[path = "vectors_tests.rs"]
mod vectors_tests;
