//! Encodes events as records of a given Avro schema: the inverse of [`crate::mapping`].
//!
//! Each field of the record gets the value that a reader of the record maps to the same column or property:
//!
//! - A field with an envelope name is the column; any other is the property of its name. The fields of a record called
//!   `properties` are properties too. A field of that name with another type, such as a map, holds all properties
//!   without a field of their own.
//! - A provenance name (`origin`, `offset`, …) is the property if the event has one, because ingest overwrites the
//!   column. So is `event_time` if the record has a `server_timestamp`, which then is the event time.
//! - A property without a field is omitted and counted, because the schema defines what its readers need.
//!
//! A value that does not fit its field is the fault of its event, with the path to the field.

use crate::avro::Schema;
use crate::avro::coerce::{AvroInput, ValueClass};
use crate::avro::encode::{self, EncodeError, Loss, RecordBuffer, RecordField};
use crate::error::{Error, Result};
use crate::json::predictor::{KeyPredictor, UNMARKED};
use crate::json::text::unescape;
use crate::json::walk::{ByteRange, predicted_members};
use crate::kind::event::{COLUMNS, PROVENANCE, column};
use crate::kind::rows::{Cell, RowColumns};
use crate::schema::language::{Encoder, Lost};
use arrow::array::RecordBatch;
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::HashMap;

/// Encodes events as records of one schema.
pub struct RecordEncoder {
    encoder: encode::Encoder,
    /// The fields in the order of the schema; those of a `properties` record are in its place.
    fields: Vec<OutputField>,
    /// Numbers of properties by name.
    slots: HashMap<String, u32, ahash::RandomState>,
    /// Predicts the property names; a mark is the property's number.
    predictor: KeyPredictor,
    /// Whether a field holds all other properties.
    keeps_rest: bool,
    has_server_timestamp: bool,
    run: RecordBuffer,
    /// Byte range of the value of each property.
    found: Vec<Option<ByteRange>>,
    /// The other properties, as an object.
    rest: String,
}

struct OutputField {
    member: RecordField,
    origin: Origin,
}

/// The source of a field's value.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Column(usize),
    Property(u32),
    /// A property, else the column of that name.
    Either {
        property: u32,
        column: usize,
    },
    /// All properties without a field of their own.
    Rest,
}

impl RecordEncoder {
    /// Prepares an encoder for a schema.
    ///
    /// Errors: exit status 78 if it is not a record, or not one that can represent an event.
    pub fn try_new(schema: &Schema) -> Result<Self> {
        let encoder = encode::Encoder::try_new(schema)?;
        let what = schema.describe(schema.root());
        let root = encoder.root().ok_or_else(|| Error::config(format!("expected a record schema, found {what}")))?;
        let mut plan = FieldPlan { encoder: &encoder, fields: vec![], slots: HashMap::default(), keeps_rest: false };
        let named = |name: &str| COLUMNS.iter().position(|column| *column == name);
        for member in &root.fields {
            let inner = encoder.record_at(member.node).filter(|_| member.absent.is_none());
            match (named(&member.name), inner) {
                (Some(column::PROPERTIES), Some(record)) => {
                    record.fields.iter().try_for_each(|member| plan.property(member, None))?;
                }
                (Some(column::PROPERTIES), None) => plan.rest(member)?,
                (Some(column), _) if PROVENANCE.contains(&column) || column == column::EVENT_TIME => {
                    plan.property(member, Some(column))?;
                }
                (Some(column), _) => plan.column(member, column)?,
                (None, _) => plan.property(member, None)?,
            }
        }
        let FieldPlan { fields, slots, keeps_rest, .. } = plan;
        let is_server = |field: &OutputField| matches!(field.origin, Origin::Column(column::SERVER_TIMESTAMP));
        Ok(Self {
            has_server_timestamp: fields.iter().any(is_server),
            found: vec![None; slots.len()],
            fields,
            slots,
            keeps_rest,
            predictor: KeyPredictor::default(),
            run: RecordBuffer::default(),
            rest: String::new(),
            encoder,
        })
    }

    fn row(&mut self, rows: &RowColumns<'_>, row: usize, lost: &mut Lost) -> Result<(), EncodeError> {
        let text = rows.properties(row);
        self.find(text);
        let by_server = self.has_server_timestamp && rows.cell(column::SERVER_TIMESTAMP, row) != Cell::None;
        for field in &self.fields {
            let before = self.run.loss.digits;
            let property = |slot: u32| {
                let ByteRange { start, end } = self.found.get(slot as usize).copied().flatten()?;
                text.get(start..end)
            };
            let json = match field.origin {
                Origin::Property(slot) => property(slot),
                Origin::Either { property: slot, column } if by_server || column != column::EVENT_TIME => {
                    property(slot)
                }
                _ => None,
            };
            let done = match (field.origin, json) {
                (_, Some(value)) => self.encoder.json(&mut self.run, field.member.node, value),
                (Origin::Column(column) | Origin::Either { column, .. }, None) => match input(rows.cell(column, row)) {
                    Some(input) => self.encoder.value(&mut self.run, field.member.node, &input),
                    None => field.member.leave_empty(&mut self.run),
                },
                (Origin::Property(_), None) => field.member.leave_empty(&mut self.run),
                (Origin::Rest, None) => {
                    let rest = if self.rest.is_empty() { text } else { self.rest.as_str() };
                    field.write_rest(&self.encoder, &mut self.run, rest)
                }
            };
            done.map_err(|error| error.within(&field.member.name))?;
            if self.run.loss.digits > before && lost.digits.first.is_none() {
                lost.digits.first = Some(field.member.name.clone());
            }
        }
        Ok(())
    }

