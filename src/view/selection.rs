//! Selects columns of a stream, and values below them, in the order given.
//!
//! A name is a column if there is one, else a path into the object column (`properties`, a metric's `dimensions`), as
//! in expressions: `country`, `repo.name`, `properties.country`, `"a.b"` for a name with a dot or comma. A path yields
//! a column of JSON values as received, NULL if a row has none. If a name occurs twice in an object, the last value
//! counts.

use crate::error::{Error, Result};
use crate::json::text::unescape;
use crate::json::walk::{last_member, members};
use crate::kind::{Kind, SELECTION_KEY, event, holds_json, json, metric};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampMicrosecondType};
use std::collections::HashMap;
use std::sync::Arc;

/// A selected name: the label of the resulting column and the path to its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The label of the column.
    pub label: String,
    /// The parts of the path.
    pub parts: Vec<String>,
}

impl Name {
    /// Returns the name of a column.
    pub fn column(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { label: name.clone(), parts: vec![name] }
    }
}

/// The source of a selected column.
enum Chosen {
    Column(usize),
    Path { object: usize, parts: Vec<String> },
}

/// Selects columns of batches of one schema.
pub struct Selection {
    chosen: Vec<Chosen>,
    schema: SchemaRef,
}

impl Selection {
    /// Resolves `names` for batches of `schema`.
    ///
    /// Errors: exit status 2 if a column does not exist or occurs twice.
    pub fn try_new(names: &[Name], schema: &Schema) -> Result<Self> {
        let mut chosen = vec![];
        let mut fields: Vec<Arc<Field>> = vec![];
        for name in names {
            if fields.iter().any(|field| *field.name() == name.label) {
                return Err(Error::usage(format!("--columns: duplicate column {}", name.label)));
            }
            let one = choose(&name.parts, schema)?;
            fields.push(match &one {
                Chosen::Column(index) if holds_json(schema.field(*index)) => json(&name.label).into(),
                Chosen::Column(index) => schema.field(*index).clone().with_name(&name.label).into(),
                Chosen::Path { .. } => json(&name.label).into(),
            });
            chosen.push(one);
        }
        let kind = Kind::of(schema).map_or("", Kind::name);
        let metadata = HashMap::from([(SELECTION_KEY.to_owned(), kind.to_owned())]);
        Ok(Self { chosen, schema: Arc::new(Schema::new_with_metadata(fields, metadata)) })
    }

    /// Returns the schema of the selected columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Returns the selected columns of a batch.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.chosen.iter().map(|chosen| match chosen {
            Chosen::Column(index) => batch.column(*index).clone(),
            Chosen::Path { object, parts } => values_of(batch.column(*object), parts),
        });
        Ok(RecordBatch::try_new(self.schema.clone(), columns.collect())?)
    }
}

fn choose(parts: &[String], schema: &Schema) -> Result<Chosen> {
    let (first, rest) = parts.split_first().ok_or_else(|| Error::usage("--columns: expected a name"))?;
    let named = schema.index_of(first).ok().filter(|index| holds_json(schema.field(*index)));
    let object = named.or_else(|| schema.fields().iter().position(|field| holds_json(field)));
    if let (Some(object), false) = (object, rest.is_empty())
        && schema.field(object).name() == first
    {
        return Ok(Chosen::Path { object, parts: rest.to_vec() });
    }
    match (schema.index_of(first), object) {
        (Ok(index), _) if rest.is_empty() => Ok(Chosen::Column(index)),
        (Ok(_), _) => Err(Error::usage(format!("--columns {}: {first} is a column without members", parts.join(".")))),
        (Err(_), Some(object)) => Ok(Chosen::Path { object, parts: parts.to_vec() }),
        (Err(_), None) => {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let name = parts.join(".");
            Err(Error::usage(format!("--columns {name}: unknown column; expected one of {}", names.join(" "))))
        }
    }
}

fn values_of(objects: &ArrayRef, parts: &[String]) -> ArrayRef {
    let Some(objects) = objects.as_string_opt::<i32>() else {
        return Arc::new(StringArray::new_null(objects.len()));
    };
    let mut values = StringBuilder::with_capacity(objects.len(), 0);
    for object in objects {
        values.append_option(object.and_then(|object| value_at(object, parts)).filter(|value| *value != "null"));
    }
    Arc::new(values.finish())
}

