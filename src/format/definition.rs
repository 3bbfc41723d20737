//! What a format is: how it is read and written.

use super::record::{Records, Splitter};
use crate::error::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

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
    /// The schema of its rows where the file says that they are of one of our kinds: written by evt.
    pub schema: Option<SchemaRef>,
    /// Whether all rows are text, so that they are mapped.
    pub is_text: bool,
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