    /// Records the byte ranges of the properties that have fields, and whether there are others.
    fn find(&mut self, text: &str) {
        self.found.fill(None);
        self.rest.clear();
        let Self { slots, predictor, found, run, keeps_rest, .. } = self;
        let slot = |key: &str| slots.get(unescape(key).as_ref()).copied().unwrap_or(UNMARKED);
        predicted_members(text, predictor, slot, |member| {
            match found.get_mut(member.mark as usize) {
                Some(found) => *found = Some(member.value_range()),
                None if !*keeps_rest => run.leave_out(member.key()),
                None => {}
            }
            true
        });
        if self.keeps_rest && self.found.iter().any(Option::is_some) {
            self.gather(text);
        }
    }

    /// Writes the properties without a field as an object.
    fn gather(&mut self, text: &str) {
        let Self { slots, rest, .. } = self;
        rest.push('{');
        crate::json::walk::members(text, |key, value| {
            if !slots.contains_key(unescape(key).as_ref()) {
                rest.push_str(if rest.len() > 1 { ",\"" } else { "\"" });
                rest.push_str(key);
                rest.push_str("\":");
                rest.push_str(value);
            }
            true
        });
        rest.push('}');
    }
}

impl Encoder for RecordEncoder {
    fn encode(&mut self, batch: &RecordBatch, lost: &mut Lost) -> Result<Vec<Result<Bytes, String>>> {
        let rows = RowColumns::new(batch)?;
        let mut ranges = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let start = self.run.out.len();
            self.run.begin();
            ranges.push(match self.row(&rows, row, lost) {
                Ok(()) => {
                    let Loss { members, digits } = self.run.loss;
                    lost.properties.events += u64::from(members > 0);
                    lost.digits.events += u64::from(digits > 0);
                    Ok(start..self.run.out.len())
                }
                Err(error) => {
                    self.run.out.truncate(start);
                    Err(error.to_string())
                }
            });
        }
        lost.properties.first.clone_from(&self.run.left_out);
        let bytes = Bytes::from(std::mem::take(&mut self.run.out));
        Ok(ranges.into_iter().map(|range| range.map(|range| bytes.slice(range))).collect())
    }
}

/// Fields under construction.
struct FieldPlan<'a> {
    encoder: &'a encode::Encoder,
    fields: Vec<OutputField>,
    slots: HashMap<String, u32, ahash::RandomState>,
    keeps_rest: bool,
}

impl FieldPlan<'_> {
    fn push(&mut self, member: &RecordField, origin: Origin) {
        self.fields.push(OutputField { member: member.clone(), origin });
    }

    /// Adds a property, with the column to fall back on.
    fn property(&mut self, member: &RecordField, column: Option<usize>) -> Result<()> {
        let slot = u32::try_from(self.slots.len()).unwrap_or(UNMARKED);
        if self.slots.insert(member.name.clone(), slot).is_some() {
            let why = format!("'{}': duplicate field, in the record and in its 'properties'", member.name);
            return Err(Error::config(why));
        }
        let either = |column| Origin::Either { property: slot, column };
        self.push(member, column.map_or(Origin::Property(slot), either));
        Ok(())
    }

    fn column(&mut self, member: &RecordField, column: usize) -> Result<()> {
        let (class, what, remedy) = match column {
            column::EVENT_ID => (ValueClass::Uuid, "a UUID", ""),
            column::CLIENT_TIMESTAMP | column::SERVER_TIMESTAMP => {
                (ValueClass::Instant, "an instant", "; use timestamp-millis, timestamp-micros or string")
            }
            _ => (ValueClass::String, "a string", ""),
        };
        if !self.encoder.may_take(member.node, class) {
            let theirs = self.encoder.describe(member.node);
            return Err(Error::config(format!("{}: {what} cannot be written as {theirs}{remedy}", member.name)));
        }
        self.push(member, Origin::Column(column));
        Ok(())
    }

    fn rest(&mut self, member: &RecordField) -> Result<()> {
        if !self.encoder.may_take(member.node, ValueClass::Object) {
            let theirs = self.encoder.describe(member.node);
            return Err(Error::config(format!("properties: an object cannot be written as {theirs}")));
        }
        self.keeps_rest = true;
        self.push(member, Origin::Rest);
        Ok(())
    }
}

impl OutputField {
    /// Writes an object of all other properties. If there are none and the type refuses an object, writes the value
    /// of a missing field.
    fn write_rest(&self, encoder: &encode::Encoder, run: &mut RecordBuffer, rest: &str) -> Result<(), EncodeError> {
        let (length, loss) = (run.out.len(), run.loss);
        let done = encoder.json(run, self.member.node, rest);
        let is_empty = || rest.bytes().all(|byte| matches!(byte, b'{' | b'}' | b' ' | b'\t' | b'\r' | b'\n'));
        if done.is_err() && self.member.absent.is_some() && is_empty() {
            run.out.truncate(length);
            run.loss = loss;
            return self.member.leave_empty(run);
        }
        done
    }
}

/// Returns the value of a column; `None` if it is NULL.
fn input(cell: Cell<'_>) -> Option<AvroInput<'_>> {
    Some(match cell {
        Cell::None => return None,
        Cell::Text(text) => AvroInput::String(Cow::Borrowed(text)),
        Cell::Number(number) => AvroInput::Whole(number),
        Cell::Instant(instant) => AvroInput::Instant(instant),
        Cell::Uuid(id) => AvroInput::Uuid(id),
    })
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
