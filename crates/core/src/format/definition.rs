//! The interface of a format: how it is read and written.

use super::elements::ElementPath;
use super::record::{Records, Splitter};
use crate::error::Result;
use crate::kind::Kind;
use crate::parallel::Parallelism;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use encoding_rs::Encoding;
use regex::Regex;

/// Turns batches of one schema into the bytes of a file.
pub trait Encoder {
    /// Appends the bytes of `batch` to `out`.
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()>;

    /// Returns the bytes of `batch` where they are contiguous in it, so that none has to be copied; `None` if they are
    /// not, and [`Encoder::encode`] must be called.
    fn slices(&mut self, _batch: &RecordBatch) -> Option<Vec<Buffer>> {
        None
    }

    /// Appends rows that were held back for layout, so that a waiting reader sees them.
    fn flush(&mut self, _out: &mut Vec<u8>) {}

    /// Appends the end of the file.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()>;
}

/// The options of encoders. Each format uses those that concern it.
#[derive(Clone, Debug, Default)]
pub struct EncodeOptions {
    /// Width of the terminal, in cells, for tables; `None` means unbounded.
    pub width: Option<usize>,
    /// Whether a table leaves out the columns of metrics that tell people nothing: ids, and those that are zero in the
    /// first rows.
    pub brief: bool,
    /// Whether a table has colours.
    pub color: bool,
    /// Rows are appended to a file that already has its header, or gets it from its writer.
    pub append: bool,
    /// Whether properties get columns of their own (`?columns=auto` of Parquet).
    pub property_columns: bool,
    /// How the columns of a file of columns are encoded.
    pub parallelism: Parallelism,
}

/// Bounds on the memory of a container.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum decompressed bytes per compressed byte.
    pub ratio: u64,
    /// Maximum bytes of JSON text that are written of a row, because a record must be shorter.
    pub text: usize,
}

/// The next rows of a container.
pub enum Rows {
    /// Rows of one of evt's kinds, exactly its schema, JSON columns validated.
    Batch(RecordBatch),
    /// Foreign rows as JSON text.
    Text(Records),
}

/// A container that has been opened.
pub struct Opened {
    /// The schema of its rows if the file declares one of evt's kinds.
    pub schema: Option<SchemaRef>,
    /// The names of its fields in order, if another program wrote it.
    pub names: Option<Vec<String>>,
    /// Whether all rows are text, to be mapped.
    pub is_text: bool,
    /// Whether the file proves its end, so that none of its last rows can be missing.
    pub has_end: bool,
    /// Its rows, in parts that several threads may read at the same time. An error is the end; the rows before it are
    /// valid.
    pub parts: Box<dyn Iterator<Item = Result<RowPart>>>,
}

/// A part of the rows of a container.
pub type RowPart = Box<dyn Iterator<Item = Result<Rows>> + Send>;

/// Returns the rows of one part after another.
pub fn rows_of_parts(parts: impl Iterator<Item = Result<RowPart>>) -> impl Iterator<Item = Result<Rows>> {
    parts.flat_map(|part| part.unwrap_or_else(|error| Box::new(std::iter::once(Err(error)))))
}

/// The batches of a file, with the columns that it has.
pub type ColumnBatches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

/// The options of splitters. Each format uses those that concern it.
#[derive(Clone, Debug, Default)]
pub struct TextOptions {
    /// `--encoding`; UTF-8 without one.
    pub encoding: Option<&'static Encoding>,
    /// `--delimiter` of CSV; without one the first line decides.
    pub delimiter: Option<u8>,
    /// The place of the field names of CSV.
    pub header: CsvHeader,
    /// `--time-year`: the year of times of syslog that have none.
    pub year: Option<u16>,
    /// The pattern of `-f regex:PATTERN`.
    pub pattern: Option<Regex>,
    /// `--explode`: where JSON documents have their records.
    pub explode: Option<ElementPath>,
    /// The kind of the records, if a flag or the tool sets it.
    pub kind: Option<Kind>,
}

