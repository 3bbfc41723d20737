//! The five kinds of stream: one Arrow schema each.
//!
//! The kind is in the schema metadata under [`KIND_KEY`]. Timestamps are UTC microseconds; ids are
//! `FixedSizeBinary(16)` with the `arrow.uuid` extension; strings are plain `Utf8` (nanoarrow reads no views).
//!
//! ```text
//! builders (letters, alerts, metric) ─► batch, whose schema names the kind ─► frames, files, stores
//! batch of an older version ─► older ─► columns of this version
//! ```
//!
//! - `event.rs`, `metric.rs`, `dead.rs`, `late.rs`, `alert.rs`: the columns of each kind; `field.rs`: their types.
//! - `record_id.rs`: ids that are derived from the position and the bytes of a record; `named_id.rs`: UUIDv5 of names.
//! - `record_parts.rs`: key, timestamp and headers of Kafka records as columns.
//! - `rows.rs`: typed access to the rows of a batch of events.
//! - `alerts.rs`: batches of alerts; `letters.rs`: batches of dead letters; `headers.rs`: record headers as columns.
//! - `older.rs`: rows of older versions, with fewer columns.
//! - `values.rs`: builds columns from single values.
//! - `span.rs`: spans of time; `partition.rs`: the names of partitions.
//! - `shadow.rs`: warns of properties that have the name of a column.

pub mod alert;
pub mod alerts;
pub mod dead;
pub mod event;
mod field;
pub mod headers;
pub mod late;
pub mod letters;
pub mod metric;
pub mod named_id;
pub mod older;
mod partition;
pub mod record_id;
pub mod record_parts;
pub mod rows;
pub mod shadow;
pub mod span;
pub mod values;

pub use field::{array, claims_json, dictionary_type, extended, holds_json, instant_type, is_id, is_json, json};
pub use partition::{PartitionColumns, PartitionName};

use arrow::datatypes::{Field, Schema, SchemaRef};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

/// Schema metadata key of the kind's name.
pub const KIND_KEY: &str = "evt.kind";
/// Schema metadata key of the names of the dimensions that the metrics of a stream have, a JSON array in the order of
/// the spec.
pub const DIMENSIONS_KEY: &str = "evt.dimensions";
/// Schema metadata key of the names of the metrics whose windows are sessions, a JSON array; absent if there are none.
pub const SESSIONS_KEY: &str = "evt.sessions";
/// Schema metadata key of the names of the metrics whose windows may fire again, a JSON array; absent if there are
/// none.
pub const REFIRING_KEY: &str = "evt.refiring";
/// Schema metadata key of the frame format's version.
pub const VERSION_KEY: &str = "evt.version";
/// The version of the frame format this crate writes.
pub const VERSION: &str = "1";

/// Schema metadata key of a selection: rows with some columns of a kind, or with values inside such columns. These rows
/// have no kind.
pub const SELECTION_KEY: &str = "evt.selection";

/// Returns the schema of a selection; `of` says of what.
pub fn selection_schema(fields: Vec<Field>, of: &str) -> SchemaRef {
    Arc::new(Schema::new_with_metadata(fields, HashMap::from([(SELECTION_KEY.to_owned(), of.to_owned())])))
}

/// Shows the word on the command line.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kind of a stream's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Events: facts with an id and an event time.
    Event,
    /// Metrics: the result of a window.
    Metric,
    /// Dead letters: records that failed.
    Dead,
    /// Late events: an event and the metrics it is late for.
    Late,
    /// Alerts: a rule that fires or is resolved.
    Alert,
}

impl Kind {
    /// Every kind, in the order of the man page.
    pub const ALL: [Kind; 5] = [Kind::Event, Kind::Metric, Kind::Dead, Kind::Late, Kind::Alert];

