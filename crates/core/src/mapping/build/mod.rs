//! Builds batches of events, row by row.
//!
//! ```text
//! Row, RecordMeta ─► Builder ─┬─ text: plain or dictionary ─┐
//!                             ├─ raw: the record, its text  ├─► Unstamped ─► rules ─► stamps ─► RecordBatch
//!                             ├─ parts: key, time, headers  │   (columns)   (drop)   (stream time of each partition)
//!                             └─ numbers, times, ids ───────┘
//! ```
//!
//! [`Builder::push`] appends one row to the columns. [`Builder::finish`] takes the columns as [`Unstamped`] rows: rules
//! may drop some of these before the others are stamped and become a batch. `text.rs` builds text columns (plain or
//! dictionary), `raw.rs` the columns of raw records and their texts, `sparse.rs` numbers that few rows have, `parts.rs`
//! the keys, timestamps and headers of records.

mod parts;
mod raw;
mod sparse;
mod text;

use super::envelope::TextRange;
use super::options::{BATCH_BYTES, BATCH_ROWS, KeepRaw, Projection, RecordParts};
use super::partitions::{NAMED, PartitionTable};
use super::record::RecordMeta;
use crate::error::Result;
use crate::kind::event::{self, COLUMNS, column};
use crate::kind::record_parts;
use crate::kind::values::blank;
use crate::kind::{Kind, extended};
use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryBuilder, Int64Array, RecordBatch, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::buffer::Buffer;
use arrow::compute::filter;
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use parts::Parts;
use raw::{Raw, RecordTexts};
use sparse::Sparse;
use std::sync::Arc;
use text::{Text, clear, taken};

/// The watched properties of a record.
#[derive(Clone, Copy)]
pub(super) struct WatchedRanges<'a> {
    /// The record's text.
    pub(super) text: &'a str,
    /// The range of each property in the text; `None` if the record does not have it.
    pub(super) ranges: &'a [Option<TextRange>],
}

/// The values of one row before it is stamped.
pub(super) struct Row<'a> {
    pub(super) event_id: [u8; 16],
    pub(super) source: &'a str,
    pub(super) event_type: &'a str,
    pub(super) user_id: Option<&'a str>,
    pub(super) properties: &'a str,
    pub(super) client_timestamp: Option<i64>,
    pub(super) server_timestamp: Option<i64>,
    pub(super) ingested_at: i64,
    pub(super) event_time: i64,
    pub(super) partition: u32,
    pub(super) offset: i64,
    pub(super) stream_time: i64,
    pub(super) schema_id: Option<i64>,
    /// Its raw record, if it has one.
    pub(super) raw: Option<&'a [u8]>,
    /// Its watched properties.
    pub(super) watched: WatchedRanges<'a>,
    /// Whether its properties certainly contain no name twice.
    pub(super) distinct: bool,
}

/// Columns under construction.
pub(super) struct Builder {
    schema: SchemaRef,
    blank: BlankColumns,
    event_id: FixedSizeBinaryBuilder,
    source: Text,
    event_type: Text,
    user_id: StringBuilder,
    properties: StringBuilder,
    client_timestamp: Sparse<TimestampMicrosecondType>,
    server_timestamp: Sparse<TimestampMicrosecondType>,
    ingested_at: Vec<i64>,
    event_time: Vec<i64>,
    partition: Vec<u32>,
    offset: Vec<i64>,
    stream_time: Vec<i64>,
    schema_id: Sparse<Int64Type>,
    raw: Option<Raw>,
    /// The texts of records that are not their raw records.
    texts: Option<RecordTexts>,
    watched: Vec<Text>,
    distinct: Option<BooleanBufferBuilder>,
    parts: Option<Parts>,
    /// Bytes of text in all columns; a value that a dictionary has already adds none.
    bytes: usize,
}

/// The columns that are blank, because the stage does not read them.
struct BlankColumns {
    /// Bits of the columns that are filled.
    filled: u32,
    /// Blank columns with the rows of a full batch: most batches share them.
    columns: [Option<ArrayRef>; COLUMNS.len()],
}

impl BlankColumns {
    fn beside(filled: u32) -> Self {
        Self { filled, columns: Default::default() }
    }

    /// Returns a blank column of `rows` rows.
    fn column(&mut self, index: usize, field: &Field, rows: usize) -> Result<ArrayRef> {
        let known = self.columns[index].take().filter(|known| known.len() >= rows);
        let column = known.map_or_else(|| blank(field, rows.max(BATCH_ROWS)), Ok)?;
        Ok(self.columns[index].insert(column).slice(0, rows))
    }
}

