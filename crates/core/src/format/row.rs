//! Rebuilds rows of evt's own kinds from JSON text: what `jsonl`, `csv` and `avro` wrote of a metric, a dead letter, a
//! late event or an alert becomes the same row again.
//!
//! Strict: every column must have its type, and no other names are allowed. A fault concerns only its row. A value may
//! be a string even if its type is another (CSV has only strings); `NAME_base64` has the bytes of `NAME`; a missing
//! text of a dead letter that may be empty is empty, because CSV cannot distinguish the two.

use crate::error::Result;
use crate::expr::canonical_dimensions;
use crate::json::{base64, scan, text, walk};
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::holds_json;
use crate::kind::letters;
use crate::kind::values::{CellValue, ColumnBuilder, HeaderList, read_optional};
use crate::time::parse_instant;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use std::borrow::Cow;
use std::str::FromStr;

/// Returns the kind whose records have these names.
pub fn kind_of(names: &[&str]) -> Kind {
    let has = |name: &str| names.contains(&name);
    if has("metric_name") && has("window_start") {
        Kind::Metric
    } else if (has("original_payload") || has("original_payload_base64")) && has("error_type") {
        Kind::Dead
    } else if has("late_for") {
        Kind::Late
    } else if has("rule") && has("state") {
        Kind::Alert
    } else {
        Kind::Event
    }
}

/// Returns the top-level names of a JSON object, unescaped, for [`kind_of`].
pub fn names_of(object: &str) -> Vec<Cow<'_, str>> {
    let mut names = vec![];
    walk::members(object, |name, _| {
        names.push(text::unescape(name));
        true
    });
    names
}

/// Texts of a dead letter that may be empty.
const MAY_BE_EMPTY: [&str; 5] = ["original_payload", "error_message", "source_topic", "partition", "producer_host"];

/// Builds batches of one schema, row by row.
pub struct Builder {
    schema: SchemaRef,
    columns: Vec<ColumnBuilder>,
    rows: usize,
    bytes: usize,
}

/// A member of the record: its text, and whether its name is `NAME_base64`.
type Slot<'a> = Option<(&'a str, bool)>;

impl Builder {
    /// Creates a builder for rows of a kind.
    pub fn new(kind: Kind) -> Self {
        Self::with_schema(kind.schema())
    }

    /// Creates a builder for a kind's schema with added columns (`raw`).
    pub fn with_schema(schema: SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|field| ColumnBuilder::new(field)).collect();
        Self { schema, columns, rows: 0, bytes: 0 }
    }

    /// Returns the columns of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Adds the row in `json`, or returns its fault and adds nothing.
    pub fn push(&mut self, json: &str) -> Result<(), Fault> {
        if !scan::is_json(json) {
            return Err(Fault::new(ErrorType::ParseError, scan::diagnose(json)));
        }
        let slots = self.slots(json)?;
        let mut values = Vec::with_capacity(slots.len());
        for (field, slot) in self.schema.fields().iter().zip(slots) {
            values.push(read(field, slot)?);
        }
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.append(value);
        }
        self.rows += 1;
        self.bytes += json.len();
        Ok(())
    }

    fn slots<'a>(&self, json: &'a str) -> Result<Vec<Slot<'a>>, Fault> {
        if !json.trim_start().starts_with('{') {
            return Err(fault("expected a JSON object"));
        }
        let mut slots: Vec<Slot<'a>> = vec![None; self.columns.len()];
        let mut wrong = None;
        walk::members(json, |name, value| {
            let name = text::unescape(name);
            match self.place(&name) {
                None => wrong = Some(format!("'{name}': unknown column of this kind")),
                Some(_) if value == "null" => {}
                Some((at, encoded)) if slots[at].is_none() => slots[at] = Some((value, encoded)),
                Some(_) => wrong = Some(format!("'{name}': duplicate column")),
            }
            wrong.is_none()
        });
        wrong.map_or(Ok(slots), |message| Err(fault(message)))
    }

    fn place(&self, name: &str) -> Option<(usize, bool)> {
        if let Ok(at) = self.schema.index_of(name) {
            return Some((at, false));
        }
        let at = self.schema.index_of(name.strip_suffix("_base64")?).ok()?;
        (*self.schema.field(at).data_type() == DataType::Binary).then_some((at, true))
    }

    /// Returns the number of rows in the batch under construction.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns the bytes of text since the last batch, which bound the next.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the batch and empties the builder.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        (self.rows, self.bytes) = (0, 0);
        let columns = self.columns.iter_mut().map(ColumnBuilder::finish).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        if Kind::of(&self.schema) == Some(Kind::Dead) { letters::completed(batch) } else { Ok(batch) }
    }
}

#[cold]
fn fault(message: impl Into<String>) -> Fault {
    Fault::new(ErrorType::EnvelopeError, message)
}

/// Returns a JSON string's content; for any other value its text as received.
fn content(value: &str) -> Option<Cow<'_, str>> {
    match walk::string_content(value) {
        Some(raw) => text::is_text(raw).then(|| text::unescape(raw)),
        None => Some(Cow::Borrowed(value)),
    }
}

