//! Converts cells: rows of a batch to the binary format of COPY, and values of a result to columns.

use crate::cells::Cells;
use crate::nested::{headers_json, parse_headers};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field};
use bytes::{BufMut, Bytes, BytesMut};
use evt_core::error::{Error, Result};
use evt_core::expr;
use evt_core::json::text::{has_escaped_nul, unescape};
use evt_core::json::walk::members;
use evt_core::kind::values::{CellValue, read_optional};
use evt_core::time::{SECOND, is_in_calendar};
use std::borrow::Cow;

/// 2000-01-01T00:00:00Z, the epoch of PostgreSQL's timestamps.
pub const POSTGRES_EPOCH: i64 = 946_684_800 * SECOND;
/// The OID of the type TEXT.
const TEXT_OID: i32 = 25;
/// The first byte of a JSONB value: its version.
const JSONB_VERSION: u8 = 1;

/// A column of a batch, ready to be copied row by row.
pub struct CopyColumn<'a> {
    cells: Cells<'a>,
    /// Whether its text is JSONB.
    is_object: bool,
    /// Whether its text is JSON that must be fit for JSONB.
    is_json: bool,
}

impl<'a> CopyColumn<'a> {
    /// Wraps the column `name`. Errors: exit status 70 for a type that no kind has.
    pub fn try_new(name: &str, array: &'a ArrayRef) -> Result<Self> {
        Ok(Self { cells: Cells::try_new(array)?, is_object: name == "dimensions", is_json: name == "properties" })
    }

    /// Whether the text of `row` contains a NUL, which neither TEXT nor JSONB can hold.
    pub fn has_nul(&self, row: usize) -> bool {
        let nul = |text: &str| memchr::memchr(0, text.as_bytes()).is_some();
        match &self.cells {
            Cells::Text(texts) if self.is_json => texts.is_valid(row) && has_escaped_nul(texts.value(row)),
            Cells::Text(_) if self.is_object => false,
            Cells::Text(_) | Cells::Word(..) => !self.cells.is_null(row) && self.cells.text(row).is_ok_and(nul),
            Cells::Names(lists) => lists.value(row).as_string::<i32>().iter().flatten().any(nul),
            _ => false,
        }
    }

    fn write(&self, row: usize, out: &mut CopyText) -> Result<()> {
        if self.cells.is_null(row) {
            out.buffer.put_i32(-1);
            return Ok(());
        }
        match &self.cells {
            Cells::Id(ids) => out.value(ids.value(row))?,
            Cells::Text(texts) if self.is_object => {
                let text = texts.value(row).as_bytes();
                out.buffer.put_i32(length(text.len() + 1)?);
                out.buffer.put_u8(JSONB_VERSION);
                out.buffer.put_slice(text);
            }
            Cells::Text(_) | Cells::Word(..) => out.value(self.cells.text(row)?.as_bytes())?,
            Cells::Instant(instants) => out.long(instants.value(row).saturating_sub(POSTGRES_EPOCH)),
            Cells::Long(numbers) => out.long(numbers.value(row)),
            Cells::Whole(numbers) => out.value(&numbers.value(row).to_be_bytes())?,
            Cells::Real(numbers) => out.value(&numbers.value(row).to_be_bytes())?,
            Cells::Flag(flags) => out.value(&[u8::from(flags.value(row))])?,
            Cells::Bytes(bytes) => out.value(bytes.value(row))?,
            Cells::Names(lists) => out.names(&lists.value(row))?,
            Cells::Headers(maps) => out.value(headers_json(&maps.value(row))?.as_bytes())?,
        }
        Ok(())
    }
}

/// Wraps the first `count` columns of a batch.
pub fn cells_of(batch: &RecordBatch, count: usize) -> Result<Vec<CopyColumn<'_>>> {
    let names = batch.schema_ref().fields().iter().map(|field| field.name());
    names.zip(batch.columns()).take(count).map(|(name, array)| CopyColumn::try_new(name, array)).collect()
}

/// Encodes a length.
fn length(bytes: usize) -> Result<i32> {
    i32::try_from(bytes).map_err(|_| Error::broken("a value of more than 2 GiB"))
}

/// The data of a binary COPY.
pub struct CopyText {
    buffer: BytesMut,
}

impl CopyText {
    /// Creates an encoder that begins with the header of COPY.
    pub fn new(room: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(room);
        buffer.put_slice(b"PGCOPY\n\xff\r\n\0");
        // No flags, no header extension.
        buffer.put_u64(0);
        Self { buffer }
    }

