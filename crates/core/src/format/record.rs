//! Records, and the splitting of a stream of bytes into records.

use crate::error::Result;
use crate::json::scan;
use crate::kind::dead::{ErrorType, Fault, Suspect};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// The place of a record's JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The raw bytes are the JSON text (JSON lines).
    Raw,
    /// [`Records::reader`] makes it of the raw bytes. It needs nothing of other records, so any thread may do it.
    Unread,
    /// A range of [`Records::text`].
    Text(Range<usize>),
    /// The beginning of the text, a range of [`Records::text`]: the rest was not written, because a record must be
    /// shorter.
    Cut(Range<usize>),
    /// There is none: the record is not in its format.
    Fault(Fault),
    /// A document without records (`--explode`).
    Document {
        /// Its first bytes, a range of [`Records::text`].
        head: Range<usize>,
        /// Why it is a dead letter; without a fault it is filtered.
        fault: Option<Fault>,
    },
}

/// One record found in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its exact bytes, as a range of the input of [`Splitter::split`]; empty in a container, where the JSON text
    /// replaces it.
    pub raw: Range<usize>,
    /// Its line (1 is the first of the input) or, in formats without lines, its number from 1.
    pub line: u64,
    /// Its JSON text.
    pub body: Body,
}

/// Records found so far; cleared and filled again for each chunk of input, so that nothing is allocated per record.
#[derive(Default)]
pub struct Records {
    /// The records, in order.
    pub rows: Vec<Record>,
    /// JSON text of records whose raw bytes are not JSON.
    pub text: String,
    /// Reads the records that are [`Body::Unread`].
    pub reader: Option<Arc<dyn RecordReader>>,
}

/// Reads records of a format, each by itself.
pub trait RecordReader: Send + Sync {
    /// Appends the JSON text of a record to `out`, or returns why it has none: the content of `out` is not used then.
    fn read(&self, record: &str, out: &mut String) -> Result<(), Fault>;
}

impl Records {
    /// Returns memory for as many records with as much text.
    pub fn same_capacity(&self) -> Self {
        let (rows, text) = (Vec::with_capacity(self.rows.capacity()), String::with_capacity(self.text.capacity()));
        Self { rows, text, reader: None }
    }

    /// Returns the JSON text of a record whose bytes are `raw`, or why it has none; `None` if it is no whole record
    /// ([`Body::Cut`], [`Body::Document`]). `unread` becomes the text of a record that was not read before.
    #[inline(always)]
    pub fn json<'a>(
        &'a self,
        record: &Record,
        raw: impl FnOnce() -> Result<&'a str, Fault>,
        unread: &'a mut String,
    ) -> Option<Result<&'a str, Fault>> {
        Some(match &record.body {
            Body::Raw => raw(),
            Body::Unread => raw().and_then(|raw| self.read(raw, unread)),
            Body::Text(range) => Ok(&self.text[range.clone()]),
            Body::Fault(fault) => Err(fault.clone()),
            Body::Cut(_) | Body::Document { .. } => return None,
        })
    }

    fn read<'a>(&self, raw: &str, unread: &'a mut String) -> Result<&'a str, Fault> {
        unread.clear();
        match &self.reader {
            Some(reader) => reader.read(raw, unread).map(|()| unread.as_str()),
            None => Err(Fault::new(ErrorType::ParseError, "no reader of the format")),
        }
    }

    /// Removes all records and keeps the memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.text.clear();
    }
}

/// The bytes of a buffer that belong to a skipped record.
#[derive(Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Their number, with the terminator.
    pub bytes: usize,
    /// Whether the record ends with them.
    pub is_complete: bool,
}

impl Skipped {
    /// Skips the rest of a line.
    pub fn line(input: &[u8]) -> Self {
        let end = memchr::memchr(b'\n', input);
        Self { bytes: end.map_or(input.len(), |at| at + 1), is_complete: end.is_some() }
    }
}

/// Splits a stream of bytes into records: push-style, without a buffer of its own.
pub trait Splitter {
    /// Finds the complete records in `input`, which starts where the last call stopped. With `last` no more input
    /// follows, so a record without a terminator is complete. Returns the number of bytes consumed. 0 for a full buffer
    /// means that the record is longer than the caller allows: the caller makes it a dead letter with
    /// [`Splitter::skip`].
    fn split(&mut self, input: &[u8], last: bool, records: &mut Records) -> Result<usize>;

    /// Skips the rest of a record that is too long, up to its end if `input` has it.
    fn skip(&mut self, input: &[u8]) -> Skipped {
        Skipped::line(input)
    }

    /// Returns the number of lines so far, whether records or not; in formats without lines, of records.
    fn lines(&self) -> u64;

    /// Returns the number of bytes that [`Splitter::skip`] counts after a record that it has skipped.
    fn terminator(&self) -> u64 {
        1
    }

    /// Whether the input so far ends inside something that is not a record, such as a document around records.
    fn is_open(&self) -> bool {
        false
    }

    /// Sets the time (µs) of the record before the first one, if an earlier run or the file before this one has read
    /// it.
    fn resume(&mut self, _after: i64) {}

    /// Returns the names of the fields of all records, if the input declares them and they have been read.
    fn names(&self) -> Option<Vec<String>> {
        None
    }
}

/// The byte order mark that some writers put before UTF-8 text.
pub const BOM: &[u8] = "\u{feff}".as_bytes();

/// Returns the text without a byte order mark at its start. JSON has none, but a reader may ignore it (RFC 8259, 8.1).
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BOM).unwrap_or(text)
}

/// Returns the text of a record with line breaks as one line, without a byte order mark. Between JSON's tokens a break
/// equals a space, and a bare break inside a string is not JSON.
pub fn one_line(payload: &[u8]) -> Result<Cow<'_, str>, Fault> {
    let payload = without_mark(payload);
    let text = simdutf8::basic::from_utf8(payload);
    let text = text.or_else(|_| str::from_utf8(payload)).map_err(|error| not_utf8(&error))?;
    match memchr::memchr2(b'\n', b'\r', payload) {
        None => Ok(Cow::Borrowed(text)),
        Some(_) if scan::is_json(text) => Ok(Cow::Owned(text.replace(['\n', '\r'], " "))),
        Some(_) => Err(Fault::new(ErrorType::ParseError, scan::diagnose(text))),
    }
}

/// Returns the fault of a record whose bytes are not UTF-8.
#[cold]
pub fn not_utf8(error: &std::str::Utf8Error) -> Fault {
    let message = format!("byte {}: invalid UTF-8", error.valid_up_to() + 1);
    Fault::new(ErrorType::ParseError, message).of_input(Suspect::Encoding)
}
