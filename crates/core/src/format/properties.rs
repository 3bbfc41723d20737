//! Columns of a file that are properties of events (`columns=auto` of Parquet): rows get them back in `properties`.
//!
//! A column is marked in the metadata of its field, which every Arrow library keeps. Its name is the name of the
//! property.

use super::cell::{CellForm, Column};
use crate::error::{Error, Result};
use crate::json::number::write_float;
use crate::json::text::write_string;
use crate::kind::event::{COLUMNS, column};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// Key in the metadata of a field whose column is a property. The value is `true`, or [`INTEGERS`].
const PROPERTY_KEY: &str = "evt.property";
/// The value of the key for a column of doubles of which the records wrote some as integers: 4 is read back as 4, not
/// as 4.0.
const INTEGERS: &str = "integers";
/// Whole doubles of such a column below this magnitude are read back as integers.
const INTEGER_MAX: f64 = 1e15;

/// Returns the column of a property; `integers`: some of its doubles were written as integers.
pub fn property_field(name: &str, data_type: DataType, integers: bool) -> Field {
    let form = if integers { INTEGERS } else { "true" };
    let metadata = HashMap::from([(PROPERTY_KEY.to_owned(), form.to_owned())]);
    Field::new(name, data_type, true).with_metadata(metadata)
}

/// Whether a column is a property.
pub fn is_property(field: &Field) -> bool {
    field.metadata().contains_key(PROPERTY_KEY)
}

/// Whether rows of a schema have columns that are properties.
pub fn has_properties(schema: &Schema) -> bool {
    schema.fields().iter().any(|field| is_property(field))
}

/// Returns the columns that are properties.
pub fn only_properties(batch: &RecordBatch) -> Result<RecordBatch> {
    project(batch, is_property)
}

/// Returns the columns that are not properties.
pub fn without_properties(batch: &RecordBatch) -> Result<RecordBatch> {
    project(batch, |field| !is_property(field))
}

fn project(batch: &RecordBatch, is_chosen: impl Fn(&Field) -> bool) -> Result<RecordBatch> {
    let fields = batch.schema_ref().fields();
    let chosen: Vec<usize> = (0..fields.len()).filter(|at| is_chosen(&fields[*at])).collect();
    Ok(batch.project(&chosen)?)
}

/// Prepares the values of a property as JSON.
fn column_of<'a>(field: &Field, array: &'a ArrayRef) -> Column<'a> {
    let form = field.metadata().get(PROPERTY_KEY);
    match array.as_primitive_opt::<Float64Type>().filter(|_| form.is_some_and(|form| form == INTEGERS)) {
        Some(numbers) => Column::with(array, move |row, out| match numbers.value(row) {
            // -0 is not an integer.
            whole if whole.fract() == 0.0 && whole.abs() < INTEGER_MAX && whole.to_bits() != (-0.0f64).to_bits() => {
                let _ = write!(out, "{whole}");
            }
            number => write_float(out, number),
        }),
        None => Column::new(field, array, CellForm::Json),
    }
}

/// Returns `batch` with the values of `properties`, a batch of as many rows, in its column `properties`; its text must
/// be JSON.
///
/// Errors: exit status 65 if that is not an object.
pub fn merge(batch: &RecordBatch, properties: &RecordBatch) -> Result<RecordBatch> {
    let name = COLUMNS[column::PROPERTIES];
    let place = batch.schema_ref().fields().iter().position(|field| field.name() == name);
    let Some(place) = place.filter(|_| properties.num_columns() > 0) else { return Ok(batch.clone()) };
    let corrupt = || Error::corrupt("expected a JSON object in the column properties, found other text");
    let objects = batch.column(place).as_string_opt::<i32>().ok_or_else(corrupt)?;
    let fields = properties.schema_ref().fields().iter().zip(properties.columns());
    let mut columns: Vec<(String, Column<'_>)> = fields
        .map(|(field, array)| {
            let mut key = String::new();
            write_string(&mut key, field.name());
            (key + ":", column_of(field, array))
        })
        .collect();
    let mut merged = StringBuilder::with_capacity(objects.len(), 0);
    let mut text = String::new();
    for (row, object) in objects.iter().enumerate() {
        let rest = object.unwrap_or("{}").trim_ascii_start().strip_prefix('{').ok_or_else(corrupt)?.trim_ascii_start();
        text.clear();
        text.push('{');
        for (key, column) in columns.iter_mut().filter(|(_, column)| !column.is_null(row)) {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(key);
            column.write(row, &mut text);
        }
        if text.len() > 1 && !rest.starts_with('}') {
            text.push(',');
        }
        text.push_str(rest);
        merged.append_value(&text);
    }
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns[place] = Arc::new(merged.finish());
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}
