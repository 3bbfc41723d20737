//! Splits text whose lines a format reads one by one: access logs, logfmt, syslog, lines that match a pattern.

use super::jsonl::Lines;
use super::record::{Body, Records, Skipped, Splitter, not_utf8};
use crate::error::Result;
use crate::kind::dead::{ErrorType, Fault};

/// A format of which each line is a record.
pub trait LineReader: Send {
    /// Appends a line to `out` as a JSON object. After a fault the content of `out` is not used.
    fn read(&mut self, line: &str, out: &mut String) -> Result<(), Fault>;

    /// Sets the time (µs) of the line before the first one.
    fn resume(&mut self, _after: i64) {}
}

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

/// Splits lines and reads each; blank ones are not records, but count as lines.
pub struct ReadLines<R> {
    lines: Lines,
    reader: R,
}

impl<R: LineReader> ReadLines<R> {
    /// Returns the splitter of a format.
    pub fn new(reader: R) -> Self {
        Self { lines: Lines::default(), reader }
    }

    fn body(&mut self, line: &[u8], out: &mut String) -> Body {
        let start = out.len();
        let line = str::from_utf8(line).map_err(|error| not_utf8(&error));
        match line.and_then(|line| self.reader.read(line, out)) {
            Ok(()) => Body::Text(start..out.len()),
            Err(fault) => {
                out.truncate(start);
                Body::Fault(fault)
            }
        }
    }
}

impl<R: LineReader> Splitter for ReadLines<R> {
    fn split(&mut self, input: &[u8], last: bool, records: &mut Records) -> Result<usize> {
        let before = records.rows.len();
        let consumed = self.lines.split(input, last, records)?;
        for record in &mut records.rows[before..] {
            record.body = self.body(&input[record.raw.clone()], &mut records.text);
        }
        Ok(consumed)
    }

    fn skip(&mut self, input: &[u8]) -> Skipped {
        self.lines.skip(input)
    }

    fn lines(&self) -> u64 {
        self.lines.lines()
    }

    fn resume(&mut self, after: i64) {
        self.reader.resume(after);
    }
}
