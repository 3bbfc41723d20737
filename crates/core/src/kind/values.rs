//! Builds columns of the kinds from single values, for rows that do not come as Arrow arrays.

use super::field::dictionary_type;
use crate::error::Result;
use arrow::array::{
    Array, ArrayBuilder, ArrayRef, BinaryBuilder, BooleanArray, BooleanBuilder, DictionaryArray,
    FixedSizeBinaryBuilder, Float64Builder, Int32Array, Int32Builder, Int64Builder, ListBuilder, MapBuilder,
    StringArray, StringBuilder, StringDictionaryBuilder, TimestampMicrosecondBuilder, make_array, make_builder,
    new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Field, Int32Type};
use std::borrow::Cow;
use std::sync::Arc;

/// Headers of a record: names with their values.
pub type HeaderList = Vec<(String, Option<Vec<u8>>)>;

/// The value of one row in a column of its type; `None` is NULL.
pub enum CellValue<'a> {
    /// An id.
    Id(Option<[u8; 16]>),
    /// Text, also in a dictionary.
    Text(Option<Cow<'a, str>>),
    /// An instant (µs).
    Instant(Option<i64>),
    /// An integer of 64 bits.
    Long(Option<i64>),
    /// An integer of 32 bits.
    Int(Option<i32>),
    /// A number.
    Double(Option<f64>),
    /// A boolean.
    Bool(Option<bool>),
    /// Bytes.
    Bytes(Option<Cow<'a, [u8]>>),
    /// A list of names.
    Names(Option<Vec<String>>),
    /// Headers.
    Headers(Option<HeaderList>),
}

impl CellValue<'_> {
    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        match self {
            Self::Id(value) => value.is_none(),
            Self::Text(value) => value.is_none(),
            Self::Instant(value) | Self::Long(value) => value.is_none(),
            Self::Int(value) => value.is_none(),
            Self::Double(value) => value.is_none(),
            Self::Bool(value) => value.is_none(),
            Self::Bytes(value) => value.is_none(),
            Self::Names(value) => value.is_none(),
            Self::Headers(value) => value.is_none(),
        }
    }
}

/// Reads a value that may be absent; `None` if it is present and `read` refuses it.
pub fn read_optional<V, T>(value: Option<V>, read: impl FnOnce(V) -> Option<T>) -> Option<Option<T>> {
    value.map_or(Some(None), |value| read(value).map(Some))
}

/// Builds a column of one of the types of the kinds.
pub struct ColumnBuilder(Box<dyn ArrayBuilder>);

impl ColumnBuilder {
    /// Creates an empty column for `field`.
    pub fn new(field: &Field) -> Self {
        Self(make_builder(field.data_type(), 0))
    }

    /// Appends a value; `None` if it is not of the column's type.
    pub fn append(&mut self, value: CellValue<'_>) -> Option<()> {
        match value {
            CellValue::Id(Some(id)) => self.typed::<FixedSizeBinaryBuilder>()?.append_value(id).ok()?,
            CellValue::Id(None) => self.typed::<FixedSizeBinaryBuilder>()?.append_null(),
            CellValue::Text(text) => match self.typed::<StringBuilder>() {
                Some(texts) => texts.append_option(text),
                None => self.typed::<StringDictionaryBuilder<Int32Type>>()?.append_option(text),
            },
            CellValue::Instant(micros) => self.typed::<TimestampMicrosecondBuilder>()?.append_option(micros),
            CellValue::Long(number) => self.typed::<Int64Builder>()?.append_option(number),
            CellValue::Int(number) => self.typed::<Int32Builder>()?.append_option(number),
            CellValue::Double(number) => self.typed::<Float64Builder>()?.append_option(number),
            CellValue::Bool(truth) => self.typed::<BooleanBuilder>()?.append_option(truth),
            CellValue::Bytes(bytes) => self.typed::<BinaryBuilder>()?.append_option(bytes),
            CellValue::Names(names) => {
                let lists = self.typed::<ListBuilder<Box<dyn ArrayBuilder>>>()?;
                let items = lists.values().as_any_mut().downcast_mut::<StringBuilder>()?;
                names.iter().flatten().for_each(|name| items.append_value(name));
                lists.append(names.is_some());
            }
            CellValue::Headers(headers) => {
                let maps = self.typed::<MapBuilder<Box<dyn ArrayBuilder>, Box<dyn ArrayBuilder>>>()?;
                for (name, value) in headers.iter().flatten() {
                    maps.keys().as_any_mut().downcast_mut::<StringBuilder>()?.append_value(name);
                    maps.values().as_any_mut().downcast_mut::<BinaryBuilder>()?.append_option(value.as_deref());
                }
                maps.append(headers.is_some()).ok()?;
            }
        }
        Some(())
    }

    /// Returns the column and begins an empty one.
    pub fn finish(&mut self) -> ArrayRef {
        self.0.finish()
    }

    fn typed<B: ArrayBuilder>(&mut self) -> Option<&mut B> {
        self.0.as_any_mut().downcast_mut()
    }
}

/// Returns a column that is not read: NULL, or empty values if the field is not nullable.
pub fn blank(field: &Field, rows: usize) -> Result<ArrayRef> {
    if *field.data_type() == dictionary_type() && !field.is_nullable() {
        // Without a value its keys would be invalid.
        let texts =
            DictionaryArray::<Int32Type>::new(Int32Array::from(vec![0; rows]), Arc::new(StringArray::from(vec![""])));
        return Ok(Arc::new(texts));
    }
    let nulls = new_null_array(field.data_type(), rows);
    if field.is_nullable() {
        return Ok(nulls);
    }
    Ok(make_array(nulls.to_data().into_builder().nulls(None).build()?))
}
/// Returns the rows in which a value is true, not NULL.
pub fn truth(array: &BooleanArray) -> BooleanBuffer {
    match array.nulls() {
        None => array.values().clone(),
        Some(nulls) => array.values() & nulls.inner(),
    }
}
