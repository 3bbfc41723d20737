//! Records, and how they are cut out of a stream of bytes.

use crate::error::Result;
use crate::kind::dead::Fault;
use std::ops::Range;

/// Where the JSON text of a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The raw bytes are the JSON text (JSON lines).
    Raw,
    /// A range of [`Records::text`].
    Text(Range<usize>),
    /// The start of it, a range of [`Records::text`]: the rest was not written, for no record may be as long.
    Cut(Range<usize>),
    /// There is none: the record is not of its format.
    Fault(Fault),
}

/// One record found in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its exact bytes, as a range of the input given to [`Splitter::split`]; empty in a container, where the JSON text
    /// stands for it.
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
    /// JSON text of records whose raw bytes are no JSON.
    pub text: String,
}

impl Records {
    /// Forgets all records, keeps the memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.text.clear();
    }
}

/// Cuts records out of a stream of bytes: push-style, keeps no bytes itself.
pub trait Splitter {
    /// Finds the whole records in `input`, which starts where the last call stopped; `last` says that no more follows,
    /// so that a record without a terminator counts. Returns how many bytes are done with. A call that returns 0 for a
    /// full buffer has met a record longer than the caller allows: the caller makes it a dead letter with
    /// [`Splitter::skip`].
    fn split(&mut self, input: &[u8], last: bool, records: &mut Records) -> Result<usize>;

    /// The same for the rest of a record that is too long: bytes up to and including its end, or all of `input` and
    /// false where the end is not in it.
    fn skip(&mut self, input: &[u8]) -> (usize, bool) {
        match memchr::memchr(b'\n', input) {
            Some(at) => (at + 1, true),
            None => (input.len(), false),
        }
    }
}
