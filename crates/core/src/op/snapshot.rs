//! The encoding of operator snapshots: a few primitives, little-endian, lengths before contents.

use crate::error::{Error, Result};
use crate::parse::bytes::{Cursor, Number};
use crate::time::{DAY, EARLIEST, LATEST};

/// Appends a number to a saved form.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

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
pub struct Reader<'a>(Cursor<'a>);

impl<'a> Reader<'a> {
    /// Creates a reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Cursor::new(bytes))
    }

    /// Reads a number of fixed width.
    pub fn le<T: Number>(&mut self) -> Result<T> {
        self.0.le().ok_or_else(cut_short)
    }

    /// Reads one byte.
    pub fn byte(&mut self) -> Result<u8> {
        self.le()
    }

    /// Reads a boolean.
    pub fn flag(&mut self) -> Result<bool> {
        Ok(self.byte()? != 0)
    }

    /// Reads a signed number.
    pub fn number(&mut self) -> Result<i64> {
        self.le()
    }

    /// Reads the start or end of a window (µs): within the calendar or a window's length beyond it, so that arithmetic
    /// cannot overflow.
    pub fn instant(&mut self) -> Result<i64> {
        let beyond = 1_000 * 366 * DAY;
        let value = self.number()?;
        let known = (EARLIEST - beyond..=LATEST + beyond).contains(&value);
        known.then_some(value).ok_or_else(|| Error::corrupt("snapshot: an instant is outside the years 1 to 9999"))
    }

    /// Reads a number of rows below 2^48, so that sums cannot overflow.
    pub fn rows(&mut self) -> Result<u64> {
        let rows = u64::try_from(self.number()?).ok().filter(|rows| *rows < 1 << 48);
        rows.ok_or_else(|| Error::corrupt("snapshot: a number of rows is out of range"))
    }

    /// Reads the number of a pane: at most `i32::MAX`, so that later panes have numbers too.
    pub fn pane(&mut self) -> Result<u32> {
        let pane = i32::try_from(self.number()?).ok().and_then(|pane| u32::try_from(pane).ok());
        pane.ok_or_else(|| Error::corrupt("snapshot: a number of panes is out of range"))
    }

    /// Reads a length or a count, at most the number of bytes left.
    pub fn count(&mut self) -> Result<usize> {
        let value = self.number()?;
        usize::try_from(value)
            .ok()
            .filter(|count| *count <= self.0.rest().len())
            .ok_or_else(|| Error::corrupt("snapshot: a count exceeds the remaining bytes"))
    }

    /// Reads an optional number.
    pub fn optional(&mut self) -> Result<Option<i64>> {
        if self.flag()? { self.number().map(Some) } else { Ok(None) }
    }

    /// Reads bytes after their length.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let count = self.count()?;
        self.0.take(count).ok_or_else(cut_short)
    }

    /// Reads a length or an index of at most `max`.
    pub fn at_most(&mut self, max: u64) -> Result<usize> {
        match self.le::<u64>()? {
            value if value <= max => Ok(value as usize),
            value => Err(Error::corrupt(format!("snapshot: expected a number up to {max}, found {value}"))),
        }
    }

    /// Reads all bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.0.rest();
        self.0.take(rest.len()).unwrap_or_default()
    }

    /// Reads text after its length.
    pub fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Error::corrupt("snapshot: invalid UTF-8"))
    }

    /// Checks that everything was read.
    ///
    /// Errors: exit status 65 if bytes are left.
    pub fn finish(self) -> Result<()> {
        if self.0.rest().is_empty() { Ok(()) } else { Err(Error::corrupt("snapshot: bytes after the state")) }
    }
}

#[cold]
fn cut_short() -> Error {
    Error::corrupt("snapshot: truncated")
}
