//! Reads container files, block by block.

use crate::avro::binary::long;
use crate::avro::decode;
use crate::avro::schema::{AvroType, Field};
use crate::avro::{Schema, parse_lenient};
use crate::error::{Error, Result};
use crate::format::container::foreign_names;
use crate::format::{Body, Limits, Opened, Record, Records, RowPart, Rows};
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

/// Returns the JSON of each record of a container file in memory. Errors: exit status 65 if it is damaged.
pub fn read_records(bytes: Vec<u8>) -> Result<Vec<String>> {
    let size = bytes.len() as u64;
    let opened = open_source(Source { reader: Box::new(std::io::Cursor::new(bytes)), byte: 0, size })?;
    let mut all = vec![];
    for part in opened.parts {
        for rows in part? {
            let Rows::Text(records) = rows? else { return Err(Error::broken("records of Avro that are not text")) };
            for row in &records.rows {
                let Body::Text(range) = &row.body else { continue };
                all.push(records.text.get(range.clone()).unwrap_or_default().to_owned());
            }
        }
    }
    Ok(all)
}

/// Opens a container file.
pub fn open(file: File, _: Limits) -> Result<Opened> {
    let size = file.metadata().map_err(|error| Error::io("cannot read", &error))?.len();
    let reader = Box::new(BufReader::with_capacity(128 << 10, file));
    open_source(Source { reader, byte: 0, size })
}

fn open_source(mut source: Source) -> Result<Opened> {
    let header = FileHeader::read(&mut source)?;
    let codec = Codec::from_name(header.codec.as_deref().unwrap_or("null"))?;
    let avro = parse_lenient(&header.schema)?;
    let schema = header.kind.map(|kind| kind.schema_with(has_raw(&avro)));
    let names = foreign_names(avro.field_names(), schema.as_ref());
    let decoder = decode::Decoder::of(&avro).for_kind(header.kind);
    let blocks = Blocks { source, codec, decoder, sync: header.sync, blocks: 0, records: 0, ended: false };
    // The file may end behind any block.
    Ok(Opened { schema, names, is_text: true, has_end: false, parts: Box::new(blocks) })
}

/// The file and the read position. No length that exceeds the file is accepted.
struct Source {
    reader: Box<dyn Read + Send>,
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
        let read = (&mut self.reader).take(count).read_to_end(&mut bytes);
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
struct Blocks {
    source: Source,
    codec: Codec,
    decoder: decode::Decoder,
    sync: Vec<u8>,
    /// The blocks and the records so far.
    blocks: u64,
    records: u64,
    ended: bool,
}

impl Blocks {
    fn next_block(&mut self) -> Result<Block> {
        self.blocks += 1;
        let count = self.source.long()?;
        let size = self.source.long()?;
        let packed = self.source.bytes(size)?;
        if self.source.bytes(16)? != self.sync {
            return Err(Error::corrupt("a block does not end with the file's sync marker"));
        }
        let before = self.records;
        // A block with a wrong number is the last one that is read.
        self.records = before.saturating_add(u64::try_from(count).unwrap_or(0));
        Ok(Block { packed, codec: self.codec, decoder: self.decoder.another(), count, before })
    }
}

impl Iterator for Blocks {
    type Item = Result<RowPart>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || self.source.is_at_end() {
            return None;
        }
        let block = self.next_block();
        self.ended = block.is_err();
        let (number, end) = (self.blocks, self.source.byte);
        let place = || format!("block {number} (before byte {end})");
        let rows = |block| Box::new(BlockRows { number, end, block: BlockState::Packed(block) }) as RowPart;
        Some(block.map(rows).map_err(|error| error.at(place())))
    }
}

/// A block that is not decompressed.
struct Block {
    packed: Vec<u8>,
    codec: Codec,
    decoder: decode::Decoder,
    /// The number of records that it states.
    count: i64,
    /// The number of records before it.
    before: u64,
}

impl Block {
    fn open(self) -> Result<OpenBlock> {
        let bytes = self.codec.unpack(self.packed)?;
        let length = bytes.len();
        let most = length as u64 + EMPTY_MAX;
        let count = self.count;
        let wrong =
            || Error::corrupt(format!("expected at most {most} records in a block of {length} bytes, found {count}"));
        let left = u64::try_from(count).ok().filter(|count| *count <= most).ok_or_else(wrong)?;
        Ok(OpenBlock { decoder: self.decoder, bytes, cursor: 0, left, records: self.before })
    }
}

/// A block whose records are decoded.
struct OpenBlock {
    decoder: decode::Decoder,
    bytes: Vec<u8>,
    cursor: usize,
    /// Records that are not decoded yet.
    left: u64,
    /// The number of records of the file so far.
    records: u64,
}

impl OpenBlock {
    /// Decodes the rest of the block, up to [`TEXT_BYTES`]. A fault ends the run after the records before it.
    fn decode(&mut self, records: &mut Records) -> Result<()> {
        while self.left > 0 && records.text.len() < TEXT_BYTES {
            let start = records.text.len();
            let mut input = self.bytes.get(self.cursor..).unwrap_or_default();
            if let Err(why) = self.decoder.decode(&mut input, &mut records.text) {
                records.text.truncate(start);
                return Err(Error::corrupt(format!("record {}: {why}", self.records + 1)));
            }
            self.cursor = self.bytes.len() - input.len();
            self.left -= 1;
            self.records += 1;
            let body = Body::Text(start..records.text.len());
            records.rows.push(Record { raw: 0..0, line: self.records, body });
        }
        if self.left == 0 && self.cursor < self.bytes.len() {
            return Err(Error::corrupt("a block has bytes after its last record"));
        }
        Ok(())
    }
}

/// The records of a block.
struct BlockRows {
    /// The number of the block, from 1, and the byte behind it.
    number: u64,
    end: u64,
    block: BlockState,
}

enum BlockState {
    Packed(Block),
    Open(OpenBlock),
    Ended,
}

impl BlockRows {
    /// Decodes some records; none at the end of the block.
    fn step(&mut self, records: &mut Records) -> Result<()> {
        let mut block = match std::mem::replace(&mut self.block, BlockState::Ended) {
            BlockState::Packed(block) => block.open()?,
            BlockState::Open(block) => block,
            BlockState::Ended => return Ok(()),
        };
        let decoded = block.decode(records);
        if decoded.is_ok() && block.left > 0 || decoded.is_err() && !records.rows.is_empty() {
            self.block = BlockState::Open(block);
        }
        decoded
    }
}

impl Iterator for BlockRows {
    type Item = Result<Rows>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut records = Records::default();
        match self.step(&mut records) {
            Ok(()) if records.rows.is_empty() => None,
            Err(error) if records.rows.is_empty() => {
                Some(Err(error.at(format!("block {} (before byte {})", self.number, self.end))))
            }
            // The next call returns the fault, because no record precedes it.
            Ok(()) | Err(_) => Some(Ok(Rows::Text(records))),
        }
    }
}
