//! JSON lines: one object a line, blank lines passed over.
//!
//! Written: columns in order, nulls left out, `properties` and `dimensions` as the objects they are, payloads as text
//! where they are UTF-8 and under `NAME_base64` where not. A line that was read has neither its `\n` nor a `\r` before.

use super::cell::{Column, Form, key};
use super::{Body, Encoder, Format, Input, Record, Records, Splitter};
use crate::error::{Error, Result};
use crate::json::text::{unescape, write_string};
use crate::json::walk::string_content;
use crate::json::{base64, scan};
use crate::kind::{Kind, holds_json, is_json, is_own};
use arrow::array::{Array, AsArray, BinaryArray, MapArray, RecordBatch};
use arrow::datatypes::{Field, Schema};
use std::collections::HashSet;

/// JSON lines.
pub const FORMAT: Format = Format {
    name: "jsonl",
    extensions: &["jsonl", "ndjson", "json"],
    magic: b"",
    input: Input::Text(|| Box::new(Lines::default())),
    output: Some(|_, _| Ok(Box::new(Writer::default()))),
    appendable: true,
};

/// What to say when the input turns out to be one JSON array.
pub const ARRAY_HINT: &str = "a JSON array, not JSON lines: feed its elements with  jq -c '.[]' FILE | evt-ingest";

/// Whether input that starts with `bytes` is one JSON array: its first character that is no white space is `[`.
pub fn is_array(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !is_space(**byte)) == Some(&b'[')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Cuts lines at `\n`. Lines that hold nothing but JSON white space are no records, but count as lines.
#[derive(Default)]
pub struct Lines {
    lines: u64,
}

impl Splitter for Lines {
    fn split(&mut self, input: &[u8], last: bool, records: &mut Records) -> Result<usize> {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', input) {
            self.line(input, start, end, records);
            start = end + 1;
        }
        if last && start < input.len() {
            self.line(input, start, input.len(), records);
            start = input.len();
        }
        Ok(start)
    }

    fn skip(&mut self, input: &[u8]) -> (usize, bool) {
        let (end, found) = memchr::memchr(b'\n', input).map_or((input.len(), false), |at| (at + 1, true));
        self.lines += u64::from(found);
        (end, found)
    }
}

impl Lines {
    #[inline]
    fn line(&mut self, input: &[u8], start: usize, end: usize, records: &mut Records) {
        self.lines += 1;
        if let Some(raw) = content(input, start, end) {
            records.rows.push(Record { raw, line: self.lines, body: Body::Raw });
        }
    }
}

/// The range of a line without a `\r` at its end, or none where the line is blank.
#[inline]
pub(super) fn content(input: &[u8], start: usize, end: usize) -> Option<std::ops::Range<usize>> {
    let line = &input[start..end];
    if line.iter().all(|byte| is_space(*byte)) {
        return None;
    }
    Some(start..end - usize::from(line.ends_with(b"\r")))
}

/// The members of one column: its name and how its values are written.
struct Member<'a> {
    key: String,
    /// The key instead of it where bytes are no text.
    bytes: Option<(&'a BinaryArray, String)>,
    column: Column<'a>,
}

/// The rows of a batch as JSON objects.
pub struct Objects<'a> {
    members: Vec<Member<'a>>,
}

impl<'a> Objects<'a> {
    /// Resolves the columns. In a batch of one of our kinds text columns that hold JSON are written as they are: where
    /// the batch is not known to be ours, [`is_proved`] has to be asked first.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self> {
        Self::trusting(batch, is_own(batch.schema_ref()))
    }

    /// The same; `ours` says whether columns that claim to hold JSON do.
    fn trusting(batch: &'a RecordBatch, ours: bool) -> Result<Self> {
        let schema = batch.schema_ref();
        unique_names(schema)?;
        let columns = schema.fields().iter().zip(batch.columns());
        let members = columns.map(|(field, array)| member(field, array.as_ref(), ours)).collect();
        Ok(Self { members })
    }

    /// Appends one row.
    pub fn write(&mut self, row: usize, out: &mut String) {
        out.push('{');
        let mut first = true;
        for member in &mut self.members {
            if member.column.is_null(row) {
                continue;
            }
            let key = match &member.bytes {
                Some((bytes, key)) if std::str::from_utf8(bytes.value(row)).is_err() => key,
                _ => &member.key,
            };
            out.push_str(if first { &key[1..] } else { key });
            member.column.write(row, out);
            first = false;
        }
        out.push('}');
    }
}

fn member<'a>(field: &Field, array: &'a dyn Array, ours: bool) -> Member<'a> {
    let name = field.name();
    let mut member = Member { key: key(name), bytes: None, column: own(field, array, ours, Form::Json) };
    if let (true, Some(bytes)) = (ours, array.as_binary_opt::<i32>()) {
        member.bytes = Some((bytes, key(&format!("{name}_base64"))));
    }
    member
}

