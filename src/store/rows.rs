//! Prepares batches for every store: the columns of the kind in order, keys, days, and rows that no store can hold.

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault, Rejected};
use crate::kind::metric::metric_id;
use crate::time::{DAY, format_instant, is_in_calendar};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use xxhash_rust::xxh3::Xxh3;

/// Returns the columns that identify a row of a kind, by which a replay finds it. Neither a position nor an id suffices:
/// standard input has the same positions every day, and producers repeat ids.
pub fn key_columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Event => &["origin", "partition", "offset", "event_id"],
        Kind::Metric => &["metric_name", "window_start", "window_end", "dimensions"],
        Kind::Dead => &["stage", "source_topic", "partition", "offset", "original_payload"],
        Kind::Late => &["origin", "partition", "offset", "event_id", "late_for"],
        Kind::Alert => &["rule", "window_start", "window_end", "state"],
    }
}

/// Returns the instant column whose day a row is filed under.
pub fn day_column(kind: Kind) -> &'static str {
    match kind {
        Kind::Event | Kind::Late => "event_time",
        Kind::Metric => "window_start",
        Kind::Dead => "failed_at",
        Kind::Alert => "since",
    }
}

/// Returns the kind's columns of `batch`, in order, with the kind's schema; columns that a stage added are dropped. A missing
/// nullable column becomes NULL. Errors: exit status 70 if another column is missing or has another type.
pub fn align(kind: Kind, batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = kind.schema();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match batch.column_by_name(field.name()) {
            Some(column) => column.clone(),
            None if field.is_nullable() => new_null_array(field.data_type(), batch.num_rows()),
            None => {
                let message = format!("a batch of kind {} has no column '{}'", kind.name(), field.name());
                return Err(Error::broken(message));
            }
        });
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Splits off the rows that no store can hold: those with an instant outside the years 1 to 9999, and metrics whose id is not
/// derived from their key, which could merge two metrics.
pub fn split_unfit(kind: Kind, batch: RecordBatch) -> Result<(RecordBatch, Vec<Rejected>)> {
    let mut refused = if kind == Kind::Metric { foreign_ids(&batch)? } else { Vec::new() };
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let Some(instants) = column.as_primitive_opt::<TimestampMicrosecondType>() else { continue };
        if instants.values().iter().all(|micros| is_in_calendar(*micros)) {
            continue;
        }
        for (row, micros) in instants.iter().enumerate() {
            if micros.is_some_and(|micros| !is_in_calendar(micros)) {
                let message = format!("{} lies outside the years 1 to 9999", field.name());
                refused.push(Rejected { row, fault: Fault::new(ErrorType::SinkError, message) });
            }
        }
    }
    if refused.is_empty() {
        return Ok((batch, refused));
    }
    refused.sort_by_key(|refused| refused.row);
    refused.dedup_by_key(|refused| refused.row);
    Ok((without(&batch, &refused)?, refused))
}

/// Returns the rows of `batch` without the refused ones.
pub fn without(batch: &RecordBatch, refused: &[Rejected]) -> Result<RecordBatch> {
    if refused.is_empty() {
        return Ok(batch.clone());
    }
    let mut keep = vec![true; batch.num_rows()];
    for refused in refused {
        keep[refused.row] = false;
    }
    Ok(filter_record_batch(batch, &BooleanArray::from(keep))?)
}

/// Returns, for each row that [`split_unfit`] kept of `rows`, its index before the split: later refusals are reported by that
/// index.
pub fn places_of_fit(rows: usize, refused: &[Rejected]) -> Vec<usize> {
    (0..rows).filter(|row| refused.binary_search_by_key(row, |refused| refused.row).is_err()).collect()
}

/// Returns the metrics whose id is not derived from their key.
fn foreign_ids(batch: &RecordBatch) -> Result<Vec<Rejected>> {
    let ids = column(batch, "metric_id")?.as_fixed_size_binary();
    let names = column(batch, "metric_name")?.as_string::<i32>();
    let starts = column(batch, "window_start")?.as_primitive::<TimestampMicrosecondType>();
    let ends = column(batch, "window_end")?.as_primitive::<TimestampMicrosecondType>();
    let dimensions = column(batch, "dimensions")?.as_string::<i32>();
    let id = |row| metric_id(names.value(row), starts.value(row), ends.value(row), dimensions.value(row));
    let foreign = (0..batch.num_rows()).filter(|row| ids.value(*row) != id(*row));
    let fault = |row| {
        let (start, end) = (format_instant(starts.value(row)), format_instant(ends.value(row)));
        let message = format!(
            "metric_id: expected the UUIDv5 of name, window ({start} to {end}) and dimensions ({})",
            dimensions.value(row)
        );
        Fault::new(ErrorType::SinkError, message)
    };
    Ok(foreign.map(|row| Rejected { row, fault: fault(row) }).collect())
}

