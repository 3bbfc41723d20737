//! Splits text whose lines a format reads one by one: access logs, logfmt, syslog, lines that match a pattern.

use super::jsonl::Lines;
use super::record::{Body, RecordReader, Records, Skipped, Splitter};
use crate::error::Result;
use crate::kind::dead::{ErrorType, Fault};
use std::sync::Arc;

/// The byte of a line at which it is not in its format, and what was expected there.
#[derive(Clone, Copy, Debug)]
pub struct LineFault {
    /// The byte, from 0.
    pub byte: usize,
    /// What was expected.
    pub expected: &'static str,
}

impl From<LineFault> for Fault {
    #[cold]
    fn from(LineFault { byte, expected }: LineFault) -> Self {
        Self::new(ErrorType::ParseError, format!("byte {}: expected {expected}", byte + 1))
    }
}

/// The unread rest of a line.
pub struct LineCursor<'a> {
    /// The whole line.
    pub line: &'a str,
    /// The byte at which the rest begins.
    pub byte: usize,
}

impl<'a> LineCursor<'a> {
    /// Creates a cursor at the start of a line.
    pub fn new(line: &'a str) -> Self {
        Self { line, byte: 0 }
    }

    /// Returns the rest.
    pub fn rest(&self) -> &'a str {
        &self.line[self.byte..]
    }

    /// Returns the fault of a rest that begins with something else.
    pub fn fault(&self, expected: &'static str) -> LineFault {
        LineFault { byte: self.byte, expected }
    }

    /// Reads a mark; returns false if the rest does not begin with it.
    pub fn take(&mut self, mark: &str) -> bool {
        let is_there = self.rest().starts_with(mark);
        self.byte += if is_there { mark.len() } else { 0 };
        is_there
    }

    /// Reads a mark that must be next.
    pub fn mark(&mut self, mark: &str, expected: &'static str) -> Result<(), LineFault> {
        if self.take(mark) { Ok(()) } else { Err(self.fault(expected)) }
    }

    /// Reads up to the next space.
    pub fn word(&mut self, expected: &'static str) -> Result<&'a str, LineFault> {
        let rest = self.rest();
        let word = &rest[..rest.find(' ').unwrap_or(rest.len())];
        if word.is_empty() {
            return Err(self.fault(expected));
        }
        self.byte += word.len();
        Ok(word)
    }

    /// Reads a field, which may be empty, and the space after it; `None` if no space follows.
    pub fn field(&mut self) -> Option<&'a str> {
        let (field, _) = self.rest().split_once(' ')?;
        self.byte += field.len() + 1;
        Some(field)
    }
}

/// Splits lines, which a reader reads later; blank ones are not records, but count as lines.
pub struct ReadLines {
    lines: Lines,
    reader: Arc<dyn RecordReader>,
}

impl ReadLines {
    /// Returns the splitter of a format.
    pub fn new(reader: impl RecordReader + 'static) -> Self {
        Self { lines: Lines::default(), reader: Arc::new(reader) }
    }
}

impl Splitter for ReadLines {
    fn split(&mut self, input: &[u8], last: bool, records: &mut Records) -> Result<usize> {
        let before = records.rows.len();
        let consumed = self.lines.split(input, last, records)?;
        records.rows[before..].iter_mut().for_each(|record| record.body = Body::Unread);
        records.reader = Some(self.reader.clone());
        Ok(consumed)
    }

    fn skip(&mut self, input: &[u8]) -> Skipped {
        self.lines.skip(input)
    }

    fn lines(&self) -> u64 {
        self.lines.lines()
    }
}
