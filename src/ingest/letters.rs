//! The buffer of dead letters of records that could not become rows.
//!
//! Each letter has the number of rows before its record, so that a stage can put letters and rows in order again.

use crate::error::Result;
use crate::expr::RowFault;
use crate::kind::dead::{ErrorType, Fault, Letter};
use crate::kind::letters;
use crate::op::row_letter::with_letter;
use crate::run::Run;
use arrow::array::RecordBatch;

/// Dead letters in the order of their records.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Rows of kind dead.
    pub letters: RecordBatch,
    /// For each letter, the number of rows of the source before its record; ascending.
    pub after: Vec<u64>,
}

impl Dead {
    /// Removes the letters before row number `end` of the source, and returns them.
    pub fn split_before(&mut self, end: u64) -> RecordBatch {
        let count = self.after.partition_point(|rows| *rows < end);
        self.after.drain(..count);
        let released = self.letters.slice(0, count);
        self.letters = self.letters.slice(count, self.after.len());
        released
    }
}

/// Number of letters that makes the buffer full.
const ROWS: usize = 1024;
/// Bytes of letters that make the buffer full.
const BYTES: usize = 256 << 10;

/// The letters of one source.
pub(super) struct Letters {
    builder: letters::Builder,
    after: Vec<u64>,
    /// Rows of the source that came as batches.
    rows_before: u64,
}

impl Letters {
    pub(super) fn new(stage: &str) -> Self {
        Self { builder: letters::Builder::new(stage, &Run::host()), after: vec![], rows_before: 0 }
    }

    /// Adds a letter whose record came after `rows` rows of raw records; `now` is the current time (µs).
    pub(super) fn push(&mut self, rows: u64, letter: &Letter<'_>, now: i64) -> Result<()> {
        self.after.push(rows + self.rows_before);
        self.builder.push(letter, now)
    }

    /// Adds the letters of rows that a filter could not judge, each with its message.
    pub(super) fn push_wrong(&mut self, batch: &RecordBatch, wrong: &[RowFault], rows: u64, now: i64) -> Result<()> {
        wrong.iter().try_for_each(|RowFault { row, message }| {
            let fault = Fault::new(ErrorType::AggregationError, message);
            with_letter(batch, *row, &fault, None, |letter, _| self.push(rows, letter, now))
        })
    }

    /// Sets the number of rows of the source that came as batches.
    pub(super) fn set_rows_before(&mut self, rows: u64) {
        self.rows_before = rows;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.after.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.after.len() >= ROWS || self.builder.bytes() >= BYTES
    }

    /// Returns all letters and empties the buffer; `None` if there are none.
    pub(super) fn take(&mut self) -> Result<Option<Dead>> {
        if self.is_empty() {
            return Ok(None);
        }
        Ok(Some(Dead { letters: self.builder.finish()?, after: std::mem::take(&mut self.after) }))
    }
}
