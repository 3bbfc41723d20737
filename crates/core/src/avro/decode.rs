//! Decodes Avro values to JSON text, straight from their bytes.
//!
//! A schema is compiled once ([`super::table`]); one pass over a record's bytes writes its JSON. Nothing in the bytes
//! is trusted: lengths, indices, depth and the size of the text are checked, so the worst input yields an error with
//! the reason.
//!
//! Values are written as by [`crate::format::cell`]: nulls of a record left out, bytes base64, decimals as numbers,
//! instants RFC 3339, local times without `Z`, a union as its value. In files of evt's kinds payloads are text if they
//! are UTF-8, and JSON columns are JSON.

use super::binary::{DecodeError, array, block, bytes, int, item, long, take, text};
use super::scalar::Scalar;
use super::schema::Schema;
use super::table::{FieldSource, ReadField, ReadNode, Table};
use crate::error::Result;
use crate::json::number::{write_decimal, write_float};
use crate::json::text::{write_string, write_uuid};
use crate::json::{DEPTH_MAX, base64, scan};
use crate::kind::Kind;
use crate::time::instant::write_date;
use crate::time::stamp::{Stamp, write_time_of_day};
use arrow::datatypes::TimeUnit;
use num_bigint::BigInt;
use std::fmt::Write;
use std::sync::Arc;

/// Maximum bytes of a record's JSON text: arrays of nulls take no input bytes.
const TEXT_MAX: usize = 64 << 20;

/// Maximum bytes of a decimal: writing its digits takes the square of their number.
const DECIMAL_MAX: usize = 4_096;

const NO_BRANCH: DecodeError = "the reader's schema cannot represent this branch of a union";
const NO_SYMBOL: DecodeError = "the reader's schema does not have this symbol of an enum";
/// The faults of values that match their writer's schema and have no counterpart in the reader's.
pub const UNPLACED: [DecodeError; 2] = [NO_BRANCH, NO_SYMBOL];

/// A schema compiled for decoding.
pub struct Decoder {
    table: Arc<Table>,
    stamp: Stamp,
}

impl Decoder {
    /// Compiles a schema.
    pub fn of(schema: &Schema) -> Self {
        Self { table: Arc::new(Table::of(schema)), stamp: Stamp::default() }
    }

    /// Compiles a decoder that reads `writer`'s values as `reader`'s.
    ///
    /// Errors: exit status 78 with path and reason if no value of the one can be read as the other.
    pub fn resolving(writer: &Schema, reader: &Schema) -> Result<Self> {
        Ok(Self { table: Arc::new(Table::resolving(writer, reader)?), stamp: Stamp::default() })
    }

    /// Writes the columns of evt's kinds in their own forms, if the outermost record is one of these kinds.
    pub fn for_kind(mut self, kind: Option<Kind>) -> Self {
        if let (Some(_), Some(table)) = (kind, Arc::get_mut(&mut self.table)) {
            table.use_columns();
        }
        self
    }

    /// Returns another decoder of the same values, for another thread.
    pub fn another(&self) -> Self {
        Self { table: self.table.clone(), stamp: Stamp::default() }
    }

    /// Appends one value as a JSON object, a record as it is, anything else as `{"value": …}`, and removes its bytes
    /// from `input`.
    pub fn decode(&mut self, input: &mut &[u8], out: &mut String) -> Decoded {
        let Self { table, stamp } = self;
        let start = out.len();
        let mut run = RecordDecoding { nodes: &table.nodes, stamp, out, start, skipped: 0 };
        match run.resolve(table.root, input)? {
            ReadNode::Record(fields) => run.record(fields, input, 0),
            node => {
                run.out.push_str("{\"value\":");
                run.value(node, input, 1)?;
                run.out.push('}');
                Ok(())
            }
        }
    }
}

type Decoded = Result<(), DecodeError>;

/// One record being decoded.
struct RecordDecoding<'n, 's> {
    nodes: &'n [ReadNode],
    stamp: &'s mut Stamp,
    out: &'s mut String,
    start: usize,
    /// Bytes of text that were written and removed again.
    skipped: usize,
}

