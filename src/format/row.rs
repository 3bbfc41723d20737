//! Rebuilds rows of evt's own kinds from JSON text: what `jsonl`, `csv` and `avro` wrote of a metric, a dead letter, a
//! late event or an alert becomes the same row again.
//!
//! Strict: every column of its type, no other names; a fault is the row's. A value may be a string even if its type is
//! another (CSV has only strings); `NAME_base64` has the bytes of `NAME`; a missing text of a dead letter that may be
//! empty is empty (CSV cannot distinguish the two).

use crate::error::Result;
use crate::expr::canonical_dimensions;
use crate::json::{base64, scan, text, walk};
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault};
use crate::time::parse_instant;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int32Builder, Int64Builder,
    ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder, StringDictionaryBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Int32Type, SchemaRef};
use std::borrow::Cow;
use std::sync::Arc;

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
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

enum Column {
    Id(FixedSizeBinaryBuilder),
    Text(StringBuilder),
    Json(StringBuilder),
    Dimensions(StringBuilder),
    Word(StringDictionaryBuilder<Int32Type>),
    Instant(TimestampMicrosecondBuilder),
    Long(Int64Builder),
    Int(Int32Builder),
    Double(Float64Builder),
    Bool(BooleanBuilder),
    Bytes(BinaryBuilder),
    Words(ListBuilder<StringBuilder>),
    Headers(MapBuilder<StringBuilder, BinaryBuilder>),
}

