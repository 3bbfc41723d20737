//! Formats: bytes ↔ rows. No I/O here; a fault belongs to a record, never to a batch.
//!
//! Whatever comes in becomes *records*: the raw bytes for the dead letter, and JSON object text for the one mapping
//! rule (`event::map`). Text formats are cut out of a stream of bytes by a [`Splitter`]; container formats (Avro,
//! Parquet, Arrow) decode to batches, whose rows [`cell`] turns into JSON text.
//!
//! To add a format: one file, one row in [`ALL`].

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::dead::Fault;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::ops::Range;
use std::path::Path;

pub mod arrow_file;
pub mod avro;
pub mod cell;
pub mod clf;
pub mod container;
pub mod csv;
pub mod jsonl;
pub mod parquet;
pub mod raw;
pub mod row;
pub mod table;
pub mod unpack;

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

/// Turns batches of one schema into the bytes of a file.
pub trait Encoder {
    /// Appends the bytes of `batch` to `out`.
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()>;

    /// The bytes of `batch` where they stand in it already, so that none has to be copied; none where they do not, and
    /// [`Encoder::encode`] is asked.
    fn slices<'b>(&mut self, _batch: &'b RecordBatch) -> Option<Vec<&'b [u8]>> {
        None
    }

    /// Appends what was held back for the sake of its looks, so that a reader who waits sees it.
    fn flush(&mut self, _out: &mut Vec<u8>) {}

    /// Appends what ends the file.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()>;
}

/// How records are written; formats take what concerns them.
#[derive(Clone, Debug, Default)]
pub struct EncodeOptions {
    /// Columns of a table: how wide the terminal is, in cells; none means unbounded.
    pub width: Option<usize>,
    /// Colour a table.
    pub color: bool,
    /// Rows are appended to a file, which has its header already or gets it from its writer.
    pub append: bool,
}

/// What bounds the memory that a container takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many bytes may come out of a packed one.
    pub ratio: u64,
    /// How many bytes of a row's text are written: no record may be as long.
    pub text: usize,
}

/// What a container gives next.
pub enum Rows {
    /// Rows of one of our kinds, exactly its schema, JSON columns proved.
    Batch(RecordBatch),
    /// Foreign rows as JSON text.
    Text(Records),
}

/// A container that has been opened.
pub struct Opened {
    /// The kind the file says its rows are of: written by evt.
    pub kind: Option<Kind>,
    /// Its rows. An error is the end: what came before it stands.
    pub rows: Box<dyn Iterator<Item = Result<Rows>>>,
}

/// How a format is read.
pub enum Input {
    /// Not read by evt.
    None,
    /// Cut out of a stream of bytes.
    Text(fn() -> Box<dyn Splitter>),
    /// Decoded from a file that is there as a whole (spooled to disk when it comes from a pipe).
    Container(fn(std::fs::File, Limits) -> Result<Opened>),
    /// Frames and foreign Arrow streams: read by `frame`.
    Frames,
}

/// How a format is written.
pub type Output = fn(&SchemaRef, &EncodeOptions) -> Result<Box<dyn Encoder>>;

/// One row of the table of formats.
pub struct Format {
    /// The word after `-f` and `-o`.
    pub name: &'static str,
    /// File name extensions, without the dot, `.gz` or `.zst`.
    pub extensions: &'static [&'static str],
    /// What a file of this format starts with; empty where there is no such thing.
    pub magic: &'static [u8],
    /// How it is read.
    pub input: Input,
    /// How it is written, if it is.
    pub output: Option<Output>,
    /// Whether a file of it may be appended to, record by record.
    pub appendable: bool,
}

/// The format a word names.
pub fn by_name(name: &str) -> Result<&'static Format> {
    ALL.iter().copied().find(|format| format.name == name).ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|format| format.name).collect();
        Error::usage(format!("unknown format '{name}': one of {}", names.join(" ")))
    })
}

/// The format a file's name speaks for; `.part`, `.gz` and `.zst` are passed over.
pub fn by_extension(path: &str) -> Option<&'static Format> {
    let path = path.strip_suffix(".part").unwrap_or(path);
    let path = path.strip_suffix(".gz").or_else(|| path.strip_suffix(".zst")).unwrap_or(path);
    let (_, extension) = path.rsplit_once('.')?;
    let extension = extension.to_ascii_lowercase();
    ALL.iter().copied().find(|format| format.extensions.contains(&extension.as_str()))
}

/// What is wrong with the name of a file that evt would write; none where nothing is.
pub fn misnomer(path: &Path) -> Option<String> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let name = path.display();
    match extension.as_str() {
        "gz" | "zst" | "bz2" | "xz" | "zip" => {
            let plain = path.with_extension("");
            Some(format!("{name}: evt compresses nothing: --to {} and compress it afterwards", plain.display()))
        }
        "db" | "sqlite" | "sqlite3" => Some(format!("{name}: a database is written as sqlite:{name}")),
        _ => None,
    }
}

/// The format whose magic `bytes` starts with.
pub fn by_magic(bytes: &[u8]) -> Option<&'static Format> {
    ALL.iter().copied().find(|format| !format.magic.is_empty() && bytes.starts_with(format.magic))
}

/// What `bytes` may be that start like a magic and no further: a guess, which a name beats. The format where they end in
/// the middle of it; exit 65 where its last byte is another one.
pub fn by_part_of_magic(bytes: &[u8]) -> Result<Option<&'static Format>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if let Some(format) = ALL.iter().copied().find(|format| format.magic.starts_with(bytes)) {
        return Ok(Some(format));
    }
    let resembles = |magic: &[u8]| magic.split_last().is_some_and(|(_, start)| bytes.starts_with(start));
    match ALL.iter().find(|format| resembles(format.magic)) {
        None => Ok(None),
        Some(Format { name, .. }) => {
            Err(Error::corrupt(format!("it begins almost like {name}: -f {name} if it is damaged, else -f FORMAT")))
        }
    }
}

/// Every format: adding one is one file and one row here.
pub const ALL: &[&Format] = &[
    &jsonl::FORMAT,
    &csv::CSV,
    &csv::TSV,
    &avro::FORMAT,
    &parquet::FORMAT,
    &clf::FORMAT,
    &arrow_file::FORMAT,
    &FRAMES,
    &table::FORMAT,
    &raw::FORMAT,
];

/// Frames and foreign Arrow streams: read and written by `frame`.
const FRAMES: Format = Format {
    name: "frames",
    extensions: &["frames", "arrows"],
    magic: &[0xff; 4],
    input: Input::Frames,
    output: None,
    appendable: false,
};

#[cfg(test)]
pub(crate) mod test_data;
#[cfg(test)]
#[path = "splitter_tests.rs"]
mod tests;
