//! Avro object container files.
//!
//! A header (magic, metadata with schema and codec, sync marker), then blocks: count, size, records, the marker again.
//! Read: every block's size and marker is checked against the file, its codec undone within a bound, its records
//! decoded one by one ([`super::avro_value`]); what came before a corrupt record stands. Written: one block for at most
//! 4,096 rows, deflate (which every reader has), the marker a digest of the schema, so that the same rows are the same
//! bytes. The kind stands in the metadata under `evt.kind`; ids are text with the logical type uuid.

use super::avro_value::{self, Decoder};
use super::{Body, Encoder, Format, Input, Opened, Record, Records, Rows};
use crate::error::{Error, Result};
use crate::kind::{KIND_KEY, Kind};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_avro::schema::AvroSchema;
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroBinaryFormat;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::sync::Arc;

/// Avro object container files.
pub const FORMAT: Format = Format {
    name: "avro",
    extensions: &["avro"],
    // Without the version, so that another one gets a message of its own.
    magic: b"Obj",
    input: Input::Container(open),
    output: Some(|schema, _| Ok(Box::new(Writer::try_new(schema)?))),
    appendable: false,
};

const MAGIC: &[u8] = b"Obj\x01";
/// A block may take this much memory once unpacked; writers use some 64 KiB.
const BLOCK_MAX: u64 = 256 << 20;
/// Rows of a block we write.
const BLOCK_ROWS: usize = 4_096;
/// Text handed on at once.
const TEXT_BYTES: usize = 512 << 10;
/// A block may hold this many records that take no bytes.
const EMPTY_MAX: u64 = 1_000_000;

fn open(file: File) -> Result<Opened> {
    let size = file.metadata().map_err(|error| Error::io("cannot read", &error))?.len();
    let mut source = Source { reader: BufReader::with_capacity(128 << 10, file), byte: 0, size };
    let header = Header::read(&mut source)?;
    let codec = Codec::from_name(header.codec.as_deref().unwrap_or("null"))?;
    let decoder = Decoder::try_new(&header.schema, header.kind)?;
    let reader = Reader {
        source,
        codec,
        decoder,
        sync: header.sync,
        block: vec![],
        cursor: 0,
        left: 0,
        blocks: 0,
        records: 0,
        ended: false,
    };
    Ok(Opened { kind: header.kind, rows: Box::new(reader) })
}

/// The file, and how far it has been read: no length in it is believed that goes beyond its end.
struct Source {
    reader: BufReader<File>,
    byte: u64,
    size: u64,
}

impl Source {
    fn is_at_end(&self) -> bool {
        self.byte == self.size
    }

    fn bytes(&mut self, count: i64) -> Result<Vec<u8>> {
        let count = u64::try_from(count).ok().filter(|count| *count <= self.size - self.byte);
        let count = count.ok_or_else(|| Error::corrupt("the file is torn").at(format!("byte {}", self.byte)))?;
        let mut bytes = vec![];
        let read = self.reader.by_ref().take(count).read_to_end(&mut bytes);
        read.map_err(|error| Error::io("cannot read", &error))?;
        self.byte += bytes.len() as u64;
        if bytes.len() as u64 != count {
            return Err(Error::corrupt("the file is torn").at(format!("byte {}", self.byte)));
        }
        Ok(bytes)
    }

    fn long(&mut self) -> Result<i64> {
        let mut bytes = vec![];
        loop {
            bytes.extend(self.bytes(1)?);
            if bytes.last().is_some_and(|byte| *byte < 0x80) || bytes.len() == 10 {
                return avro_value::long(&mut &bytes[..]).map_err(Error::corrupt);
            }
        }
    }

    fn value(&mut self) -> Result<Vec<u8>> {
        let length = self.long()?;
        self.bytes(length)
    }
}

struct Header {
    schema: String,
    codec: Option<String>,
    kind: Option<Kind>,
    sync: Vec<u8>,
}

