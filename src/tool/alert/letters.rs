//! The dead letters of a file whose position is kept: those that an earlier run has written are left out.
//!
//! The position of letters is a line, that of rows an offset or a number: rows may carry stamps. So both are kept.

use crate::error::Result;
use crate::ingest::Dead;
use crate::kind::dead::column;
use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;

/// The letters of an input.
#[derive(Debug, Default)]
pub struct FileLetters {
    /// The last line with a letter of an earlier run (-1: none); `None` for an input whose position is not kept.
    known_to: Option<i64>,
    /// The last line with a letter that was passed on.
    written: Option<i64>,
    /// Number of letters that an earlier run has written.
    pub known: u64,
}

impl FileLetters {
    /// Begins behind the letters of an earlier run.
    pub fn new(known_to: i64) -> Self {
        Self { known_to: Some(known_to), ..Self::default() }
    }

    /// Returns the letters to write: those of new records.
    pub fn take(&mut self, dead: Dead) -> Result<Dead> {
        let Some(known_to) = self.known_to else { return Ok(dead) };
        let lines = dead.letters.column(column::OFFSET).as_primitive::<Int64Type>();
        let keep: Vec<bool> = lines.iter().map(|line| line.is_none_or(|line| line > known_to)).collect();
        self.written = self.written.max(lines.iter().flatten().filter(|line| *line > known_to).max());
        self.known += keep.iter().filter(|keep| !**keep).count() as u64;
        let after = dead.after.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(after, _)| *after).collect();
        Ok(Dead { letters: filter_record_batch(&dead.letters, &BooleanArray::from(keep))?, after })
    }

    /// Returns the last line with a letter that was passed on in this run.
    pub fn written(&self) -> Option<i64> {
        self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::dead::{ErrorType, Fault, Letter};
    use crate::kind::letters::Builder;

    /// Takes letters of these lines; returns the lines of those that are passed on.
    fn take(to: &mut FileLetters, of: &[i64]) -> Vec<i64> {
        let mut builder = Builder::new("evt-test", "host");
        let fault = Fault::new(ErrorType::ParseError, "no JSON");
        for line in of {
            let (payload, fault) = (b"x".as_slice(), &fault);
            let (origin, partition, offset) = ("f", "0", *line);
            let letter =
                Letter { payload, key: None, headers: None, arrived_at: None, fault, origin, partition, offset };
            builder.push(&letter, 7).unwrap();
        }
        let dead = Dead { letters: builder.finish().unwrap(), after: vec![0; of.len()] };
        let passed = to.take(dead).unwrap();
        assert_eq!(passed.after.len(), passed.letters.num_rows());
        passed.letters.column(column::OFFSET).as_primitive::<Int64Type>().iter().flatten().collect()
    }

    #[test]
    fn letters_of_an_earlier_run_are_left_out() {
        let mut letters = FileLetters::new(2);
        assert_eq!(take(&mut letters, &[1, 2]), [0i64; 0], "both are known");
        assert_eq!(letters.written(), None);
        assert_eq!(take(&mut letters, &[2, 3, 4, 6]), [3, 4, 6]);
        assert_eq!((letters.known, letters.written()), (3, Some(6)));
    }

    #[test]
    fn letters_of_an_input_without_a_position_are_passed_on() {
        let mut letters = FileLetters::default();
        assert_eq!(take(&mut letters, &[1, 2]), [1, 2]);
        assert_eq!(letters.written(), None);
    }
}