enum Value<'a> {
    Null,
    Id(uuid::Uuid),
    Text(Cow<'a, str>),
    Long(i64),
    Int(i32),
    Double(f64),
    Bool(bool),
    Bytes(Vec<u8>),
    Words(Vec<String>),
    Headers(Vec<(String, Option<Vec<u8>>)>),
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
        let columns = schema.fields().iter().map(|field| column(field)).collect();
        Self { schema, columns, rows: 0, bytes: 0 }
    }

    /// Adds the row in `json`, or returns its fault and adds nothing.
    pub fn push(&mut self, json: &str) -> Result<(), Fault> {
        if !scan::is_json(json) {
            return Err(Fault::new(ErrorType::ParseError, scan::diagnose(json)));
        }
        let slots = self.slots(json)?;
        let mut values = Vec::with_capacity(slots.len());
        for ((field, column), slot) in self.schema.fields().iter().zip(&self.columns).zip(slots) {
            values.push(column.read(field, slot)?);
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
        matches!(self.columns[at], Column::Bytes(_)).then_some((at, true))
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
        let columns = self.columns.iter_mut().map(Column::finish).collect();
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

fn column(field: &Field) -> Column {
    match field.data_type() {
        DataType::FixedSizeBinary(_) => Column::Id(FixedSizeBinaryBuilder::new(16)),
        DataType::Utf8 if field.name() == "dimensions" => Column::Dimensions(StringBuilder::new()),
        DataType::Utf8 if crate::kind::holds_json(field) => Column::Json(StringBuilder::new()),
        DataType::Dictionary(..) => Column::Word(StringDictionaryBuilder::new()),
        DataType::Timestamp(..) => {
            Column::Instant(TimestampMicrosecondBuilder::new().with_data_type(field.data_type().clone()))
        }
        DataType::Int64 => Column::Long(Int64Builder::new()),
        DataType::Int32 => Column::Int(Int32Builder::new()),
        DataType::Float64 => Column::Double(Float64Builder::new()),
        DataType::Boolean => Column::Bool(BooleanBuilder::new()),
        DataType::Binary => Column::Bytes(BinaryBuilder::new()),
        DataType::List(item) => Column::Words(ListBuilder::new(StringBuilder::new()).with_field(item.clone())),
        DataType::Map(..) => {
            let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
            Column::Headers(MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new()))
        }
        _ => Column::Text(StringBuilder::new()),
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

impl Column {
    fn read<'a>(&self, field: &Field, slot: Slot<'a>) -> Result<Value<'a>, Fault> {
        let name = field.name();
        let Some((value, encoded)) = slot else {
            return match self {
                _ if field.is_nullable() => Ok(Value::Null),
                Column::Bytes(_) if MAY_BE_EMPTY.contains(&name.as_str()) => Ok(Value::Bytes(vec![])),
                _ if MAY_BE_EMPTY.contains(&name.as_str()) => Ok(Value::Text("".into())),
                _ => Err(fault(format!("'{name}': missing"))),
            };
        };
        let (read, expected) = self.parse(value, encoded);
        read.ok_or_else(|| {
            let mut shown: String = value.chars().take(40).collect();
            if shown.len() < value.len() {
                shown.push('…');
            }
            let error_type =
                if let Column::Instant(_) = self { ErrorType::TimestampError } else { ErrorType::EnvelopeError };
            Fault::new(error_type, format!("'{name}': expected {expected}, found {shown}"))
        })
    }

    /// Parses a value; returns it and the expected type for messages.
    fn parse<'a>(&self, value: &'a str, encoded: bool) -> (Option<Value<'a>>, &'static str) {
        match self {
            Column::Id(_) => {
                (string(value).and_then(|text| uuid::Uuid::try_parse(&text).ok()).map(Value::Id), "a uuid")
            }
            Column::Text(_) | Column::Word(_) => (string(value).map(Value::Text), "a string"),
            Column::Json(_) => (json_object(value).map(Value::Text), "a JSON object"),
            // By their value, because the key of a metric must not depend on how a program spells JSON.
            Column::Dimensions(_) => {
                let canonical = |text: Cow<'a, str>| canonical_dimensions(&text).map_or(text, Cow::Owned);
                (json_object(value).map(canonical).map(Value::Text), "a JSON object")
            }
            Column::Instant(_) => {
                (string(value).and_then(|text| parse_instant(&text)).map(Value::Long), "an RFC 3339 instant")
            }
            Column::Long(_) => (content(value).and_then(|text| text.parse().ok()).map(Value::Long), "an integer"),
            Column::Int(_) => (content(value).and_then(|text| text.parse().ok()).map(Value::Int), "a 32-bit integer"),
            Column::Double(_) => (content(value).and_then(|text| double(&text)).map(Value::Double), "a number"),
            Column::Bool(_) => (content(value).and_then(|text| text.parse().ok()).map(Value::Bool), "true or false"),
            Column::Bytes(_) if encoded => {
                (string(value).and_then(|text| base64::decode(&text)).map(Value::Bytes), "base64")
            }
            Column::Bytes(_) => (string(value).map(|text| Value::Bytes(text.into_owned().into())), "a string"),
            Column::Words(_) => (words(value).map(Value::Words), "an array of strings"),
            Column::Headers(_) => (headers(value).map(Value::Headers), "an object of strings and {\"base64\":…}"),
        }
    }

    fn append(&mut self, value: Value<'_>) {
        match (self, value) {
            (Column::Id(to), Value::Id(id)) => to.append_value(id.as_bytes()).unwrap_or_default(),
            (Column::Id(to), _) => to.append_null(),
            (Column::Text(to) | Column::Json(to) | Column::Dimensions(to), Value::Text(text)) => to.append_value(text),
            (Column::Text(to) | Column::Json(to) | Column::Dimensions(to), _) => to.append_null(),
            (Column::Word(to), Value::Text(text)) => to.append_value(text),
            (Column::Word(to), _) => to.append_null(),
            (Column::Instant(to), Value::Long(micros)) => to.append_value(micros),
            (Column::Instant(to), _) => to.append_null(),
            (Column::Long(to), Value::Long(number)) => to.append_value(number),
            (Column::Long(to), _) => to.append_null(),
            (Column::Int(to), Value::Int(number)) => to.append_value(number),
            (Column::Int(to), _) => to.append_null(),
            (Column::Double(to), Value::Double(number)) => to.append_value(number),
            (Column::Double(to), _) => to.append_null(),
            (Column::Bool(to), Value::Bool(truth)) => to.append_value(truth),
            (Column::Bool(to), _) => to.append_null(),
            (Column::Bytes(to), Value::Bytes(bytes)) => to.append_value(bytes),
            (Column::Bytes(to), _) => to.append_null(),
            (Column::Words(to), Value::Words(words)) => to.append_value(words.into_iter().map(Some)),
            (Column::Words(to), _) => to.append_null(),
            (Column::Headers(to), Value::Headers(headers)) => append_headers(to, Some(headers)),
            (Column::Headers(to), _) => append_headers(to, None),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Column::Id(from) => Arc::new(from.finish()),
            Column::Text(from) | Column::Json(from) | Column::Dimensions(from) => Arc::new(from.finish()),
            Column::Word(from) => Arc::new(from.finish()),
            Column::Instant(from) => Arc::new(from.finish()),
            Column::Long(from) => Arc::new(from.finish()),
            Column::Int(from) => Arc::new(from.finish()),
            Column::Double(from) => Arc::new(from.finish()),
            Column::Bool(from) => Arc::new(from.finish()),
            Column::Bytes(from) => Arc::new(from.finish()),
            Column::Words(from) => Arc::new(from.finish()),
            Column::Headers(from) => Arc::new(from.finish()),
        }
    }
}

fn append_headers(to: &mut MapBuilder<StringBuilder, BinaryBuilder>, headers: Option<Vec<(String, Option<Vec<u8>>)>>) {
    let present = headers.is_some();
    for (name, value) in headers.into_iter().flatten() {
        to.keys().append_value(name);
        to.values().append_option(value);
    }
    // Keys and values are appended in pairs, so the only possible error cannot occur.
    let _ = to.append(present);
}

/// Returns the text of an object, which may be inside a string.
fn json_object(value: &str) -> Option<Cow<'_, str>> {
    let object = content(value)?;
    (object.starts_with('{') && scan::is_json(&object)).then_some(object)
}

/// Parses a double. `1e400` is refused, because a number's text never means infinity; the word `Infinity` does.
fn double(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (!number.is_infinite() || text.ends_with("Infinity")).then_some(number)
}

fn words(value: &str) -> Option<Vec<String>> {
    serde_json::from_str(&content(value)?).ok()
}

fn headers(value: &str) -> Option<Vec<(String, Option<Vec<u8>>)>> {
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
