//! Spans of the time by which rows are selected.

use super::{Kind, array};
use crate::error::Result;
use arrow::array::{Array, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;

/// A half-open time span (µs); an absent end is unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// From this instant on.
    pub since: Option<i64>,
    /// Up to this instant, without it.
    pub until: Option<i64>,
}

impl Span {
    /// Whether it leaves out any instant.
    pub fn is_given(self) -> bool {
        self != Self::default()
    }

    /// Whether an instant is in the span.
    pub fn contains(self, time: i64) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|end| time < end)
    }

    /// Whether all of `[start, end)` is in the span.
    pub fn holds(self, start: i64, end: i64) -> bool {
        self.since.is_none_or(|since| start >= since) && self.until.is_none_or(|until| end <= until)
    }

    /// Whether the span has no instant.
    pub fn is_empty(self) -> bool {
        self.since.zip(self.until).is_some_and(|(since, until)| since >= until)
    }

    /// Whether two spans have an instant in common. An empty span has none with any.
    pub fn overlaps(self, other: Self) -> bool {
        let before = |one: Option<i64>, two: Option<i64>| one.zip(two).is_none_or(|(since, until)| since < until);
        !self.is_empty() && !other.is_empty() && before(self.since, other.until) && before(other.since, self.until)
    }

    /// Returns the rows of a batch that are in the span; all if its kind is not known.
    pub fn select(self, batch: RecordBatch) -> Result<RecordBatch> {
        match Kind::of(batch.schema_ref()).and_then(|kind| self.keep(kind, &batch)) {
            Some(keep) => Ok(filter_record_batch(&batch, &keep)?),
            None => Ok(batch),
        }
    }

    /// Returns the rows of a batch that are at or after `until`; none if it is absent, or if the kind is not known.
    pub fn select_behind(self, batch: &RecordBatch) -> Result<RecordBatch> {
        let behind = Self { since: self.until, until: None };
        match Kind::of(batch.schema_ref()).and_then(|kind| behind.keep(kind, batch)) {
            Some(kept) => Ok(filter_record_batch(batch, &kept)?),
            None => Ok(batch.slice(0, 0)),
        }
    }

    /// Returns for each row of a batch of `kind` whether it is in the span; `None` if the span is unbounded, so that
    /// all are, or if the batch has no time column.
    pub fn keep(self, kind: Kind, batch: &RecordBatch) -> Option<BooleanArray> {
        if self == Self::default() {
            return None;
        }
        let times = array::<TimestampMicrosecondArray>(batch, kind.time_column())?;
        Some((0..times.len()).map(|row| Some(times.is_valid(row) && self.contains(times.value(row)))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_half_open_and_an_absent_end_is_unbounded() {
        let span = |since, until| Span { since, until };
        let (one, all) = (span(Some(10), Some(20)), Span::default());
        assert!(one.contains(10) && !one.contains(20) && all.contains(i64::MIN));
        assert!(one.holds(10, 20) && !one.holds(9, 20) && !one.holds(10, 21) && all.holds(i64::MIN, i64::MAX));
        assert!(one.overlaps(span(Some(19), None)) && !one.overlaps(span(Some(20), None)));
        assert!(one.overlaps(span(None, Some(11))) && !one.overlaps(span(None, Some(10))) && one.overlaps(all));
        let empty = span(Some(12), Some(12));
        assert!(!empty.overlaps(all) && !all.overlaps(empty) && !empty.overlaps(one));
    }
}
