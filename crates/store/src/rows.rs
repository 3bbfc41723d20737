//! Prepares batches for every store: the columns of the kind in order, keys, days, and rows that no store can hold.

use crate::cells::Cells;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimestampMicrosecondType};
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result, UnreadableRows};
use evt_core::kind::Kind;
use evt_core::kind::alerts;
use evt_core::kind::dead::{self, Fault, KeptRows, Rejected};
use evt_core::kind::letters;
use evt_core::kind::metric::{MetricColumns, metric_id};
use evt_core::kind::values::{CellValue, ColumnBuilder};
use evt_core::time::{DAY, format_instant, is_in_calendar};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Returns the columns that identify a row of a kind, by which a replay finds it. Neither a position nor an id
/// suffices: standard input has the same positions every day, and producers repeat ids.
pub fn key_columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Event => &["origin", "partition", "offset", "event_id"],
        Kind::Metric => &["metric_name", "window_start", "window_end", "dimensions"],
        Kind::Dead => &["stage", "source_topic", "partition", "offset", "original_payload"],
        Kind::Late => &["origin", "partition", "offset", "event_id", "late_for"],
        Kind::Alert => &["alert_id", "state"],
    }
}

/// Returns the primary key of a kind's table. A letter's payload is in it as a digest.
pub fn table_key(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Dead => &["stage", "source_topic", "partition", "offset", "payload_hash"],
        kind => key_columns(kind),
    }
}

/// Returns the columns of a kind that its table has: a stored metric is never a retracted one.
pub fn table_fields(kind: Kind) -> Vec<FieldRef> {
    let is_stored = |field: &&FieldRef| kind != Kind::Metric || field.name() != "retracted";
    kind.schema().fields().iter().filter(is_stored).cloned().collect()
}

/// Returns rows with the columns of their table: a letter also has the digest of its payload.
pub fn table_rows(kind: Kind, batch: &RecordBatch) -> Result<RecordBatch> {
    if kind != Kind::Dead {
        return Ok(batch.clone());
    }
    let payloads = batch.column(dead::column::ORIGINAL_PAYLOAD).as_binary::<i32>();
    let hashes = payloads.iter().map(|payload| xxh3_64(payload.unwrap_or_default()).cast_signed());
    let hashes: ArrayRef = Arc::new(Int64Array::from_iter_values(hashes));
    let field: FieldRef = Arc::new(Field::new("payload_hash", DataType::Int64, false));
    let fields = Vec::from_iter(batch.schema_ref().fields().iter().cloned().chain([field]));
    let columns = batch.columns().iter().cloned().chain([hashes]).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Makes a batch of the columns of a kind's table. Errors: exit status 65 if they do not fit; `shown` names the store.
pub fn from_table(kind: Kind, mut columns: Vec<ArrayRef>, shown: impl Display) -> Result<RecordBatch> {
    if kind == Kind::Metric {
        columns.push(Arc::new(BooleanArray::from(vec![false; columns[0].len()])));
    }
    let foreign = |error| Error::corrupt(format!("{shown}: rows that evt did not write")).because(error);
    let batch = RecordBatch::try_new(kind.schema(), columns).map_err(foreign)?;
    if kind == Kind::Dead { letters::completed(batch) } else { Ok(batch) }
}

/// The place of a value in a page of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellIndex {
    /// The index of its column.
    pub column: usize,
    /// The index of its row.
    pub row: usize,
}

/// Reads the value at a place of a page as one of the type of a field; NULL without a place. `None` if evt does not
/// write such a value.
pub type ReadValue<'a> = dyn Fn(&Field, Option<CellIndex>) -> Option<CellValue<'a>> + 'a;

/// The rows of a page.
pub struct Page {
    /// The columns of the rows that can be read.
    pub columns: Vec<ArrayRef>,
    /// For each row that cannot be read, the place of its first value that evt does not write.
    pub foreign: Vec<CellIndex>,
}

