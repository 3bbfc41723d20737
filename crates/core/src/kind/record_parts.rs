//! The parts of a Kafka record beside its value, as columns of the event that was made of it: key, timestamp and
//! headers.
//!
//! A dead letter of a row shows them. Inside a stage they are the columns `raw_key`, `raw_timestamp` and the dictionary
//! of [`headers`]. Frames have them after the raw record: there the headers are a plain column of maps, `raw_headers`,
//! because other readers of Arrow do not support dictionaries of maps. No other output has them.

use super::Kind;
use super::event::has_raw;
use super::field::{extended, instant, optional};
use super::headers::{self, HeaderRows, Stored};
use crate::error::Result;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimestampMicrosecondType};
use std::sync::Arc;

const KEY: &str = "raw_key";
const TIMESTAMP: &str = "raw_timestamp";
const HEADERS: &str = "raw_headers";

/// Returns the columns of keys and timestamps.
pub fn fields() -> [Field; 2] {
    [Field::new(KEY, DataType::Binary, true), optional(instant(TIMESTAMP))]
}

/// Returns the columns of frames.
fn framed_fields() -> [Field; 3] {
    let [key, timestamp] = fields();
    [key, timestamp, Field::new(HEADERS, headers::data_type(), true)]
}

/// Returns the schema of events that have their raw records, with the parts of the records.
pub fn with_fields(schema: &SchemaRef) -> SchemaRef {
    extended(schema, framed_fields())
}

/// Whether a field is one of these columns, as it is in frames or inside a stage.
fn is_part(field: &Field) -> bool {
    is_framed(field) || headers::is_headers_field(field)
}

/// Whether a field is one of the columns of frames.
pub fn is_framed(field: &Field) -> bool {
    [KEY, TIMESTAMP, HEADERS].contains(&field.name().as_str())
        && framed_fields()
            .iter()
            .any(|part| part.name() == field.name() && part.data_type().equals_datatype(field.data_type()))
}

/// Whether events in frames have these columns.
fn has_parts(schema: &Schema) -> bool {
    let parts = schema.fields().iter().filter(|field| is_framed(field)).count();
    Kind::of(schema) == Some(Kind::Event) && has_raw(schema) && parts == framed_fields().len()
}

/// The treatment of these columns by an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputParts {
    /// It writes them: frames.
    Written,
    /// It leaves them out. An output that supports headers gets them beside the rows.
    Omitted,
}

impl OutputParts {
    /// Returns the treatment of the columns by an output of rows of `schema`, and the schema of the rows that it
    /// writes.
    pub fn of(schema: &SchemaRef, is_framed: bool) -> (Self, SchemaRef) {
        if is_framed && has_parts(schema) {
            return (Self::Written, schema.clone());
        }
        if Kind::of(schema) != Some(Kind::Event) || !schema.fields().iter().any(|field| is_part(field)) {
            return (Self::Omitted, schema.clone());
        }
        let fields = schema.fields().iter().filter(|field| !is_part(field)).cloned().collect();
        (Self::Omitted, Arc::new(Schema { fields, metadata: schema.metadata().clone() }))
    }