    /// Returns the word in the schema metadata and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Metric => "metric",
            Kind::Dead => "dead",
            Kind::Late => "late",
            Kind::Alert => "alert",
        }
    }

    /// Returns the kind of a word.
    pub fn from_name(name: &str) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the table of this kind in a store.
    pub fn table(self) -> &'static str {
        match self {
            Kind::Event => "raw_events",
            Kind::Metric => "aggregated_metrics",
            Kind::Dead => "dead_letters",
            Kind::Late => "late_events",
            Kind::Alert => "alerts",
        }
    }

    /// Returns the column with the instant by which rows of this kind are selected, described and stored.
    pub fn time_column(self) -> &'static str {
        match self {
            Kind::Event | Kind::Late => "event_time",
            Kind::Metric => "window_start",
            Kind::Dead => "failed_at",
            Kind::Alert => "since",
        }
    }

    /// Returns the Arrow schema of this kind, with its metadata.
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

    /// Returns the schema of this kind. With `has_raw`, the schemas of events and late events end with the column
    /// `raw`; other kinds have no such column.
    pub fn schema_with(self, has_raw: bool) -> SchemaRef {
        let schema = self.schema();
        if !has_raw || !matches!(self, Kind::Event | Kind::Late) {
            return schema;
        }
        extended(&schema, [event::raw_field()])
    }

    /// Returns the schema of this kind with what the schema of a file says of all its rows: the names of their
    /// dimensions.
    pub fn schema_of_file(self, file: &Schema, has_raw: bool) -> SchemaRef {
        match dimensions_of(file).filter(|_| self == Kind::Metric) {
            Some(dimensions) => schema_of_metrics(&dimensions),
            None => self.schema_with(has_raw),
        }
    }

    /// Whether rows of a schema begin with this kind's columns, whatever the metadata of their fields.
    pub fn leads(self, schema: &Schema) -> bool {
        self.schema().fields().iter().enumerate().all(|(at, field)| {
            schema.fields().get(at).is_some_and(|got| {
                let alike = got.data_type().equals_datatype(field.data_type());
                got.name() == field.name() && alike && (field.is_nullable() || !got.is_nullable())
            })
        })
    }

    /// Returns the kind whose table, or whose own name, this is.
    pub fn of_table(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.table() == name || kind.name() == name)
    }

    /// Returns the kind that a schema declares.
    pub fn of(schema: &Schema) -> Option<Kind> {
        schema.metadata().get(KIND_KEY).and_then(|name| Kind::from_name(name))
    }
}

/// Returns the schema of metrics that have these dimensions.
pub fn schema_of_metrics(dimensions: &[String]) -> SchemaRef {
    with_names(&Kind::Metric.schema(), DIMENSIONS_KEY, dimensions)
}

/// Returns a schema of metrics with the names of some of them ([`SESSIONS_KEY`], [`REFIRING_KEY`]).
pub fn with_metrics(schema: &SchemaRef, key: &str, metrics: &[&str]) -> SchemaRef {
    if metrics.is_empty() { schema.clone() } else { with_names(schema, key, metrics) }
}

fn with_names<T: Serialize>(schema: &Schema, key: &str, names: &[T]) -> SchemaRef {
    let mut named = schema.clone();
    named.metadata.insert(key.to_owned(), serde_json::json!(names).to_string());
    Arc::new(named)
}

/// Returns the names of metrics that the schema of a stream has ([`SESSIONS_KEY`], [`REFIRING_KEY`]).
pub fn metrics_of(schema: &Schema, key: &str) -> BTreeSet<String> {
    let names = schema.metadata().get(key).and_then(|names| serde_json::from_str(names).ok());
    names.unwrap_or_default()
}

/// Returns the names of the dimensions of the metrics of a stream, if its schema names them.
pub fn dimensions_of(schema: &Schema) -> Option<Vec<String>> {
    serde_json::from_str(schema.metadata().get(DIMENSIONS_KEY)?).ok()
}

/// Whether rows of a schema were made by evt: of a kind, or a selection of one.
pub fn is_own(schema: &Schema) -> bool {
    Kind::of(schema).is_some() || schema.metadata().contains_key(SELECTION_KEY)
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
