//! Differences as rows: every cell that changes, old and new.

use super::cell::Change;
use crate::error::Result;
use crate::kind::selection_schema;
use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use std::sync::Arc;

/// The table of changes.
pub struct Changes;

impl Changes {
    /// Returns the columns: the key, what happens, then old and new content.
    pub fn schema() -> SchemaRef {
        let instant = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = vec![
            Field::new("metric_name", DataType::Utf8, false),
            Field::new("window_start", instant(), false),
            Field::new("window_end", instant(), false),
            Field::new("dimensions", DataType::Utf8, false),
            Field::new("change", DataType::Utf8, false),
            Field::new("old_value", DataType::Float64, true),
            Field::new("old_rows", DataType::Int64, true),
            Field::new("old_revision", DataType::Int32, true),
            Field::new("value", DataType::Float64, true),
            Field::new("rows", DataType::Int64, true),
            Field::new("revision", DataType::Int32, true),
        ];
        selection_schema(fields, "changes")
    }

    /// Makes a batch with this schema.
    pub fn batch(changes: &[Change], schema: SchemaRef) -> Result<RecordBatch> {
        let instants = |of: fn(&Change) -> i64| -> ArrayRef {
            Arc::new(
                changes
                    .iter()
                    .map(|change| Some(of(change)))
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            )
        };
        let texts =
            |of: fn(&Change) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(changes.iter().map(of))) };
        let new_revision = |change: &Change| change.new.map(|_| change.row().revision);
        let columns: Vec<ArrayRef> = vec![
            texts(|change| &change.key.metric),
            instants(|change| change.key.start),
            instants(|change| change.key.end),
            texts(|change| &change.key.dimensions),
            texts(Change::change_name),
            Arc::new(changes.iter().map(|change| change.old?.content.value).collect::<Float64Array>()),
            Arc::new(changes.iter().map(|change| Some(change.old?.content.rows)).collect::<Int64Array>()),
            Arc::new(changes.iter().map(|change| Some(change.old?.revision)).collect::<Int32Array>()),
            Arc::new(changes.iter().map(|change| change.new?.value).collect::<Float64Array>()),
            Arc::new(changes.iter().map(|change| Some(change.new?.rows)).collect::<Int64Array>()),
            Arc::new(changes.iter().map(new_revision).collect::<Int32Array>()),
        ];
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}