impl<'n> RecordDecoding<'n, '_> {
    /// Returns the node of the next value; for a union reads the branch from the input.
    fn resolve(&self, mut at: usize, input: &mut &[u8]) -> Result<&'n ReadNode, DecodeError> {
        for _ in 0..DEPTH_MAX {
            let ReadNode::Union(branches) = &self.nodes[at] else { return Ok(&self.nodes[at]) };
            at = *item(input, branches)?.ok_or("expected a branch of the union, found an index outside of it")?;
        }
        Err("unions are nested too deeply")
    }

    fn record(&mut self, fields: &[ReadField], input: &mut &[u8], depth: u32) -> Decoded {
        let mut before = *input;
        self.out.push('{');
        for field in fields {
            match &field.source {
                FieldSource::Next => {
                    before = *input;
                    self.field(field, input, depth)?;
                }
                FieldSource::Again => self.field(field, &mut { before }, depth)?,
                FieldSource::Default(bytes) => self.field(field, &mut bytes.as_slice(), depth)?,
                FieldSource::Skipped => self.skip(field.node, input, depth)?,
            }
        }
        self.out.push('}');
        Ok(())
    }

    fn field(&mut self, field: &ReadField, input: &mut &[u8], depth: u32) -> Decoded {
        let node = self.resolve(field.node, input)?;
        let key = match node {
            ReadNode::Scalar(Scalar::Null) => return Ok(()),
            ReadNode::Payload if !is_text(input)? => &field.base64_key,
            _ => &field.key,
        };
        // No value ends with an opening brace.
        self.out.push_str(if self.out.ends_with('{') { &key[1..] } else { key });
        self.value(node, input, depth + 1)
    }

    /// Reads a value and discards it; its faults are the record's.
    fn skip(&mut self, at: usize, input: &mut &[u8], depth: u32) -> Decoded {
        let kept = self.out.len();
        let node = self.resolve(at, input)?;
        self.value(node, input, depth + 1)?;
        self.skipped += self.out.len() - kept;
        self.out.truncate(kept);
        Ok(())
    }

    fn value(&mut self, node: &'n ReadNode, input: &mut &[u8], depth: u32) -> Decoded {
        if depth >= DEPTH_MAX {
            return Err("values are nested too deeply");
        }
        if self.out.len() - self.start + self.skipped > TEXT_MAX {
            return Err("a record is longer than 64 MiB as text");
        }
        match node {
            ReadNode::Scalar(scalar) => self.scalar(scalar, input)?,
            ReadNode::Record(fields) => self.record(fields, input, depth)?,
            ReadNode::Array(items) => self.items('[', ']', input, |run, input| {
                let node = run.resolve(*items, input)?;
                run.value(node, input, depth + 1)
            })?,
            ReadNode::Map(values) => self.items('{', '}', input, |run, input| {
                write_string(run.out, text(input)?);
                run.out.push(':');
                match run.resolve(*values, input)? {
                    ReadNode::Payload if !is_text(input)? => {
                        run.out.push_str("{\"base64\":");
                        write_base64(run.out, bytes(input)?);
                        run.out.push('}');
                        Ok(())
                    }
                    node => run.value(node, input, depth + 1),
                }
            })?,
            ReadNode::Enum(symbols) => {
                let symbol =
                    item(input, symbols)?.ok_or("expected a symbol of the enum, found an index outside of it")?;
                self.out.push_str(symbol.as_deref().ok_or(NO_SYMBOL)?);
            }
            ReadNode::Promoted { from: Scalar::Float, .. } => {
                write_float(self.out, f64::from(f32::from_le_bytes(array(input)?)));
            }
            ReadNode::Promoted { from: Scalar::Int, to } => self.integer(to, int(input)?.into()),
            ReadNode::Promoted { to, .. } => self.integer(to, long(input)?),
            ReadNode::Json => {
                let text = text(input)?;
                if !text.starts_with('{') || !scan::is_json(text) {
                    return Err("expected a JSON object in a column of JSON, found another value");
                }
                self.out.push_str(text);
            }
            ReadNode::Payload if is_text(input)? => write_string(self.out, text(input)?),
            ReadNode::Payload => write_base64(self.out, bytes(input)?),
            ReadNode::Union(_) | ReadNode::Unplaced => return Err(NO_BRANCH),
        }
        Ok(())
    }

    /// Writes the items of an array or map.
    fn items(
        &mut self,
        open: char,
        close: char,
        input: &mut &[u8],
        mut each: impl FnMut(&mut Self, &mut &[u8]) -> Decoded,
    ) -> Decoded {
        let mut first = true;
        self.out.push(open);
        while let Some(count) = block(input)? {
            for _ in 0..count {
                if !std::mem::take(&mut first) {
                    self.out.push(',');
                }
                each(self, input)?;
            }
        }
        self.out.push(close);
        Ok(())
    }

    fn scalar(&mut self, scalar: &Scalar, input: &mut &[u8]) -> Decoded {
        match scalar {
            Scalar::Null => self.out.push_str("null"),
            Scalar::Boolean => self.out.push_str(match take(input, 1)? {
                [0] => "false",
                [1] => "true",
                _ => return Err("expected 0 or 1 as boolean, found another byte"),
            }),
            Scalar::Float => write_float(self.out, f32::from_le_bytes(array(input)?)),
            Scalar::Double => write_float(self.out, f64::from_le_bytes(array(input)?)),
            Scalar::String | Scalar::UuidText => write_string(self.out, text(input)?),
            Scalar::Bytes(size) => write_base64(self.out, sized(*size, input)?),
            Scalar::Decimal { size, scale, .. } => {
                let digits = sized(*size, input)?;
                if digits.len() > DECIMAL_MAX {
                    return Err("a decimal is longer than 4,096 bytes");
                }
                write_decimal(self.out, &BigInt::from_signed_bytes_be(digits).to_string(), *scale as i32);
            }
            Scalar::Uuid => {
                let id = take(input, 16)?;
                quoted(self.out, |out| write_uuid(out, id));
            }
            Scalar::Duration => {
                let [months, days, millis] = [array(input)?, array(input)?, array(input)?].map(u32::from_le_bytes);
                let _ = write!(self.out, "\"P{months}M{days}DT{}.{:03}S\"", millis / 1_000, millis % 1_000);
            }
            Scalar::Int | Scalar::Date => self.integer(scalar, int(input)?.into()),
            Scalar::Long | Scalar::Time(_) | Scalar::Timestamp(_) | Scalar::LocalTimestamp(_) => {
                self.integer(scalar, long(input)?);
            }
        }
        Ok(())
    }

    /// Writes an integer as a type; rounds what a float cannot represent, as in the specification.
    fn integer(&mut self, scalar: &Scalar, number: i64) {
        match scalar {
            Scalar::Float => write_float(self.out, number as f32),
            Scalar::Double => write_float(self.out, number as f64),
            Scalar::Timestamp(unit) => {
                quoted(self.out, |out| self.stamp.write_ticks(out, number, TimeUnit::from(*unit)));
            }
            Scalar::LocalTimestamp(unit) => {
                quoted(self.out, |out| self.stamp.write_local(out, number, TimeUnit::from(*unit)));
            }
            Scalar::Time(unit) => quoted(self.out, |out| write_time_of_day(out, number, TimeUnit::from(*unit))),
            Scalar::Date => quoted(self.out, |out| write_date(out, number)),
            _ => {
                let _ = write!(self.out, "{number}");
            }
        }
    }
}

/// Whether the bytes that come next are text; reads nothing.
fn is_text(input: &&[u8]) -> Result<bool, DecodeError> {
    Ok(str::from_utf8(bytes(&mut &**input)?).is_ok())
}

/// Reads bytes of a size, or after their length.
fn sized<'a>(size: Option<usize>, input: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    match size {
        Some(size) => take(input, size),
        None => bytes(input),
    }
}

fn quoted(out: &mut String, write: impl FnOnce(&mut String)) {
    out.push('"');
    write(out);
    out.push('"');
}

fn write_base64(out: &mut String, bytes: &[u8]) {
    quoted(out, |out| base64::encode(bytes, out));
}
