//! Builds batches of late rows.

use crate::error::Result;
use crate::kind::{Kind, event};
use arrow::array::{AsArray, BooleanArray, Int64Array, ListBuilder, RecordBatch, StringBuilder, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, TimestampMicrosecondType};
use std::sync::Arc;

/// One late row of a batch of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The row in the batch.
    pub row: usize,
    /// Indexes of the metrics it is late for.
    pub metrics: Vec<usize>,
    /// Whether some window of some metric counted it.
    pub partial: bool,
}

/// Builds the batch of late rows: the events `rows` of `events`, the metrics they are late for, and their raw records
/// if they have them.
pub fn batch(events: &RecordBatch, rows: &[Row], names: &[&str]) -> Result<RecordBatch> {
    let indexes: UInt64Array = rows.iter().map(|row| row.row as u64).collect();
    let mut columns = vec![];
    for column in &events.columns()[..event::COLUMNS.len()] {
        columns.push(take(column, &indexes, None)?);
    }
    let instants = |index: usize| columns[index].as_primitive::<TimestampMicrosecondType>().values().clone();
    let (event_times, stream_times) = (instants(event::column::EVENT_TIME), instants(event::column::STREAM_TIME));
    let lateness: Int64Array = stream_times.iter().zip(&event_times).map(|(now, then)| (now - then) / 1000).collect();
    let item = Arc::new(Field::new("item", DataType::Utf8, false));
    let mut late_for = ListBuilder::new(StringBuilder::new()).with_field(item);
    for row in rows {
        row.metrics.iter().for_each(|metric| late_for.values().append_value(names[*metric]));
        late_for.append(true);
    }
    let partial: BooleanArray = rows.iter().map(|row| Some(row.partial)).collect();
    columns.push(Arc::new(late_for.finish()));
    columns.push(Arc::new(lateness));
    columns.push(Arc::new(partial));
    let raw = events.column_by_name(event::RAW).filter(|_| event::has_raw(events.schema_ref()));
    if let Some(raw) = raw {
        columns.push(take(raw, &indexes, None)?);
    }
    Ok(RecordBatch::try_new(Kind::Late.schema_with(raw.is_some()), columns)?)
}