    /// Returns a batch as the output writes it; `None` if it is written unchanged.
    pub fn fit(self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let schema = batch.schema_ref();
        let is_event = Kind::of(schema) == Some(Kind::Event);
        let has_some = schema.fields().iter().any(|field| is_part(field));
        match self {
            Self::Omitted if is_event && has_some => Ok(Some(without(batch)?)),
            Self::Written if is_event && (headers::has_headers(schema) || !has_parts(schema)) => {
                framed(batch).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// Returns a batch without these columns.
fn without(batch: &RecordBatch) -> Result<RecordBatch> {
    let fields = batch.schema_ref().fields();
    let kept = Vec::from_iter((0..fields.len()).filter(|at| !is_part(&fields[*at])));
    Ok(batch.project(&kept)?)
}

/// Returns a batch with these columns as frames have them; NULL if it has none.
fn framed(batch: &RecordBatch) -> Result<RecordBatch> {
    let part = |field: &Field| -> Result<ArrayRef> {
        let own = batch.column_by_name(field.name()).filter(|own| own.data_type() == field.data_type());
        match (own, batch.columns().last().filter(|_| headers::has_headers(batch.schema_ref()))) {
            (Some(own), _) => Ok(own.clone()),
            (None, Some(dictionary)) if field.name() == HEADERS => {
                let dictionary = dictionary.as_dictionary::<Int32Type>();
                Ok(take(dictionary.values(), dictionary.keys(), None)?)
            }
            _ => Ok(new_null_array(field.data_type(), batch.num_rows())),
        }
    };
    let parts = framed_fields().iter().map(part).collect::<Result<Vec<_>>>()?;
    let bare = without(batch)?;
    let columns = bare.columns().iter().cloned().chain(parts).collect();
    Ok(RecordBatch::try_new(with_fields(bare.schema_ref()), columns)?)
}

/// The parts of the record of one row.
pub struct RowParts<'a> {
    batch: &'a RecordBatch,
    row: usize,
}

impl<'a> RowParts<'a> {
    /// Returns those of `row` of `batch`.
    pub fn new(batch: &'a RecordBatch, row: usize) -> Self {
        Self { batch, row }
    }

    /// Returns the column of this name if the row has a value in it.
    fn column(&self, name: &str) -> Option<&'a ArrayRef> {
        self.batch.column_by_name(name).filter(|column| column.is_valid(self.row))
    }

    /// Returns the key of the record.
    pub fn key(&self) -> Option<&'a [u8]> {
        Some(self.column(KEY)?.as_binary_opt::<i32>()?.value(self.row))
    }

    /// Returns the timestamp of the record (µs).
    pub fn timestamp(&self) -> Option<i64> {
        Some(self.column(TIMESTAMP)?.as_primitive_opt::<TimestampMicrosecondType>()?.value(self.row))
    }

    /// Returns the headers of the record.
    pub fn headers(&self) -> Option<Stored<'a>> {
        match HeaderRows::of(self.batch) {
            Some(rows) => Some(rows.get(rows.code(self.row)?)),
            None => Some(Stored::new(self.column(HEADERS)?.as_map_opt()?, self.row)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::{CodedHeaders, Headers, copied};
    use super::*;
    use arrow::array::{BinaryArray, TimestampMicrosecondArray};

    struct One;

    impl Headers for One {
        fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
            show("h", Some(b"1"));
        }
    }

    /// Two events inside a stage: the first of a record with all parts, the second of one with none.
    fn within(raw: &Field) -> RecordBatch {
        let event = Kind::Event.schema();
        let mut fields: Vec<Field> = event.fields().iter().map(|field| field.as_ref().clone()).collect();
        let mut columns: Vec<ArrayRef> = fields.iter().map(|field| new_null_array(field.data_type(), 2)).collect();
        fields.iter_mut().for_each(|field| field.set_nullable(true));
        fields.push(raw.clone());
        columns.push(new_null_array(raw.data_type(), 2));
        fields.extend(super::fields());
        columns.push(Arc::new(BinaryArray::from_opt_vec(vec![Some(b"k"), None])));
        columns.push(Arc::new(TimestampMicrosecondArray::from(vec![Some(7), None]).with_timezone("UTC")));
        let mut dictionary = CodedHeaders::default();
        dictionary.push(Some(&One)).unwrap();
        dictionary.push(None).unwrap();
        fields.push(headers::field());
        columns.push(dictionary.finish().unwrap());
        RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, event.metadata().clone())), columns).unwrap()
    }

    /// Key, timestamp and headers of both rows.
    fn seen(batch: &RecordBatch) -> [(Option<Vec<u8>>, Option<i64>, String); 2] {
        [0, 1].map(|row| {
            let parts = RowParts::new(batch, row);
            let headers = parts.headers().map(|headers| copied(&headers));
            (parts.key().map(<[u8]>::to_vec), parts.timestamp(), format!("{headers:?}"))
        })
    }

    #[test]
    fn frames_have_the_parts_that_the_stage_has() {
        let batch = within(&super::super::event::raw_field());
        let schema = with_fields(&Kind::Event.schema_with(true));
        let (parts, written) = OutputParts::of(&schema, true);
        assert_eq!((parts, written), (OutputParts::Written, schema.clone()));
        let framed = parts.fit(&batch).unwrap().unwrap();
        let names = |schema: &SchemaRef| Vec::from_iter(schema.fields().iter().map(|field| field.name().clone()));
        assert_eq!(names(framed.schema_ref()), names(&schema));
        assert_eq!(seen(&framed), seen(&batch));
        assert_eq!((seen(&framed)[0].0.as_deref(), seen(&framed)[0].1), (Some(b"k".as_slice()), Some(7)));
        assert!(parts.fit(&framed).unwrap().is_none(), "it is written unchanged");
        let bare = without(&batch).unwrap();
        assert_eq!(parts.fit(&bare).unwrap().unwrap().schema(), framed.schema(), "the columns are NULL");
    }

    #[test]
    fn other_outputs_have_none_of_the_columns() {
        let schema = with_fields(&Kind::Event.schema_with(true));
        let (parts, written) = OutputParts::of(&schema, false);
        assert_eq!((parts, written), (OutputParts::Omitted, Kind::Event.schema_with(true)));
        let batch = within(&super::super::event::raw_field());
        assert_eq!(parts.fit(&batch).unwrap().unwrap().num_columns(), 15);
        let (parts, _) = OutputParts::of(&Kind::Event.schema(), true);
        let bare = without(&batch).unwrap();
        assert!(parts.fit(&bare).unwrap().is_none());
    }
}
