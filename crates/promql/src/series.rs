//! What the caller reads: which series, in which time, and the series themselves.

use crate::labels::{LabelMatcher, LabelSet};

/// The series that a selector of a query needs.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The matchers; a series needs all of them.
    pub matchers: Vec<LabelMatcher>,
    /// The first instant at which the selector is evaluated (ms since 1970).
    pub first: i64,
    /// The last one.
    pub last: i64,
    /// The length of a range (ms); `None`: the lookback of the series.
    pub range: Option<i64>,
}

/// The window ends that a selection needs of a series: those after `after`, up to `to` (ms since 1970).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowEnds {
    /// The instant before the first one.
    pub after: i64,
    /// The last instant.
    pub to: i64,
}

impl Selection {
    /// Whether a series has all that is matched.
    pub fn matches(&self, labels: &LabelSet) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(labels.value(matcher.name())))
    }

    /// Returns the window ends that are needed of a series with a lookback (ms).
    pub fn ends(&self, lookback: i64) -> WindowEnds {
        WindowEnds { after: self.first.saturating_sub(self.range.unwrap_or(lookback)), to: self.last }
    }
}

/// The value of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowValue {
    /// The end of the window (ms since 1970).
    pub end: i64,
    /// Its value.
    pub value: f64,
}

/// The windows of one metric with one set of dimensions.
#[derive(Clone, Debug, Default)]
pub struct WindowSeries {
    /// Its labels, with the name of the metric.
    pub labels: LabelSet,
    /// The windows that have a value, in the order of their ends.
    pub windows: Vec<WindowValue>,
    /// How long a window counts after its end (ms), at least 1.
    pub lookback: i64,
    /// Why values of several windows cannot be added up: what they are, such as `averages`; `None`: they can.
    pub not_additive: Option<&'static str>,
}
