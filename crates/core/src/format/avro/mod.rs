//! Avro object container files.
//!
//! ```text
//! file ─► read.rs: header ─► block ─► Codec::unpack ─► avro::decode ─► JSON text of records
//! rows ─► write.rs: RowEncoder ─┬─► blocks, deflate ─► file
//!                               └─► records of a topic (registry::rows)
//! ```
//!
//! A container file is a header (magic, metadata with schema and codec, sync marker), then blocks: count, size,
//! records, the marker again. The reader (`read.rs`) checks every block's size and marker against the file,
//! decompresses it within a bound and decodes its records one by one; the records before a corrupt one are returned.
//! The writer (`write.rs`) writes one block per at most 4,096 rows with deflate (which every reader supports). The
//! marker is a digest of the schema, so that the same rows are the same bytes. The kind is in the metadata under
//! `evt.kind`; ids are text with the logical type uuid.

mod read;
mod write;

pub use read::read_records;
pub use write::RowEncoder;

use super::definition::{Format, InputForm};
use super::typed::encoder;

/// Avro object container files.
pub const FORMAT: Format = Format {
    name: "avro",
    extensions: &["avro"],
    magic: read::MAGIC,
    input: InputForm::Container(read::open),
    output: Some(|schema, options| encoder(schema, options, |schema, _| Ok(Box::new(write::Writer::try_new(schema)?)))),
    ..Format::BASE
};

#[cfg(test)]
mod tests;
