//! The dead letters of a file whose position is kept: those that an earlier run has written are left out, and so is that of a last
//! line which is still being written.

use crate::error::Result;
use crate::ingest::Dead;
use crate::kind::dead::{ErrorType, column};
use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;

/// The letters of a file.
#[derive(Debug, Default)]
pub struct FileLetters {
    /// The last record that an earlier run has read, by its offset; `None` if there is none.
    known_to: Option<i64>,
    /// Whether the last line of the file has no line break: a program may be writing it.
    is_last_line_open: bool,
    /// The last letter, if its record may be that line.
    held: Option<Dead>,
    /// The greatest offset of a letter.
    greatest: Option<i64>,
    /// Number of letters that an earlier run has written.
    pub known: u64,
    /// Number of records that the next run reads again, because their line is not complete.
    pub unfinished: u64,
}

impl FileLetters {
    /// Begins behind the position of an earlier run.
    pub fn new(known_to: i64, is_last_line_open: bool) -> Self {
        Self { known_to: Some(known_to), is_last_line_open, ..Self::default() }
    }

    /// Returns the letters to write: those of new records, without the last one if its line may not be complete.
    pub fn take(&mut self, dead: Dead) -> Result<Vec<Dead>> {
        let Some(known_to) = self.known_to else { return Ok(vec![dead]) };
        let offsets = dead.letters.column(column::OFFSET).as_primitive::<Int64Type>();
        let keep: Vec<bool> = offsets.iter().map(|offset| offset.is_none_or(|offset| offset > known_to)).collect();
        self.greatest = self.greatest.max(offsets.iter().flatten().max());
        let dead = selected(&dead, &keep)?;
        self.known += keep.iter().filter(|keep| !**keep).count() as u64;
        let mut new: Vec<Dead> = self.held.take().into_iter().collect();
        let rows = dead.letters.num_rows();
        if self.is_last_line_open && rows > 0 && error_type(&dead, rows - 1) == ErrorType::ParseError.name() {
            let is_last: Vec<bool> = (0..rows).map(|row| row + 1 == rows).collect();
            self.held = Some(selected(&dead, &is_last)?);
            new.push(selected(&dead, &is_last.iter().map(|is| !is).collect::<Vec<bool>>())?);
        } else {
            new.push(dead);
        }
        new.retain(|dead| !dead.after.is_empty());
        Ok(new)
    }

    /// Returns the letter that was held back, unless its record is the last one of the file; `last_row` is the greatest offset of a row.
    pub fn end(&mut self, last_row: i64) -> Option<Dead> {
        let held = self.held.take()?;
        if self.greatest.is_some_and(|greatest| greatest > last_row) {
            self.unfinished += 1;
            return None;
        }
        Some(held)
    }

    /// Returns the last record with a letter that this run has written, by its offset.
    pub fn last(&self) -> Option<i64> {
        self.greatest.filter(|_| self.unfinished == 0)
    }
}

fn error_type(dead: &Dead, row: usize) -> &str {
    let types = dead.letters.column(column::ERROR_TYPE).as_any_dictionary();
    let code = types.normalized_keys().get(row).copied().unwrap_or_default();
    types.values().as_string::<i32>().value(code)
}

fn selected(dead: &Dead, keep: &[bool]) -> Result<Dead> {
    let after = dead.after.iter().zip(keep).filter(|(_, keep)| **keep).map(|(after, _)| *after).collect();
    Ok(Dead { letters: filter_record_batch(&dead.letters, &BooleanArray::from(keep.to_vec()))?, after })
}
