//! Avro object container files.
//!
//! A header (magic, metadata with schema and codec, sync marker), then blocks: count, size, records, the marker again.
//! Read: every block's size and marker is checked against the file, its codec undone within a bound, its records
//! decoded one by one ([`value`]); what came before a corrupt record stands. Written: one block for at most 4,096 rows,
//! deflate (which every reader has), the marker a digest of the schema, so that the same rows are the same bytes. The
//! kind stands in the metadata under `evt.kind`; ids are text with the logical type uuid.

pub mod encode;
pub mod fit;
mod read;
mod resolve;
pub mod value;
mod write;

pub use write::RowEncoder;

use super::definition::{Format, Input};

/// Avro object container files.
pub const FORMAT: Format = Format {
    name: "avro",
    extensions: &["avro"],
    magic: read::MAGIC,
    input: Input::Container(read::open),
    output: Some(|schema, _| Ok(Box::new(write::Writer::try_new(schema)?))),
    appendable: false,
};

#[cfg(test)]
mod encode_tests;
#[cfg(test)]
mod resolve_tests;
#[cfg(test)]
mod tests;