    /// Appends a row of `cells`, followed by the values `more`.
    pub fn row(&mut self, cells: &[CopyColumn<'_>], row: usize, more: &[&[u8]]) -> Result<()> {
        let count = cells.len() + more.len();
        let too_many = |_| Error::broken(format!("expected at most {} columns in COPY, found {count}", i16::MAX));
        self.buffer.put_i16(i16::try_from(count).map_err(too_many)?);
        for cell in cells {
            cell.write(row, self)?;
        }
        more.iter().try_for_each(|value| self.value(value))
    }

    /// Appends the trailer and returns the data.
    pub fn finish(mut self) -> Bytes {
        self.buffer.put_i16(-1);
        self.buffer.freeze()
    }

    fn value(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.put_i32(length(bytes.len())?);
        self.buffer.put_slice(bytes);
        Ok(())
    }

    fn long(&mut self, number: i64) {
        self.buffer.put_i32(8);
        self.buffer.put_i64(number);
    }

    /// Appends an array of texts: one dimension with lower bound 1, or none if it is empty.
    fn names(&mut self, names: &ArrayRef) -> Result<()> {
        let names = names.as_string::<i32>();
        let bytes: usize = names.iter().flatten().map(|name| name.len() + 4).sum();
        let dimensions = usize::from(!names.is_empty());
        self.buffer.put_i32(length(12 + 8 * dimensions + bytes)?);
        self.buffer.put_i32(length(dimensions)?);
        self.buffer.put_i32(0);
        self.buffer.put_i32(TEXT_OID);
        if dimensions == 1 {
            self.buffer.put_i32(length(names.len())?);
            self.buffer.put_i32(1);
        }
        names.iter().flatten().try_for_each(|name| self.value(name.as_bytes()))
    }
}

/// Encodes an instant (µs) for COPY.
pub fn instant_bytes(micros: i64) -> [u8; 8] {
    micros.saturating_sub(POSTGRES_EPOCH).to_be_bytes()
}

/// Returns dimensions as the canonical JSON of an object of strings and nulls; `None` if they are not such an object,
/// or contain a NUL.
pub fn canonical_dimensions(text: &str) -> Option<String> {
    expr::canonical_dimensions(text).filter(|canonical| !canonical.contains("\\u0000") || !has_nul(canonical))
}

fn has_nul(object: &str) -> bool {
    let mut found = false;
    members(object, |name, value| {
        found |= [name, value].iter().any(|text| unescape(text).contains('\0'));
        !found
    });
    found
}

/// Reads a value of a result in the binary format; `None` if it is not of the type of `field`.
pub fn read<'a>(field: &Field, value: Option<&'a [u8]>) -> Option<CellValue<'a>> {
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).ok();
    let owned = |bytes| text(bytes).map(Cow::Borrowed);
    Some(match field.data_type() {
        DataType::FixedSizeBinary(16) => CellValue::Id(read_optional(value, |bytes| bytes.try_into().ok())?),
        DataType::Utf8 if field.name() == "dimensions" => {
            let object = |bytes| canonical_dimensions(jsonb(bytes)?);
            CellValue::Text(read_optional(value, object)?.map(Cow::Owned))
        }
        DataType::Utf8 | DataType::Dictionary(_, _) => CellValue::Text(read_optional(value, owned)?),
        DataType::Timestamp(_, _) => {
            let instant = |bytes| long(bytes)?.checked_add(POSTGRES_EPOCH).filter(|instant| is_in_calendar(*instant));
            CellValue::Instant(read_optional(value, instant)?)
        }
        DataType::Int64 => CellValue::Long(read_optional(value, long)?),
        DataType::Int32 => {
            CellValue::Int(read_optional(value, |bytes| Some(i32::from_be_bytes(bytes.try_into().ok()?)))?)
        }
        DataType::Float64 => {
            CellValue::Double(read_optional(value, |bytes| Some(f64::from_be_bytes(bytes.try_into().ok()?)))?)
        }
        DataType::Boolean => CellValue::Bool(read_optional(value, |bytes| Some(*bytes.first()? != 0))?),
        DataType::Binary => CellValue::Bytes(value.map(Cow::Borrowed)),
        DataType::List(_) => CellValue::Names(read_optional(value, names)?),
        DataType::Map(_, _) => CellValue::Headers(read_optional(value, |bytes| parse_headers(text(bytes)?))?),
        _ => return None,
    })
}

/// Returns the text of a JSONB value.
pub fn jsonb(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.strip_prefix(&[JSONB_VERSION])?).ok()
}

fn long(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.try_into().ok()?))
}

/// Decodes an array of texts with one dimension or none.
fn names(bytes: &[u8]) -> Option<Vec<String>> {
    let whole = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
    if whole(0)? == 0 {
        return Some(Vec::new());
    }
    let count = usize::try_from(whole(12)?).ok()?;
    let mut names = Vec::new();
    let mut at = 20_usize;
    for _ in 0..count {
        let end = (at + 4).checked_add(usize::try_from(whole(at)?).ok()?)?;
        names.push(String::from_utf8(bytes.get(at + 4..end)?.to_vec()).ok()?);
        at = end;
    }
    Some(names)
}
