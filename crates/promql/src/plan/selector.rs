//! The selectors of a query.

use crate::labels::LabelMatcher;
use crate::range::QueryRange;

/// A selector of a query.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    pub matchers: Vec<LabelMatcher>,
    /// How far it looks back (ms); negative: ahead.
    pub offset: i64,
    /// The instant at which it is evaluated, if it is always the same.
    pub at: Option<FixedInstant>,
    /// The length of its range (ms), if it has one.
    pub range: Option<i64>,
    /// Whether its values are added up over time.
    pub adds_up: bool,
}

/// The instant of `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FixedInstant {
    /// The first instant of the query.
    Start,
    /// Its end.
    End,
    /// An instant (ms since 1970).
    At(i64),
}

impl Selector {
    /// Returns the instant (ms) at which it looks at series when the query is evaluated at `instant`.
    pub fn instant(&self, instant: i64, range: &QueryRange) -> i64 {
        let at = match self.at {
            None => instant,
            Some(FixedInstant::Start) => range.start(),
            Some(FixedInstant::End) => range.end(),
            Some(FixedInstant::At(at)) => at,
        };
        at.saturating_sub(self.offset)
    }
}
