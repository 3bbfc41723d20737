//! Formats: bytes ↔ rows. They open no file, but decode the file of a container that their caller opened. A fault
//! belongs to a record, never to a batch.
//!
//! Input becomes *records* ([`Records`]): the raw bytes for dead letters, and JSON object text for the mapping
//! ([`crate::mapping`]). Text formats are split from a stream of bytes by a [`Splitter`]. Container formats (Avro,
//! Parquet, Arrow) decode to batches, whose rows [`cell`] formats as JSON text; batches of evt's own kinds stay
//! batches.
//!
//! ```text
//! bytes ─► unpack, decode ─► Splitter (text) ─► records ─► mapping
//! file ──► container: Avro, Parquet, Arrow ─► batches ─┬─► cell ─► records
//!                                                      └─► batches of evt's own kinds
//! batches ─► Encoder ─► bytes
//! ```
//!
//! - `definition.rs`: the interface of a format; `record.rs`: records and splitters.
//! - `jsonl.rs`, `csv.rs` with `csv_header.rs` and `csv_writer.rs`, `raw.rs`, `table.rs`, `svg.rs`: text formats;
//!   `clf.rs`, `logfmt.rs`, `syslog.rs`, `pattern.rs`: those whose lines `lines.rs` splits; `refusal.rs` names the
//!   command for inputs that need a flag.
//! - `elements.rs`: elements of arrays in JSON documents (`--explode`).
//! - `frames.rs`: frames, which [`crate::frame`] reads and writes.
//! - `avro/`, `parquet/`, `arrow_file.rs`: the containers; `container.rs`: their shared code.
//! - `properties.rs`: columns of a file that are properties of events, chosen by its `first_rows.rs`; `typed.rs`,
//!   `value_type.rs`: types for JSON values.
//! - `cell.rs`: values as text; `physical.rs`: values that no type of Arrow holds whole; `row.rs`: rows of evt's kinds
//!   from JSON text; `metric_columns.rs`, `metric_dimensions.rs`: metrics with a column for each dimension, written and
//!   read.
//! - `unpack.rs`: gzip and zstd; `decode.rs`: encodings of text.
//!
//! To add a format: one file, one row in [`ALL`].

pub mod arrow_file;
pub mod avro;
pub mod cell;
pub mod clf;
pub mod container;
pub mod csv;
mod csv_header;
mod csv_writer;
mod decode;
mod definition;
pub mod elements;
mod first_rows;
pub mod frames;
pub mod jsonl;
mod lines;
pub mod logfmt;
pub mod metric_columns;
mod metric_dimensions;
pub mod parquet;
pub mod pattern;
pub mod physical;
pub mod properties;
pub mod raw;
mod record;
pub mod refusal;
pub mod row;
pub mod svg;
pub mod syslog;
pub mod table;
mod typed;
pub mod unpack;
mod value_type;

pub use decode::TextDecoder;
pub use definition::{
    ColumnBatches, CsvHeader, EncodeOptions, Encoder, Format, InputForm, Limits, MakeEncoder, MakeSplitter, NoteFormat,
    Opened, RowPart, Rows, TextOptions, rows_of_parts,
};
pub use record::{BOM, Body, Record, RecordReader, Records, Skipped, Splitter, not_utf8, one_line, without_mark};

use crate::error::{Error, Result};
use std::path::Path;

/// Words that users write instead of the name of a format, each with the advice in the error message.
const OTHER_NAMES: [(&str, &str); 11] = [
    ("json", "jsonl has one record per line; --explode NAME reads the elements of an array in a document"),
    ("ndjson", "it is jsonl"),
    ("arrows", "it is frames"),
    ("feather", "it is arrow"),
    ("apache", "it is clf"),
    ("nginx", "it is clf"),
    ("access", "it is clf"),
    ("regexp", "it is regex:PATTERN"),
    ("excel", "spreadsheets read and write csv"),
    ("xlsx", "spreadsheets read and write csv"),
    ("sqlite", "sqlite:FILE names a database"),
];

