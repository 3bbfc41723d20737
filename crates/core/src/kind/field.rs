//! Column types of the kinds, and how columns of other programs are recognised.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::collections::HashMap;
use std::sync::Arc;

/// Returns the column called `name` if it has this type.
pub fn array<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Option<&'a A> {
    batch.column_by_name(name)?.as_any().downcast_ref()
}

/// Returns a schema with `more` columns after its own.
pub fn extended(schema: &Schema, more: impl IntoIterator<Item = Field>) -> SchemaRef {
    let fields = schema.fields().iter().cloned().chain(more.into_iter().map(Arc::new)).collect();
    Arc::new(Schema { fields, metadata: schema.metadata().clone() })
}

/// Whether a column of evt's kinds is text with a JSON object.
pub fn holds_json(field: &Field) -> bool {
    matches!(field.name().as_str(), "properties" | "dimensions" | "labels") && *field.data_type() == DataType::Utf8
}

/// Whether a column of any program has JSON objects as text, by its name, or JSON values, by its extension.
pub fn claims_json(field: &Field) -> bool {
    let is_named = matches!(field.name().as_str(), "properties" | "dimensions");
    is_named || field.metadata().get(EXTENSION_KEY).is_some_and(|name| name == JSON_EXTENSION)
}

/// Whether a column of any program is an evt id, by its name.
pub fn is_id(field: &Field) -> bool {
    matches!(field.name().as_str(), "event_id" | "metric_id" | "alert_id" | "rule_id")
}

/// Returns a column of JSON values as text, which Arrow readers recognise.
pub fn json(name: &str) -> Field {
    let metadata = [(EXTENSION_KEY, JSON_EXTENSION), (EXTENSION_METADATA_KEY, "")];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Field::new(name, DataType::Utf8, true).with_metadata(metadata.into())
}

/// Whether a column declares JSON values as text.
pub fn is_json(field: &Field) -> bool {
    *field.data_type() == DataType::Utf8
        && field.metadata().get(EXTENSION_KEY).is_some_and(|name| name == JSON_EXTENSION)
}

/// The extension's parameters: arrow.json has none but requires the key.
const EXTENSION_METADATA_KEY: &str = "ARROW:extension:metadata";
const EXTENSION_KEY: &str = "ARROW:extension:name";
const JSON_EXTENSION: &str = "arrow.json";

/// Returns the type of every instant: microseconds since 1970, UTC.
pub fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Returns the type of a column with repeating values: a constant is not sent per row.
pub fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

pub(super) fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

pub(super) fn instant(name: &str) -> Field {
    Field::new(name, instant_type(), false)
}

pub(super) fn id(name: &str) -> Field {
    let metadata = HashMap::from([(EXTENSION_KEY.to_owned(), "arrow.uuid".to_owned())]);
    Field::new(name, DataType::FixedSizeBinary(16), false).with_metadata(metadata)
}

pub(super) fn optional(field: Field) -> Field {
    field.with_nullable(true)
}
