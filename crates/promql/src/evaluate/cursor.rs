//! The windows of a series that an instant sees.

use crate::evaluate::interned::Interned;
use crate::series::{WindowSeries, WindowValue};

/// A series, and the instant up to which it was read. Instants do not go back.
pub struct SeriesCursor<'a> {
    /// Its labels.
    pub labels: Interned,
    windows: &'a [WindowValue],
    lookback: i64,
    /// The first window of the range.
    first: usize,
    /// The first window that ends after the instant.
    next: usize,
}

impl<'a> SeriesCursor<'a> {
    /// Begins before the first window.
    pub fn new(series: &'a WindowSeries, labels: Interned) -> Self {
        Self { labels, windows: &series.windows, lookback: series.lookback, first: 0, next: 0 }
    }

    fn advance(&mut self, instant: i64) {
        while self.windows.get(self.next).is_some_and(|window| window.end <= instant) {
            self.next += 1;
        }
    }

    /// Returns the value of the last window that ends at an instant (ms), or less than the lookback before it.
    pub fn last(&mut self, instant: i64) -> Option<f64> {
        self.advance(instant);
        let window = self.windows.get(self.next.checked_sub(1)?)?;
        (window.end > instant.saturating_sub(self.lookback)).then_some(window.value)
    }

    /// Returns the windows that end at an instant (ms), or less than `length` before it.
    pub fn within(&mut self, instant: i64, length: i64) -> &'a [WindowValue] {
        self.advance(instant);
        let after = instant.saturating_sub(length);
        while self.first < self.next && self.windows.get(self.first).is_some_and(|window| window.end <= after) {
            self.first += 1;
        }
        self.windows.get(self.first..self.next).unwrap_or_default()
    }
}
