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

#[cfg(test)]
mod tests {
    use super::super::files::identify;
    use super::*;
    use crate::kind::dead::{ErrorType, Fault, Letter};
    use crate::kind::letters::Builder;
    use std::path::PathBuf;

    /// A file of three lines, and the letters of some of them.
    struct Rig {
        dir: tempfile::TempDir,
        letters: FileLetters,
    }

    impl Rig {
        fn new(text: &str, known_to: i64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("f"), text).unwrap();
            let end = identify(&dir.path().join("f"), "f", &[], 1000).unwrap().end;
            Self { dir, letters: FileLetters::new(end, known_to) }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("f")
        }

        /// Takes letters of these lines, each after so many rows; returns the lines of those that are passed on.
        fn take(&mut self, of: &[(i64, u64)]) -> Vec<i64> {
            self.letters.take(letters(of)).unwrap().iter().flat_map(lines).collect()
        }

        fn end(&mut self, how: How, rows: u64) -> Vec<i64> {
            self.letters.end(how, rows).iter().flat_map(lines).collect()
        }
    }

    fn letters(of: &[(i64, u64)]) -> Dead {
        let mut builder = Builder::new("evt-test", "host");
        let fault = Fault::new(ErrorType::ParseError, "no JSON");
        for (line, _) in of {
            let (payload, fault) = (b"x".as_slice(), &fault);
            let (origin, partition, offset) = ("f", "0", *line);
            let letter =
                Letter { payload, key: None, headers: None, arrived_at: None, fault, origin, partition, offset };
            builder.push(&letter, 7).unwrap();
        }
        Dead { letters: builder.finish().unwrap(), after: of.iter().map(|(_, after)| *after).collect() }
    }

    fn lines(dead: &Dead) -> Vec<i64> {
        dead.letters.column(column::OFFSET).as_primitive::<Int64Type>().iter().flatten().collect()
    }

    #[test]
    fn letters_of_an_earlier_run_are_left_out_and_the_last_one_waits_for_the_end() {
        let mut rig = Rig::new("a\nb\nc\n", 2);
        assert_eq!(rig.take(&[(1, 0), (2, 0)]), [0i64; 0], "both are known");
        assert_eq!(rig.take(&[(2, 0), (3, 0), (4, 0), (6, 1)]), [3, 4], "the last one may be incomplete");
        assert_eq!((rig.letters.known, rig.letters.written()), (3, Some(4)));
        assert_eq!(rig.take(&[(7, 1)]), [6]);
        assert_eq!(rig.end(How::Exhausted, 1), [7]);
        assert_eq!((rig.letters.written(), rig.letters.unfinished), (Some(7), 0));
        assert_eq!(rig.end(How::Exhausted, 1), [0i64; 0]);
    }

    #[test]
    fn the_letter_of_a_last_line_that_may_be_incomplete_is_left_to_the_next_run() {
        let unfinished = |text: &str, rows: u64, how: How, grows: bool| {
            let mut rig = Rig::new(text, -1);
            assert_eq!(rig.take(&[(3, 2)]), [0i64; 0]);
            if grows {
                std::fs::write(rig.path(), format!("{text}more")).unwrap();
            }
            let passed = rig.end(how, rows);
            assert_eq!(passed.is_empty(), rig.letters.unfinished == 1);
            assert_eq!(rig.letters.written().is_some(), !passed.is_empty());
            rig.letters.unfinished == 1
        };
        assert!(!unfinished("a\nb\nc\n", 2, How::Exhausted, false), "the line has a line break");
        assert!(unfinished("a\nb\nc", 2, How::Exhausted, false), "it has none");
        assert!(unfinished("a\nb\nc\n", 2, How::Exhausted, true), "the file has grown since");
        assert!(!unfinished("a\nb\nc\nd", 3, How::Exhausted, true), "a row follows the letter");
        assert!(unfinished("a\nb\nc\nd", 3, How::Stopped, false), "the run was stopped");
    }

    #[test]
    fn letters_of_an_input_without_a_position_are_passed_on_at_once() {
        let mut letters_of_pipe = FileLetters::default();
        let passed = letters_of_pipe.take(letters(&[(1, 0), (2, 0)])).unwrap();
        assert_eq!(passed.iter().flat_map(lines).collect::<Vec<_>>(), [1, 2]);
        assert!(letters_of_pipe.end(How::Exhausted, 0).is_none());
        assert_eq!(letters_of_pipe.written(), None);
    }
}
