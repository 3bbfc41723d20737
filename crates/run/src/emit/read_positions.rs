//! How far each input is read: the number of its last record that is in a complete batch. A resumed run passes over the
//! records up to there, and cuts the rest into the same batches as a run that was not interrupted.

use arrow::array::RecordBatch;

/// For each input, the number of its last record, and the number up to which records are skipped.
#[derive(Default)]
pub struct ReadPositions {
    inputs: Vec<ReadPosition>,
    /// The position of the current input, and its number.
    current: ReadPosition,
    number: usize,
}

/// The position in one input. Records are numbered by their offsets (lines of text, rows of a container); rows that
/// have stamps are numbered from 1.
#[derive(Clone, Copy, Debug)]
struct ReadPosition {
    last: i64,
    /// The last record of the last complete batch.
    complete: i64,
    /// Records up to this number are passed over.
    skipped: i64,
    /// Rows with stamps so far, including those that were passed over.
    rows: i64,
    /// The stream time (µs) of its partition before its first record; `None` while it has not begun.
    began: Option<Option<i64>>,
}

impl Default for ReadPosition {
    fn default() -> Self {
        Self { last: i64::MIN, complete: i64::MIN, skipped: i64::MIN, rows: 0, began: None }
    }
}

impl ReadPositions {
    /// Makes `input` the current input.
    pub fn turn_to(&mut self, input: u32) {
        let next = input as usize;
        self.inputs.resize(self.inputs.len().max(self.number + 1).max(next + 1), ReadPosition::default());
        self.inputs[self.number] = self.current;
        self.current = self.inputs[next];
        self.number = next;
    }

    /// Passes over the records of the current input up to number `last`.
    pub fn skip_to(&mut self, last: i64) {
        self.current.skipped = last;
        self.current.last = self.current.last.max(last);
        self.current.complete = self.current.last;
    }

    /// Notes the stream time (µs) of the partition before the first record of the current input, unless the input has
    /// begun, in this run or an earlier one. Returns the stream time with which the input has begun.
    pub fn begin(&mut self, stream_time: Option<i64>) -> Option<i64> {
        *self.current.began.get_or_insert(stream_time)
    }

    /// Returns the stream time (µs) of its partition before the first record of the current input, if there was one.
    pub fn began(&self) -> Option<i64> {
        self.current.began.flatten()
    }

    /// Whether records of the current input are passed over.
    pub(super) fn is_resumed(&self) -> bool {
        self.current.skipped != i64::MIN
    }

    /// Returns the number of the last record of the current input that is in a complete batch; `None` before the first
    /// one.
    pub fn complete(&self) -> Option<i64> {
        Some(self.current.complete).filter(|last| *last != i64::MIN)
    }

    /// Notes that all records so far are in complete batches.
    pub(super) fn end_batch(&mut self) {
        self.current.complete = self.current.last;
    }

    /// Returns the number up to which the records of the current input are passed over.
    pub(super) fn passed(&self) -> i64 {
        self.current.skipped
    }

    /// Notes that the records of the current input up to this number are read.
    #[inline]
    pub(super) fn note(&mut self, offset: i64) {
        self.current.last = offset.max(self.current.skipped);
    }

    /// Notes that the records of an input up to this number are read and in complete batches.
    pub(super) fn complete_to(&mut self, input: u32, number: i64) {
        let position = match input as usize {
            current if current == self.number => &mut self.current,
            other => &mut self.inputs[other],
        };
        position.last = number.max(position.skipped);
        position.complete = position.last;
    }

    /// Notes that a record is read; returns false if the record must be skipped.
    #[inline]
    pub(super) fn take(&mut self, offset: i64) -> bool {
        if offset <= self.current.skipped {
            return false;
        }
        self.current.last = offset;
        true
    }

    /// Counts rows that have stamps; returns those that an earlier run has not read.
    pub(super) fn take_rows(&mut self, batch: RecordBatch) -> Option<RecordBatch> {
        let rows = batch.num_rows();
        let before = self.current.rows;
        self.current.rows += rows as i64;
        let skipped = usize::try_from(self.current.skipped.saturating_sub(before)).unwrap_or(0).min(rows);
        if skipped > 0 && skipped == rows {
            return None;
        }
        self.current.last = self.current.rows;
        self.end_batch();
        Some(if skipped == 0 { batch } else { batch.slice(skipped, rows - skipped) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    #[test]
    fn each_input_has_a_position_of_its_own() {
        let mut read = ReadPositions::default();
        read.turn_to(0);
        assert_eq!(read.complete(), None);
        read.skip_to(3);
        assert_eq!((1..6).map(|offset| read.take(offset)).collect::<Vec<_>>(), [false, false, false, true, true]);
        assert_eq!(read.complete(), Some(3));
        read.end_batch();
        read.turn_to(1);
        assert!(read.take(1) && read.complete().is_none());
        read.end_batch();
        assert_eq!(read.complete(), Some(1));
        read.turn_to(0);
        assert_eq!(read.complete(), Some(5));
    }

    #[test]
    fn rows_with_stamps_are_numbered_from_1() {
        let batch = |from: i64| {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + 3));
            RecordBatch::try_from_iter([("n", column)]).unwrap()
        };
        for skipped in 0..=6 {
            let mut read = ReadPositions::default();
            read.turn_to(0);
            read.skip_to(skipped);
            let kept = [1, 4].into_iter().filter_map(|from| read.take_rows(batch(from)));
            let kept: Vec<i64> =
                kept.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
            assert_eq!(kept, (skipped + 1..=6).collect::<Vec<_>>());
            assert_eq!(read.complete(), Some(6));
        }
    }
}
