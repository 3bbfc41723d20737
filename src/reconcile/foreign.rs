//! Rows of files of other programs, read from their columns.
//!
//! The mapping ([`crate::mapping`]) makes JSON text of each row, validates it, and copies its fields into the columns of events.
//! A comparison needs only the id, the times and the hash of the content, and these follow from the columns directly, in half the
//! time. A batch whose rows the mapping might treat in another way (a text that is no UUID, a time outside of the calendar, a
//! column that another flag reads) is refused as a whole: then the caller reads the file with the mapping.

use super::content::{ObjectHash, of_cells, of_integer, of_json, of_string};
use super::entry::{LEFT, PartitionNames, RowPosition, id_key};
use super::rows::{RowFacts, RowOptions, flags};
use crate::error::Result;
use crate::format::cell::{Column, texts};
use crate::format::jsonl::foreign_value;
use crate::format::row::kind_of;
use crate::json::scan::value_end;
use crate::json::text::unescape;
use crate::json::walk::members;
use crate::kind::event::{COLUMNS, column};
use crate::kind::rows::Cell;
use crate::kind::{Kind, claims_json};
use crate::mapping::{Options, TimeFrom, parse_uuid};
use crate::time::is_in_calendar;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Field, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
};
use std::collections::HashSet;

/// The columns with texts, in the order of [`BatchColumns::texts`].
const TEXTS: [usize; 3] = [column::SOURCE, column::EVENT_TYPE, column::USER_ID];
/// The columns with times, in the order of [`BatchColumns::times`].
const TIMES: [usize; 3] = [column::CLIENT_TIMESTAMP, column::SERVER_TIMESTAMP, column::EVENT_TIME];
/// More bytes than a value needs in JSON text beside those of its text: quotes, a number, an instant.
const VALUE_BYTES: usize = 64;
/// The most bytes of JSON text that a byte of a text takes (`\u0000`).
const ESCAPE_BYTES: usize = 6;

/// Reads the batches of one file.
pub struct ForeignColumns {
    time: TimeField,
    /// Whether timestamps without a zone are UTC.
    reads_local: bool,
    record_max: usize,
    compares: bool,
    /// Whether the event time is no content.
    omits_time: bool,
    origin: String,
    /// The number of rows read.
    rows: i64,
}

/// Where event times come from.
enum TimeField {
    /// `server_timestamp`, else `event_time`.
    Usual,
    /// This column.
    Named(String),
}

/// Rows of a batch.
pub struct ForeignRows {
    rows: Vec<ForeignRow>,
    origin: String,
    /// The offset of the first one.
    first: i64,
}

struct ForeignRow {
    id: [u8; 16],
    time: i64,
    arrival: i64,
    content: u64,
}

impl ForeignColumns {
    /// Prepares the reading of a file whose records have an origin. `None` if flags need the mapping.
    pub fn new(options: &Options, rows: RowOptions, record_max: usize, origin: String) -> Option<Self> {
        let time = match &options.time {
            TimeFrom::Default | TimeFrom::Untimed => TimeField::Usual,
            TimeFrom::Field(name) if is_simple(name) => TimeField::Named(name.clone()),
            TimeFrom::Field(_) | TimeFrom::Arrival | TimeFrom::Optional => return None,
        };
        let when = &options.when;
        let reads_local = when.unit.is_none() && when.format.is_none() && when.zone.is_none();
        let RowOptions { compares, omits_time, .. } = rows;
        options.maps_by_name().then_some(Self { time, reads_local, record_max, compares, omits_time, origin, rows: 0 })
    }

    /// Reads the next batch; `None` if a row may need the mapping.
    pub fn read(&mut self, batch: &RecordBatch) -> Option<ForeignRows> {
        let mut columns = BatchColumns::new(self, batch)?;
        let mut rows = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            rows.push(columns.row(self, row)?);
        }
        let first = self.rows + 1;
        self.rows += batch.num_rows() as i64;
        Some(ForeignRows { rows, origin: self.origin.clone(), first })
    }
}