impl Header {
    fn read(source: &mut Source) -> Result<Self> {
        if source.bytes(4)? != MAGIC {
            return Err(Error::corrupt("no Avro object container file: it does not start with Obj and 1"));
        }
        let (mut schema, mut codec, mut kind) = (None, None, None);
        loop {
            let count = source.long()?;
            if count == 0 {
                break;
            }
            if count < 0 {
                source.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                let (key, value) = (source.value()?, source.value()?);
                match (key.as_slice(), String::from_utf8(value)) {
                    (b"avro.schema", text) => schema = text.ok(),
                    (b"avro.codec", text) => codec = text.ok(),
                    (key, Ok(text)) if key == KIND_KEY.as_bytes() => kind = Kind::from_name(&text),
                    _ => {}
                }
            }
        }
        let schema = schema.ok_or_else(|| Error::corrupt("the Avro header has no schema in UTF-8"))?;
        Ok(Self { schema, codec, kind, sync: source.bytes(16)? })
    }
}

#[derive(Clone, Copy)]
enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

impl Codec {
    fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "null" => Self::Null,
            "deflate" => Self::Deflate,
            "snappy" => Self::Snappy,
            "zstandard" => Self::Zstandard,
            other => {
                let known = "null, deflate, snappy and zstandard are";
                return Err(Error::corrupt(format!("the Avro codec '{other}' is not read: {known}")));
            }
        })
    }

    fn unpack(self, packed: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Self::Null => Ok(packed),
            Self::Deflate => bounded(flate2::read::DeflateDecoder::new(&packed[..])),
            Self::Zstandard => {
                let decoder = zstd::Decoder::new(&packed[..]).map_err(|error| Error::broken("zstd").because(error))?;
                bounded(decoder)
            }
            Self::Snappy => {
                let (packed, sum) =
                    packed.split_last_chunk::<4>().ok_or_else(|| Error::corrupt("a snappy block is cut short"))?;
                let wrong = |error| Error::corrupt("a snappy block is corrupt").because(error);
                if snap::raw::decompress_len(packed).map_err(wrong)? as u64 > BLOCK_MAX {
                    return Err(too_large());
                }
                let bytes = snap::raw::Decoder::new().decompress_vec(packed).map_err(wrong)?;
                let mut crc = flate2::Crc::new();
                crc.update(&bytes);
                if crc.sum() != u32::from_be_bytes(*sum) {
                    return Err(Error::corrupt("a snappy block has not the checksum it says"));
                }
                Ok(bytes)
            }
        }
    }
}

fn bounded(decoder: impl Read) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    let read = decoder.take(BLOCK_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::corrupt("a block cannot be unpacked").because(error))?;
    if bytes.len() as u64 > BLOCK_MAX { Err(too_large()) } else { Ok(bytes) }
}

fn too_large() -> Error {
    Error::corrupt(format!("a block unpacks to more than {} MiB", BLOCK_MAX >> 20))
}

/// Reads block after block.
struct Reader {
    source: Source,
    codec: Codec,
    decoder: Decoder,
    sync: Vec<u8>,
    block: Vec<u8>,
    cursor: usize,
    /// Records of the block not decoded yet.
    left: u64,
    blocks: u64,
    records: u64,
    ended: bool,
}

impl Reader {
    fn next_block(&mut self) -> Result<()> {
        self.blocks += 1;
        let count = self.source.long()?;
        let size = self.source.long()?;
        let packed = self.source.bytes(size)?;
        if self.source.bytes(16)? != self.sync {
            return Err(Error::corrupt("a block does not end with the file's sync marker"));
        }
        self.block = self.codec.unpack(packed)?;
        self.cursor = 0;
        self.left = u64::try_from(count)
            .ok()
            .filter(|count| *count <= self.block.len() as u64 + EMPTY_MAX)
            .ok_or_else(|| Error::corrupt(format!("a block of {} bytes claims {count} records", self.block.len())))?;
        Ok(())
    }

    /// Decodes what is left of the block, up to the size handed on at once. A fault ends the run after what stands.
    fn decode(&mut self, records: &mut Records) -> Result<()> {
        while self.left > 0 && records.text.len() < TEXT_BYTES {
            let start = records.text.len();
            let mut input = self.block.get(self.cursor..).unwrap_or_default();
            if let Err(why) = self.decoder.decode(&mut input, &mut records.text) {
                records.text.truncate(start);
                return Err(Error::corrupt(format!("record {}: {why}", self.records + 1)));
            }
            self.cursor = self.block.len() - input.len();
            self.left -= 1;
            self.records += 1;
            let body = Body::Text(start..records.text.len());
            records.rows.push(Record { raw: 0..0, line: self.records, body });
        }
        if self.left == 0 && self.cursor < self.block.len() {
            return Err(Error::corrupt("a block holds more bytes than its records"));
        }
        Ok(())
    }

