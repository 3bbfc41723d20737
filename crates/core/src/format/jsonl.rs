//! JSON lines: one object per line; blank lines are skipped.
//!
//! Written: columns in order, nulls left out, `properties` and `dimensions` as objects, payloads as text if they are
//! UTF-8, else as base64 under `NAME_base64`. A record that is read has neither
//! its `\n` nor a `\r` before that.

use super::cell::{CellForm, Column, binaries, texts, write_base64, write_bytes};
use super::definition::{Encoder, Format, InputForm, NoteFormat};
use super::elements::Elements;
use super::record::{Body, Record, Records, Skipped, Splitter};
use super::row::kind_of;
use crate::error::{Error, Result};
use crate::json::scan;
use crate::json::text::{key, write_uuid};
use crate::json::text::{unescape, write_string};
use crate::json::walk::string_content;
use crate::kind::event::{RAW, STAMPS};
use crate::kind::{Kind, claims_json, holds_json, is_id, is_json, is_own};
use arrow::array::{Array, AsArray, MapArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use std::collections::HashSet;

/// JSON lines.
pub const FORMAT: Format = Format {
    name: "jsonl",
    extensions: &["jsonl", "ndjson", "json"],
    input: InputForm::Text(|options| match &options.explode {
        Some(path) => Box::new(Elements::new(path.clone())),
        None => Box::new(Lines::default()),
    }),
    output: Some(|_, _| Ok(Box::new(Writer))),
    appendable: true,
    is_json: true,
    notes: Some(NoteFormat::Json),
    takes_any_columns: true,
    ..Format::BASE
};

/// Maximum bytes of row text returned at once: a few bytes of a dictionary may expand to any number of rows.
const PIECE_BYTES: usize = 1 << 20;

/// The message if the input is one JSON array.
pub const ARRAY_HINT: &str = "expected JSON lines, found a JSON array; --explode . reads its elements";

/// Whether input that starts with `bytes` is one JSON array: its first character other than white space is `[`, and the
/// lines behind it are no JSON lines.
pub fn is_array(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !is_space(**byte)) == Some(&b'[') && !has_separate_objects(bytes)
}

/// Whether one of the lines has an object and the next one does not continue the value in which that object is: in a
/// JSON document a comma or the end of the value follows.
pub fn has_separate_objects(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let mut before = lines.next().unwrap_or_default();
    lines.any(|line| {
        let last = std::mem::replace(&mut before, line);
        !b",]}".contains(&line[0]) && last.starts_with(b"{") && str::from_utf8(last).is_ok_and(scan::is_json)
    })
}

/// Whether `bytes` are only white space.
pub fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| is_space(*byte))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Splits lines at `\n`. Lines with only JSON white space are not records, but count as lines.
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

    fn skip(&mut self, input: &[u8]) -> Skipped {
        let skipped = Skipped::line(input);
        self.lines += u64::from(skipped.is_complete);
        skipped
    }

    fn lines(&self) -> u64 {
        self.lines
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

/// Returns the range of a line without a `\r` at its end; `None` if the line is blank.
#[inline]
fn content(input: &[u8], start: usize, end: usize) -> Option<std::ops::Range<usize>> {
    let line = &input[start..end];
    if is_blank(line) {
        return None;
    }
    Some(start..end - usize::from(line.ends_with(b"\r")))
}

/// The members of one column: its name and how its values are written.
struct JsonColumn<'a> {
    key: String,
    /// The key that replaces it if the bytes are not text.
    bytes: Option<(Bytes<'a>, String)>,
    column: Column<'a>,
}

type Bytes<'a> = Box<dyn Fn(usize) -> &'a [u8] + 'a>;

/// Writes the rows of a batch as JSON objects.
pub struct Objects<'a> {
    members: Vec<JsonColumn<'a>>,
    /// Bytes after which a row may be cut.
    max: usize,
}