impl ForeignRows {
    /// Returns their number.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Calls `each` for all rows.
    pub fn each(
        &self,
        options: RowOptions,
        names: &mut PartitionNames,
        each: &mut dyn FnMut(RowFacts) -> Result<()>,
    ) -> Result<()> {
        let partition = names.index(&self.origin, "0");
        for (row, offset) in self.rows.iter().zip(self.first..) {
            let ForeignRow { id, time, arrival, content } = *row;
            let (position, id) = (RowPosition { partition, offset }, id_key(id));
            each(RowFacts { position, id, time, content, flags: flags(Some(arrival), options) | LEFT })?;
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
    ids: Ids<'a>,
    texts: [Option<Texts<'a>>; TEXTS.len()],
    times: [Option<Times>; TIMES.len()],
    /// The times of `--time` if they are no column of events.
    named: Option<Times>,
    properties: Option<Texts<'a>>,
    beside: Vec<Property<'a>>,
    /// The names of `beside`.
    names: HashSet<&'a str>,
    /// A bound on the JSON text of the names of a row, and of its values that are no text.
    fixed: usize,
    scratch: String,
}

/// The column of the ids: UUIDs as bytes or as texts.
enum Ids<'a> {
    Bytes(&'a dyn Array),
    Texts(Texts<'a>),
}

/// A column of texts.
struct Texts<'a> {
    nulls: Option<NullBuffer>,
    text: Box<dyn Fn(usize) -> &'a str + 'a>,
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
    Text(Texts<'a>),
    /// JSON values as text.
    Json(Texts<'a>),
    Integer(Option<NullBuffer>, Vec<i64>),
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
        let (mut ids, mut properties, mut beside) = (None, None, vec![]);
        let (mut texts, mut times) = ([const { None }; TEXTS.len()], [const { None }; TIMES.len()]);
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let index = COLUMNS.iter().position(|name| name == field.name());
            let place = |columns: &[usize]| columns.iter().position(|column| index == Some(*column));
            if let Some(place) = place(&TEXTS) {
                texts[place] = Some(Texts::new(array).filter(|_| !claims_json(field))?);
            } else if let Some(place) = place(&TIMES) {
                times[place] = Some(Times::new(array, reader.reads_local)?);
            } else {
                match index {
                    Some(column::EVENT_ID) => ids = Some(Ids::new(array)?),
                    Some(column::PROPERTIES) => properties = Some(Texts::new(array)?),
                    Some(_) => return None,
                    None => beside.push(Property { name: field.name(), value: PropertyValue::new(field, array) }),
                }
            }
        }
        let named = match &reader.time {
            TimeField::Named(name) if !COLUMNS.contains(&name.as_str()) => {
                Some(Times::new(batch.column_by_name(name)?, reader.reads_local)?)
            }
            TimeField::Named(_) | TimeField::Usual => None,
        };
        let names: HashSet<&str> = beside.iter().map(|one| one.name).collect();
        let length: usize = distinct.iter().map(|name| name.len()).sum();
        let fixed = ESCAPE_BYTES * length + VALUE_BYTES * (distinct.len() + 1);
        let columns =
            Self { ids: ids?, texts, times, named, properties, beside, names, fixed, scratch: String::new() };
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

    /// Reads a row; `None` if it may need the mapping.
    fn row(&mut self, reader: &ForeignColumns, row: usize) -> Option<ForeignRow> {
        let id = self.ids.value(row)?;
        let time = self.time(reader, row)?;
        let [client, server, _] = self.times.each_ref().map(|times| times.as_ref()?.value(row));
        let [source, event_type, user] = self.texts.each_ref().map(|texts| texts.as_ref()?.value(row));
        let object = match self.properties.as_ref().and_then(|texts| texts.value(row)) {
            Some(object) => Some(json_object(object)?),
            None => None,
        };
        let given = [source, event_type, user, object].iter().flatten().map(|text| text.len()).sum::<usize>();
        let cells = [
            Cell::Uuid(id),
            Cell::Text(source.unwrap_or(&reader.origin)),
            Cell::Text(event_type.unwrap_or("event")),
            user.map_or(Cell::None, Cell::Text),
            client.map_or(Cell::None, Cell::Instant),
            Cell::Instant(time),
        ];
        let (object, length) = self.content(object, row)?;
        if self.fixed + ESCAPE_BYTES * (given + length) > reader.record_max {
            return None;
        }
        let count = cells.len() - usize::from(reader.omits_time);
        let content = if reader.compares { object.finish(of_cells(cells.into_iter().take(count))) } else { 0 };
        Some(ForeignRow { id, time, arrival: server.unwrap_or(time), content })
    }

    /// Returns the hash of the properties and the length of those beside `object`; `None` if a name is in both.
    fn content(&mut self, object: Option<&str>, row: usize) -> Option<(ObjectHash, usize)> {
        let Self { beside, names, scratch, .. } = self;
        let (mut hash, mut length, mut is_twice) = (ObjectHash::default(), 0, false);
        if let Some(object) = object {
            members(object, |key, value| {
                let key = unescape(key);
                is_twice = is_twice || !names.is_empty() && names.contains(&*key);
                hash.add(&key, of_json(value, 0));
                !is_twice
            });
        }
        for Property { name, value } in beside {
            if let Some((value, bytes)) = value.hash(row, scratch)? {
                hash.add(name, value);
                length += bytes;
            }
        }
        (!is_twice).then_some((hash, length))
    }
}

/// Returns a JSON object without white space around it; `None` if the text is none, or too deep inside a record.
fn json_object(text: &str) -> Option<&str> {
    let text = text.trim_ascii();
    (text.starts_with('{') && value_end(text.as_bytes(), 0, 1) == Some(text.len())).then_some(text)
}

impl<'a> Ids<'a> {
    fn new(array: &'a ArrayRef) -> Option<Self> {
        match array.data_type() {
            DataType::FixedSizeBinary(16) => Some(Self::Bytes(array.as_ref())),
            _ => Texts::new(array).map(Self::Texts),
        }
    }

    #[inline]
    fn value(&self, row: usize) -> Option<[u8; 16]> {
        match self {
            Self::Bytes(array) if array.is_null(row) => None,
            Self::Bytes(array) => array.as_fixed_size_binary().value(row).try_into().ok(),
            Self::Texts(texts) => texts.value(row).and_then(parse_uuid),
        }
    }
}

impl<'a> Texts<'a> {
    fn new(array: &'a ArrayRef) -> Option<Self> {
        Some(Self { nulls: array.logical_nulls(), text: texts(array.as_ref())? })
    }

    #[inline]
    fn value(&self, row: usize) -> Option<&'a str> {
        if is_null(self.nulls.as_ref(), row) { None } else { Some((self.text)(row)) }
    }
}

#[inline]
fn is_null(nulls: Option<&NullBuffer>, row: usize) -> bool {
    nulls.is_some_and(|nulls| nulls.is_null(row))
}

impl Times {
    /// Converts a column of timestamps; `None` if it is another one, has a time that no row may have, or has no zone although
    /// flags would read it.
    fn new(array: &ArrayRef, reads_local: bool) -> Option<Self> {
        let DataType::Timestamp(unit, zone) = array.data_type() else { return None };
        if zone.is_none() && !reads_local {
            return None;
        }
        let micros: Option<Vec<i64>> = match unit {
            TimeUnit::Second => {
                let seconds = array.as_primitive::<TimestampSecondType>().values();
                seconds.iter().map(|seconds| seconds.checked_mul(1_000_000)).collect()
            }
            TimeUnit::Millisecond => {
                let millis = array.as_primitive::<TimestampMillisecondType>().values();
                millis.iter().map(|millis| millis.checked_mul(1_000)).collect()
            }
            TimeUnit::Microsecond => Some(array.as_primitive::<TimestampMicrosecondType>().values().to_vec()),
            TimeUnit::Nanosecond => {
                let nanos = array.as_primitive::<TimestampNanosecondType>().values();
                Some(nanos.iter().map(|nanos| nanos.div_euclid(1_000)).collect())
            }
        };
        let times = Self { nulls: array.logical_nulls(), micros: micros? };
        (0..times.micros.len()).filter_map(|row| times.value(row)).all(is_in_calendar).then_some(times)
    }

    #[inline]
    fn value(&self, row: usize) -> Option<i64> {
        if is_null(self.nulls.as_ref(), row) { None } else { self.micros.get(row).copied() }
    }
}

impl<'a> PropertyValue<'a> {
    fn new(field: &'a Field, array: &'a ArrayRef) -> Self {
        if let Some(texts) = Texts::new(array) {
            return if claims_json(field) { Self::Json(texts) } else { Self::Text(texts) };
        }
        match integers(array) {
            Some(numbers) => Self::Integer(array.logical_nulls(), numbers),
            None => Self::Other(foreign_value(field, array.as_ref())),
        }
    }

    /// Returns the hash of the JSON value in a row, and the length of its text if it has one; `Some(None)` if it is null, `None`
    /// if the value may need the mapping.
    #[inline]
    fn hash(&mut self, row: usize, scratch: &mut String) -> Option<Option<(u64, usize)>> {
        match self {
            Self::Text(texts) => Some(texts.value(row).map(|text| (of_string(text, 0), text.len()))),
            Self::Integer(nulls, _) if is_null(nulls.as_ref(), row) => Some(None),
            Self::Integer(_, numbers) => Some(Some((of_integer(numbers[row], 0), 0))),
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

/// Returns the hash of a JSON value and its length; `None` if the text is none, or too deep inside a record.
fn of_value(text: &str) -> Option<(u64, usize)> {
    (value_end(text.as_bytes(), 0, 1) == Some(text.len())).then(|| (of_json(text, 0), text.len()))
}

/// Returns the values of a column of integers; `None` if it is another one, or one beyond 64 bits with a sign.
fn integers(array: &ArrayRef) -> Option<Vec<i64>> {
    macro_rules! first_of {
        ($($kind:ty)*) => {
            $(if let Some(values) = array.as_primitive_opt::<$kind>() {
                return Some(values.values().iter().map(|value| i64::from(*value)).collect());
            })*
        };
    }
    first_of!(Int8Type Int16Type Int32Type Int64Type UInt8Type UInt16Type UInt32Type);
    None
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
