//! Rows of files of other programs, read from their columns.
//!
//! The mapping ([`crate::mapping`]) makes JSON text of each row, validates it, and copies its fields into the columns
//! of events. A comparison needs only the id, the times and the hash of the content, and these follow from the columns
//! directly, in half the time. A batch whose rows the mapping might treat in another way (a text that is not a UUID, a
//! time outside of the calendar, a column that another flag reads) is refused as a whole: then the caller reads the
//! file with the mapping.

use super::content::{ObjectHash, of_cell, of_double, of_integer, of_json, of_name, of_string};
use super::entry::{NOT_IN_B, PartitionNames, RowPosition, id_key};
use super::rows::{RowFacts, RowOptions, flags};
use crate::error::Result;
use crate::format::cell::{Column, texts};
use crate::format::jsonl::foreign_value;
use crate::format::physical::{Int96, Physical};
use crate::format::row::kind_of;
use crate::json::scan::value_end;
use crate::json::text::unescape;
use crate::json::walk::members;
use crate::kind::event::{COLUMNS, column};
use crate::kind::rows::Cell;
use crate::kind::{Kind, claims_json};
use crate::mapping::{self, TimeFrom, parse_uuid};
use crate::time::is_in_calendar;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringViewArray};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType};
use std::collections::HashSet;

/// The columns with texts, in the order of [`BatchColumns::texts`].
const TEXTS: [usize; 3] = [column::SOURCE, column::EVENT_TYPE, column::USER_ID];
/// The columns with times, in the order of [`BatchColumns::times`].
const TIMES: [usize; 3] = [column::CLIENT_TIMESTAMP, column::SERVER_TIMESTAMP, column::EVENT_TIME];
/// Upper bound of the bytes of a value in JSON text besides the bytes of its text: quotes, a number, an instant.
const VALUE_BYTES: usize = 64;
/// The most bytes of JSON text that a byte of a text takes (`\u0000`).
const ESCAPE_BYTES: usize = 6;

/// Reads the rows of one file of another program from the columns of its batches.
pub struct ForeignColumns {
    time: TimeField,
    /// Whether timestamps without a zone are UTC.
    reads_local: bool,
    record_max: usize,
    compares: bool,
    /// Whether the event time is not content.
    omits_time: bool,
    origin: String,
    /// The number of rows read.
    rows: i64,
}

/// The source of event times.
enum TimeField {
    /// `server_timestamp`, else `event_time`.
    Usual,
    /// This column.
    Named(String),
}

/// Rows of a batch.
pub struct ForeignRows {
    ids: Vec<[u8; 16]>,
    times: Vec<i64>,
    arrivals: Vec<i64>,
    /// The hashes of the contents; 0 if they are not compared.
    contents: Vec<u64>,
    origin: String,
    /// The offset of the first one.
    first: i64,
}

impl ForeignColumns {
    /// Prepares the reading of a file whose records have an origin. `None` if flags need the mapping.
    pub fn new(options: &mapping::Options, rows: RowOptions, record_max: usize, origin: String) -> Option<Self> {
        let time = match &options.time {
            TimeFrom::Default | TimeFrom::Untimed => TimeField::Usual,
            TimeFrom::Field(name) if is_simple(name) => TimeField::Named(name.clone()),
            TimeFrom::Field(_) | TimeFrom::Expr(_) | TimeFrom::Arrival | TimeFrom::Optional => return None,
        };
        let when = &options.when;
        let reads_local = when.unit.is_none() && when.format.is_none() && when.zone.is_none();
        let RowOptions { compares, omits_time, .. } = rows;
        options.maps_by_name().then_some(Self { time, reads_local, record_max, compares, omits_time, origin, rows: 0 })
    }

    /// Reads the next batch; `None` if a row may need the mapping.
    pub fn read(&mut self, batch: &RecordBatch) -> Option<ForeignRows> {
        let mut columns = BatchColumns::new(self, batch)?;
        let ids = std::mem::take(&mut columns.ids);
        let times: Vec<i64> = (0..ids.len()).map(|row| columns.time(self, row)).collect::<Option<_>>()?;
        let [_, server, _] = &columns.times;
        let arrival =
            |(row, time): (usize, &i64)| server.as_ref().and_then(|server| server.value(row)).unwrap_or(*time);
        let arrivals: Vec<i64> = times.iter().enumerate().map(arrival).collect();
        let contents = columns.contents(self, &ids, &times)?;
        let first = self.rows + 1;
        self.rows += ids.len() as i64;
        Some(ForeignRows { ids, times, arrivals, contents, origin: self.origin.clone(), first })
    }
}

