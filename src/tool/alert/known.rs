//! The rows of an input that an earlier run has evaluated.

use super::files::FileMark;
use super::stored::{StoredRows, codes, text};
use crate::error::Result;
use crate::kind::Kind;
use crate::kind::event::column;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

/// The way in which a run recognises the rows of an input that an earlier run has evaluated.
pub enum KnownRows {
    /// Not at all: a topic begins after such rows, and rows of a pipe up to this instant (µs) may be among them.
    Untold(Option<i64>),
    /// By their positions in a file.
    File(FileRows),
    /// By their positions in a store.
    Store(StoredRows),
}

/// The rows of a file that an earlier run has evaluated.
pub struct FileRows {
    mark: FileMark,
    /// The last of them by its offset, or by its number if the rows have no stamps; -1 if there is none.
    to: i64,
    /// The number of the next row.
    next: i64,
    /// The origin of rows that have the stamps of this file.
    origin: String,
    /// Whether rows are known by their numbers, because they have other stamps; `None` before the first row.
    is_numbered: Option<bool>,
    /// Rows up to this instant (µs) may be those of an earlier run, because the file was written anew.
    after: Option<i64>,
}

impl KnownRows {
    /// Returns whether each event is new; `None` if all are.
    pub fn new_events(&mut self, batch: &RecordBatch) -> Result<Option<Vec<bool>>> {
        match self {
            Self::Untold(_) => Ok(None),
            Self::File(file) => {
                let positions = file.positions(batch);
                Ok(file.new_rows(&positions))
            }
            Self::Store(stored) => stored.new_events(batch).map(Some),
        }
    }

    /// Returns whether each row without stamps is new; `None` if all are. `times` are their instants (µs); those after
    /// `latest` have no position in a store, so that a later run evaluates them.
    pub fn new_others(&mut self, kind: Kind, times: &[i64], latest: i64) -> Option<Vec<bool>> {
        match self {
            Self::Untold(_) => None,
            Self::File(file) => {
                let numbers = file.numbers(times.len());
                file.new_rows(&numbers)
            }
            Self::Store(stored) => Some(stored.new_others(kind, times, latest)),
        }
    }

    /// Returns the last instant (µs) of which an earlier run may have evaluated some rows; which ones is unknown.
    pub fn after(&self, kind: Kind) -> Option<i64> {
        match self {
            Self::Untold(after) => *after,
            Self::File(file) => file.after,
            Self::Store(stored) => stored.after(kind),
        }
    }

    /// Returns the mark of a file.
    pub fn mark(&self) -> Option<&FileMark> {
        match self {
            Self::File(file) => Some(&file.mark),
            _ => None,
        }
    }

    /// Returns the mark of a file, to change it.
    pub fn mark_mut(&mut self) -> Option<&mut FileMark> {
        match self {
            Self::File(file) => Some(&mut file.mark),
            _ => None,
        }
    }
}

impl FileRows {
    /// Begins after the rows of a mark. `origin` is that of raw records of the file; rows up to `after` (µs) may be
    /// those of an earlier run.
    pub fn new(mark: FileMark, origin: String, after: Option<i64>) -> Self {
        Self { to: mark.last_offset, mark, next: 0, origin, is_numbered: None, after }
    }

    /// Returns the positions by which a later run recognises rows: their offsets. If a row of the file has another
    /// origin, they are the numbers of the rows, because offsets of several partitions cannot be compared.
    fn positions(&mut self, batch: &RecordBatch) -> Vec<i64> {
        let numbers = self.numbers(batch.num_rows());
        let origins = batch.column(column::ORIGIN);
        let is_other = || codes(origins).into_iter().any(|code| text(origins, code) != self.origin);
        if *self.is_numbered.get_or_insert_with(is_other) {
            return numbers;
        }
        batch.column(column::OFFSET).as_primitive::<Int64Type>().values().to_vec()
    }

    /// Returns the numbers of the next rows.
    fn numbers(&mut self, count: usize) -> Vec<i64> {
        let first = self.next;
        self.next += count as i64;
        (first..self.next).collect()
    }

    /// Returns whether each row is new, and notes the last of them.
    fn new_rows(&mut self, positions: &[i64]) -> Option<Vec<bool>> {
        self.mark.last_offset = self.mark.last_offset.max(positions.iter().max().copied().unwrap_or(-1));
        (self.to >= 0).then(|| positions.iter().map(|position| *position > self.to).collect())
    }
}
