//! Headers of records as columns: name → bytes, in the record's order; a name may occur more than once.
//!
//! In dead letters they are a column of maps. Beside events they stay inside a stage, from the input to an output that
//! supports headers. There many consecutive rows have the same headers, so the column is a dictionary of maps.

use super::field::extended;
use super::values::HeaderList;
use crate::error::Result;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, DictionaryArray, Int32Array, MapArray, MapBuilder, MapFieldNames,
    RecordBatch, StringBuilder, new_null_array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use std::sync::Arc;

/// Headers of a record, in its order.
pub trait Headers {
    /// Calls `show` with each name and its value, if it has one.
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>));
}

/// Copies headers.
pub fn copied(headers: &dyn Headers) -> HeaderList {
    let mut copies = vec![];
    headers.each(&mut |name, value| copies.push((name.to_owned(), value.map(<[u8]>::to_vec))));
    copies
}

impl Headers for HeaderList {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        self.iter().for_each(|(name, value)| show(name, value.as_deref()));
    }
}

/// Name of the headers column of events: always the last one, and it never leaves the stage.
pub const NAME: &str = "headers";

/// Returns the type of a column of headers.
pub fn data_type() -> DataType {
    let key = Field::new("key", DataType::Utf8, false);
    let value = Field::new("value", DataType::Binary, true);
    let entry = DataType::Struct(vec![key, value].into());
    DataType::Map(Arc::new(Field::new("entries", entry, false)), false)
}

/// Returns the headers column of events.
pub fn field() -> Field {
    Field::new(NAME, DataType::Dictionary(Box::new(DataType::Int32), Box::new(data_type())), true)
}

/// Whether a field is this column.
pub fn is_headers_field(field: &Field) -> bool {
    field.name() == NAME && matches!(field.data_type(), DataType::Dictionary(..))
}

/// Whether batches of a schema have the column of headers.
pub fn has_headers(schema: &Schema) -> bool {
    schema.fields().last().is_some_and(|last| is_headers_field(last))
}

/// Builds a column of headers.
pub struct Builder(MapBuilder<StringBuilder, BinaryBuilder>);

impl Default for Builder {
    fn default() -> Self {
        let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
        Self(MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new()))
    }
}

impl Builder {
    /// Adds a row, NULL if the record has no headers; returns their bytes.
    pub fn push(&mut self, headers: Option<&dyn Headers>) -> Result<usize> {
        let (mut count, mut bytes) = (0, 0);
        if let Some(headers) = headers {
            headers.each(&mut |name, value| {
                count += 1;
                bytes += name.len() + value.map_or(0, <[u8]>::len);
                self.0.keys().append_value(name);
                self.0.values().append_option(value);
            });
        }
        self.0.append(count > 0)?;
        Ok(bytes)
    }

    /// Returns the column and empties the builder.
    pub fn finish(&mut self) -> MapArray {
        self.0.finish()
    }
}

/// Builds the headers column of events: headers that consecutive rows share are stored once.
#[derive(Default)]
pub struct CodedHeaders {
    codes: Vec<Option<i32>>,
    maps: Builder,
    /// Number of entries in `maps`.
    count: i32,
    /// The last entry as bytes, and a buffer for the next, to compare them.
    last: Vec<u8>,
    next: Vec<u8>,
}

impl CodedHeaders {
    /// Adds a row; returns the bytes it takes.
    pub fn push(&mut self, headers: Option<&dyn Headers>) -> Result<usize> {
        self.next.clear();
        if let Some(headers) = headers {
            headers.each(&mut |name, value| spell(&mut self.next, name, value));
        }
        let mut bytes = 0;
        if !self.next.is_empty() && (self.count == 0 || self.next != self.last) {
            bytes = self.maps.push(headers)?;
            self.count += 1;
            std::mem::swap(&mut self.next, &mut self.last);
            self.codes.push(Some(self.count - 1));
        } else {
            self.codes.push((!self.next.is_empty()).then_some(self.count - 1));
        }
        Ok(bytes)
    }

    /// Returns the column and empties the builder.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.count = 0;
        let codes = Int32Array::from_iter(self.codes.drain(..));
        Ok(Arc::new(DictionaryArray::try_new(codes, Arc::new(self.maps.finish()))?))
    }
}

/// Encodes one header as unambiguous bytes.
fn spell(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    out.extend_from_slice(&name.len().to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    out.push(u8::from(value.is_some()));
    let value = value.unwrap_or_default();
    out.extend_from_slice(&value.len().to_le_bytes());
    out.extend_from_slice(value);
}

/// The headers in one row of a column of maps.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    maps: &'a MapArray,
    row: usize,
}

impl<'a> Stored<'a> {
    /// Returns the headers of `row`, which must exist.
    pub fn new(maps: &'a MapArray, row: usize) -> Self {
        Self { maps, row }
    }
}