impl ForeignRows {
    /// Returns their number.
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// Calls `each` for all rows.
    pub fn each(
        &self,
        options: RowOptions,
        names: &mut PartitionNames,
        each: &mut dyn FnMut(RowFacts) -> Result<()>,
    ) -> Result<()> {
        let partition = names.index(&self.origin, "0");
        for (row, offset) in (0..self.count()).zip(self.first..) {
            each(RowFacts {
                position: RowPosition { partition, offset },
                id: id_key(self.ids[row]),
                time: self.times[row],
                content: self.contents[row],
                flags: flags(Some(self.arrivals[row]), options) | NOT_IN_B,
            })?;
        }
        Ok(())
    }
}

/// Whether a name of a flag is certainly the name of one field, and neither a path nor several names.
fn is_simple(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// The columns of a batch.
struct BatchColumns<'a> {
    ids: Vec<[u8; 16]>,
    texts: [Option<TextColumn<'a>>; TEXTS.len()],
    times: [Option<Times>; TIMES.len()],
    /// The times of `--time` if they are not a column of events.
    named: Option<Times>,
    properties: Option<TextColumn<'a>>,
    beside: Vec<Property<'a>>,
    /// The names of `beside`.
    names: HashSet<&'a str>,
    /// The bytes that the JSON text of a value may have: then no row is longer than `--max-record`.
    value_max: usize,
    scratch: String,
}

/// A column of texts.
struct TextColumn<'a> {
    nulls: Option<NullBuffer>,
    values: TextValues<'a>,
}

enum TextValues<'a> {
    /// The array that the reader of Parquet files makes.
    Views(&'a StringViewArray),
    Other(Box<dyn Fn(usize) -> &'a str + 'a>),
}

/// A column of instants (µs).
struct Times {
    nulls: Option<NullBuffer>,
    micros: Vec<i64>,
}

/// A column that is a property.
struct Property<'a> {
    name: &'a str,
    value: PropertyValue<'a>,
}