/// Returns the content of a value that must be a string.
fn string(value: &str) -> Option<Cow<'_, str>> {
    walk::string_content(value).and_then(|_| content(value))
}

/// Reads a value for a column, or returns its fault.
fn read<'a>(field: &Field, mut slot: Slot<'a>) -> Result<CellValue<'a>, Fault> {
    let name = field.name();
    if slot.is_none() && !field.is_nullable() {
        if !MAY_BE_EMPTY.contains(&name.as_str()) {
            return Err(fault(format!("'{name}': missing")));
        }
        slot = Some(("\"\"", false));
    }
    let (read, expected) = parse(field, slot);
    read.ok_or_else(|| {
        let value = slot.map_or("", |(value, _)| value);
        let mut shown: String = value.chars().take(40).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        let is_instant = matches!(field.data_type(), DataType::Timestamp(..));
        let error_type = if is_instant { ErrorType::TimestampError } else { ErrorType::EnvelopeError };
        Fault::new(error_type, format!("'{name}': expected {expected}, found {shown}"))
    })
}

/// Parses a value; returns it and the expected type for messages.
fn parse<'a>(field: &Field, slot: Slot<'a>) -> (Option<CellValue<'a>>, &'static str) {
    let is_encoded = slot.is_some_and(|(_, is_encoded)| is_encoded);
    let value = slot.map(|(value, _)| value);
    match field.data_type() {
        DataType::FixedSizeBinary(_) => (read_optional(value, uuid).map(CellValue::Id), "a UUID"),
        // By their value, because the key of a metric must not depend on how a program spells JSON.
        DataType::Utf8 if field.name() == "dimensions" => {
            (read_optional(value, dimensions).map(CellValue::Text), "a JSON object")
        }
        DataType::Utf8 if holds_json(field) => {
            (read_optional(value, json_object).map(CellValue::Text), "a JSON object")
        }
        DataType::Timestamp(..) => {
            let instant = |value| parse_instant(&string(value)?);
            (read_optional(value, instant).map(CellValue::Instant), "an RFC 3339 instant")
        }
        DataType::Int64 => (read_optional(value, number).map(CellValue::Long), "an integer"),
        DataType::Int32 => (read_optional(value, number).map(CellValue::Int), "a 32-bit integer"),
        DataType::Float64 => (read_optional(value, double).map(CellValue::Double), "a number"),
        DataType::Boolean => (read_optional(value, number).map(CellValue::Bool), "true or false"),
        DataType::Binary if is_encoded => {
            let bytes = |value| base64::decode(&string(value)?).map(Cow::Owned);
            (read_optional(value, bytes).map(CellValue::Bytes), "base64")
        }
        DataType::Binary => (read_optional(value, bytes).map(CellValue::Bytes), "a string"),
        DataType::List(_) => (read_optional(value, words).map(CellValue::Names), "an array of strings"),
        DataType::Map(..) => {
            (read_optional(value, headers).map(CellValue::Headers), "an object of strings and {\"base64\":…}")
        }
        _ => (read_optional(value, string).map(CellValue::Text), "a string"),
    }
}

fn uuid(value: &str) -> Option<[u8; 16]> {
    uuid::Uuid::try_parse(&string(value)?).ok().map(uuid::Uuid::into_bytes)
}

/// Parses an integer or a boolean.
fn number<T: FromStr>(value: &str) -> Option<T> {
    content(value)?.parse().ok()
}

fn dimensions(value: &str) -> Option<Cow<'_, str>> {
    json_object(value).map(|text| canonical_dimensions(&text).map_or(text, Cow::Owned))
}

fn bytes(value: &str) -> Option<Cow<'_, [u8]>> {
    Some(match string(value)? {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

/// Returns the text of an object, which may be inside a string.
fn json_object(value: &str) -> Option<Cow<'_, str>> {
    let object = content(value)?;
    (object.starts_with('{') && scan::is_json(&object)).then_some(object)
}

/// Parses a double. `1e400` is refused, because a number's text never means infinity; the word `Infinity` does.
fn double(value: &str) -> Option<f64> {
    let text = content(value)?;
    let number: f64 = text.parse().ok()?;
    (!number.is_infinite() || text.ends_with("Infinity")).then_some(number)
}

fn words(value: &str) -> Option<Vec<String>> {
    serde_json::from_str(&content(value)?).ok()
}

fn headers(value: &str) -> Option<HeaderList> {
    let object = json_object(value)?;
    let mut headers = vec![];
    let mut sound = true;
    walk::members(&object, |name, value| {
        match header(value) {
            Some(bytes) => headers.push((text::unescape(name).into_owned(), bytes)),
            None => sound = false,
        }
        sound
    });
    sound.then_some(headers)
}

fn header(value: &str) -> Option<Option<Vec<u8>>> {
    if value == "null" {
        return Some(None);
    }
    if let Some(text) = string(value) {
        return Some(Some(text.into_owned().into_bytes()));
    }
    let mut bytes = None;
    let mut members = 0;
    walk::members(value, |name, value| {
        members += 1;
        bytes = (name == "base64").then(|| string(value)).flatten().and_then(|text| base64::decode(&text));
        true
    });
    (members == 1).then_some(bytes?).map(Some)
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
