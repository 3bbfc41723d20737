//! Cells: one column of a batch as SQLite parameters, and a page of rows as columns again.

use crate::error::{Error, Result};
use crate::store::nested::{headers_json, names_json, parse_headers, parse_names};
use crate::time::{Parser, write_instant};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder,
    Float64Array, Int32Array, Int64Array, ListArray, ListBuilder, MapArray, MapBuilder, MapFieldNames, StringArray,
    StringBuilder, StringDictionaryBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use rusqlite::Statement;
use rusqlite::types::{Null, Value, ValueRef};
use std::sync::Arc;
use uuid::Uuid;

/// One column of a batch, ready to be bound row by row.
pub enum Cells<'a> {
    /// An id: hyphenated text.
    Id(&'a FixedSizeBinaryArray),
    /// Text.
    Text(&'a StringArray),
    /// Text that repeats.
    Word(&'a Int32Array, &'a StringArray),
    /// An instant: RFC 3339 text.
    Instant(&'a TimestampMicrosecondArray),
    /// A whole number.
    Long(&'a Int64Array),
    /// A smaller one.
    Whole(&'a Int32Array),
    /// A number; NaN is the text `NaN`.
    Real(&'a Float64Array),
    /// 0 or 1.
    Flag(&'a BooleanArray),
    /// TEXT where it is UTF-8, else BLOB.
    Bytes(&'a BinaryArray),
    /// JSON array of names.
    Names(&'a ListArray),
    /// JSON array of headers.
    Headers(&'a MapArray),
}

impl<'a> Cells<'a> {
    /// The cells of one column; exit 70 for a type no kind has.
    pub fn try_new(array: &'a ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::FixedSizeBinary(16) => Self::Id(array.as_fixed_size_binary()),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Dictionary(_, _) => {
                let words = array.as_dictionary::<Int32Type>();
                Self::Word(words.keys(), words.values().as_string())
            }
            DataType::Timestamp(_, _) => Self::Instant(array.as_primitive::<TimestampMicrosecondType>()),
            DataType::Int64 => Self::Long(array.as_primitive::<Int64Type>()),
            DataType::Int32 => Self::Whole(array.as_primitive::<Int32Type>()),
            DataType::Float64 => Self::Real(array.as_primitive::<Float64Type>()),
            DataType::Boolean => Self::Flag(array.as_boolean()),
            DataType::Binary => Self::Bytes(array.as_binary()),
            DataType::List(_) => Self::Names(array.as_list()),
            DataType::Map(_, _) => Self::Headers(array.as_map()),
            other => return Err(Error::broken(format!("no cell is of type {other}"))),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Id(array) => array.is_null(row),
            Self::Text(array) => array.is_null(row),
            Self::Word(array, _) => array.is_null(row),
            Self::Instant(array) => array.is_null(row),
            Self::Long(array) => array.is_null(row),
            Self::Whole(array) => array.is_null(row),
            Self::Real(array) => array.is_null(row),
            Self::Flag(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
            Self::Names(array) => array.is_null(row),
            Self::Headers(array) => array.is_null(row),
        }
    }

    /// Binds the cell of `row` to parameter `index`; `text` is scratch.
    pub fn bind(&self, statement: &mut Statement<'_>, index: usize, row: usize, text: &mut String) -> Result<()> {
        if self.is_null(row) {
            return bound(statement.raw_bind_parameter(index, Null));
        }
        text.clear();
        bound(match self {
            Self::Id(ids) => statement.raw_bind_parameter(index, write_id(ids.value(row), text)),
            Self::Text(texts) => statement.raw_bind_parameter(index, texts.value(row)),
            Self::Word(keys, values) => {
                let place = usize::try_from(keys.value(row)).map_err(|_| Error::broken("a negative dictionary key"))?;
                statement.raw_bind_parameter(index, values.value(place))
            }
            Self::Instant(instants) => {
                write_instant(text, instants.value(row));
                statement.raw_bind_parameter(index, text.as_str())
            }
            Self::Long(numbers) => statement.raw_bind_parameter(index, numbers.value(row)),
            Self::Whole(numbers) => statement.raw_bind_parameter(index, numbers.value(row)),
            Self::Real(numbers) if numbers.value(row).is_nan() => statement.raw_bind_parameter(index, "NaN"),
            Self::Real(numbers) => statement.raw_bind_parameter(index, numbers.value(row)),
            Self::Flag(flags) => statement.raw_bind_parameter(index, flags.value(row)),
            Self::Bytes(bytes) => match simdutf8::basic::from_utf8(bytes.value(row)) {
                Ok(utf8) => statement.raw_bind_parameter(index, utf8),
                Err(_) => statement.raw_bind_parameter(index, bytes.value(row)),
            },
            Self::Names(lists) => statement.raw_bind_parameter(index, names_json(&lists.value(row))?),
            Self::Headers(maps) => statement.raw_bind_parameter(index, headers_json(&maps.value(row))?),
        })
    }
}

/// A parameter out of range is ours; nothing else can fail before the statement runs.
fn bound(result: rusqlite::Result<()>) -> Result<()> {
    result.map_err(|error| Error::broken("cannot bind").because(error))
}

/// The hyphenated text of an id.
pub fn write_id<'a>(id: &[u8], text: &'a mut String) -> &'a str {
    text.clear();
    let mut buffer = Uuid::encode_buffer();
    text.push_str(Uuid::from_slice(id).unwrap_or_default().hyphenated().encode_lower(&mut buffer));
    text
}

/// The number in a column `value`.
pub fn real(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Real(number) => Some(number),
        ValueRef::Integer(number) => Some(number as f64),
        ValueRef::Text(b"NaN") => Some(f64::NAN),
        _ => None,
    }
}

/// The column `field` from the values of its rows; exit 65 for a value evt would not have written.
pub fn to_array(field: &Field, values: &[Value]) -> Result<ArrayRef> {
    let foreign = || Error::corrupt(format!("column '{}' holds a value evt did not write", field.name()));
    build(field.data_type(), values).ok_or_else(foreign)
}

fn build(data_type: &DataType, values: &[Value]) -> Option<ArrayRef> {
    Some(match data_type {
        DataType::FixedSizeBinary(16) => {
            let mut ids = FixedSizeBinaryBuilder::with_capacity(values.len(), 16);
            for value in values {
                ids.append_value(Uuid::try_parse(text(value)?).ok()?.as_bytes()).ok()?;
            }
            Arc::new(ids.finish())
        }
        DataType::Utf8 => Arc::new(each(values, text)?.into_iter().collect::<StringArray>()),
        DataType::Dictionary(_, _) => {
            let mut words = StringDictionaryBuilder::<Int32Type>::new();
            each(values, text)?.into_iter().for_each(|word| words.append_option(word));
            Arc::new(words.finish())
        }
        DataType::Timestamp(_, _) => {
            let mut parser = Parser::default();
            let instants = each(values, |value| parser.parse(text(value)?))?;
            Arc::new(instants.into_iter().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        DataType::Int64 => Arc::new(each(values, whole)?.into_iter().collect::<Int64Array>()),
        DataType::Int32 => {
            Arc::new(each(values, |value| i32::try_from(whole(value)?).ok())?.into_iter().collect::<Int32Array>())
        }
        DataType::Float64 => {
            Arc::new(each(values, |value| real(ValueRef::from(value)))?.into_iter().collect::<Float64Array>())
        }
        DataType::Boolean => {
            Arc::new(each(values, |value| Some(whole(value)? != 0))?.into_iter().collect::<BooleanArray>())
        }
        DataType::Binary => Arc::new(each(values, bytes)?.into_iter().collect::<BinaryArray>()),
        DataType::List(item) => names_array(item, values)?,
        DataType::Map(_, _) => headers_array(values)?,
        _ => return None,
    })
}

/// `read` of every value, NULL apart; none if a value is of another type.
fn each<'a, T>(values: &'a [Value], mut read: impl FnMut(&'a Value) -> Option<T>) -> Option<Vec<Option<T>>> {
    values.iter().map(|value| if *value == Value::Null { Some(None) } else { read(value).map(Some) }).collect()
}

fn text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn whole(value: &Value) -> Option<i64> {
    if let Value::Integer(number) = value { Some(*number) } else { None }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Text(text) => Some(text.as_bytes()),
        Value::Blob(bytes) => Some(bytes),
        _ => None,
    }
}

fn names_array(item: &Arc<Field>, values: &[Value]) -> Option<ArrayRef> {
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(item.clone());
    for value in values {
        parse_names(text(value)?)?.iter().for_each(|name| lists.values().append_value(name));
        lists.append(true);
    }
    Some(Arc::new(lists.finish()))
}

fn headers_array(values: &[Value]) -> Option<ArrayRef> {
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    for value in values {
        if *value == Value::Null {
            maps.append(false).ok()?;
            continue;
        }
        for (key, value) in parse_headers(text(value)?)? {
            maps.keys().append_value(key);
            maps.values().append_option(value);
        }
        maps.append(true).ok()?;
    }
    Some(Arc::new(maps.finish()))
}
