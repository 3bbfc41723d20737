//! Converts cells: a column of a batch to SQLite parameters, and a page of rows to columns.

use crate::error::{Error, Result};
use crate::store::cells::{Cells, word};
use crate::store::nested::{headers_json, names_json, parse_headers, parse_names};
use crate::time::{Parser, write_instant};
use arrow::array::{
    ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, FixedSizeBinaryBuilder, Float64Array, Int32Array, Int64Array,
    ListBuilder, MapBuilder, MapFieldNames, StringArray, StringBuilder, StringDictionaryBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type};
use rusqlite::Statement;
use rusqlite::types::{Null, Value, ValueRef};
use std::sync::Arc;
use uuid::Uuid;

/// Binds the cell of `row` to parameter `index`; `text` is scratch space. Ids are hyphenated text, instants RFC 3339, NaN is
/// the text `NaN`, bytes are TEXT if they are UTF-8, names and headers JSON.
pub fn bind(
    statement: &mut Statement<'_>,
    index: usize,
    cells: &Cells<'_>,
    row: usize,
    text: &mut String,
) -> Result<()> {
    if cells.is_null(row) {
        return bound(statement.raw_bind_parameter(index, Null));
    }
    text.clear();
    bound(match cells {
        Cells::Id(ids) => statement.raw_bind_parameter(index, write_id(ids.value(row), text)),
        Cells::Text(texts) => statement.raw_bind_parameter(index, texts.value(row)),
        Cells::Word(keys, values) => statement.raw_bind_parameter(index, word(keys, values, row)?),
        Cells::Instant(instants) => {
            write_instant(text, instants.value(row));
            statement.raw_bind_parameter(index, text.as_str())
        }
        Cells::Long(numbers) => statement.raw_bind_parameter(index, numbers.value(row)),
        Cells::Whole(numbers) => statement.raw_bind_parameter(index, numbers.value(row)),
        Cells::Real(numbers) if numbers.value(row).is_nan() => statement.raw_bind_parameter(index, "NaN"),
        Cells::Real(numbers) => statement.raw_bind_parameter(index, numbers.value(row)),
        Cells::Flag(flags) => statement.raw_bind_parameter(index, flags.value(row)),
        Cells::Bytes(bytes) => match simdutf8::basic::from_utf8(bytes.value(row)) {
            Ok(utf8) => statement.raw_bind_parameter(index, utf8),
            Err(_) => statement.raw_bind_parameter(index, bytes.value(row)),
        },
        Cells::Names(lists) => statement.raw_bind_parameter(index, names_json(&lists.value(row))?),
        Cells::Headers(maps) => statement.raw_bind_parameter(index, headers_json(&maps.value(row))?),
    })
}

/// Converts the result of a binding, which fails only for a parameter out of range: an error of evt.
fn bound(result: rusqlite::Result<()>) -> Result<()> {
    result.map_err(|error| Error::broken("cannot bind").because(error))
}

/// Formats an id as hyphenated text.
pub fn write_id<'a>(id: &[u8], text: &'a mut String) -> &'a str {
    text.clear();
    let mut buffer = Uuid::encode_buffer();
    text.push_str(Uuid::from_slice(id).unwrap_or_default().hyphenated().encode_lower(&mut buffer));
    text
}

/// Returns the number in a column `value`.
pub fn real(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Real(number) => Some(number),
        ValueRef::Integer(number) => Some(number as f64),
        ValueRef::Text(b"NaN") => Some(f64::NAN),
        _ => None,
    }
}

/// Builds the column `field` from the values of its rows. Errors: exit status 65 for a value that evt does not write.
pub fn to_array(field: &Field, values: &[Value]) -> Result<ArrayRef> {
    let foreign = || Error::corrupt(format!("column '{}' has a value evt did not write", field.name()));
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

/// Applies `read` to every value except NULL; `None` if a value is of another type.
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
