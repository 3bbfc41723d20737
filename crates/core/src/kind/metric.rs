//! The kind "metric": the result of one window of one named aggregate for one set of dimensions.

use super::field::{id, instant, optional, text};
use super::named_id::named_id;
use crate::error::{Error, Result};
use crate::time::format_instant;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, FixedSizeBinaryArray, FixedSizeBinaryBuilder, Float64Array,
    Float64Builder, Int32Array, Int32Builder, Int64Array, Int64Builder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, SchemaRef};
use std::sync::Arc;
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

/// Derives the id of a natural key: UUIDv5 of `name NUL start NUL end NUL dimensions`, instants in decimal
/// microseconds.
pub fn metric_id(name: &str, window_start: i64, window_end: i64, dimensions: &str) -> [u8; 16] {
    let key = format!("{name}\0{window_start}\0{window_end}\0{dimensions}");
    named_id(&NAMESPACE, &[key.as_bytes()]).into_bytes()
}

/// UUIDv5 of the name `evt.metric` in the DNS namespace.
const NAMESPACE: Uuid = uuid::uuid!("09c4c0d2-7f8e-58af-96a5-42df8aab1690");

/// Whether two values are equal. NaN equals NaN, and the two zeros are equal because not every store keeps the sign.
pub fn same_value(left: Option<f64>, right: Option<f64>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => left == right || (left.is_nan() && right.is_nan()),
        (None, None) => true,
        _ => false,
    }
}

/// One result row, before it is a row of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// Start of the window (µs).
    pub start: i64,
    /// Its end (µs).
    pub end: i64,
    /// The dimensions as canonical JSON.
    pub dimensions: &'a str,
    /// The value; `None` is NULL.
    pub value: Option<f64>,
    /// Rows in the window.
    pub rows: u64,
    /// 0 for live rows, one more for each correction that changed the row.
    pub revision: i32,
    /// Number of the firing, from 0.
    pub pane: u32,
    /// Whether the row retracts an earlier one.
    pub retracted: bool,
}

/// Maximum rows in a batch.
const BATCH_ROWS: usize = 1024;

/// Builds batches of metrics.
pub struct Builder {
    metric_id: FixedSizeBinaryBuilder,
    metric_name: StringBuilder,
    window_start: TimestampMicrosecondBuilder,
    window_end: TimestampMicrosecondBuilder,
    dimensions: StringBuilder,
    value: Float64Builder,
    rows: Int64Builder,
    revision: Int32Builder,
    pane: Int32Builder,
    retracted: BooleanBuilder,
    count: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            metric_id: FixedSizeBinaryBuilder::new(16),
            metric_name: StringBuilder::new(),
            window_start: TimestampMicrosecondBuilder::new(),
            window_end: TimestampMicrosecondBuilder::new(),
            dimensions: StringBuilder::new(),
            value: Float64Builder::new(),
            rows: Int64Builder::new(),
            revision: Int32Builder::new(),
            pane: Int32Builder::new(),
            retracted: BooleanBuilder::new(),
            count: 0,
        }
    }
}

impl Builder {
    /// Adds a row.
    pub fn push(&mut self, row: &Row<'_>) -> Result<()> {
        self.metric_id.append_value(metric_id(row.name, row.start, row.end, row.dimensions))?;
        self.metric_name.append_value(row.name);
        self.window_start.append_value(row.start);
        self.window_end.append_value(row.end);
        self.dimensions.append_value(row.dimensions);
        self.value.append_option(row.value);
        self.rows.append_value(row.rows as i64);
        self.revision.append_value(row.revision);
        self.pane.append_value(row.pane as i32);
        self.retracted.append_value(row.retracted);
        self.count += 1;
        Ok(())
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the batch is full.
    pub fn is_full(&self) -> bool {
        self.count >= BATCH_ROWS
    }

    /// Returns the batch with this schema's metadata and empties the builder.
    pub fn finish(&mut self, schema: SchemaRef) -> Result<RecordBatch> {
        self.count = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.metric_id.finish()),
            Arc::new(self.metric_name.finish()),
            Arc::new(self.window_start.finish().with_timezone("UTC")),
            Arc::new(self.window_end.finish().with_timezone("UTC")),
            Arc::new(self.dimensions.finish()),
            Arc::new(self.value.finish()),
            Arc::new(self.rows.finish()),
            Arc::new(self.revision.finish()),
            Arc::new(self.pane.finish()),
            Arc::new(self.retracted.finish()),
        ];
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// The columns of a batch of metrics.
pub struct MetricColumns<'a> {
    /// The ids.
    pub ids: &'a FixedSizeBinaryArray,
    /// Names of the metrics.
    pub names: &'a StringArray,
    /// Starts of the windows (µs).
    pub starts: &'a TimestampMicrosecondArray,
    /// Ends of the windows (µs).
    pub ends: &'a TimestampMicrosecondArray,
    /// Dimensions as canonical JSON.
    pub dimensions: &'a StringArray,
    /// The values.
    pub values: &'a Float64Array,
    /// Rows in the windows.
    pub rows: &'a Int64Array,
    /// The revisions.
    pub revisions: &'a Int32Array,
    /// Numbers of the firings.
    pub panes: &'a Int32Array,
    /// Whether a row retracts an earlier one.
    pub retracted: &'a BooleanArray,
}

impl<'a> MetricColumns<'a> {
    /// Takes the columns of a batch of metrics. Errors: exit status 70 if one is missing.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self> {
        let [ids, names, starts, ends, dimensions, values, rows, revisions, panes, retracted] = COLUMNS;
        let missing = |name: &str| Error::broken(format!("a batch has no column '{name}'"));
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
        Ok(Self {
            ids: column(ids)?.as_fixed_size_binary(),
            names: column(names)?.as_string(),
            starts: column(starts)?.as_primitive(),
            ends: column(ends)?.as_primitive(),
            dimensions: column(dimensions)?.as_string(),
            values: column(values)?.as_primitive(),
            rows: column(rows)?.as_primitive(),
            revisions: column(revisions)?.as_primitive(),
            panes: column(panes)?.as_primitive(),
            retracted: column(retracted)?.as_boolean(),
        })
    }

    /// Returns the id of a row.
    pub fn id(&self, row: usize) -> Result<[u8; 16]> {
        self.ids.value(row).try_into().map_err(|_| Error::broken("an id that has not 16 bytes"))
    }

    /// Returns the value of a row; `None` is NULL.
    pub fn value(&self, row: usize) -> Option<f64> {
        self.values.is_valid(row).then(|| self.values.value(row))
    }

    /// Returns the key of a row for messages: name, start of the window, dimensions.
    pub fn key(&self, row: usize) -> String {
        let start = format_instant(self.starts.value(row));
        format!("{} {start} {}", self.names.value(row), self.dimensions.value(row))
    }
}
