//! The cells that a correction covers: those of its metrics whose windows lie whole in its range and are closed.

use super::cell::CellKey;
use crate::kind::span::Span;
use crate::op::window::metric::{Metric, Shape};
use crate::op::window::shape::closing::Closing;
use crate::time::HOUR;
use std::sync::Arc;

/// One metric that is corrected.
#[derive(Clone, Debug)]
pub struct MetricScope {
    /// Its name.
    pub name: Arc<str>,
    /// Its windows.
    pub shape: Shape,
    /// How long a window stays open after its end (µs).
    pub lateness: i64,
}

impl MetricScope {
    /// Takes name and windows of a metric.
    pub fn of(metric: &Metric) -> Self {
        Self { name: metric.name.as_str().into(), shape: metric.shape, lateness: metric.lateness }
    }

    /// Whether its windows are sessions.
    pub fn is_session(&self) -> bool {
        matches!(self.shape, Shape::Session { .. })
    }

    /// Returns a length that none of its windows falls below (µs).
    pub fn shortest(&self) -> i64 {
        match self.shape {
            Shape::Sliding { size, .. } => size,
            Shape::Session { gap } => gap,
            // The shortest period is a day, which a change of the clocks can shorten.
            Shape::Calendar(_) => HOUR,
        }
    }

    /// Returns when its windows close.
    pub fn closing(&self) -> Closing {
        Closing::of(self.shape, self.lateness)
    }
}

/// The metrics and the range of a correction.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The metrics.
    pub metrics: Vec<MetricScope>,
    /// Windows must lie whole in this span.
    pub range: Span,
    /// Windows must be closed at this instant; `None`: all are.
    pub closed_before: Option<i64>,
    /// The first instant whose events are read; `None`: all are. A session that may extend beyond it is partial.
    pub read_since: Option<i64>,
    /// The first instant since which the input and the store have all rows (µs); `None`: none were removed from them.
    pub kept_since: Option<i64>,
}

impl Scope {
    /// Returns the metric of this name, if it is corrected.
    pub fn metric(&self, name: &str) -> Option<&MetricScope> {
        self.metrics.iter().find(|metric| &*metric.name == name)
    }

    /// Whether a cell is covered.
    pub fn covers(&self, key: &CellKey) -> bool {
        let Some(metric) = self.metric(&key.metric) else { return false };
        let closed = self.closed_before.is_none_or(|closed| !metric.closing().is_open(key.end, closed));
        closed && self.is_kept(key) && self.range.holds(key.start, key.end) && !self.is_partial(metric, key)
    }

    /// Whether no row that a cell may count, or the row of the cell, was removed because of its age.
    pub fn is_kept(&self, key: &CellKey) -> bool {
        let gap = match self.metric(&key.metric).map(|metric| metric.shape) {
            Some(Shape::Session { gap }) => gap,
            _ => 0,
        };
        self.kept_since.is_none_or(|kept_since| key.start.saturating_sub(gap) >= kept_since)
    }

    /// Whether a session touches the edge of what was read, so that events before it may belong to it.
    pub fn is_partial(&self, metric: &MetricScope, key: &CellKey) -> bool {
        match (metric.shape, self.read_since) {
            (Shape::Session { gap }, Some(since)) => key.start.saturating_sub(gap) < since,
            _ => false,
        }
    }

    /// Returns the span of event time whose events must be read; `before` is how far before the range sessions may
    /// begin (µs).
    pub fn reading(&self, before: i64) -> Span {
        let has_sessions = self.metrics.iter().any(MetricScope::is_session);
        match has_sessions {
            false => self.range,
            // An event at the end of a session belongs to it.
            true => Span {
                since: self.range.since.map(|since| since.saturating_sub(before)),
                until: self.range.until.map(|until| until.saturating_add(1)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "[[metric]]\nname = 'w'\nsize = '10us'\nslide = '5us'\nlateness = '3us'\n\
                           [[metric]]\nname = 's'\ngap = '4us'";

    fn key(metric: &str, start: i64, end: i64) -> CellKey {
        CellKey { end, start, metric: metric.into(), dimensions: "{}".to_owned() }
    }

    #[test]
    fn windows_must_lie_whole_in_the_range_and_be_closed_with_their_lateness() {
        let spec = crate::op::window::spec::file(METRICS).unwrap();
        let mut scope = Scope {
            metrics: spec.metrics.iter().map(MetricScope::of).collect(),
            range: Span { since: Some(100), until: Some(120) },
            ..Scope::default()
        };
        let covered = |scope: &Scope, start| scope.covers(&key("w", start, start + 10));
        assert_eq!([95, 100, 105, 110, 115].map(|start| covered(&scope, start)), [false, true, true, true, false]);
        let kept = |since| Scope { kept_since: Some(since), ..scope.clone() };
        assert_eq!([105, 106].map(|since| covered(&kept(since), 105)), [true, false]);
        // A session may begin earlier than the first of its events that is left.
        assert_eq!([101, 102].map(|since| kept(since).covers(&key("s", 105, 115))), [true, false]);
        scope.closed_before = Some(122);
        assert_eq!([105, 110].map(|start| covered(&scope, start)), [true, false]);
        // At the instant of its end a session may still get an event.
        let session = |scope: &Scope| scope.covers(&key("s", 105, 115));
        assert_eq!(
            [114, 115, 116].map(|at| session(&Scope { closed_before: Some(at), ..scope.clone() })),
            [false, false, true]
        );
        assert!(!scope.covers(&key("other", 105, 115)));
    }

    #[test]
    fn a_session_that_may_extend_beyond_what_was_read_is_partial() {
        let spec = crate::op::window::spec::file(METRICS).unwrap();
        let metrics: Vec<MetricScope> = spec.metrics.iter().map(MetricScope::of).collect();
        let range = Span { since: Some(100), until: Some(120) };
        let scope = Scope { metrics, range, read_since: Some(97), ..Scope::default() };
        assert_eq!([100, 101].map(|start| scope.covers(&key("s", start, 110))), [false, true]);
        assert_eq!(scope.reading(7), Span { since: Some(93), until: Some(121) });
        assert_eq!(Scope { metrics: scope.metrics[..1].to_vec(), ..scope }.reading(7), range);
    }
}