impl Page {
    /// Reads the `rows` of a page.
    pub fn read(fields: &[FieldRef], rows: usize, value: &ReadValue<'_>) -> Result<Self> {
        let (mut columns, mut foreign) = (vec![], BTreeMap::new());
        for (column, field) in fields.iter().enumerate() {
            let mut builder = ColumnBuilder::new(field);
            for row in 0..rows {
                let place = CellIndex { column, row };
                let found = value(field, Some(place)).filter(|found| field.is_nullable() || !found.is_null());
                if found.and_then(|found| builder.append(found)).is_none() {
                    foreign.entry(row).or_insert(place);
                    let null = value(field, None).and_then(|null| builder.append(null));
                    null.ok_or_else(|| Error::broken(format!("no NULL of column '{}'", field.name())))?;
                }
            }
            columns.push(builder.finish());
        }
        if !foreign.is_empty() {
            let keep = BooleanArray::from_iter((0..rows).map(|row| Some(!foreign.contains_key(&row))));
            columns = columns.iter().map(|column| Ok(filter(column, &keep)?)).collect::<Result<_>>()?;
        }
        Ok(Self { columns, foreign: foreign.into_values().collect() })
    }

    /// Returns the readable parts of the position and the time of a row.
    pub fn position(kind: Kind, fields: &[FieldRef], row: usize, value: &ReadValue<'_>) -> UnreadableRows {
        let of = |name: &str| {
            let column = fields.iter().position(|field| field.name() == name)?;
            value(&fields[column], Some(CellIndex { column, row }))
        };
        let text =
            |name: &str| if let Some(CellValue::Text(text)) = of(name) { text.map(Cow::into_owned) } else { None };
        UnreadableRows {
            count: 1,
            origin: text(if kind == Kind::Dead { "source_topic" } else { "origin" }),
            partition: text("partition"),
            offset: if let Some(CellValue::Long(offset)) = of("offset") { offset } else { None },
            time: if let Some(CellValue::Instant(time)) = of(kind.time_column()) { time } else { None },
        }
    }
}

/// Returns a list of SQL identifiers.
pub fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// Returns the kind's columns of `batch`, in order, with the kind's schema; columns that a stage added are dropped. A
/// missing nullable column becomes NULL. Errors: exit status 70 if another column is missing or has another type.
pub fn align(kind: Kind, batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = kind.schema();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match batch.column_by_name(field.name()) {
            Some(column) => column.clone(),
            None if field.is_nullable() => new_null_array(field.data_type(), batch.num_rows()),
            None => {
                let message = format!("a batch of kind {kind} has no column '{}'", field.name());
                return Err(Error::broken(message));
            }
        });
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Aligns a batch, and rejects the rows that no store can hold: those with an instant outside the years 1 to 9999, and
/// metrics whose id is not derived from their key, which could merge two metrics.
pub fn fit_rows(kind: Kind, batch: &RecordBatch) -> Result<KeptRows> {
    let batch = align(kind, batch)?;
    let batch = if kind == Kind::Alert { alerts::completed(&batch)? } else { batch };
    let mut unfit = if kind == Kind::Metric { foreign_ids(&batch)? } else { Vec::new() };
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let Some(instants) = column.as_primitive_opt::<TimestampMicrosecondType>() else { continue };
        if instants.values().iter().all(|micros| is_in_calendar(*micros)) {
            continue;
        }
        for (row, micros) in instants.iter().enumerate() {
            if micros.is_some_and(|micros| !is_in_calendar(micros)) {
                let message = format!("{} is outside the years 1 to 9999", field.name());
                unfit.push(Rejected::by_sink(row, message));
            }
        }
    }
    let mut fit = KeptRows::all(batch);
    fit.remove(unfit)?;
    Ok(fit)
}

