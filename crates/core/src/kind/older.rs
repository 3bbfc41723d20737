//! Rows of older versions of evt, whose kinds had fewer columns: the columns that were added are NULL.

use super::{Kind, alert, dead};
use crate::error::Result;
use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use std::sync::Arc;

/// Returns the columns of each older version of a kind.
fn older_columns(kind: Kind) -> &'static [&'static [&'static str]] {
    match kind {
        Kind::Dead => &[dead::BEFORE_LENGTHS, dead::BEFORE_IDS, dead::BEFORE_METRICS],
        Kind::Alert => &[&alert::OLDER_COLUMNS],
        Kind::Event | Kind::Metric | Kind::Late => &[],
    }
}

/// Returns the kind of a schema that has exactly the columns of an older version.
fn older_kind(schema: &Schema) -> Option<Kind> {
    let kind = Kind::of(schema)?;
    let present = kind.schema();
    let is_alike = |(found, name): (&Arc<arrow::datatypes::Field>, &&str)| {
        let expected = present.field_with_name(name);
        found.name() == name && expected.is_ok_and(|expected| found.data_type().equals_datatype(expected.data_type()))
    };
    let has =
        |names: &&&[&str]| schema.fields().len() == names.len() && schema.fields().iter().zip(**names).all(is_alike);
    older_columns(kind).iter().find(has).map(|_| kind)
}

/// Adds the columns of today to the schema of such rows; any other schema stays as it is.
pub fn widened_schema(schema: &SchemaRef) -> SchemaRef {
    match older_kind(schema) {
        None => schema.clone(),
        Some(kind) => Arc::new(Schema { fields: kind.schema().fields().clone(), ..Schema::clone(schema) }),
    }
}

/// Adds the columns of today to such rows; any others stay as they are.
pub fn widened(batch: RecordBatch) -> Result<RecordBatch> {
    if older_kind(batch.schema_ref()).is_none() {
        return Ok(batch);
    }
    let schema = widened_schema(batch.schema_ref());
    let column = |name: &String, data_type| {
        batch.column_by_name(name).cloned().unwrap_or_else(|| new_null_array(data_type, batch.num_rows()))
    };
    let columns = schema.fields().iter().map(|field| column(field.name(), field.data_type())).collect();
    Ok(RecordBatch::try_new(schema, columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_an_older_version_get_the_columns_of_today() {
        for (kind, names) in
            Kind::ALL.into_iter().flat_map(|kind| older_columns(kind).iter().map(move |names| (kind, names)))
        {
            let present = kind.schema();
            let indices: Vec<usize> = names.iter().map(|name| present.index_of(name).unwrap()).collect();
            let older = Arc::new(present.project(&indices).unwrap());
            assert_eq!(widened_schema(&older), present);
            let rows = widened(RecordBatch::new_empty(older.clone())).unwrap();
            assert_eq!(rows.schema(), present);
            let fewer = Arc::new(older.project(&[0, 1, 2]).unwrap());
            assert_eq!(widened_schema(&fewer), fewer);
            assert_eq!(widened_schema(&present), present);
        }
    }
}