/// Returns the day of each row of `batch`, since 1970.
pub fn days(kind: Kind, batch: &RecordBatch) -> Result<Vec<i64>> {
    let instants: &TimestampMicrosecondArray = column(batch, day_column(kind))?.as_primitive();
    Ok(instants.values().iter().map(|micros| micros.div_euclid(DAY)).collect())
}

/// Returns the column `name`. Errors: exit status 70 if it is missing, which [`align`] rules out.
pub fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::broken(format!("a batch has no column '{name}'")))
}

/// Returns the id of a row.
pub fn id(ids: &FixedSizeBinaryArray, row: usize) -> Result<[u8; 16]> {
    ids.value(row).try_into().map_err(|_| Error::broken("an id that has not 16 bytes"))
}

/// Feeds the keys of `batch`, in order, to `digest`.
pub fn digest_keys(kind: Kind, batch: &RecordBatch, digest: &mut Xxh3) -> Result<()> {
    let columns = key_columns(kind).iter().map(|name| KeyColumn::try_new(column(batch, name)?));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    for row in 0..batch.num_rows() {
        for column in &columns {
            column.feed(row, digest);
        }
    }
    Ok(())
}

/// Returns a digest of the key of each row.
pub fn each_key(kind: Kind, batch: &RecordBatch) -> Result<Vec<u128>> {
    let columns = key_columns(kind).iter().map(|name| KeyColumn::try_new(column(batch, name)?));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let mut digest = Xxh3::new();
    let key = |row| {
        digest.reset();
        columns.iter().for_each(|column| column.feed(row, &mut digest));
        digest.digest128()
    };
    Ok((0..batch.num_rows()).map(key).collect())
}

/// A column of a key; keys are never NULL.
enum KeyColumn<'a> {
    Id(&'a FixedSizeBinaryArray),
    Text(&'a StringArray),
    Word(&'a [i32], &'a StringArray),
    Whole(&'a [i64]),
    Bytes(&'a BinaryArray),
    Names(&'a arrow::array::ListArray),
}

impl<'a> KeyColumn<'a> {
    fn try_new(array: &'a ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::FixedSizeBinary(_) => Self::Id(array.as_fixed_size_binary()),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Dictionary(_, _) => {
                let words = array.as_dictionary::<Int32Type>();
                Self::Word(words.keys().values(), words.values().as_string())
            }
            DataType::Int64 => Self::Whole(array.as_primitive::<Int64Type>().values()),
            DataType::Timestamp(_, _) => Self::Whole(array.as_primitive::<TimestampMicrosecondType>().values()),
            DataType::Binary => Self::Bytes(array.as_binary()),
            DataType::List(_) => Self::Names(array.as_list()),
            other => return Err(Error::broken(format!("no key is of type {other}"))),
        })
    }

    fn feed(&self, row: usize, digest: &mut Xxh3) {
        match self {
            Self::Id(ids) => digest.update(ids.value(row)),
            Self::Text(texts) => feed_bytes(texts.value(row).as_bytes(), digest),
            Self::Word(keys, values) => {
                let place = keys.get(row).and_then(|key| usize::try_from(*key).ok());
                feed_bytes(place.map_or("", |place| values.value(place)).as_bytes(), digest);
            }
            Self::Whole(numbers) => digest.update(&numbers.get(row).copied().unwrap_or_default().to_le_bytes()),
            Self::Bytes(bytes) => feed_bytes(bytes.value(row), digest),
            Self::Names(lists) => {
                let names = lists.value(row);
                digest.update(&(names.len() as u64).to_le_bytes());
                for name in names.as_string::<i32>().iter().flatten() {
                    feed_bytes(name.as_bytes(), digest);
                }
            }
        }
    }
}

/// Feeds bytes to a digest, their length first, so that no two keys produce the same bytes.
fn feed_bytes(bytes: &[u8], digest: &mut Xxh3) {
    digest.update(&(bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}