/// Returns the schema of events that leave the stage, with the column of raw records that `keep_raw` implies. Events
/// with copied raw records have all `parts` of their records.
pub fn schema(keep_raw: KeepRaw, parts: RecordParts) -> SchemaRef {
    let schema = ExtraColumns { raw: keep_raw, ..ExtraColumns::default() }.schema();
    match (keep_raw, parts) {
        (KeepRaw::Column | KeepRaw::FromInput, RecordParts::All) => record_parts::with_fields(&schema),
        _ => schema,
    }
}

/// The columns after an event's own, in their order.
#[derive(Clone, Copy, Default)]
pub(super) struct ExtraColumns<'a> {
    /// The raw record.
    pub(super) raw: KeepRaw,
    /// Whether the text of each record follows.
    pub(super) texts: bool,
    /// The properties that the stage reads.
    pub(super) properties: &'a [String],
    /// Whether the properties certainly contain no name twice.
    pub(super) distinct_names: bool,
    /// The parts of the record.
    pub(super) parts: RecordParts,
}

impl ExtraColumns<'_> {
    fn schema(&self) -> SchemaRef {
        let mut more: Vec<Field> = Raw::field(self.raw).into_iter().collect();
        more.extend(self.texts.then(event::text_field));
        more.extend(self.properties.iter().map(|name| event::watched_field(name)));
        more.extend(self.distinct_names.then(event::distinct_field));
        more.extend(Parts::fields(self.parts));
        extended(&Kind::Event.schema(), more)
    }
}