impl<'a> Objects<'a> {
    /// Resolves the columns. In a batch of one of evt's kinds, text columns with JSON are written as they are. If the
    /// batch may come from elsewhere, check it with [`is_proved`] first.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self> {
        unique_names(batch.schema_ref())?;
        let ours = is_own(batch.schema_ref());
        let columns = batch.schema_ref().fields().iter().zip(batch.columns());
        let members = columns.map(|(field, array)| member(field, array.as_ref(), ours, CellForm::Json)).collect();
        Ok(Self { members, max: usize::MAX })
    }

    /// Resolves the columns of rows from any program: their declared types are checked value by value. A row may be cut
    /// anywhere after `max` bytes.
    pub fn of_others(batch: &'a RecordBatch, max: usize) -> Result<Self> {
        let schema = batch.schema_ref();
        unique_names(schema)?;
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        // Kinds with bytes and headers write them in evt's forms.
        let ours = Kind::of(schema).is_some() || kind_of(&names) != Kind::Event;
        // An event with stamps writes its raw record in evt's form, too.
        let is_stamped = STAMPS.iter().all(|stamp| names.contains(stamp));
        let is_raw = |field: &Field| is_stamped && field.name() == RAW;
        let columns = schema.fields().iter().zip(batch.columns());
        let members =
            columns.map(|(field, array)| claimed(field, array.as_ref(), ours || is_raw(field), CellForm::Cut(max)));
        let members = members.collect();
        Ok(Self { members, max })
    }

    /// Appends one row.
    pub fn write(&mut self, row: usize, out: &mut String) {
        let before = out.len();
        out.push('{');
        let mut first = true;
        for member in &mut self.members {
            if member.column.is_null(row) {
                continue;
            }
            let key = match &member.bytes {
                Some((bytes, key)) if str::from_utf8(bytes(row)).is_err() => key,
                _ => &member.key,
            };
            out.push_str(if first { &key[1..] } else { key });
            member.column.write(row, out);
            first = false;
            if out.len() - before > self.max {
                break;
            }
        }
        out.push('}');
    }
}

fn member<'a>(field: &Field, array: &'a dyn Array, ours: bool, form: CellForm) -> JsonColumn<'a> {
    let name = field.name();
    let mut member = JsonColumn { key: key(name), bytes: None, column: own(field, array, ours, form) };
    if let (true, Some(bytes)) = (ours && has_bytes(field), binaries(array)) {
        member.bytes = Some((bytes, key(&format!("{name}_base64"))));
    }
    member
}

/// Prepares a column of a schema that another program may have written: a value is written as JSON only if its text is
/// JSON, and as a UUID only if it has 16 bytes.
fn claimed<'a>(field: &Field, array: &'a dyn Array, ours: bool, form: CellForm) -> JsonColumn<'a> {
    let of = |column| JsonColumn { key: key(field.name()), bytes: None, column };
    if let (true, Some(text)) = (claims_json(field), texts(array)) {
        return of(Column::with(array, move |row, out| write_claimed(text(row), form, out)));
    }
    if let (true, Some(bytes)) = (is_id(field), binaries(array)) {
        return of(Column::with(array, move |row, out| match bytes(row) {
            id if id.len() == 16 => {
                out.push('"');
                write_uuid(out, id);
                out.push('"');
            }
            other => write_base64(other, form, out),
        }));
    }
    member(field, array, ours, form)
}

/// Prepares the values of a column of another program, as [`rows_to_json`] writes them.
pub fn foreign_value<'a>(field: &Field, array: &'a dyn Array) -> Column<'a> {
    claimed(field, array, false, CellForm::Json).column
}

/// Whether a column has bytes of any length.
fn has_bytes(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Prepares a column, with the forms of evt's kinds for JSON text, payloads and headers.
pub(super) fn own<'a>(field: &Field, array: &'a dyn Array, ours: bool, form: CellForm) -> Column<'a> {
    if !ours {
        return Column::new(field, array, form);
    }
    if let (true, Some(texts)) = (holds_json(field) || is_json(field), array.as_string_opt::<i32>()) {
        return Column::with(array, move |row, out| write_json(texts.value(row), form, out));
    }
    if let (true, Some(bytes)) = (has_bytes(field), binaries(array)) {
        return Column::with(array, move |row, out| write_bytes(bytes(row), form, out));
    }
    match array.as_map_opt().and_then(|map| headers(map, form)) {
        Some(column) => column,
        None => Column::new(field, array, form),
    }
}

/// Writes JSON text as received; in bare form, a string is its content.
fn write_json(json: &str, form: CellForm, out: &mut String) {
    match string_content(json) {
        Some(content) if form == CellForm::Text => out.push_str(&unescape(content)),
        _ => out.push_str(json),
    }
}

