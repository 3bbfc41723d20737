//! The kind "event": one fact with an id and an event time.

use super::field::{array, dictionary_type, id, instant, json, optional, text};
use crate::time::is_in_calendar;
use arrow::array::{Array, AsArray, BinaryViewArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};

/// Columns of an event, in order. A field of a foreign record with one of these names is that column; every other field
/// is a property.
pub const COLUMNS: [&str; 14] = [
    "event_id",
    "source",
    "event_type",
    "user_id",
    "properties",
    "client_timestamp",
    "server_timestamp",
    "ingested_at",
    "event_time",
    "origin",
    "partition",
    "offset",
    "stream_time",
    "schema_id",
];

/// Index of each column in [`COLUMNS`].
#[allow(missing_docs, reason = "each is the index of the column of its name")]
pub mod column {
    pub const EVENT_ID: usize = 0;
    pub const SOURCE: usize = 1;
    pub const EVENT_TYPE: usize = 2;
    pub const USER_ID: usize = 3;
    pub const PROPERTIES: usize = 4;
    pub const CLIENT_TIMESTAMP: usize = 5;
    pub const SERVER_TIMESTAMP: usize = 6;
    pub const INGESTED_AT: usize = 7;
    pub const EVENT_TIME: usize = 8;
    pub const ORIGIN: usize = 9;
    pub const PARTITION: usize = 10;
    pub const OFFSET: usize = 11;
    pub const STREAM_TIME: usize = 12;
    pub const SCHEMA_ID: usize = 13;
}

/// Columns that evt fills, not the producer.
pub const PROVENANCE: [usize; 6] =
    [column::ORIGIN, column::PARTITION, column::OFFSET, column::STREAM_TIME, column::INGESTED_AT, column::SCHEMA_ID];

/// Name of the optional fifteenth column: the raw record, if evt-ingest has `--keep-raw`.
pub const RAW: &str = "raw";
/// The member of JSON text with the raw record in base64, if it is not UTF-8.
pub const RAW_BASE64: &str = "raw_base64";

/// The required stamps: a record without one of these columns has no stamps.
pub const STAMPS: [&str; 4] = ["origin", "partition", "offset", "stream_time"];

/// The columns that a record must have to carry stamps, as bits.
pub const STAMP_BITS: u32 =
    1 << column::ORIGIN | 1 << column::PARTITION | 1 << column::OFFSET | 1 << column::STREAM_TIME;
/// All provenance columns, as bits: the required stamps and the optional ones.
pub const PROVENANCE_BITS: u32 = STAMP_BITS | 1 << column::INGESTED_AT | 1 << column::SCHEMA_ID;
/// The columns that evt fills itself, as bits: a field of that name becomes a property.
pub const ADDED_BITS: u32 = PROVENANCE_BITS | 1 << column::EVENT_TIME | 1 << column::SERVER_TIMESTAMP;

pub(super) fn fields() -> Vec<Field> {
    vec![
        id("event_id"),
        text("source"),
        text("event_type"),
        optional(text("user_id")),
        json("properties").with_nullable(false),
        optional(instant("client_timestamp")),
        optional(instant("server_timestamp")),
        instant("ingested_at"),
        instant("event_time"),
        Field::new("origin", dictionary_type(), false),
        Field::new("partition", dictionary_type(), false),
        Field::new("offset", DataType::Int64, false),
        instant("stream_time"),
        Field::new("schema_id", DataType::Int64, true),
    ]
}

/// Whether every instant of a batch is in the calendar. A stream or file that declares one of evt's kinds may contain
/// any number. Windows are computed from an instant, and its text must be readable again.
pub fn has_instants_in_calendar(batch: &RecordBatch) -> bool {
    batch.columns().iter().filter_map(|column| column.as_primitive_opt::<TimestampMicrosecondType>()).all(|instants| {
        match instants.null_count() {
            // Without a branch per value it takes half the instructions.
            0 => instants.values().iter().fold(true, |all, instant| all & is_in_calendar(*instant)),
            nulls => nulls == instants.len() || instants.iter().flatten().all(is_in_calendar),
        }
    })
}

/// Returns the column of raw records.
pub fn raw_field() -> Field {
    Field::new(RAW, DataType::Binary, true)
}

/// Returns the column of raw records inside a stage: views into the read buffers.
pub fn shared_raw_field() -> Field {
    Field::new(RAW, DataType::BinaryView, true)
}

/// Returns the raw record of a row, if it is a view.
pub fn shared_raw(batch: &RecordBatch, row: usize) -> Option<&[u8]> {
    let column = array::<BinaryViewArray>(batch, RAW)?;
    column.is_valid(row).then(|| column.value(row))
}

/// Name of [`text_field`].
pub const TEXT: &str = "text";

/// Returns the column beside [`shared_raw_field`] with the JSON text that a format has made of a record; NULL if the
/// raw record is this text. It never leaves the stage.
pub fn text_field() -> Field {
    Field::new(TEXT, DataType::Utf8, true)
}

/// Returns the values (µs) of a column of instants of events.
pub fn instants(batch: &RecordBatch, column: usize) -> &[i64] {
    batch.column(column).as_primitive::<TimestampMicrosecondType>().values()
}

/// The same, to keep them.
pub fn instant_buffer(batch: &RecordBatch, column: usize) -> ScalarBuffer<i64> {
    batch.column(column).as_primitive::<TimestampMicrosecondType>().values().clone()
}

/// Whether rows of a schema have their raw records.
pub fn has_raw(schema: &Schema) -> bool {
    schema.field_with_name(RAW).is_ok_and(|field| *field.data_type() == DataType::Binary)
}

/// Returns a column beside the event's own with the JSON text of one property. A stage that reads raw records fills it
/// during the mapping; it never leaves the stage.
pub fn watched_field(name: &str) -> Field {
    Field::new(watched_name(name), DataType::Utf8, true)
}

/// Name of [`distinct_field`].
pub const DISTINCT: &str = "distinct";

/// Returns the column that states whether the properties certainly contain no name twice, so that a search for names
/// may stop at the last of them. It never leaves the stage.
pub fn distinct_field() -> Field {
    Field::new(DISTINCT, DataType::Boolean, false)
}

/// Returns the name of the [`watched_field`] of a property.
pub fn watched_name(name: &str) -> String {
    format!("properties.{name}")
}