impl Builder {
    /// Creates an empty builder; `dictionaries` has a bit for each property that has few values; only `columns` are
    /// filled.
    pub(super) fn new(beside: ExtraColumns<'_>, dictionaries: u32, columns: Option<Projection>) -> Self {
        let text =
            |index: usize| Text::new(columns.is_some_and(|read| read.dictionaries & read.columns & (1 << index) != 0));
        Self {
            blank: BlankColumns::beside(columns.map_or(u32::MAX, |read| read.columns)),
            schema: beside.schema(),
            event_id: FixedSizeBinaryBuilder::with_capacity(BATCH_ROWS, 16),
            source: text(column::SOURCE),
            event_type: text(column::EVENT_TYPE),
            user_id: StringBuilder::new(),
            properties: StringBuilder::with_capacity(BATCH_ROWS, BATCH_BYTES),
            client_timestamp: Sparse::default(),
            server_timestamp: Sparse::default(),
            ingested_at: vec![],
            event_time: vec![],
            partition: vec![],
            offset: vec![],
            stream_time: vec![],
            schema_id: Sparse::default(),
            raw: Raw::new(beside.raw),
            texts: beside.texts.then(RecordTexts::default),
            watched: (0..beside.properties.len()).map(|index| Text::new(dictionaries & (1 << index) != 0)).collect(),
            distinct: beside.distinct_names.then(|| BooleanBufferBuilder::new(BATCH_ROWS)),
            parts: Parts::new(beside.parts),
            bytes: 0,
        }
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    #[inline(always)]
    fn fills(&self, column: usize) -> bool {
        self.blank.filled & (1 << column) != 0
    }

    #[inline]
    pub(super) fn push(&mut self, row: &Row<'_>) -> Result<()> {
        if self.fills(column::EVENT_ID) {
            self.event_id.append_value(row.event_id)?;
        }
        let mut bytes = 0;
        if self.fills(column::SOURCE) {
            bytes += self.source.push(Some(row.source));
        }
        if self.fills(column::EVENT_TYPE) {
            bytes += self.event_type.push(Some(row.event_type));
        }
        if self.fills(column::USER_ID) {
            self.user_id.append_option(row.user_id);
            bytes += row.user_id.map_or(0, str::len);
        }
        if self.fills(column::PROPERTIES) {
            self.properties.append_value(row.properties);
            bytes += row.properties.len() + 64;
        }
        let before = self.rows();
        if self.fills(column::CLIENT_TIMESTAMP) {
            self.client_timestamp.push(before, row.client_timestamp);
        }
        if self.fills(column::SERVER_TIMESTAMP) {
            self.server_timestamp.push(before, row.server_timestamp);
        }
        if self.fills(column::SCHEMA_ID) {
            self.schema_id.push(before, row.schema_id);
        }
        self.ingested_at.push(row.ingested_at);
        self.event_time.push(row.event_time);
        self.partition.push(row.partition);
        self.offset.push(row.offset);
        self.stream_time.push(row.stream_time);
        if let Some(raw) = &mut self.raw {
            bytes += raw.push(row.raw)?;
        }
        if let Some(texts) = &mut self.texts {
            bytes += texts.push(before, row.watched.text, row.raw);
        }
        for (column, range) in self.watched.iter_mut().zip(row.watched.ranges) {
            bytes += column.push(range.map(|range| range.of(row.watched.text)));
        }
        if let Some(distinct) = &mut self.distinct {
            distinct.append(row.distinct);
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Sets the read buffer that raw records are ranges of from now on; `None` if it cannot be kept, so that they are
    /// copied.
    pub(super) fn share_buffer(&mut self, block: Option<Buffer>) {
        if let Some(raw) = &mut self.raw {
            raw.share_buffer(block);
        }
    }

    /// Adds the parts of the last row's record that the batch has columns for.
    #[inline]
    pub(super) fn push_parts(&mut self, meta: &RecordMeta<'_>) -> Result<()> {
        if let Some(parts) = &mut self.parts {
            self.bytes += parts.push(meta)?;
        }
        Ok(())
    }

    /// Returns the id and the source of the last row.
    pub(super) fn last(&self) -> Option<([u8; 16], &str)> {
        let id = self.event_id.values_slice().last_chunk::<16>()?;
        Some((*id, self.source.last()?))
    }

    pub(super) fn rows(&self) -> usize {
        self.event_time.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Takes the columns so far. Stream time and partitions stay separate, because rules drop rows before the stamping.
    pub(super) fn finish(&mut self) -> Result<Unstamped> {
        self.bytes = 0;
        let rows = self.rows();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.event_id.finish()),
            self.source.finish()?,
            self.event_type.finish()?,
            Arc::new(taken(&mut self.user_id)),
            Arc::new(taken(&mut self.properties)),
            Arc::new(self.client_timestamp.finish(rows).with_timezone("UTC")),
            Arc::new(self.server_timestamp.finish(rows).with_timezone("UTC")),
            instants(emptied(&mut self.ingested_at)),
            Arc::new(Int64Array::from(emptied(&mut self.offset))),
            Arc::new(self.schema_id.finish(rows)),
        ];
        for (column, name) in columns.iter_mut().zip(UNSTAMPED_COLUMNS) {
            if column.len() != rows {
                *column = self.blank.column(name, self.schema.field(name), rows)?;
            }
        }
        let mut extra: Vec<ArrayRef> = self.raw.iter_mut().map(Raw::finish).collect();
        extra.extend(self.texts.as_mut().map(|texts| texts.finish(rows)));
        for column in &mut self.watched {
            extra.push(column.finish()?);
        }
        extra
            .extend(self.distinct.as_mut().map(|distinct| Arc::new(BooleanArray::from(distinct.finish())) as ArrayRef));
        extra.extend(self.parts.as_mut().map(Parts::finish).transpose()?.into_iter().flatten());
        Ok(Unstamped {
            schema: self.schema_of(&columns, &extra),
            columns,
            extra,
            event_times: emptied(&mut self.event_time),
            partitions: emptied(&mut self.partition),
            stream_times: emptied(&mut self.stream_time),
        })
    }

    /// Gives text columns of rows of another builder the dictionaries of this one, which has no rows.
    pub(super) fn adopt(&mut self, rows: &mut Unstamped) -> Result<()> {
        let watched = usize::from(self.raw.is_some()) + usize::from(self.texts.is_some());
        let names = [&mut self.source, &mut self.event_type].into_iter().zip(&mut rows.columns[1..]);
        for (text, column) in names.chain(self.watched.iter_mut().zip(&mut rows.extra[watched..])) {
            text.adopt(column)?;
        }
        rows.schema = self.schema_of(&rows.columns, &rows.extra);
        Ok(())
    }

    /// Drops the rows so far. For few rows this is cheaper than [`Builder::finish`], because it makes no arrays.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.bytes = 0;
        let rows = self.rows();
        self.event_id = FixedSizeBinaryBuilder::with_capacity(rows, 16);
        for column in [&mut self.source, &mut self.event_type].into_iter().chain(&mut self.watched) {
            column.clear()?;
        }
        for column in [&mut self.user_id, &mut self.properties] {
            clear(column);
        }
        for column in [&mut self.client_timestamp, &mut self.server_timestamp] {
            column.clear();
        }
        self.schema_id.clear();
        for numbers in [&mut self.ingested_at, &mut self.event_time, &mut self.offset, &mut self.stream_time] {
            numbers.clear();
        }
        self.partition.clear();
        self.raw.iter_mut().for_each(|raw| drop(raw.finish()));
        self.texts.iter_mut().for_each(RecordTexts::clear);
        self.distinct.iter_mut().for_each(|distinct| distinct.truncate(0));
        self.parts.iter_mut().try_for_each(|parts| parts.finish().map(drop))
    }

    /// Returns the schema of these columns. A text column may change from dictionary to plain between batches.
    fn schema_of(&mut self, columns: &[ArrayRef], extra: &[ArrayRef]) -> SchemaRef {
        let standing = self.schema.fields();
        let placed = UNSTAMPED_COLUMNS.into_iter().zip(columns).chain((COLUMNS.len()..).zip(extra));
        let changed: Vec<_> =
            placed.filter(|(index, column)| standing[*index].data_type() != column.data_type()).collect();
        if !changed.is_empty() {
            let mut fields: Vec<_> = standing.iter().cloned().collect();
            for (index, column) in changed {
                fields[index] = Arc::new(fields[index].as_ref().clone().with_data_type(column.data_type().clone()));
            }
            self.schema = Arc::new(Schema { fields: fields.into(), ..Schema::clone(&self.schema) });
        }
        self.schema.clone()
    }
}

/// The columns that a builder finishes, in that order.
const UNSTAMPED_COLUMNS: [usize; 10] = [
    column::EVENT_ID,
    column::SOURCE,
    column::EVENT_TYPE,
    column::USER_ID,
    column::PROPERTIES,
    column::CLIENT_TIMESTAMP,
    column::SERVER_TIMESTAMP,
    column::INGESTED_AT,
    column::OFFSET,
    column::SCHEMA_ID,
];

/// Takes the numbers and leaves an empty vector with capacity for a batch.
fn emptied<T>(numbers: &mut Vec<T>) -> Vec<T> {
    std::mem::replace(numbers, Vec::with_capacity(BATCH_ROWS))
}

/// Makes a column of instants (µs).
fn instants(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

/// Rows without their stream time.
#[derive(Clone)]
pub(super) struct Unstamped {
    schema: SchemaRef,
    /// In the order of [`UNSTAMPED_COLUMNS`].
    columns: Vec<ArrayRef>,
    /// The columns of [`ExtraColumns`], in its order.
    extra: Vec<ArrayRef>,
    event_times: Vec<i64>,
    partitions: Vec<u32>,
    stream_times: Vec<i64>,
}

impl Unstamped {
    /// Returns the rows as a batch for the rules to read; its stream times are not set yet.
    pub(super) fn preview(&self, partition_table: &mut PartitionTable) -> Result<RecordBatch> {
        self.clone().batch(partition_table)
    }

    /// Keeps the rows for which `keep` is true, with these properties.
    pub(super) fn filter(&mut self, properties: Option<ArrayRef>, keep: &BooleanArray) -> Result<()> {
        if let Some(properties) = properties {
            self.columns[column::PROPERTIES] = properties;
        }
        for column in self.columns.iter_mut().chain(&mut self.extra) {
            *column = filter(column, keep)?;
        }
        let kept = |index: usize| keep.value(index);
        retain(&mut self.event_times, kept);
        retain(&mut self.partitions, kept);
        retain(&mut self.stream_times, kept);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.event_times.is_empty()
    }

    /// Replaces the number of each partition that a record names by its element of `numbers`.
    pub(super) fn resolve(&mut self, numbers: &[u32]) {
        for partition in &mut self.partitions {
            if let Some(named) = partition.checked_sub(NAMED) {
                *partition = numbers[named as usize];
            }
        }
    }

    /// Stamps the rows and returns the batch.
    pub(super) fn stamp(mut self, partition_table: &mut PartitionTable) -> Result<RecordBatch> {
        partition_table.stamp(&self.partitions, &self.event_times, &mut self.stream_times);
        self.batch(partition_table)
    }

    fn batch(self, partition_table: &mut PartitionTable) -> Result<RecordBatch> {
        let (origin, partition) = partition_table.columns(&self.partitions)?;
        let mut columns = self.columns;
        let after = columns.split_off(column::EVENT_TIME);
        columns.push(instants(self.event_times));
        columns.extend([origin, partition, after[0].clone()]);
        columns.push(instants(self.stream_times));
        columns.push(after[1].clone());
        columns.extend(self.extra);
        Ok(RecordBatch::try_new(self.schema, columns)?)
    }
}

fn retain<T>(values: &mut Vec<T>, keep: impl Fn(usize) -> bool) {
    let mut index = 0;
    values.retain(|_| {
        index += 1;
        keep(index - 1)
    });
}
