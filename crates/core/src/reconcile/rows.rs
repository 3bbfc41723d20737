//! Rows of batches of events, late events and dead letters, as far as a comparison needs them.

use super::content;
use super::entry::{IN_FLIGHT, NOT_IN_B, PartitionNames, RowEntry, RowKey, RowPosition, Side, id_key};
use crate::error::{Error, Result};
use crate::kind::dead::{self, ErrorType};
use crate::kind::event::{COLUMNS, column};
use crate::kind::rows::{Cell, RowColumns};
use crate::kind::{Kind, array};
use ahash::AHashMap;
use arrow::array::{
    Array, ArrayAccessor, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TypedDictionaryArray,
};
use arrow::datatypes::Int32Type;
use xxhash_rust::xxh3::xxh3_128;

/// The options for the content, the arrival and the flags of the rows that are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowOptions {
    /// Whether the content is hashed.
    pub compares: bool,
    /// Whether the content excludes the event time, because records without one got the time of this run.
    pub omits_time: bool,
    /// A unit that arrived after this instant (µs) is in flight.
    pub settled: Option<i64>,
    /// Whether `ingested_at` precedes `server_timestamp` as the arrival: it is the time at which a broker appended the
    /// record.
    pub is_appended: bool,
    /// The start of the run (µs): a row with a later `ingested_at` was stamped by this run, so that value is not
    /// an arrival.
    pub run_start: i64,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowFacts {
    /// Its position.
    pub position: RowPosition,
    /// Its event_id; a record that cannot be read has a key that no event has.
    pub id: RowKey,
    /// Its event time (µs), or [`RowEntry::NO_TIME`].
    pub time: i64,
    /// The hash of its content; 0 if it is not requested.
    pub content: u64,
    /// Its flags as a unit, or as a record of plus.
    pub flags: u8,
}

impl RowFacts {
    /// Returns its entry, with its event_id or its position as the key.
    pub fn entry(&self, side: Side, by_id: bool) -> RowEntry {
        let Self { position, id, time, content, .. } = *self;
        let flags = match side {
            Side::A => self.flags & !NOT_IN_B,
            Side::Plus => self.flags & NOT_IN_B,
            Side::B => 0,
        };
        let (key, other) = if by_id { (id, position.key()) } else { (position.key(), id) };
        RowEntry { key, side, flags, other, time, content }
    }
}

/// Calls `each` for the rows of a batch of events or late events. Errors: exit status 65 if the batch does not hold
/// events.
pub fn events(
    batch: &RecordBatch,
    options: RowOptions,
    names: &mut PartitionNames,
    each: &mut dyn FnMut(RowFacts) -> Result<()>,
) -> Result<()> {
    let rows = RowColumns::new(batch)?;
    let mut partitions = PartitionsOfBatch::new(batch, [COLUMNS[column::ORIGIN], COLUMNS[column::PARTITION]])?;
    // A late row is in the outputs of events too.
    let left = if Kind::of(batch.schema_ref()) == Some(Kind::Late) { 0 } else { NOT_IN_B };
    for row in 0..batch.num_rows() {
        let (Cell::Uuid(id), Cell::Instant(time), Cell::Number(offset)) =
            (rows.cell(column::EVENT_ID, row), rows.cell(column::EVENT_TIME, row), rows.cell(column::OFFSET, row))
        else {
            return Err(Error::corrupt("expected events with event_id, event_time and offset"));
        };
        let arrival = match (rows.cell(column::SERVER_TIMESTAMP, row), rows.cell(column::INGESTED_AT, row)) {
            (_, Cell::Instant(appended)) if options.is_appended && appended < options.run_start => appended,
            (Cell::Instant(stored), _) => stored,
            (_, Cell::Instant(stored)) if stored < options.run_start => stored,
            _ => time,
        };
        each(RowFacts {
            position: RowPosition { partition: partitions.index(row, names), offset },
            id: id_key(id),
            time,
            content: if options.compares { content::of_event(&rows, row, options.omits_time) } else { 0 },
            flags: flags(Some(arrival), options) | left,
        })?;
    }
    Ok(())
}

