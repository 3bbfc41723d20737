//! Reads container files, block by block.

use crate::avro::binary::long;
use crate::avro::decode;
use crate::avro::schema::{AvroType, Field};
use crate::avro::{Schema, parse_lenient};
use crate::error::{Error, Result};
use crate::format::container::foreign_names;
use crate::format::{Body, Limits, Opened, Record, Records, Rows};
use crate::kind::event::RAW;
use crate::kind::{KIND_KEY, Kind};
use std::fs::File;
use std::io::{BufReader, Read};

/// The magic of a file.
pub const MAGIC: &[u8] = b"Obj\x01";
/// Maximum bytes of a decompressed block; writers use about 64 KiB.
const BLOCK_MAX: u64 = 256 << 20;
/// Maximum bytes of text returned at once.
const TEXT_BYTES: usize = 512 << 10;
/// Maximum number of records without bytes in a block.
const EMPTY_MAX: u64 = 1_000_000;

/// Opens a container file.
pub fn open(file: File, _: Limits) -> Result<Opened> {
    let size = file.metadata().map_err(|error| Error::io("cannot read", &error))?.len();
    let mut source = Source { reader: BufReader::with_capacity(128 << 10, file), byte: 0, size };
    let header = FileHeader::read(&mut source)?;
    let codec = Codec::from_name(header.codec.as_deref().unwrap_or("null"))?;
    let avro = parse_lenient(&header.schema)?;
    let decoder = decode::Decoder::of(&avro).for_kind(header.kind);
    let schema = header.kind.map(|kind| kind.schema_with(has_raw(&avro)));
    let names = foreign_names(avro.field_names(), schema.as_ref());
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
    Ok(Opened { schema, names, is_text: true, rows: Box::new(reader) })
}

/// The file and the read position. No length that exceeds the file is accepted.
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
                return long(&mut &bytes[..]).map_err(Error::corrupt);
            }
        }
    }

    fn value(&mut self) -> Result<Vec<u8>> {
        let length = self.long()?;
        self.bytes(length)
    }
}

struct FileHeader {
    schema: String,
    codec: Option<String>,
    kind: Option<Kind>,
    sync: Vec<u8>,
}

impl FileHeader {
    fn read(source: &mut Source) -> Result<Self> {
        if source.bytes(4)? != MAGIC {
            return Err(Error::corrupt("expected an Avro object container file, which starts with Obj and the byte 1"));
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
        let schema =
            schema.ok_or_else(|| Error::corrupt("expected a schema in UTF-8 in the Avro header, found none"))?;
        Ok(Self { schema, codec, kind, sync: source.bytes(16)? })
    }
}

/// Whether a schema written by evt has the column of raw records.
fn has_raw(schema: &Schema) -> bool {
    let AvroType::Record { fields, .. } = &schema.node(schema.root()).avro_type else { return false };
    let is_nullable_bytes = |field: &Field| match &schema.node(field.node).avro_type {
        AvroType::Union(branches) => branches.iter().map(|id| schema.node(*id).avro_type.word()).eq(["null", "bytes"]),
        _ => false,
    };
    fields.iter().any(|field| field.name == RAW && is_nullable_bytes(field))
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
                let known = "null, deflate, snappy or zstandard";
                return Err(Error::corrupt(format!("unsupported Avro codec '{other}'; expected {known}")));
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
                    packed.split_last_chunk::<4>().ok_or_else(|| Error::corrupt("a snappy block is truncated"))?;
                let wrong = |error| Error::corrupt("a snappy block is corrupt").because(error);
                if snap::raw::decompress_len(packed).map_err(wrong)? as u64 > BLOCK_MAX {
                    return Err(too_large());
                }
                let bytes = snap::raw::Decoder::new().decompress_vec(packed).map_err(wrong)?;
                let mut crc = flate2::Crc::new();
                crc.update(&bytes);
                if crc.sum() != u32::from_be_bytes(*sum) {
                    return Err(Error::corrupt("a snappy block does not match its checksum"));
                }
                Ok(bytes)
            }
        }
    }
}

fn bounded(decoder: impl Read) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    let read = decoder.take(BLOCK_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::corrupt("a block cannot be decompressed").because(error))?;
    if bytes.len() as u64 > BLOCK_MAX { Err(too_large()) } else { Ok(bytes) }
}

fn too_large() -> Error {
    Error::corrupt(format!("a block decompresses to more than {} MiB", BLOCK_MAX >> 20))
}

/// Reads block after block.
struct Reader {
    source: Source,
    codec: Codec,
    decoder: decode::Decoder,
    sync: Vec<u8>,
    block: Vec<u8>,
    cursor: usize,
    /// Records of the block that are not decoded yet.
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
        let bytes = self.block.len();
        let most = bytes as u64 + EMPTY_MAX;
        let wrong =
            || Error::corrupt(format!("expected at most {most} records in a block of {bytes} bytes, found {count}"));
        self.left = u64::try_from(count).ok().filter(|count| *count <= most).ok_or_else(wrong)?;
        Ok(())
    }

    /// Decodes the rest of the block, up to [`TEXT_BYTES`]. A fault ends the run after the records before it.
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
            return Err(Error::corrupt("a block has bytes after its last record"));
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
            // The next call returns the fault, because no record precedes it.
            Err(_) => Some(Ok(Rows::Text(records))),
        }
    }
}