enum PropertyValue<'a> {
    Text(TextColumn<'a>),
    /// JSON values as text.
    Json(TextColumn<'a>),
    Integer(Option<NullBuffer>, Vec<i64>),
    Double(&'a Float64Array),
    Other(Column<'a>),
}

impl<'a> BatchColumns<'a> {
    fn new(reader: &ForeignColumns, batch: &'a RecordBatch) -> Option<Self> {
        let schema = batch.schema_ref();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let distinct: HashSet<&str> = names.iter().copied().collect();
        if distinct.len() < names.len() || Kind::of(schema).is_some() || kind_of(&names) != Kind::Event {
            return None;
        }
        let length: usize = distinct.iter().map(|name| name.len()).sum();
        let fixed = ESCAPE_BYTES * length + VALUE_BYTES * (distinct.len() + 1);
        let value_max = reader.record_max.checked_sub(fixed)? / distinct.len().max(1);
        let text_max = value_max / ESCAPE_BYTES;
        let (mut ids, mut properties, mut beside) = (None, None, vec![]);
        let (mut texts, mut times) = ([const { None }; TEXTS.len()], [const { None }; TIMES.len()]);
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let index = COLUMNS.iter().position(|name| name == field.name());
            let place = |columns: &[usize]| columns.iter().position(|column| index == Some(*column));
            if let Some(place) = place(&TEXTS) {
                texts[place] = Some(TextColumn::new(array, text_max).filter(|_| !claims_json(field))?);
            } else if let Some(place) = place(&TIMES) {
                times[place] = Some(Times::new(field, array, reader.reads_local)?);
            } else {
                match index {
                    Some(column::EVENT_ID) => ids = Some(ids_of(array)?),
                    Some(column::PROPERTIES) => properties = Some(TextColumn::new(array, value_max)?),
                    Some(_) => return None,
                    None => {
                        let value = PropertyValue::new(field, array, value_max)?;
                        beside.push(Property { name: field.name(), value });
                    }
                }
            }
        }
        let named = match &reader.time {
            TimeField::Named(name) if !COLUMNS.contains(&name.as_str()) => {
                let field = schema.field_with_name(name).ok()?;
                Some(Times::new(field, batch.column_by_name(name)?, reader.reads_local)?)
            }
            TimeField::Named(_) | TimeField::Usual => None,
        };
        let names: HashSet<&str> = beside.iter().map(|one| one.name).collect();
        let scratch = String::new();
        let columns = Self { ids: ids?, texts, times, named, properties, beside, names, value_max, scratch };
        columns.has_usable_times(reader).then_some(columns)
    }

    /// Whether no time is a property because its column has another value.
    fn has_usable_times(&self, reader: &ForeignColumns) -> bool {
        let [_, server, event] = &self.times;
        match &reader.time {
            TimeField::Named(name) if name == COLUMNS[column::EVENT_TIME] => true,
            TimeField::Named(_) => event.is_none(),
            TimeField::Usual => server.is_none() || event.is_none(),
        }
    }

    /// Returns the event time of a row, if it has one.
    fn time(&self, reader: &ForeignColumns, row: usize) -> Option<i64> {
        let [client, server, event] = self.times.each_ref().map(|times| times.as_ref()?.value(row));
        match &reader.time {
            TimeField::Usual => server.or(event),
            TimeField::Named(name) if name == COLUMNS[column::EVENT_TIME] => event,
            TimeField::Named(name) if name == COLUMNS[column::SERVER_TIMESTAMP] => server,
            TimeField::Named(name) if name == COLUMNS[column::CLIENT_TIMESTAMP] => client,
            TimeField::Named(_) => self.named.as_ref()?.value(row),
        }
    }

    /// Returns the hashes of the contents; `None` if a row may need the mapping.
    fn contents(&mut self, reader: &ForeignColumns, ids: &[[u8; 16]], times: &[i64]) -> Option<Vec<u64>> {
        let objects = self.objects(ids.len())?;
        if !reader.compares {
            return Some(vec![0; ids.len()]);
        }
        let mut hashes: Vec<u64> = ids.iter().map(|id| of_cell(Cell::Uuid(*id), 0)).collect();
        let defaults = [Cell::Text(&reader.origin), Cell::Text("event"), Cell::None];
        for (texts, default) in self.texts.iter().zip(defaults) {
            for (row, hash) in hashes.iter_mut().enumerate() {
                let text = texts.as_ref().and_then(|texts| texts.value(row));
                *hash = of_cell(text.map_or(default, Cell::Text), *hash);
            }
        }
        let [client, ..] = &self.times;
        for (row, hash) in hashes.iter_mut().enumerate() {
            let client = client.as_ref().and_then(|client| client.value(row));
            *hash = of_cell(client.map_or(Cell::None, Cell::Instant), *hash);
            if !reader.omits_time {
                *hash = of_cell(Cell::Instant(times[row]), *hash);
            }
            *hash = objects[row].finish(*hash);
        }
        Some(hashes)
    }

    /// Returns the hashes of the properties; `None` if a row may need the mapping.
    fn objects(&mut self, count: usize) -> Option<Vec<ObjectHash>> {
        let Self { properties, beside, names, value_max, scratch, .. } = self;
        let mut hashes = vec![ObjectHash::default(); count];
        if let Some(properties) = properties {
            for (row, hash) in hashes.iter_mut().enumerate() {
                let Some(object) = properties.value(row) else { continue };
                let mut is_twice = false;
                members(json_object(object)?, |key, value| {
                    let key = unescape(key);
                    is_twice = !names.is_empty() && names.contains(&*key);
                    hash.add(of_name(&key), of_json(value, 0));
                    !is_twice
                });
                if is_twice {
                    return None;
                }
            }
        }
        for Property { name, value } in beside {
            let name = of_name(name);
            for (row, hash) in hashes.iter_mut().enumerate() {
                if let Some(value) = value.hash(row, scratch)? {
                    hash.add(name, value);
                }
                if scratch.len() > *value_max {
                    return None;
                }
            }
        }
        Some(hashes)
    }
}

/// Returns a JSON object without white space around it; `None` if the text is none, or too deep inside a record.
fn json_object(text: &str) -> Option<&str> {
    let text = text.trim_ascii();
    (text.starts_with('{') && value_end(text.as_bytes(), 0, 1) == Some(text.len())).then_some(text)
}

/// Returns the ids of a column, UUIDs as bytes or as texts; `None` if a row has none.
fn ids_of(array: &ArrayRef) -> Option<Vec<[u8; 16]>> {
    let Some(ids) = array.as_fixed_size_binary_opt().filter(|ids| ids.value_length() == 16) else {
        let texts = TextColumn::new(array, usize::MAX)?;
        return (0..array.len()).map(|row| parse_uuid(texts.value(row)?)).collect();
    };
    ids.iter().map(|id| id?.try_into().ok()).collect()
}

impl<'a> TextColumn<'a> {
    /// Reads a column of texts; `None` if it is another one, or if a text is longer than `length_max`.
    fn new(array: &'a ArrayRef, length_max: usize) -> Option<Self> {
        let values = match array.as_string_view_opt() {
            Some(views) => TextValues::Views(views),
            None => TextValues::Other(texts(array.as_ref())?),
        };
        let column = Self { nulls: array.logical_nulls(), values };
        let fits = |row| column.value(row).is_none_or(|text| text.len() <= length_max);
        (0..array.len()).all(fits).then_some(column)
    }

    #[inline]
    fn value(&self, row: usize) -> Option<&'a str> {
        if is_null(self.nulls.as_ref(), row) {
            return None;
        }
        Some(match &self.values {
            TextValues::Views(views) => views.value(row),
            TextValues::Other(text) => text(row),
        })
    }
}

#[inline]
fn is_null(nulls: Option<&NullBuffer>, row: usize) -> bool {
    nulls.is_some_and(|nulls| nulls.is_null(row))
}

impl Times {
    /// Converts a column of timestamps; `None` if it is another one, has a time that no row may have, or has no zone
    /// although flags would read it.
    fn new(field: &Field, array: &ArrayRef, reads_local: bool) -> Option<Self> {
        let (is_local, micros) = match (array.data_type(), Physical::of(field)) {
            (DataType::Timestamp(_, zone), _) => (zone.is_none(), Self::micros(array)),
            (_, Some(kind @ (Physical::LocalTime | Physical::Instant))) => {
                let values = array.as_fixed_size_binary_opt()?;
                // A null has any bytes.
                let micros = |row| if values.is_null(row) { Some(0) } else { Int96::new(values.value(row))?.micros() };
                (kind == Physical::LocalTime, (0..values.len()).map(micros).collect())
            }
            _ => return None,
        };
        if is_local && !reads_local {
            return None;
        }
        let times = Self { nulls: array.logical_nulls(), micros: micros? };
        (0..times.micros.len()).filter_map(|row| times.value(row)).all(is_in_calendar).then_some(times)
    }

    /// Returns the microseconds of all timestamps; `None` if one is beyond their range.
    fn micros(array: &ArrayRef) -> Option<Vec<i64>> {
        if let Some(nanos) = array.as_primitive_opt::<TimestampNanosecondType>() {
            // A cast rounds towards 1970.
            return Some(nanos.values().iter().map(|nanos| nanos.div_euclid(1_000)).collect());
        }
        let (micros, options) = (DataType::Timestamp(TimeUnit::Microsecond, None), CastOptions::default());
        let micros = cast_with_options(array, &micros, &CastOptions { safe: false, ..options }).ok()?;
        Some(micros.as_primitive::<TimestampMicrosecondType>().values().to_vec())
    }

    #[inline]
    fn value(&self, row: usize) -> Option<i64> {
        if is_null(self.nulls.as_ref(), row) { None } else { self.micros.get(row).copied() }
    }
}

impl<'a> PropertyValue<'a> {
    /// Prepares a column; `None` if the JSON text of one of its texts may be longer than `length_max`.
    fn new(field: &'a Field, array: &'a ArrayRef, length_max: usize) -> Option<Self> {
        if texts(array.as_ref()).is_some() {
            return match claims_json(field) {
                true => TextColumn::new(array, length_max).map(Self::Json),
                false => TextColumn::new(array, length_max / ESCAPE_BYTES).map(Self::Text),
            };
        }
        if let Some(numbers) = array.as_primitive_opt() {
            return Some(Self::Double(numbers));
        }
        Some(match integers(array) {
            Some(numbers) => Self::Integer(array.logical_nulls(), numbers),
            None => Self::Other(foreign_value(field, array.as_ref())),
        })
    }

    /// Returns the hash of the JSON value in a row; `Some(None)` if it is null, `None` if the value may need the
    /// mapping. The text of a value of another type is left in `scratch`.
    #[inline]
    fn hash(&mut self, row: usize, scratch: &mut String) -> Option<Option<u64>> {
        match self {
            Self::Text(texts) => Some(texts.value(row).map(|text| of_string(text, 0))),
            Self::Double(numbers) if numbers.is_null(row) => Some(None),
            Self::Double(numbers) => Some(Some(of_double(numbers.value(row), 0))),
            Self::Integer(nulls, _) if is_null(nulls.as_ref(), row) => Some(None),
            Self::Integer(_, numbers) => Some(Some(of_integer(numbers[row], 0))),
            Self::Json(texts) => texts.value(row).map_or(Some(None), |text| of_value(text.trim_ascii()).map(Some)),
            Self::Other(column) if column.is_null(row) => Some(None),
            Self::Other(column) => {
                scratch.clear();
                column.write(row, scratch);
                of_value(scratch).map(Some)
            }
        }
    }
}

/// Returns the hash of a JSON value; `None` if the text is none, or too deep inside a record.
fn of_value(text: &str) -> Option<u64> {
    (value_end(text.as_bytes(), 0, 1) == Some(text.len())).then(|| of_json(text, 0))
}

/// Returns the values of a column of integers; `None` if it is another one, or one beyond 64 bits with a sign.
fn integers(array: &ArrayRef) -> Option<Vec<i64>> {
    let kind = array.data_type();
    let has_sign = kind.is_integer() && *kind != DataType::UInt64;
    let numbers = has_sign.then(|| cast(array, &DataType::Int64).ok()).flatten()?;
    Some(numbers.as_primitive::<Int64Type>().values().to_vec())
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