/// Returns the format of `-f`.
///
/// Errors: exit status 2 if none that can be read has the name.
pub fn to_read(name: &str) -> Result<&'static Format> {
    named("-f", name, |format| !matches!(format.input, InputForm::None))
}

/// Returns the format of `-o`.
///
/// Errors: exit status 2 if none that can be written has the name.
pub fn to_write(name: &str) -> Result<&'static Format> {
    named("-o", name, Format::is_written)
}

/// Divides the text of `-f` into the name of a format that takes a pattern, and the pattern; `None` if it names no such
/// format, or has no pattern.
pub fn split_pattern(text: &str) -> Option<(&str, &str)> {
    let takes_pattern = |name: &str| ALL.iter().any(|format| format.takes_pattern && format.name == name);
    text.split_once(':').filter(|(name, _)| takes_pattern(name))
}

fn named(flag: &str, name: &str, fits: impl Fn(&Format) -> bool) -> Result<&'static Format> {
    match ALL.iter().copied().find(|format| format.name == name) {
        Some(format) if fits(format) => return Ok(format),
        Some(format) if format.is_written() => return Err(Error::usage(format!("-f {name}: output format only"))),
        Some(_) => return Err(Error::usage(format!("-o {name}: input format only"))),
        None => {}
    }
    let names: Vec<_> = ALL.iter().filter(|format| fits(format)).map(|format| format.name).collect();
    let advice = match OTHER_NAMES.iter().find(|(other, _)| *other == name) {
        Some((_, advice)) => format!("; {advice}"),
        None if flag == "-o" && name.contains('.') => format!("; --to {name} names a file"),
        None => String::new(),
    };
    Err(Error::usage(format!("{flag}: unknown format '{name}'; expected one of {}{advice}", names.join(" "))))
}

/// Returns the format of a file name's extension; `.part`, `.gz` and `.zst` are skipped.
pub fn by_extension(path: &str) -> Option<&'static Format> {
    let path = path.to_ascii_lowercase();
    let path = path.strip_suffix(".part").unwrap_or(&path);
    let path = unpack::SUFFIXES.iter().find_map(|suffix| path.strip_suffix(suffix)).unwrap_or(path);
    let (_, extension) = path.rsplit_once('.')?;
    ALL.iter().copied().find(|format| format.extensions.contains(&extension))
}

/// Whether the name of a file is that of a compressed one.
pub fn is_compressed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    unpack::SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Returns the message about the name of a file that evt cannot write; `None` if the name is right.
pub fn misnomer(path: &Path) -> Option<String> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let name = path.display();
    match extension.as_str() {
        "bz2" | "xz" | "zip" | "lz4" => {
            let plain = path.with_extension("");
            let plain = plain.display();
            Some(format!("{name}: evt compresses files as {plain}.gz or {plain}.zst, not as .{extension}"))
        }
        _ => None,
    }
}

/// Returns the format whose magic `bytes` starts with.
pub fn by_magic(bytes: &[u8]) -> Option<&'static Format> {
    ALL.iter().copied().find(|format| !format.magic.is_empty() && bytes.starts_with(format.magic))
}

/// Guesses the format of `bytes` that start like a magic but do not complete it; a file name has precedence. Returns
/// the format if `bytes` end inside its magic.
///
/// Errors: exit status 65 if only the last byte of a magic differs.
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
        Some(Format { name, .. }) => Err(Error::corrupt(format!(
            "the first bytes resemble {name}; use -f {name} if the file is damaged, else -f FORMAT"
        ))),
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
    &logfmt::FORMAT,
    &syslog::FORMAT,
    &pattern::FORMAT,
    &arrow_file::FORMAT,
    &frames::FORMAT,
    &table::FORMAT,
    &svg::FORMAT,
    &raw::FORMAT,
];

#[cfg(test)]
pub(crate) mod test_data;
#[cfg(test)]
#[path = "splitter_tests.rs"]
mod tests;
