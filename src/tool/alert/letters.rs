//! The dead letters of a file whose position is kept: those that an earlier run has written are left out, and so is that of a last
//! line which is still being written.
//!
//! The position of letters is a line, that of rows an offset or a number: rows may carry stamps. So both are kept.

use super::files::FileEnd;
use crate::error::Result;
use crate::frame::How;
use crate::ingest::Dead;
use crate::kind::dead::column;
use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;

/// The letters of an input.
#[derive(Debug, Default)]
pub struct FileLetters {
    /// The file, and the last line with a letter of an earlier run (-1: none); `None` for an input whose position is not kept.
    file: Option<(FileEnd, i64)>,
    /// The last letter so far: its line may be the last one, and incomplete.
    held: Option<Dead>,
    /// The last line with a letter that was passed on.
    written: Option<i64>,
    /// Number of letters that an earlier run has written.
    pub known: u64,
    /// Number of records that the next run reads again, because their line may not be complete.
    pub unfinished: u64,
}

impl FileLetters {
    /// Begins behind the letters of an earlier run.
    pub fn new(file: FileEnd, known_to: i64) -> Self {
        Self { file: Some((file, known_to)), ..Self::default() }
    }

    /// Returns the letters to write: those of new records, without the last one.
    pub fn take(&mut self, dead: Dead) -> Result<Vec<Dead>> {
        let Some((_, known_to)) = self.file else { return Ok(vec![dead]) };
        let lines = dead.letters.column(column::OFFSET).as_primitive::<Int64Type>();
        let keep: Vec<bool> = lines.iter().map(|line| line.is_none_or(|line| line > known_to)).collect();
        self.known += keep.iter().filter(|keep| !**keep).count() as u64;
        let dead = selected(&dead, &keep)?;
        let rows = dead.after.len();
        if rows == 0 {
            return Ok(vec![]);
        }
        let is_last = |row: usize| row + 1 == rows;
        let others = selected(&dead, &Vec::from_iter((0..rows).map(|row| !is_last(row))))?;
        let before = self.held.replace(selected(&dead, &Vec::from_iter((0..rows).map(is_last)))?);
        let mut new = Vec::from_iter(before.into_iter().chain([others]));
        new.retain(|dead| !dead.after.is_empty());
        new.iter().for_each(|dead| self.written = self.written.max(last_line(dead)));
        Ok(new)
    }

    /// Returns the letter that was held back, unless its line may not be complete: it is the last one that was read, and the file has
    /// grown since or ends without a line break, or the run was stopped. `rows` is the number of rows of the input.
    pub fn end(&mut self, how: How, rows: u64) -> Option<Dead> {
        let held = self.held.take()?;
        let is_last = held.after.last().is_some_and(|after| *after >= rows);
        let may_be_open = self.file.as_ref().is_some_and(|(file, _)| file.may_be_open());
        if how == How::Stopped || is_last && may_be_open {
            self.unfinished += 1;
            return None;
        }
        self.written = self.written.max(last_line(&held));
        Some(held)
    }

    /// Returns the last line with a letter that was passed on in this run.
    pub fn written(&self) -> Option<i64> {
        self.written
    }
}

fn last_line(dead: &Dead) -> Option<i64> {
    dead.letters.column(column::OFFSET).as_primitive::<Int64Type>().iter().flatten().max()
}

fn selected(dead: &Dead, keep: &[bool]) -> Result<Dead> {
    let after = dead.after.iter().zip(keep).filter(|(_, keep)| **keep).map(|(after, _)| *after).collect();
    Ok(Dead { letters: filter_record_batch(&dead.letters, &BooleanArray::from(keep.to_vec()))?, after })
}
