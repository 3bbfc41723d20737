//! Splits text whose lines a format reads one by one: access logs, logfmt, syslog, lines that match a pattern.

use super::jsonl::Lines;
use super::record::{Body, Records, Splitter, not_utf8};
use crate::error::Result;
use crate::kind::dead::Fault;

/// A format of which each line is a record.
pub trait LineReader: Send {
    /// Appends a line to `out` as a JSON object. After a fault the content of `out` is not used.
    fn read(&mut self, line: &str, out: &mut String) -> Result<(), Fault>;

    /// Sets the time (µs) of the line before the first one.
    fn resume(&mut self, _after: i64) {}
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
        let line = std::str::from_utf8(line).map_err(|error| not_utf8(&error));
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

    fn skip(&mut self, input: &[u8]) -> (usize, bool) {
        self.lines.skip(input)
    }

    fn lines(&self) -> u64 {
        self.lines.lines()
    }

    fn resume(&mut self, after: i64) {
        self.reader.resume(after);
    }
}
