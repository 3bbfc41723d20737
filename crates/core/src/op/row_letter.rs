//! The dead letter of a row.

use crate::error::Result;
use crate::kind::dead::{Fault, Letter};
use crate::kind::event::RAW;
use crate::kind::headers::Headers;
use crate::kind::record_parts::RowParts;
use crate::kind::{Kind, array};
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};

/// Calls `take` with the dead letter of a row of `batch`. The payload is the raw record if the batch has it, else the
/// row as JSON. Key and headers are those of the record if the batch has them; `headers` replaces the latter. The time
/// of arrival is the timestamp of the record, else `server_timestamp`. The second argument of `take` says whether the
/// row has an offset: a metric has none.
pub fn with_letter<T>(
    batch: &RecordBatch,
    row: usize,
    fault: &Fault,
    headers: Option<&dyn Headers>,
    take: impl FnOnce(&Letter<'_>, bool) -> Result<T>,
) -> Result<T> {
    let parts = RowParts::new(batch, row);
    let own = parts.headers();
    let headers = headers.or(own.as_ref().map(|own| own as &dyn Headers));
    let written;
    let payload = match raw_of(batch, row) {
        Some(raw) => raw,
        None => {
            written = row_text(batch, row)?;
            written.as_bytes()
        }
    };
    let text = |name: &str| {
        let values = batch.column_by_name(name)?.as_any_dictionary_opt()?;
        let key = values.normalized_keys()[row];
        Some(values.values().as_string_opt::<i32>()?.value(key).to_owned())
    };
    // A dead letter's origin is called source_topic; a metric has no origin and is identified by its name.
    let name = || Some(array::<StringArray>(batch, "metric_name")?.value(row).to_owned());
    let origin = text("origin").or_else(|| text("source_topic")).or_else(name).unwrap_or_default();
    let partition = text("partition").unwrap_or_else(|| "0".to_owned());
    let offsets = array::<Int64Array>(batch, "offset");
    let offset = offsets.map_or(0, |offsets| offsets.value(row));
    let arrived = array::<TimestampMicrosecondArray>(batch, "server_timestamp");
    let arrived = arrived.filter(|arrived| arrived.is_valid(row)).map(|arrived| arrived.value(row));
    let (key, arrived_at) = (parts.key(), parts.timestamp().or(arrived));
    let (origin, partition) = (&origin, &partition);
    let letter = Letter { payload, key, headers, arrived_at, fault, origin, partition, offset };
    take(&letter, offsets.is_some())
}

/// Returns the raw record of a row, if the batch has it.
fn raw_of(batch: &RecordBatch, row: usize) -> Option<&[u8]> {
    let column = batch.column_by_name(RAW).filter(|column| column.is_valid(row))?;
    let shared = || column.as_binary_view_opt().map(|shared| shared.value(row));
    column.as_binary_opt::<i32>().map(|copied| copied.value(row)).or_else(shared)
}

/// Returns the row as one line of JSON, properties byte for byte.
fn row_text(batch: &RecordBatch, row: usize) -> Result<String> {
    let mut text = String::new();
    // Without the columns that a stage added for itself.
    let columns = Kind::of(batch.schema_ref()).map_or(batch.num_columns(), |kind| kind.schema().fields().len());
    let batch = batch.project(&(0..columns.min(batch.num_columns())).collect::<Vec<_>>())?;
    crate::format::jsonl::Objects::try_new(&batch)?.write(row, &mut text);
    Ok(text)
}
