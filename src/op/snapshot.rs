//! The encoding of operator snapshots: a few primitives, little-endian, lengths before contents.

use crate::error::{Error, Result};
use crate::time::{DAY, EARLIEST, LATEST};

/// Encodes a snapshot.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Returns the bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// Writes one byte.
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Writes a boolean.
    pub fn flag(&mut self, value: bool) {
        self.byte(u8::from(value));
    }

    /// Writes a signed number, such as an instant or a duration (µs).
    pub fn number(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes a length or a count.
    pub fn count(&mut self, value: usize) {
        self.0.extend_from_slice(&(value as u64).to_le_bytes());
    }

    /// Writes an optional number.
    pub fn optional(&mut self, value: Option<i64>) {
        self.flag(value.is_some());
        if let Some(value) = value {
            self.number(value);
        }
    }

    /// Writes bytes, preceded by their length.
    pub fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.0.extend_from_slice(value);
    }

    /// Writes text, preceded by its length.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }
}

/// Decodes a snapshot. Its methods fail with exit status 65 if the bytes end early or cannot be a snapshot.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Creates a reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.0.len() {
            return Err(Error::corrupt("a snapshot is cut short"));
        }
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    /// Reads one byte.
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// Reads a boolean.
    pub fn flag(&mut self) -> Result<bool> {
        Ok(self.byte()? != 0)
    }

    /// Reads a signed number.
    pub fn number(&mut self) -> Result<i64> {
        let bytes = self.take(8)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | i64::from(*byte)))
    }

    /// Reads an edge of a window (µs): within the calendar or a window's length beyond it, so that arithmetic cannot
    /// overflow.
    pub fn instant(&mut self) -> Result<i64> {
        let beyond = 1_000 * 366 * DAY;
        let value = self.number()?;
        let known = (EARLIEST - beyond..=LATEST + beyond).contains(&value);
        known.then_some(value).ok_or_else(|| Error::corrupt("a snapshot names an instant beyond the calendar"))
    }

    /// Reads a number of rows below 2^48, so that sums cannot overflow.
    pub fn rows(&mut self) -> Result<u64> {
        let rows = u64::try_from(self.number()?).ok().filter(|rows| *rows < 1 << 48);
        rows.ok_or_else(|| Error::corrupt("a snapshot counts more rows than there can be"))
    }

    /// Reads a pane number, with room for later ones.
    pub fn pane(&mut self) -> Result<u32> {
        let pane = i32::try_from(self.number()?).ok().and_then(|pane| u32::try_from(pane).ok());
        pane.ok_or_else(|| Error::corrupt("a snapshot counts more firings than there can be"))
    }

    /// Reads a length or a count, at most the number of bytes left.
    pub fn count(&mut self) -> Result<usize> {
        let value = self.number()?;
        usize::try_from(value)
            .ok()
            .filter(|count| *count <= self.0.len())
            .ok_or_else(|| Error::corrupt("a snapshot counts more than it holds"))
    }

    /// Reads an optional number.
    pub fn optional(&mut self) -> Result<Option<i64>> {
        if self.flag()? { self.number().map(Some) } else { Ok(None) }
    }

    /// Reads bytes after their length.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let count = self.count()?;
        self.take(count)
    }

    /// Reads text after its length.
    pub fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Error::corrupt("a snapshot holds text that is not UTF-8"))
    }

    /// Checks that everything was read.
    ///
    /// Errors: exit status 65 if bytes are left.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::corrupt("a snapshot holds more than its state")) }
    }
}
