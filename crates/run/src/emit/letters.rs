//! The dead letters of records that could not become rows: their buffer, and the faults that no format and no mapping
//! finds.
//!
//! Each letter has the number of rows before its record, so that a stage can put letters and rows in order again.

use arrow::array::RecordBatch;
use evt_core::counts::counted;
use evt_core::error::Result;
use evt_core::expr::WrongRows;
use evt_core::kind::dead::{ErrorType, Fault, Letter, TimeProposal};
use evt_core::kind::letters;
use evt_core::mapping::{self, Reach};
use evt_core::op::row_letter::with_letter;
use evt_core::time::SECOND;

/// Dead letters in the order of their records.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Rows of kind dead.
    pub letters: RecordBatch,
    /// For each letter, the number of rows of the source before its record; ascending.
    pub after: Vec<u64>,
}

impl Dead {
    /// Adds rows that came before all letters.
    pub(super) fn behind(mut self, rows: u64) -> Self {
        self.after.iter_mut().for_each(|after| *after += rows);
        self
    }

    /// Removes the letters before row number `end` of the source, and returns them.
    pub fn split_before(&mut self, end: u64) -> RecordBatch {
        let count = self.after.partition_point(|rows| *rows < end);
        self.after.drain(..count);
        let released = self.letters.slice(0, count);
        self.letters = self.letters.slice(count, self.after.len());
        released
    }
}

/// How long records wait for their `--max-future` verdict before that is reported (µs).
pub(super) const HELD_REPORT: i64 = SECOND;

/// Letters, each with the number of rows before it.
pub(super) struct Letters {
    builder: letters::Builder,
    after: Vec<u64>,
}

impl Letters {
    /// Makes an empty buffer for letters of a stage on a host.
    pub(super) fn new(stage: &str, host: &str) -> Self {
        Self { builder: letters::Builder::new(stage, host), after: vec![] }
    }

    /// Makes an empty buffer for letters of the same stage and host.
    pub(super) fn another(&self) -> Self {
        Self { builder: self.builder.another(), after: vec![] }
    }

    /// Adds a letter whose record came after `rows` rows; `now` is the current time (µs).
    pub(super) fn push(&mut self, rows: u64, letter: &Letter<'_>, now: i64) -> Result<()> {
        self.after.push(rows);
        self.builder.push(letter, now)
    }

    /// Adds the letters of rows that a filter could not judge, each with its message.
    pub(super) fn push_wrong(&mut self, batch: &RecordBatch, wrong: &WrongRows, rows: u64, now: i64) -> Result<()> {
        wrong.iter().try_for_each(|(row, message)| {
            let fault = Fault::new(ErrorType::AggregationError, message);
            with_letter(batch, *row, &fault, None, |letter, _| self.push(rows, letter, now))
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.after.is_empty()
    }

    /// Returns all letters and empties the buffer; `None` if there are none.
    pub(super) fn take(&mut self) -> Result<Option<Dead>> {
        if self.is_empty() {
            return Ok(None);
        }
        Ok(Some(Dead { letters: self.builder.finish()?, after: std::mem::take(&mut self.after) }))
    }
}

/// Returns the fault of a record without an event time, before any record had one; it names the flags that select a
/// time.
#[cold]
pub(super) fn no_time(text: &str, time: &str) -> Fault {
    let missing = format!("{time}: missing or null");
    let proposal = TimeProposal { is_missing: true, at: missing.len() };
    let message = format!("{missing}; {}", mapping::time_fields(text).remedy());
    Fault::new(ErrorType::TimestampError, message).with_proposal(proposal)
}

/// Returns the message about records that wait for their `--max-future` verdict.
pub(super) fn held_records(held: usize) -> String {
    let held = counted(
        held as u64,
        ["record without an arrival time is held until its", "records without an arrival time are held until their"],
    );
    format!(
        "{held} partition has {} records (--max-future compares them \
         with the median)",
        Reach::Live.rows()
    )
}

/// Returns the fault of a record that is longer than `limit` (`--max-record`). The message contains `bytes`, the letter
/// `length`.
#[cold]
pub fn too_large(bytes: &str, length: u64, limit: usize) -> Fault {
    let message = format!("the record has {bytes} bytes (--max-record {limit}); the payload is truncated");
    Fault::new(ErrorType::TooLargeError, message).of_cut(length)
}