    fn step(&mut self, records: &mut Records) -> Result<()> {
        while records.rows.is_empty() {
            while self.left == 0 {
                if self.source.is_at_end() {
                    self.ended = true;
                    return Ok(());
                }
                self.next_block()?;
            }
            self.decode(records)?;
        }
        Ok(())
    }
}

impl Iterator for Reader {
    type Item = Result<Rows>;

    fn next(&mut self) -> Option<Result<Rows>> {
        if self.ended {
            return None;
        }
        let mut records = Records::default();
        match self.step(&mut records) {
            Ok(()) if records.rows.is_empty() => None,
            Ok(()) => Some(Ok(Rows::Text(records))),
            Err(error) if records.rows.is_empty() => {
                self.ended = true;
                Some(Err(error.at(format!("block {} (before byte {})", self.blocks, self.source.byte))))
            }
            // The fault is met again with the next call, which finds nothing before it.
            Err(_) => Some(Ok(Rows::Text(records))),
        }
    }
}

/// Writes a container file.
struct Writer {
    encoder: arrow_avro::writer::Encoder,
    schema: SchemaRef,
    sync: [u8; 16],
    header: Vec<u8>,
}

impl Writer {
    fn try_new(schema: &Schema) -> Result<Self> {
        super::jsonl::unique_names(schema)?;
        let plain = Arc::new(plain(schema));
        let wrong = |error: &dyn std::fmt::Display| Error::usage("these columns have no Avro form").because(error);
        let avro = AvroSchema::try_from(plain.as_ref()).map_err(|error| wrong(&error))?;
        let builder = WriterBuilder::new(plain.as_ref().clone());
        let encoder = builder.build_encoder::<AvroBinaryFormat>().map_err(|error| wrong(&error))?;
        let sync = xxhash_rust::xxh3::xxh3_128(avro.json_string.as_bytes()).to_be_bytes();
        let header = header(&avro.json_string, Kind::of(schema), &sync);
        Ok(Self { encoder, schema: plain, sync, header })
    }

    fn block(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns: Result<Vec<ArrayRef>, _> =
            columns.map(|(column, field)| cast(column, field.data_type())).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns?)?;
        let broken = |error: &dyn std::fmt::Display| Error::broken("avro").because(error);
        self.encoder.encode(&batch).map_err(|error| broken(&error))?;
        let rows = self.encoder.flush();
        let mut packer = flate2::write::DeflateEncoder::new(vec![], flate2::Compression::fast());
        let packed = packer.write_all(rows.bytes()).and_then(|()| packer.finish());
        let packed = packed.map_err(|error| broken(&error))?;
        write_long(out, rows.len() as u64);
        write_bytes(out, &packed);
        out.extend_from_slice(&self.sync);
        Ok(())
    }
}

/// The schema with what Avro has no word for written out: dictionaries as what they stand for, ids as uuids.
fn plain(schema: &Schema) -> Schema {
    let field = |field: &Arc<Field>| {
        let plain = Field::new(field.name(), field.data_type().clone(), field.is_nullable());
        match field.data_type() {
            DataType::Dictionary(_, values) => plain.with_data_type(values.as_ref().clone()),
            _ if super::cell::is_uuid(field) => {
                plain.with_metadata([("logicalType".to_owned(), "uuid".to_owned())].into())
            }
            _ => plain,
        }
    };
    let name = Kind::of(schema).map_or("row", Kind::name);
    let metadata = [("avro.name".to_owned(), name.to_owned())].into();
    Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), metadata)
}

fn header(schema: &str, kind: Option<Kind>, sync: &[u8]) -> Vec<u8> {
    let mut entries = vec![("avro.schema", schema), ("avro.codec", "deflate")];
    entries.extend(kind.map(|kind| (KIND_KEY, kind.name())));
    let mut out = MAGIC.to_vec();
    write_long(&mut out, entries.len() as u64);
    for (key, value) in entries {
        write_bytes(&mut out, key.as_bytes());
        write_bytes(&mut out, value.as_bytes());
    }
    write_long(&mut out, 0);
    out.extend_from_slice(sync);
    out
}

/// A zigzag varint of a number that is not negative.
fn write_long(out: &mut Vec<u8>, value: u64) {
    let mut rest = value << 1;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_long(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
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

#[cfg(test)]
#[path = "avro_tests.rs"]
mod tests;