/// Writes text as JSON if it is JSON, on one line as records are; else as a string.
fn write_claimed(text: &str, form: CellForm, out: &mut String) {
    let json = text.trim_ascii();
    if json.len() > form.max() {
        return out.push_str(form.head(json));
    }
    match scan::is_json(json) {
        true if !json.contains(['\n', '\r']) => out.push_str(json),
        // A bare line break inside a string is not JSON, so any that occur are between tokens.
        true => out.extend(json.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c })),
        false => write_string(out, text),
    }
}

/// Prepares headers as `{"name":"text"}`, or `{"name":{"base64":"…"}}` if the bytes are not text; in order, names may
/// repeat. `None` if the map has other types.
fn headers(map: &MapArray, form: CellForm) -> Option<Column<'_>> {
    let (names, values) = (texts(map.keys().as_ref())?, binaries(map.values().as_ref())?);
    Some(Column::with(map, move |row, out| {
        let (start, end) = (map.value_offsets()[row], map.value_offsets()[row + 1]);
        let before = out.len();
        out.push('{');
        for (nth, at) in (start as usize..end as usize).enumerate() {
            if out.len() - before > form.max() {
                break;
            }
            if nth > 0 {
                out.push(',');
            }
            write_string(out, form.head(names(at)));
            out.push(':');
            write_header((!map.values().is_null(at)).then(|| values(at)), form, out);
        }
        out.push('}');
    }))
}

/// Writes the value of a header.
pub fn write_header(value: Option<&[u8]>, form: CellForm, out: &mut String) {
    match value.map(|value| (value, str::from_utf8(value))) {
        None => out.push_str("null"),
        Some((_, Ok(text))) => write_string(out, form.head(text)),
        Some((value, Err(_))) => {
            out.push_str("{\"base64\":");
            write_base64(value, form, out);
            out.push('}');
        }
    }
}

/// Refuses two columns of one name, which would be one member.
pub(super) fn unique_names(schema: &Schema) -> Result<()> {
    let mut seen = HashSet::new();
    match schema.fields().iter().find(|field| !seen.insert(field.name())) {
        Some(field) => Err(Error::corrupt(format!("two columns have the name '{}'; rename one", field.name()))),
        None => Ok(()),
    }
}

/// Whether every text column of `batch` that should contain JSON objects does. A batch of a file that declares one of
/// evt's kinds must pass this before it is treated as evt's.
pub fn is_proved(batch: &RecordBatch) -> bool {
    let columns = batch.schema_ref().fields().iter().zip(batch.columns());
    columns.filter(|(field, _)| holds_json(field)).all(|(_, array)| {
        array.as_string::<i32>().iter().flatten().all(|text| text.starts_with('{') && scan::is_json(text))
    })
}

/// Writes rows of `batch` as records with JSON text to `out`, up to `PIECE_BYTES` of text; returns the number of these
/// rows. `first` is the number of the first row. Text longer than `max` is cut. Raw ranges are empty, because the JSON
/// text replaces a container's raw record.
///
/// Errors: two columns have one name.
pub fn rows_to_json(batch: &RecordBatch, first: u64, max: usize, out: &mut Records) -> Result<usize> {
    let mut objects = Objects::of_others(batch, max)?;
    for row in 0..batch.num_rows() {
        let start = out.text.len();
        objects.write(row, &mut out.text);
        let text = start..out.text.len();
        let body = if text.len() > max { Body::Cut(text) } else { Body::Text(text) };
        out.rows.push(Record { raw: 0..0, line: first + row as u64, body });
        if out.text.len() >= PIECE_BYTES {
            return Ok(row + 1);
        }
    }
    Ok(batch.num_rows())
}

/// Writes batches as JSON lines.
pub struct Writer;

impl Encoder for Writer {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let mut objects = Objects::try_new(batch)?;
        // Rows are appended to the caller's bytes as text, so that they are not copied.
        let before = std::mem::take(out);
        let mut text =
            String::from_utf8(before).map_err(|_| Error::broken("jsonl").because("bytes before the rows"))?;
        for row in 0..batch.num_rows() {
            objects.write(row, &mut text);
            text.push('\n');
        }
        *out = text.into_bytes();
        Ok(())
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "jsonl_tests.rs"]
mod tests;
