//! The range of time about which an input tells which cells are right.

use super::cell::CellKey;
use crate::kind::span::Span;
use std::cell::Cell;

/// The event times of an input. The input may be a part of what live read, such as the file of one day, so it tells nothing of cells
/// before its first and behind its last event, unless the range of the correction includes them.
#[derive(Debug)]
pub struct InputTimes {
    /// The first and the last event time (µs).
    times: Option<(i64, i64)>,
    /// The range of the correction.
    range: Span,
    /// Whether the input holds every record that live read, so that it tells of all cells.
    is_whole: bool,
    /// Whether a stored cell was left out.
    has_left: Cell<bool>,
}

impl InputTimes {
    /// Begins without events.
    pub fn new(range: Span, is_whole: bool) -> Self {
        Self { times: None, range, is_whole, has_left: Cell::new(false) }
    }

    /// Adds events.
    pub fn add(&mut self, times: &[i64]) {
        for time in times {
            let (first, last) = self.times.unwrap_or((*time, *time));
            self.times = Some((first.min(*time), last.max(*time)));
        }
    }

    /// Whether there is no event, and the input need not hold all records.
    pub fn is_empty(&self) -> bool {
        self.times.is_none() && !self.is_whole
    }

    /// Whether the input tells if a cell is right.
    pub fn covers(&self, key: &CellKey) -> bool {
        let covers = self.is_whole
            || self.times.is_some_and(|(first, last)| {
                (self.range.since.is_some() || key.end > first) && (self.range.until.is_some() || key.start <= last)
            });
        self.has_left.set(self.has_left.get() || !covers);
        covers
    }

    /// Returns the first and the last event time if a cell before or behind them was left out.
    pub fn left_out(&self) -> Option<(i64, i64)> {
        self.times.filter(|_| self.has_left.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(times: &InputTimes) -> Vec<i64> {
        let key = |start| CellKey { end: start + 10, start, metric: "m".into(), dimensions: "{}".to_owned() };
        (0..5).map(|number| number * 10).filter(|start| times.covers(&key(*start))).collect()
    }

    #[test]
    fn cells_beyond_the_events_are_not_covered_unless_the_range_includes_them() {
        let of = |since, until, is_whole| {
            let mut times = InputTimes::new(Span { since, until }, is_whole);
            times.add(&[25, 10, 19]);
            times
        };
        let times = of(None, None, false);
        assert_eq!((covered(&times), times.left_out()), (vec![10, 20], Some((10, 25))));
        assert_eq!(covered(&of(Some(0), None, false)), [0, 10, 20]);
        assert_eq!(covered(&of(None, Some(50), false)), [10, 20, 30, 40]);
        let times = of(None, None, true);
        assert_eq!((covered(&times).len(), times.left_out()), (5, None));
    }

    #[test]
    fn an_input_without_events_covers_nothing() {
        let range = Span { since: Some(0), until: Some(100) };
        let times = InputTimes::new(range, false);
        assert!(times.is_empty() && covered(&times).is_empty() && times.left_out().is_none());
        let times = InputTimes::new(range, true);
        assert!(!times.is_empty() && covered(&times).len() == 5);
    }
}
