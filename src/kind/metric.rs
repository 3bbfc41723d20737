//! Metric: the result of one window of one named aggregate for one set of dimensions.

use super::{id, instant, optional, text};
use arrow::datatypes::{DataType, Field};
use uuid::Uuid;

/// Columns of a metric, in order.
pub const COLUMNS: [&str; 10] = [
    "metric_id",
    "metric_name",
    "window_start",
    "window_end",
    "dimensions",
    "value",
    "rows",
    "revision",
    "pane",
    "retracted",
];

/// Index of each column in [`COLUMNS`].
#[allow(missing_docs, reason = "each is the index of the column of its name")]
pub mod column {
    pub const METRIC_ID: usize = 0;
    pub const METRIC_NAME: usize = 1;
    pub const WINDOW_START: usize = 2;
    pub const WINDOW_END: usize = 3;
    pub const DIMENSIONS: usize = 4;
    pub const VALUE: usize = 5;
    pub const ROWS: usize = 6;
    pub const REVISION: usize = 7;
    pub const PANE: usize = 8;
    pub const RETRACTED: usize = 9;
}

pub(super) fn fields() -> Vec<Field> {
    vec![
        id("metric_id"),
        text("metric_name"),
        instant("window_start"),
        instant("window_end"),
        text("dimensions"),
        optional(Field::new("value", DataType::Float64, true)),
        Field::new("rows", DataType::Int64, false),
        Field::new("revision", DataType::Int32, false),
        Field::new("pane", DataType::Int32, false),
        Field::new("retracted", DataType::Boolean, false),
    ]
}

/// The id of a natural key: UUIDv5 over `name NUL start NUL end NUL dimensions`, instants in decimal microseconds.
pub fn metric_id(name: &str, window_start: i64, window_end: i64, dimensions: &str) -> [u8; 16] {
    let key = format!("{name}\0{window_start}\0{window_end}\0{dimensions}");
    *Uuid::new_v5(&NAMESPACE, key.as_bytes()).as_bytes()
}

/// UUIDv5 of the name `evt.metric` in the DNS namespace.
const NAMESPACE: Uuid = uuid::uuid!("09c4c0d2-7f8e-58af-96a5-42df8aab1690");