/// Returns the value at a path into a JSON object, as received.
fn value_at<'a>(object: &'a str, parts: &[String]) -> Option<&'a str> {
    let mut value = object;
    for part in parts {
        if !value.starts_with('{') {
            return None;
        }
        value = last_member(value, part)?;
    }
    Some(value)
}

/// Parses names such as `a,repo.name,"x.y"`.
///
/// Errors: exit status 2 if a name is empty or a quote is not closed.
pub fn parse_names(text: &str) -> Result<Vec<Name>> {
    let mut names = vec![];
    let mut name = Name::column("");
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                names.push(std::mem::replace(&mut name, Name::column("")));
                continue;
            }
            '.' if !quoted => name.parts.push(String::new()),
            c => name.parts.last_mut().into_iter().for_each(|part| part.push(c)),
        }
        if c != '"' {
            name.label.push(c);
        }
    }
    names.push(name);
    if quoted || names.iter().any(|name| name.parts.iter().any(String::is_empty)) {
        return Err(Error::usage(format!("--columns {text}: expected names like a,repo.name,\"x.y\"")));
    }
    Ok(names)
}

/// The fields that were defaults in all records, so that the table omits them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsaid {
    /// Its `source`.
    pub source: bool,
    /// Its `event_type`: the record's fields are then shown as columns of their own.
    pub event_type: bool,
}

/// Returns the columns of a kind's table on a terminal, chosen by its first rows.
pub fn default_names(kind: Kind, first: &RecordBatch, unsaid: Unsaid) -> Vec<Name> {
    let names: &[&str] = match kind {
        Kind::Event => return event_names(first, unsaid),
        Kind::Late => &["event_time", "source", "event_type", "user_id", "lateness_ms", "late_for", "properties"],
        Kind::Metric => &metric::COLUMNS,
        Kind::Dead => &["failed_at", "error_type", "source_topic", "offset", "error_message", "original_payload"],
        Kind::Alert => &["at", "state", "severity", "rule", "dimensions", "value", "threshold", "reason", "summary"],
    };
    names.iter().map(|name| Name::column(*name)).collect()
}

fn event_names(first: &RecordBatch, unsaid: Unsaid) -> Vec<Name> {
    let has_user = first.column_by_name("user_id").is_some_and(|users| users.null_count() < users.len());
    let shown = [
        ("event_time", has_time(first)),
        ("source", !unsaid.source),
        ("event_type", !unsaid.event_type),
        ("user_id", has_user),
        ("properties", !unsaid.event_type),
    ];
    let mut names: Vec<Name> = shown.iter().filter(|(_, shown)| *shown).map(|(name, _)| Name::column(*name)).collect();
    if unsaid.event_type {
        names.extend(property_names(first));
    }
    if names.is_empty() {
        names.push(Name::column("properties"));
    }
    names
}

/// Whether some row has a time of its own, not the run's clock.
pub fn has_time(events: &RecordBatch) -> bool {
    let instants = |name: &str| events.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>();
    let (Some(times), Some(ingested), Some(server)) =
        (instants("event_time"), instants("ingested_at"), instants("server_timestamp"))
    else {
        return true;
    };
    (0..events.num_rows()).any(|row| server.is_valid(row) || times.value(row) != ingested.value(row))
}

/// Number of rows that are scanned for property names.
const NAMED_ROWS: usize = 256;
/// Maximum number of properties with a column of their own.
const NAMES_MAX: usize = 64;

/// Returns the property names of the first rows, in order of appearance, without names of envelope columns.
fn property_names(first: &RecordBatch) -> Vec<Name> {
    let mut names: Vec<Name> = vec![];
    let objects = first.column_by_name("properties").and_then(|objects| objects.as_string_opt::<i32>());
    for object in objects.into_iter().flatten().flatten().take(NAMED_ROWS) {
        members(object, |key, _| {
            let label = unescape(key).into_owned();
            let known = names.iter().any(|name| name.label == label) || event::COLUMNS.contains(&label.as_str());
            if !known && names.len() < NAMES_MAX {
                let parts = vec!["properties".to_owned(), label.clone()];
                names.push(Name { label, parts });
            }
            true
        });
    }
    names
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