/// Calls `each` for the rows of a batch of dead letters: records that could not be read. Their time is that of their
/// arrival. A letter of a row that a metric or an output rejected is not [`NOT_IN_B`]: other outputs have its event.
/// Errors: exit status 65 if the batch does not hold dead letters.
pub fn letters(
    batch: &RecordBatch,
    options: RowOptions,
    names: &mut PartitionNames,
    each: &mut dyn FnMut(RowFacts) -> Result<()>,
) -> Result<()> {
    let [origin, partition, offset, arrived] =
        [dead::column::SOURCE_TOPIC, dead::column::PARTITION, dead::column::OFFSET, dead::column::ARRIVED_AT]
            .map(|column| dead::COLUMNS[column]);
    let missing = || Error::corrupt("expected dead letters with their positions");
    let mut partitions = PartitionsOfBatch::new(batch, [origin, partition])?;
    let offsets = array::<Int64Array>(batch, offset).ok_or_else(missing)?;
    let arrived = array::<TimestampMicrosecondArray>(batch, arrived);
    let error_types = array::<DictionaryArray<Int32Type>>(batch, dead::COLUMNS[dead::column::ERROR_TYPE]);
    let error_types = error_types.and_then(|column| column.downcast_dict::<StringArray>());
    let is_left = |row: usize| {
        let error_type = error_types.filter(|column| column.is_valid(row)).map(|column| column.value(row));
        let of_row = [ErrorType::AggregationError.name(), ErrorType::SinkError.name()];
        error_type.is_none_or(|error_type| !of_row.contains(&error_type))
    };
    // The event of a partial letter has another outcome, and explains no missing record.
    let partial = dead::is_partial(batch);
    for row in (0..batch.num_rows()).filter(|row| !partial.value(*row)) {
        let arrival = arrived.filter(|column| column.is_valid(row)).map(|column| column.value(row));
        let position = RowPosition { partition: partitions.index(row, names), offset: offsets.value(row) };
        each(RowFacts {
            position,
            id: id_of_unreadable(position),
            time: arrival.unwrap_or(RowEntry::NO_TIME),
            content: 0,
            flags: flags(arrival, options) | if is_left(row) { NOT_IN_B } else { 0 },
        })?;
    }
    Ok(())
}

/// Returns the flags of a unit that arrived at an instant.
pub(super) fn flags(arrival: Option<i64>, options: RowOptions) -> u8 {
    let is_new = options.settled.zip(arrival).is_some_and(|(settled, arrival)| arrival > settled);
    if is_new { IN_FLIGHT } else { 0 }
}

/// Returns the key of a record without an event_id, derived from its position.
pub fn id_of_unreadable(position: RowPosition) -> RowKey {
    let [partition, offset] = position.key();
    let hash = xxh3_128(&[b"unreadable".as_slice(), &partition.to_le_bytes(), &offset.to_le_bytes()].concat());
    [(hash >> 64) as u64, hash as u64]
}

/// The partitions of the rows of a batch, looked up once for each pair of dictionary codes.
struct PartitionsOfBatch<'a> {
    origins: TypedDictionaryArray<'a, Int32Type, StringArray>,
    names: TypedDictionaryArray<'a, Int32Type, StringArray>,
    known: AHashMap<[i32; 2], u32>,
    last: Option<([i32; 2], u32)>,
}

impl<'a> PartitionsOfBatch<'a> {
    fn new(batch: &'a RecordBatch, columns: [&str; 2]) -> Result<Self> {
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            let whole = column.filter(|column| column.null_count() == 0);
            let found =
                whole.and_then(|column| column.as_dictionary_opt::<Int32Type>()?.downcast_dict::<StringArray>());
            found.ok_or_else(|| {
                let found = match (column, whole) {
                    (None, _) => "no column".to_owned(),
                    (Some(_), None) => "NULL".to_owned(),
                    (_, Some(column)) => column.data_type().to_string(),
                };
                Error::corrupt(format!("column '{name}': expected a dictionary of texts without NULL, found {found}"))
            })
        };
        let [origins, names] = columns;
        Ok(Self { origins: column(origins)?, names: column(names)?, known: AHashMap::new(), last: None })
    }

    /// Returns the index of a row's partition in `names`.
    fn index(&mut self, row: usize, names: &mut PartitionNames) -> u32 {
        let codes = [self.origins.keys().value(row), self.names.keys().value(row)];
        if let Some((_, index)) = self.last.filter(|(last, _)| *last == codes) {
            return index;
        }
        let text = |values: &StringArray, code: i32| values.value(code as usize).to_owned();
        let (origins, partitions) = (self.origins.values(), self.names.values());
        let index = *self
            .known
            .entry(codes)
            .or_insert_with(|| names.index(&text(origins, codes[0]), &text(partitions, codes[1])));
        self.last = Some((codes, index));
        index
    }
}
