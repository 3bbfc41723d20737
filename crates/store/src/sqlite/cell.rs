//! Converts cells: a column of a batch to SQLite parameters, and a page of rows to columns.

use crate::cells::Cells;
use crate::nested::{headers_json, names_json, parse_headers, parse_names};
use arrow::datatypes::DataType;
use evt_core::error::{Error, Result};
use evt_core::json::text::write_uuid;
use evt_core::kind::values::{CellValue, read_optional};
use evt_core::time::{Parser, write_instant};
use rusqlite::Statement;
use rusqlite::types::{Null, Value, ValueRef};
use std::borrow::Cow;
use std::cell::RefCell;
use uuid::Uuid;

/// Binds the cell of `row` to parameter `index`; `text` is scratch space. Ids are hyphenated text, instants RFC 3339,
/// NaN is the text `NaN`, bytes are TEXT if they are UTF-8, names and headers JSON.
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
        Cells::Text(_) | Cells::Word(..) => statement.raw_bind_parameter(index, cells.text(row)?),
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

/// Binds the cells of `row` to the parameters from 1 on.
pub fn bind_row<'a, 'b: 'a>(
    statement: &mut Statement<'_>,
    cells: impl IntoIterator<Item = &'a Cells<'b>>,
    row: usize,
    text: &mut String,
) -> Result<()> {
    cells.into_iter().enumerate().try_for_each(|(index, cells)| bind(statement, index + 1, cells, row, text))
}

/// Converts the result of a binding, which fails only for a parameter out of range: an error of evt.
fn bound(result: rusqlite::Result<()>) -> Result<()> {
    result.map_err(|error| Error::broken("cannot bind").because(error))
}

/// Formats an id as hyphenated text.
pub fn write_id<'a>(id: &[u8], text: &'a mut String) -> &'a str {
    text.clear();
    write_uuid(text, id);
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

/// Names the values of a column for messages.
pub fn expected(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::FixedSizeBinary(16) => "a UUID",
        DataType::Utf8 | DataType::Dictionary(_, _) => "a text",
        DataType::Timestamp(_, _) => "an instant",
        DataType::Int64 | DataType::Int32 | DataType::Boolean => "a whole number",
        DataType::Float64 => "a number",
        _ => "what evt writes",
    }
}

/// Reads a value; `None` if it is not of the type.
pub fn read<'a>(data_type: &DataType, value: &'a Value, parser: &RefCell<Parser>) -> Option<CellValue<'a>> {
    let value = Some(value).filter(|value| **value != Value::Null);
    Some(match data_type {
        DataType::FixedSizeBinary(16) => {
            let id = |value| Uuid::try_parse(text(value)?).ok().map(Uuid::into_bytes);
            CellValue::Id(read_optional(value, id)?)
        }
        DataType::Utf8 | DataType::Dictionary(_, _) => CellValue::Text(read_optional(value, text)?.map(Cow::Borrowed)),
        DataType::Timestamp(_, _) => {
            CellValue::Instant(read_optional(value, |value| parser.borrow_mut().parse(text(value)?))?)
        }
        DataType::Int64 => CellValue::Long(read_optional(value, whole)?),
        DataType::Int32 => CellValue::Int(read_optional(value, |value| i32::try_from(whole(value)?).ok())?),
        DataType::Float64 => CellValue::Double(read_optional(value, |value| real(ValueRef::from(value)))?),
        DataType::Boolean => CellValue::Bool(read_optional(value, |value| Some(whole(value)? != 0))?),
        DataType::Binary => CellValue::Bytes(read_optional(value, bytes)?.map(Cow::Borrowed)),
        DataType::List(_) => CellValue::Names(read_optional(value, |value| parse_names(text(value)?))?),
        DataType::Map(_, _) => CellValue::Headers(read_optional(value, |value| parse_headers(text(value)?))?),
        _ => return None,
    })
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
