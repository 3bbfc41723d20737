//! Event: one fact with an id and an event time.

use super::field::{dictionary_type, id, instant, json, optional, text};
use crate::time::is_in_calendar;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};

/// Columns of an event, in order. A field of a foreign record with one of these names is that column; every other
/// field is a property.
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

/// Name of the optional fifteenth column: the raw record, where ingest was told `--keep-raw`.
pub const RAW: &str = "raw";
/// The member of JSON text that holds its bytes where they are not UTF-8.
pub const RAW_BASE64: &str = "raw_base64";

/// The names of the stamps that a record must have to carry any.
pub const STAMPS: [&str; 4] = ["origin", "partition", "offset", "stream_time"];

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

/// Whether every instant of a batch lies in the calendar: a stream or a file that says it is ours may hold any number there,
/// windows are reckoned from it, and text that is written of it must be read again.
pub fn has_instants_in_calendar(batch: &RecordBatch) -> bool {
    batch.columns().iter().filter_map(|column| column.as_primitive_opt::<TimestampMicrosecondType>()).all(|instants| {
        match instants.null_count() {
            0 => instants.values().iter().all(|instant| is_in_calendar(*instant)),
            _ => instants.iter().flatten().all(is_in_calendar),
        }
    })
}

/// The column that holds the raw record.
pub fn raw_field() -> Field {
    Field::new(RAW, DataType::Binary, true)
}

/// The same where it never leaves the stage: records stand in what was read.
pub fn lent_raw_field() -> Field {
    Field::new(RAW, DataType::BinaryView, true)
}

/// Whether rows of a schema bring their raw records.
pub fn has_raw(schema: &Schema) -> bool {
    schema.field_with_name(RAW).is_ok_and(|field| *field.data_type() == DataType::Binary)
}

/// A column beside the event's own that holds the JSON text of one property, read on the way where a stage that reads
/// raw records needs it; it never leaves the stage.
pub fn watched_field(name: &str) -> Field {
    Field::new(watched_name(name), DataType::Utf8, true)
}

/// Name of [`distinct_field`].
pub const DISTINCT: &str = "distinct";

/// Another such column: whether the properties surely name nothing twice, so that who looks for some names may stop at the
/// last of them.
pub fn distinct_field() -> Field {
    Field::new(DISTINCT, DataType::Boolean, false)
}

/// The name of that column.
pub fn watched_name(name: &str) -> String {
    format!("properties.{name}")
}