/// Counts the rows that a store rejected as dead and returns them in order.
pub fn count_rejected(KeptRows { mut rejected, .. }: KeptRows, counts: &mut SinkCounts) -> Vec<Rejected> {
    counts.taken += rejected.len() as u64;
    counts.dead += rejected.len() as u64;
    rejected.sort_by_key(|rejected| rejected.row);
    rejected
}

/// Returns the metrics whose id is not derived from their key.
fn foreign_ids(batch: &RecordBatch) -> Result<Vec<Rejected>> {
    let MetricColumns { ids, names, starts, ends, dimensions, .. } = MetricColumns::try_new(batch)?;
    let id = |row| metric_id(names.value(row), starts.value(row), ends.value(row), dimensions.value(row));
    let foreign = (0..batch.num_rows()).filter(|row| ids.value(*row) != id(*row));
    let fault = |row| {
        let (start, end) = (format_instant(starts.value(row)), format_instant(ends.value(row)));
        let message = format!(
            "metric_id: expected the UUIDv5 of name, window ({start} to {end}) and dimensions ({})",
            dimensions.value(row)
        );
        Fault::of_sink(message)
    };
    Ok(foreign.map(|row| Rejected { row, fault: fault(row) }).collect())
}

/// Returns the day of each row of `batch`, since 1970.
pub fn days(kind: Kind, batch: &RecordBatch) -> Result<Vec<i64>> {
    let instants: &TimestampMicrosecondArray = column(batch, kind.time_column())?.as_primitive();
    Ok(instants.values().iter().map(|micros| micros.div_euclid(DAY)).collect())
}

/// Returns the column `name`. Errors: exit status 70 if it is missing, which [`align`] rules out.
pub fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::broken(format!("a batch has no column '{name}'")))
}

/// Feeds the keys of `batch`, in order, to `digest`.
pub fn digest_keys(kind: Kind, batch: &RecordBatch, digest: &mut Xxh3) -> Result<()> {
    let columns = key_cells(kind, batch)?;
    (0..batch.num_rows()).try_for_each(|row| columns.iter().try_for_each(|cells| feed(cells, row, digest)))
}

/// Returns a digest of the key of each row.
pub fn each_key(kind: Kind, batch: &RecordBatch) -> Result<Vec<u128>> {
    let columns = key_cells(kind, batch)?;
    let mut digest = Xxh3::new();
    let key = |row| {
        digest.reset();
        columns.iter().try_for_each(|cells| feed(cells, row, &mut digest))?;
        Ok(digest.digest128())
    };
    (0..batch.num_rows()).map(key).collect()
}

/// Returns the columns of the key, which are never NULL.
fn key_cells(kind: Kind, batch: &RecordBatch) -> Result<Vec<Cells<'_>>> {
    key_columns(kind).iter().map(|name| Cells::try_new(column(batch, name)?)).collect()
}

/// Feeds a cell that is not NULL to a digest. No two values produce the same bytes.
pub fn feed(cells: &Cells<'_>, row: usize, digest: &mut Xxh3) -> Result<()> {
    match cells {
        Cells::Id(ids) => digest.update(ids.value(row)),
        Cells::Text(_) | Cells::Word(..) => feed_bytes(cells.text(row)?.as_bytes(), digest),
        Cells::Long(numbers) => digest.update(&numbers.value(row).to_le_bytes()),
        Cells::Instant(instants) => digest.update(&instants.value(row).to_le_bytes()),
        Cells::Bytes(bytes) => feed_bytes(bytes.value(row), digest),
        Cells::Names(lists) => {
            let names = lists.value(row);
            digest.update(&(names.len() as u64).to_le_bytes());
            for name in names.as_string::<i32>().iter().flatten() {
                feed_bytes(name.as_bytes(), digest);
            }
        }
        _ => return Err(Error::broken("a value of a type that is not compared")),
    }
    Ok(())
}

/// Feeds bytes to a digest, their length first, so that no two keys produce the same bytes.
fn feed_bytes(bytes: &[u8], digest: &mut Xxh3) {
    digest.update(&(bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}
