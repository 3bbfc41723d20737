//! Shared code of the containers that Arrow's libraries read: batches become rows, panics become errors.

use super::definition::{Limits, Opened, RowPart, Rows};
use super::jsonl::{is_proved, rows_to_json};
use super::properties;
use super::record::Records;
use crate::error::{Error, Result, guarded};
use crate::kind::Kind;
use crate::kind::event::RAW;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use std::fmt::Display;
use std::sync::Arc;

/// Maximum rows returned at once: another program's batch may be its whole table, and its text several times larger.
const ROWS: usize = 2_048;

/// Maximum bytes of text in evt's own rows returned at once: dictionary values may expand to any number of bytes.
const BYTES: usize = 4 << 20;

/// Rows of any program, returned as text in pieces of bounded size.
pub struct Pieces {
    rest: Option<RecordBatch>,
    /// Number of rows of the next attempt: about as many as fit, because every attempt has a cost per row.
    ahead: usize,
    rows: u64,
    text_max: usize,
}

impl Pieces {
    /// Creates an empty queue; the text of a row may be cut after `text_max` bytes.
    pub fn new(text_max: usize) -> Self {
        Self::after(0, text_max)
    }

    /// The same behind a number of rows.
    fn after(rows: u64, text_max: usize) -> Self {
        Self { rest: None, ahead: ROWS, rows, text_max }
    }

    /// Takes a batch. All rows of the previous batch must have been returned.
    pub fn push(&mut self, batch: RecordBatch) {
        self.rest = Some(batch);
    }

    /// Returns the next rows of the batch, numbered from 1 over all batches; `None` at its end.
    pub fn next_rows(&mut self) -> Result<Option<Records>> {
        let Some(batch) = self.rest.take().filter(|batch| batch.num_rows() > 0) else { return Ok(None) };
        let mut records = Records::default();
        let looked_at = batch.slice(0, batch.num_rows().min(self.ahead));
        let count = guarded(|| rows_to_json(&looked_at, self.rows + 1, self.text_max, &mut records))??;
        self.ahead = (2 * count).clamp(1, ROWS);
        self.rows += count as u64;
        self.rest = Some(batch.slice(count, batch.num_rows() - count));
        Ok(Some(records))
    }
}

/// The rows of a reader of batches.
struct ContainerRows<I> {
    /// `None` after the end or an error.
    inner: Option<I>,
    /// The schema of evt's own rows ([`own_schema`]).
    schema: Option<SchemaRef>,
    /// The rest of the last batch of that schema.
    own: Option<RecordBatch>,
    pieces: Pieces,
}

impl<E: Display, I: Iterator<Item = Result<RecordBatch, E>>> ContainerRows<I> {
    /// Creates the rows of a reader, which come after so many others; `schema` if the file declares one of evt's.
    fn new(inner: I, schema: Option<SchemaRef>, rows_before: u64, limits: Limits) -> Self {
        Self { inner: Some(inner), schema, own: None, pieces: Pieces::after(rows_before, limits.text) }
    }

    fn step(&mut self) -> Result<Option<Rows>> {
        loop {
            if let Some(records) = self.pieces.next_rows()? {
                return Ok(Some(Rows::Text(records)));
            }
            if let Some(rows) = self.own_rows()? {
                return Ok(Some(Rows::Batch(rows)));
            }
            let Some(inner) = &mut self.inner else { return Ok(None) };
            let Some(batch) = guarded(|| inner.next())? else { return Ok(None) };
            let batch = batch.map_err(unreadable)?;
            let own = properties::without_properties(&batch)?;
            match self.schema.as_ref().is_some_and(|schema| is_of(schema, &own)) {
                true => self.own = Some(batch),
                false => self.pieces.push(batch),
            }
        }
    }

    /// Returns the next rows of the batch of evt's schema, in exactly that schema.
    fn own_rows(&mut self) -> Result<Option<RecordBatch>> {
        let batch = self.own.take().filter(|batch| batch.num_rows() > 0);
        let (Some(schema), Some(batch)) = (self.schema.clone(), batch) else { return Ok(None) };
        let count = rows_within(&batch, BYTES);
        let read = batch.slice(0, count);
        let (own, of_properties) = (properties::without_properties(&read)?, properties::only_properties(&read)?);
        let rows = guarded(|| with_types(&own, &schema))??;
        if !is_proved(&rows) {
            let claim = Kind::of(rows.schema_ref()).map_or("", Kind::name);
            return Err(Error::corrupt(format!("expected JSON in a column of kind {claim}, found other text")));
        }
        self.pieces.rows += count as u64;
        self.own = Some(batch.slice(count, batch.num_rows() - count));
        guarded(|| properties::merge(&rows, &of_properties))?.map(Some)
    }
}

impl<E: Display, I: Iterator<Item = Result<RecordBatch, E>>> Iterator for ContainerRows<I> {
    type Item = Result<Rows>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.step().map_err(|error| error.at(format!("after row {}", self.pieces.rows)));
        if !matches!(rows, Ok(Some(_))) {
            self.inner = None;
        }
        rows.transpose()
    }
}

/// Returns a batch with the types of a schema, which has its columns.
pub(super) fn with_types(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() { Ok(column.clone()) } else { cast(column, field.data_type()) }
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?)
}

fn unreadable(error: impl Display) -> Error {
    Error::corrupt("rows cannot be read").because_library(error)
}