/// The place of the field names of CSV.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CsvHeader {
    /// In the first line.
    #[default]
    FirstLine,
    /// In `--header`; every line is a record.
    Names(Vec<String>),
    /// Nowhere (`--no-header`): they are c1, c2, …
    Numbers,
}

/// Makes the splitter of a text format.
pub type MakeSplitter = fn(&TextOptions) -> Box<dyn Splitter>;

/// The kind of reader that a format has.
pub enum InputForm {
    /// Not read by evt.
    None,
    /// Split from a stream of bytes.
    Text(MakeSplitter),
    /// Decoded from a complete file (spooled to disk if it comes from a pipe).
    Container(fn(std::fs::File, Limits) -> Result<Opened>),
    /// Frames and foreign Arrow streams: read by `frame`.
    Frames,
}

/// Makes the encoder of a format for rows of this schema.
pub type MakeEncoder = fn(&SchemaRef, &EncodeOptions) -> Result<Box<dyn Encoder>>;

/// One row of the table of formats.
pub struct Format {
    /// The word after `-f` and `-o`.
    pub name: &'static str,
    /// File name extensions, without the dot, `.gz` or `.zst`.
    pub extensions: &'static [&'static str],
    /// The magic at the start of a file; empty if there is none.
    pub magic: &'static [u8],
    /// Its reader.
    pub input: InputForm,
    /// Opens a file and returns its columns as they are, without JSON text of its rows; `None` if the format does not
    /// support this.
    pub columns: Option<fn(std::fs::File, Limits) -> Result<ColumnBatches>>,
    /// Makes its encoder; `None` if evt does not write the format, or writes it as frames.
    pub output: Option<MakeEncoder>,
    /// Whether a file of it may be appended to, record by record.
    pub appendable: bool,
    /// Whether it is written only to a file with a name, not to standard output that is redirected to a file.
    pub needs_name: bool,
    /// Whether each record is one line with a JSON object.
    pub is_json: bool,
    /// The byte that is written between two cells, if its records are delimited cells with the names of fields in a
    /// header: `--delimiter`, `--header` and `--no-header` apply.
    pub delimiter: Option<u8>,
    /// Whether its name is followed by a pattern: `-f NAME:PATTERN`.
    pub takes_pattern: bool,
    /// Whether its times may lack the year: `--time-year` applies.
    pub lacks_years: bool,
    /// Whether it draws a chart of the rows.
    pub is_chart: bool,
    /// Whether it takes rows of any columns, also those of no kind.
    pub takes_any_columns: bool,
    /// Whether the name of a file takes `?columns=`, which gives properties columns of their own.
    pub has_property_columns: bool,
    /// Whether people read it as a table: metrics have a column for each dimension, and evt-window emits only final
    /// rows.
    pub is_for_people: bool,
    /// Whether it holds raw records, which the rows must have.
    pub is_raw: bool,
    /// The form of text that a tool may write between rows; `None` if it may not.
    pub notes: Option<NoteFormat>,
}

/// The form of text that a tool writes between the rows of a file: control messages, reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// Two values are the same row if they have the same name.
impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Format {
    /// The defaults of a row of the table.
    pub(super) const BASE: Self = Self {
        name: "",
        extensions: &[],
        magic: b"",
        input: InputForm::None,
        columns: None,
        output: None,
        appendable: false,
        needs_name: false,
        is_json: false,
        delimiter: None,
        takes_pattern: false,
        lacks_years: false,
        is_chart: false,
        takes_any_columns: false,
        has_property_columns: false,
        is_for_people: false,
        is_raw: false,
        notes: None,
    };

    /// Whether it is a stream of frames, which `frame` reads and writes.
    pub fn is_frames(&self) -> bool {
        matches!(self.input, InputForm::Frames)
    }

    /// Whether evt writes it.
    pub fn is_written(&self) -> bool {
        self.output.is_some() || self.is_frames()
    }
}