/// A column, with the forms our kinds have for JSON text, payloads and headers.
pub(super) fn own<'a>(field: &Field, array: &'a dyn Array, ours: bool, form: Form) -> Column<'a> {
    if !ours {
        return Column::new(field, array, form);
    }
    if let (true, Some(texts)) = (holds_json(field) || is_json(field), array.as_string_opt::<i32>()) {
        return Column::with(array, move |row, out| write_json(texts.value(row), form, out));
    }
    if let Some(bytes) = array.as_binary_opt::<i32>() {
        return Column::with(array, move |row, out| write_bytes(bytes.value(row), form, out));
    }
    match array.as_map_opt() {
        Some(map) => headers(map),
        None => Column::new(field, array, form),
    }
}

/// JSON text as received; bare, a string is its content.
fn write_json(json: &str, form: Form, out: &mut String) {
    match string_content(json) {
        Some(content) if form == Form::Text => out.push_str(&unescape(content)),
        _ => out.push_str(json),
    }
}

/// Text where the bytes are text, else base64.
fn write_bytes(bytes: &[u8], form: Form, out: &mut String) {
    match (std::str::from_utf8(bytes), form) {
        (Ok(text), Form::Json) => write_string(out, text),
        (Ok(text), Form::Text) => out.push_str(text),
        (Err(_), Form::Json) => {
            out.push('"');
            base64::encode(bytes, out);
            out.push('"');
        }
        (Err(_), Form::Text) => base64::encode(bytes, out),
    }
}

/// `{"name":"text"}`, or `{"name":{"base64":"…"}}` where the bytes are no text; in order, names may repeat.
fn headers(map: &MapArray) -> Column<'_> {
    let names = map.keys().as_string_opt::<i32>();
    let values = map.values().as_binary_opt::<i32>();
    Column::with(map, move |row, out| {
        let (Some(names), Some(values)) = (names, values) else { return out.push_str("{}") };
        let (start, end) = (map.value_offsets()[row], map.value_offsets()[row + 1]);
        out.push('{');
        for (nth, at) in (start as usize..end as usize).enumerate() {
            if nth > 0 {
                out.push(',');
            }
            write_string(out, names.value(at));
            out.push(':');
            match (values.is_null(at), std::str::from_utf8(values.value(at))) {
                (true, _) => out.push_str("null"),
                (false, Ok(text)) => write_string(out, text),
                (false, Err(_)) => {
                    out.push_str("{\"base64\":\"");
                    base64::encode(values.value(at), out);
                    out.push_str("\"}");
                }
            }
        }
        out.push('}');
    })
}

/// Two columns of one name would be one member: refused.
pub(super) fn unique_names(schema: &Schema) -> Result<()> {
    let mut seen = HashSet::new();
    match schema.fields().iter().find(|field| !seen.insert(field.name())) {
        Some(field) => Err(Error::corrupt(format!("two columns are named '{}': rename one", field.name()))),
        None => Ok(()),
    }
}

/// Whether every text column of `batch` that should hold JSON objects does: what a batch of a foreign file that claims
/// to be of one of our kinds must show before it is treated as ours.
pub fn is_proved(batch: &RecordBatch) -> bool {
    let columns = batch.schema_ref().fields().iter().zip(batch.columns());
    columns.filter(|(field, _)| holds_json(field)).all(|(_, array)| {
        array.as_string::<i32>().iter().flatten().all(|text| text.starts_with('{') && scan::is_json(text))
    })
}

/// Each row of `batch` as a record whose JSON text stands in `out`; the first one's number is `first`. Raw ranges are
/// empty: the JSON text is what a container's record has to show. Fails where two columns have one name.
pub fn rows_to_json(batch: &RecordBatch, first: u64, out: &mut Records) -> Result<()> {
    // A selection of ours is of no kind any more: nothing has proved its JSON since it left us.
    let mut objects = Objects::trusting(batch, Kind::of(batch.schema_ref()).is_some())?;
    for row in 0..batch.num_rows() {
        let start = out.text.len();
        objects.write(row, &mut out.text);
        out.rows.push(Record { raw: 0..0, line: first + row as u64, body: Body::Text(start..out.text.len()) });
    }
    Ok(())
}

/// Writes batches as JSON lines.
#[derive(Default)]
pub struct Writer {
    line: String,
}

impl Encoder for Writer {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let mut objects = Objects::try_new(batch)?;
        for row in 0..batch.num_rows() {
            self.line.clear();
            objects.write(row, &mut self.line);
            self.line.push('\n');
            out.extend_from_slice(self.line.as_bytes());
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "jsonl_tests.rs"]
mod tests;