/// A part of a container: its number of rows, and what reads its batches.
pub(super) struct BatchPart<I> {
    /// The number of rows.
    pub rows: u64,
    /// The batches.
    pub batches: I,
}

/// Opens a container with batches of these columns, in parts.
pub(super) fn opened<E: Display + 'static, I: Iterator<Item = Result<RecordBatch, E>> + Send + 'static>(
    columns: &Schema,
    parts: impl Iterator<Item = Result<BatchPart<I>>> + 'static,
    limits: Limits,
) -> Opened {
    let schema = own_schema(columns);
    let names = foreign_names(columns.fields().iter().map(|field| field.name().as_str()), schema.as_ref());
    let (of_part, mut before) = (schema.clone(), 0);
    let parts = parts.map(move |part| {
        let BatchPart { rows, batches } = part.map_err(|error| unreadable(error).at(format!("after row {before}")))?;
        let part = ContainerRows::new(batches, of_part.clone(), before, limits);
        before += rows;
        Ok(Box::new(part) as RowPart)
    });
    Opened { names, is_text: false, has_end: true, parts: Box::new(parts), schema }
}

/// Returns the schema of the rows of a file of evt's, whose columns are `columns` (events may have their raw records);
/// `None` for the file of another program.
fn own_schema(columns: &Schema) -> Option<SchemaRef> {
    let is_raw = |field: &Field| copied(&viewed(field.data_type())) == DataType::Binary;
    Some(Kind::of(columns)?.schema_of_file(columns, columns.field_with_name(RAW).is_ok_and(is_raw)))
}

/// Returns the names of the columns of another program's file; `None` if it has a column `properties`, whose members
/// are fields that the schema does not name.
pub(super) fn foreign_names<'a>(names: impl Iterator<Item = &'a str>, own: Option<&SchemaRef>) -> Option<Vec<String>> {
    let names: Vec<String> = names.map(str::to_owned).collect();
    let is_foreign = own.is_none() && names.iter().all(|name| name != "properties");
    is_foreign.then_some(names)
}

/// Whether a batch has exactly the columns of a schema; texts and bytes may be views instead of copies, and
/// dictionaries plain.
fn is_of(wanted: &SchemaRef, batch: &RecordBatch) -> bool {
    let is_alike = |(field, column): (&FieldRef, &ArrayRef)| {
        let copied = match (field.data_type(), column.data_type()) {
            (DataType::Dictionary(_, values), plain) if **values == *plain => field.data_type().clone(),
            (_, other) => copied(other),
        };
        copied.equals_datatype(field.data_type()) && (field.is_nullable() || column.logical_null_count() == 0)
    };
    let names = |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    names(wanted) == names(batch.schema_ref()) && wanted.fields().iter().zip(batch.columns()).all(is_alike)
}

/// Returns how many rows at the start of a batch have at most `bytes` of text and binary: at least one, at most
/// [`ROWS`].
fn rows_within(batch: &RecordBatch, bytes: usize) -> usize {
    let rows = batch.num_rows().min(ROWS);
    let length = |view: &u128| usize::try_from(*view & u128::from(u32::MAX)).unwrap_or(0);
    let lengths: Vec<&[u128]> = batch.columns().iter().filter_map(|column| views(column)).collect();
    let properties = batch.schema_ref().fields().iter().filter(|field| properties::is_property(field));
    let names: usize = properties.map(|field| field.name().len()).sum();
    let mut left = bytes;
    for row in 0..rows {
        let row_bytes = names + lengths.iter().map(|views| length(&views[row])).sum::<usize>();
        match left.checked_sub(row_bytes) {
            Some(rest) => left = rest,
            None => return row.max(1),
        }
    }
    rows
}

fn views(column: &ArrayRef) -> Option<&[u128]> {
    let texts = column.as_string_view_opt().map(|texts| &texts.views()[..]);
    texts.or_else(|| column.as_binary_view_opt().map(|bytes| &bytes.views()[..]))
}

/// Returns a type with views for texts and bytes, which share the memory of repeated dictionary values.
pub(super) fn viewed(kind: &DataType) -> DataType {
    with_leaves(kind, &|leaf| match leaf {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        other => other.clone(),
    })
}

/// Returns the type before [`viewed`].
fn copied(kind: &DataType) -> DataType {
    with_leaves(kind, &|leaf| match leaf {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    })
}

fn with_leaves(kind: &DataType, leaf: &dyn Fn(&DataType) -> DataType) -> DataType {
    let nested = with_children(kind, &mut |field| {
        Arc::new(Field::clone(field).with_data_type(with_leaves(field.data_type(), leaf)))
    });
    nested.unwrap_or_else(|| leaf(kind))
}

/// Returns a type whose fields `child` replaces, in their order; `None` if it has no fields.
pub(super) fn with_children(kind: &DataType, child: &mut dyn FnMut(&FieldRef) -> FieldRef) -> Option<DataType> {
    Some(match kind {
        DataType::List(item) => DataType::List(child(item)),
        DataType::LargeList(item) => DataType::LargeList(child(item)),
        DataType::ListView(item) => DataType::ListView(child(item)),
        DataType::LargeListView(item) => DataType::LargeListView(child(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(child(item), *length),
        DataType::Map(entries, sorted) => DataType::Map(child(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(child).collect()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_corrupt_file_and_the_next_call_works() {
        let error = guarded(|| -> u8 { panic!("index out of bounds") }).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
        assert!(error.to_string().contains("index out of bounds"), "{error}");
        assert_eq!(guarded(|| 1).unwrap(), 1);
    }
}
