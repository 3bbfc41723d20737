//! Writes container files.

use super::read::MAGIC;
use crate::avro::binary::{write_bytes, write_long};
use crate::error::{Error, Result};
use crate::format::container::with_types;
use crate::format::{Encoder, cell, jsonl};
use crate::kind::{KIND_KEY, Kind};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_avro::schema::AvroSchema;
use arrow_avro::writer::EncodedRows;
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroBinaryFormat;
use std::io::Write;
use std::sync::Arc;

/// Maximum rows of a block.
const BLOCK_ROWS: usize = 4_096;

/// Writes a container file.
pub struct Writer {
    rows: RowEncoder,
    sync: [u8; 16],
    header: Vec<u8>,
}

impl Writer {
    pub fn try_new(schema: &Schema) -> Result<Self> {
        let rows = RowEncoder::try_new(schema, None)?;
        let sync = xxhash_rust::xxh3::xxh3_128(rows.text().as_bytes()).to_be_bytes();
        let header = header(rows.text(), Kind::of(schema), &sync);
        Ok(Self { rows, sync, header })
    }

    fn block(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let rows = self.rows.encode(batch)?;
        let mut packer = flate2::write::DeflateEncoder::new(vec![], flate2::Compression::fast());
        let packed = packer.write_all(rows.bytes()).and_then(|()| packer.finish());
        let packed = packed.map_err(|error| Error::broken("avro").because(error))?;
        write_long(out, rows.len() as i64);
        write_bytes(out, &packed);
        out.extend_from_slice(&self.sync);
        Ok(())
    }
}

/// Encodes rows as records of one schema, in Avro's binary form.
pub struct RowEncoder {
    encoder: arrow_avro::writer::Encoder,
    schema: SchemaRef,
    text: String,
}

impl RowEncoder {
    /// Creates an encoder for rows of `schema`; the record is named after their kind, in `namespace` if there is one.
    pub fn try_new(schema: &Schema, namespace: Option<&str>) -> Result<Self> {
        jsonl::unique_names(schema)?;
        check_names(schema)?;
        let plain = Arc::new(plain(schema, namespace));
        let wrong =
            |error: &dyn std::fmt::Display| Error::usage("these columns cannot be written as Avro").because(error);
        let avro = AvroSchema::try_from(plain.as_ref()).map_err(|error| wrong(&error))?;
        let builder = WriterBuilder::new(plain.as_ref().clone());
        let encoder = builder.build_encoder::<AvroBinaryFormat>().map_err(|error| wrong(&error))?;
        Ok(Self { encoder, schema: plain, text: avro.json_string })
    }

    /// Returns the text of the schema.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Encodes the rows of a batch, one after another.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<EncodedRows> {
        let batch = with_types(batch, &self.schema)?;
        self.encoder.encode(&batch).map_err(|error| Error::broken("avro").because(error))?;
        Ok(self.encoder.flush())
    }
}

/// Refuses names that Avro does not permit ([specification](https://avro.apache.org/docs/1.12.0/specification/#names)):
/// its library writes other names in their place, which may be equal.
fn check_names(schema: &Schema) -> Result<()> {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match schema.fields().iter().find(|field| !is_name(field.name())) {
        None => Ok(()),
        Some(field) => Err(Error::usage(format!(
            "column '{}': expected a name of letters, digits and _ in Avro; evt-view --let NAME=EXPR --columns NAME,… gives it another one",
            field.name()
        ))),
    }
}

/// Returns the schema without types that Avro lacks: dictionaries become their values' type, ids uuids.
fn plain(schema: &Schema, namespace: Option<&str>) -> Schema {
    let field = |field: &Arc<Field>| {
        let plain = Field::new(field.name(), field.data_type().clone(), field.is_nullable());
        match field.data_type() {
            DataType::Dictionary(_, values) => plain.with_data_type(values.as_ref().clone()),
            _ if cell::is_uuid(field) => plain.with_metadata([("logicalType".to_owned(), "uuid".to_owned())].into()),
            _ => plain,
        }
    };
    let name = Kind::of(schema).map_or("row", Kind::name);
    let named = [("avro.name", Some(name)), ("avro.namespace", namespace)].into_iter();
    let metadata = named.filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
    Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), metadata)
}

fn header(schema: &str, kind: Option<Kind>, sync: &[u8]) -> Vec<u8> {
    let mut entries = vec![("avro.schema", schema), ("avro.codec", "deflate")];
    entries.extend(kind.map(|kind| (KIND_KEY, kind.name())));
    let mut out = MAGIC.to_vec();
    write_long(&mut out, entries.len() as i64);
    for (key, value) in entries {
        write_bytes(&mut out, key.as_bytes());
        write_bytes(&mut out, value.as_bytes());
    }
    write_long(&mut out, 0);
    out.extend_from_slice(sync);
    out
}

impl Encoder for Writer {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        out.append(&mut self.header);
        for start in (0..batch.num_rows()).step_by(BLOCK_ROWS) {
            self.block(&batch.slice(start, BLOCK_ROWS.min(batch.num_rows() - start)), out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.append(&mut self.header);
        Ok(())
    }
}