impl Headers for Stored<'_> {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let (maps, row) = (self.maps, self.row);
        let (names, values) = (maps.keys().as_string_opt::<i32>(), maps.values().as_binary_opt::<i32>());
        let (Some(names), Some(values), false) = (names, values, maps.is_null(row)) else { return };
        let ends = maps.value_offsets();
        for at in ends[row] as usize..ends[row + 1] as usize {
            show(names.value(at), values.is_valid(at).then(|| values.value(at)));
        }
    }
}

/// The headers column of a batch.
#[derive(Clone, Copy)]
pub struct HeaderRows<'a> {
    codes: &'a Int32Array,
    maps: &'a MapArray,
}

impl<'a> HeaderRows<'a> {
    /// Returns the headers column of a batch, if it has one.
    pub fn of(batch: &'a RecordBatch) -> Option<Self> {
        let last = batch.columns().last().filter(|_| has_headers(batch.schema_ref()))?;
        let dictionary = last.as_dictionary_opt::<Int32Type>()?;
        Some(Self { codes: dictionary.keys(), maps: dictionary.values().as_map_opt()? })
    }

    /// Returns the code of a row, equal for rows with the same entry; `None` if the row has no headers.
    pub fn code(&self, row: usize) -> Option<usize> {
        self.codes.is_valid(row).then(|| usize::try_from(self.codes.value(row)).ok())?
    }

    /// Returns the headers of rows with this code.
    pub fn get(&self, code: usize) -> Stored<'a> {
        Stored::new(self.maps, code)
    }
}

/// Returns a batch without a headers column with one: `headers`, or NULL.
pub fn with(batch: &RecordBatch, headers: Option<HeaderRows<'_>>) -> Result<RecordBatch> {
    let column: ArrayRef = match headers {
        Some(HeaderRows { codes, maps }) => Arc::new(DictionaryArray::try_new(codes.clone(), Arc::new(maps.clone()))?),
        None => new_null_array(field().data_type(), batch.num_rows()),
    };
    let columns = batch.columns().iter().cloned().chain([column]).collect();
    Ok(RecordBatch::try_new(extended(batch.schema_ref(), [field()]), columns)?)
}

/// Returns a batch without its headers column, before it leaves the stage; `None` if it has none.
pub fn without(batch: &RecordBatch) -> Result<Option<RecordBatch>> {
    let kept: Vec<usize> = (1..batch.num_columns()).map(|column| column - 1).collect();
    Ok(has_headers(batch.schema_ref()).then(|| batch.project(&kept)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Pairs = Vec<(String, Option<Vec<u8>>)>;

    struct Given<'a>(&'a Pairs);

    impl Headers for Given<'_> {
        fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
            self.0.iter().for_each(|(name, value)| show(name, value.as_deref()));
        }
    }

    fn pairs(headers: &dyn Headers) -> Pairs {
        let mut pairs = vec![];
        headers.each(&mut |name, value| pairs.push((name.to_owned(), value.map(<[u8]>::to_vec))));
        pairs
    }

    fn batch(dictionary: &mut CodedHeaders) -> RecordBatch {
        let schema = Schema::new(vec![field()]);
        RecordBatch::try_new(Arc::new(schema), vec![dictionary.finish().unwrap()]).unwrap()
    }

    /// Few names and values, so that neighbours are often equal or nearly so.
    fn some() -> impl Strategy<Value = Pairs> {
        let value = prop_oneof![Just(None), Just(Some(vec![])), Just(Some(b"\xff".to_vec())), Just(Some(vec![b'a']))];
        prop::collection::vec((prop_oneof![Just("a".to_owned()), Just("aa".to_owned())], value), 0..3)
    }

    proptest! {
        #[test]
        fn every_row_has_its_own_headers_and_neighbours_with_the_same_share_them(
            batches in prop::collection::vec(prop::collection::vec(some(), 1..20), 1..3)
        ) {
            let mut dictionary = CodedHeaders::default();
            for rows in batches {
                for row in &rows {
                    dictionary.push((!row.is_empty()).then_some(&Given(row) as &dyn Headers)).unwrap();
                }
                let batch = batch(&mut dictionary);
                let found = HeaderRows::of(&batch).unwrap();
                let seen: Vec<Pairs> =
                    (0..rows.len()).map(|row| found.code(row).map_or(vec![], |code| pairs(&found.get(code)))).collect();
                prop_assert_eq!(&seen, &rows);
                for pair in 1..rows.len() {
                    if rows[pair] == rows[pair - 1] {
                        prop_assert_eq!(found.code(pair), found.code(pair - 1));
                    }
                }
            }
        }
    }

    #[test]
    fn a_batch_without_the_column_is_left_as_it_is() {
        let mut dictionary = CodedHeaders::default();
        dictionary.push(None).unwrap();
        let with = batch(&mut dictionary);
        let bare = without(&with).unwrap().unwrap();
        assert_eq!((bare.num_columns(), bare.num_rows()), (0, 1));
        assert!(without(&bare).unwrap().is_none());
    }
}
