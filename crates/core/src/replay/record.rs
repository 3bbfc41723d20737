//! The columns of a replayed record: those that an outsider may send. The pipeline that reads it adds the others.

use crate::error::Result;
use crate::kind::event::column;
use crate::kind::selection_schema;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{is_null, nullif};

/// The columns of a replayed record, in order.
const COLUMNS: [usize; 8] = [
    column::EVENT_ID,
    column::SOURCE,
    column::EVENT_TYPE,
    column::USER_ID,
    column::PROPERTIES,
    column::CLIENT_TIMESTAMP,
    column::SERVER_TIMESTAMP,
    column::EVENT_TIME,
];

/// Returns events with the columns of replayed records. `event_time` is NULL unless it is the only time of its event: a
/// reader takes the event time from `server_timestamp`.
pub fn replayed(events: &RecordBatch) -> Result<RecordBatch> {
    let batch = events.project(&COLUMNS)?;
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    let has_time = arrow::compute::not(&is_null(events.column(column::SERVER_TIMESTAMP))?)?;
    let at = columns.len() - 1;
    columns[at] = nullif(&columns[at], &has_time)?;
    let fields = batch.schema_ref().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Ok(RecordBatch::try_new(selection_schema(fields.collect(), "event"), columns)?)
}
