//! Letters of records that become no rows, until they are handed out.

use crate::error::Result;
use crate::kind::dead::Letter;
use crate::kind::letters::Builder;
use crate::run::Run;
use arrow::array::RecordBatch;

/// Dead letters in the order of their records.
#[derive(Debug)]
pub struct Dead {
    /// Rows of kind dead.
    pub letters: RecordBatch,
    /// For each letter, how many rows of the source came before its record: ascending.
    pub after: Vec<u64>,
}

/// Letters in one batch at the most, and their bytes.
const ROWS: usize = 1024;
const BYTES: usize = 256 << 10;

/// The letters of one source.
pub(super) struct Letters {
    builder: Builder,
    after: Vec<u64>,
    rows_before: u64,
}

impl Letters {
    pub(super) fn new(stage: &str) -> Self {
        Self { builder: Builder::new(stage, &Run::host()), after: vec![], rows_before: 0 }
    }

    /// Takes one letter whose record came after `rows` rows of raw records.
    pub(super) fn push(&mut self, rows: u64, letter: &Letter<'_>, now: i64) -> Result<()> {
        self.after.push(rows + self.rows_before);
        self.builder.push(letter, now)
    }

    pub(super) fn set_rows_before(&mut self, rows: u64) {
        self.rows_before = rows;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.after.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.after.len() >= ROWS || self.builder.bytes() >= BYTES
    }

    /// All of them.
    pub(super) fn take(&mut self) -> Result<Option<Dead>> {
        if self.is_empty() {
            return Ok(None);
        }
        Ok(Some(Dead { letters: self.builder.finish()?, after: std::mem::take(&mut self.after) }))
    }
}
