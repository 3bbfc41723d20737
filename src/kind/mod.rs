//! The five kinds of stream: one Arrow schema and one module each.
//!
//! The kind travels in the schema metadata under [`KIND_KEY`]. Timestamps are UTC microseconds; ids are
//! `FixedSizeBinary(16)` with the `arrow.uuid` extension; strings are plain `Utf8` (nanoarrow reads no views).

pub mod alert;
pub mod dead;
pub mod event;
pub mod headers;
pub mod late;
pub mod metric;
pub mod rows;
pub mod shadow;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::collections::HashMap;
use std::sync::Arc;

/// Schema metadata key of the kind's name.
pub const KIND_KEY: &str = "evt.kind";
/// Schema metadata key of the frame format's version.
pub const VERSION_KEY: &str = "evt.version";
/// The version of the frame format this crate writes.
pub const VERSION: &str = "1";

/// Schema metadata key of rows that are some columns of a kind, or values below them, and so of no kind any more.
pub const SELECTION_KEY: &str = "evt.selection";

/// What the rows of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Events: what happened.
    Event,
    /// Metrics: the result of a window.
    Metric,
    /// Dead letters: records that failed.
    Dead,
    /// Late events: an event and the metrics it came too late for.
    Late,
    /// Alerts: a rule that fires or is resolved.
    Alert,
}

impl Kind {
    /// Every kind, in the order of the man page.
    pub const ALL: [Kind; 5] = [Kind::Event, Kind::Metric, Kind::Dead, Kind::Late, Kind::Alert];

    /// The word in the schema metadata and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Metric => "metric",
            Kind::Dead => "dead",
            Kind::Late => "late",
            Kind::Alert => "alert",
        }
    }

    /// The kind a word names.
    pub fn from_name(name: &str) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The table a store keeps this kind in.
    pub fn table(self) -> &'static str {
        match self {
            Kind::Event => "raw_events",
            Kind::Metric => "aggregated_metrics",
            Kind::Dead => "dead_letters",
            Kind::Late => "late_events",
            Kind::Alert => "alerts",
        }
    }

    /// The Arrow schema of this kind, with its metadata.
    pub fn schema(self) -> SchemaRef {
        let fields = match self {
            Kind::Event => event::fields(),
            Kind::Metric => metric::fields(),
            Kind::Dead => dead::fields(),
            Kind::Late => late::fields(),
            Kind::Alert => alert::fields(),
        };
        let metadata = HashMap::from([
            (KIND_KEY.to_owned(), self.name().to_owned()),
            (VERSION_KEY.to_owned(), VERSION.to_owned()),
        ]);
        Arc::new(Schema::new_with_metadata(fields, metadata))
    }

    /// Whether rows of a schema begin with this kind's columns, whatever else their fields say of themselves.
    pub fn leads(self, schema: &Schema) -> bool {
        self.schema().fields().iter().enumerate().all(|(at, field)| {
            schema.fields().get(at).is_some_and(|got| {
                let alike = got.data_type().equals_datatype(field.data_type());
                got.name() == field.name() && alike && (field.is_nullable() || !got.is_nullable())
            })
        })
    }

    /// The kind a schema says it is of.
    pub fn of(schema: &Schema) -> Option<Kind> {
        schema.metadata().get(KIND_KEY).and_then(|name| Kind::from_name(name))
    }
}

/// Whether rows of a schema were made by evt: of a kind, or a selection of one.
pub fn is_own(schema: &Schema) -> bool {
    Kind::of(schema).is_some() || schema.metadata().contains_key(SELECTION_KEY)
}

/// Whether a column of our kinds is text that holds a JSON object.
pub fn holds_json(field: &Field) -> bool {
    matches!(field.name().as_str(), "properties" | "dimensions") && *field.data_type() == DataType::Utf8
}

/// Whether a column of rows of any program holds a JSON object as text, by its name, or a JSON value, by its extension.
pub fn claims_json(field: &Field) -> bool {
    let is_named = matches!(field.name().as_str(), "properties" | "dimensions");
    is_named || field.metadata().get(EXTENSION_KEY).is_some_and(|name| name == JSON_EXTENSION)
}

/// Whether a column of rows of any program is one of our ids, by its name.
pub fn is_id(field: &Field) -> bool {
    matches!(field.name().as_str(), "event_id" | "metric_id")
}

/// A column of JSON values as text, which Arrow's readers know as such.
pub fn json(name: &str) -> Field {
    let metadata = [(EXTENSION_KEY, JSON_EXTENSION), (EXTENSION_METADATA_KEY, "")];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Field::new(name, DataType::Utf8, true).with_metadata(metadata.into())
}

/// Whether a column says that it holds JSON values as text.
pub fn is_json(field: &Field) -> bool {
    *field.data_type() == DataType::Utf8
        && field.metadata().get(EXTENSION_KEY).is_some_and(|name| name == JSON_EXTENSION)
}

/// The extension's own parameters: arrow.json has none and must say so.
const EXTENSION_METADATA_KEY: &str = "ARROW:extension:metadata";
const EXTENSION_KEY: &str = "ARROW:extension:name";
const JSON_EXTENSION: &str = "arrow.json";

/// The type of every instant: microseconds since 1970, UTC.
pub fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type of a column whose values repeat: nothing constant is sent per row.
pub fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

fn instant(name: &str) -> Field {
    Field::new(name, instant_type(), false)
}

fn id(name: &str) -> Field {
    let metadata = HashMap::from([(EXTENSION_KEY.to_owned(), "arrow.uuid".to_owned())]);
    Field::new(name, DataType::FixedSizeBinary(16), false).with_metadata(metadata)
}

fn optional(field: Field) -> Field {
    field.with_nullable(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name_and_in_its_schema() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
            assert_eq!(Kind::of(&kind.schema()), Some(kind));
        }
    }
}
