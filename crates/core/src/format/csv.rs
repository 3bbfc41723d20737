//! CSV (RFC 4180) and TSV: a header with the names, then one record per line or, if quotes contain newlines, several
//! lines. The delimiter of CSV is the comma if the first line has one outside quotes, else the most frequent of `;`,
//! tab and `|`. Flags name another delimiter, and the names if the file has no header.
//!
//! Read: values are strings, except an object under the name `properties`. An empty field is absent; a quoted empty
//! field is an empty text, except under the name of a column that is not text. A record ends at `\n`;
//! a `\r` before it is dropped. These are faults of a record: more or fewer fields than the header, bytes that are
//! not UTF-8, a quote that is never closed, and text between a closing quote and the next comma. Lines of spaces are
//! skipped. After a record that is too long, reading continues at the next line, so that a stray quote costs one record
//! and not the file.
//!
//! `csv_writer.rs` writes them.

use super::csv_header::column_names;
use super::csv_writer::Writer;
use super::definition::{CsvHeader, Format, InputForm, TextOptions};
use super::metric_columns::encoder;
use super::metric_dimensions::DimensionReader;
use super::record::{BOM, Body, Record, Records, Skipped, Splitter, not_utf8};
use super::row::kind_of;
use crate::error::{Error, Result};
use crate::json::scan::is_json;
use crate::json::text::{key, unescape, write_string};
use crate::kind::dead::{ErrorType, Fault, Suspect};
use crate::kind::{Kind, claims_json};
use arrow::datatypes::DataType;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};
use std::collections::HashSet;
use std::sync::LazyLock;

/// The column of events that is an object, as a JSON key.
const PROPERTIES: &str = ",\"properties\":";

/// The column of metrics that is an object, as a JSON key.
const DIMENSIONS: &str = ",\"dimensions\":";

/// Comma-separated values.
pub const CSV: Format = Format {
    name: "csv",
    extensions: &["csv"],
    input: InputForm::Text(|options| Box::new(CsvRows::new(options.delimiter, options))),
    output: Some(|schema, options| {
        encoder(schema, options, |schema, options| Ok(Box::new(Writer::new(b',', schema, options))))
    }),
    appendable: true,
    is_for_people: true,
    delimiter: Some(b','),
    takes_any_columns: true,
    ..Format::BASE
};

/// Tab-separated values.
pub const TSV: Format = Format {
    name: "tsv",
    extensions: &["tsv", "tab"],
    input: InputForm::Text(|options| Box::new(CsvRows::new(options.delimiter.or(Some(b'\t')), options))),
    output: Some(|schema, options| {
        encoder(schema, options, |schema, options| Ok(Box::new(Writer::new(b'\t', schema, options))))
    }),
    delimiter: Some(b'\t'),
    ..CSV
};

/// The delimiters that a first line may decide. The comma comes first.
const DELIMITERS: [u8; 4] = *b",;\t|";

/// Splits records, each from its first byte: an incomplete one is read again with the next chunk.
pub struct CsvRows {
    /// The delimiter; a comma until the first line decides it.
    delimiter: u8,
    /// Whether the first line decides the delimiter.
    is_guessed: bool,
    reader: Reader,
    /// `--kind`; without it the names of the columns decide.
    kind: Option<Kind>,
    header: Columns,
    lines: u64,
    /// Whether nothing has been read yet, so that a byte order mark may follow.
    unread: bool,
    /// Whether the reader is inside a record.
    torn: bool,
    /// The fields of the current record, without quotes, and the end of each.
    fields: Vec<u8>,
    ends: Vec<usize>,
}

enum Columns {
    /// The first line has their names.
    Expected,
    /// The columns have numbers as names. There are as many as the first record has fields.
    Numbered,
    TooLong,
    Read(CsvColumns),
}

/// The columns of the file.
struct CsvColumns {
    keys: Vec<CsvColumn>,
    /// The columns that are dimensions, in a file of metrics.
    dimensions: Option<DimensionReader>,
}

impl CsvColumns {
    fn new(names: &[&str], kind: Option<Kind>) -> Self {
        let is_metric = kind.unwrap_or_else(|| kind_of(names)) == Kind::Metric;
        let dimensions = if is_metric { DimensionReader::new(names) } else { None };
        Self { keys: names.iter().map(|name| CsvColumn::new(name)).collect(), dimensions }
    }
}

/// A column of the file.
struct CsvColumn {
    /// `,"name":`
    text: String,
    /// Whether a value may be an empty text.
    holds_text: bool,
}

impl CsvColumn {
    fn new(name: &str) -> Self {
        Self { text: key(name), holds_text: !OTHERS.contains(name) }
    }

    fn name(&self) -> String {
        let name = self.text.strip_prefix(",\"").and_then(|text| text.strip_suffix("\":"));
        unescape(name.unwrap_or_default()).into_owned()
    }
}

/// The names of evt's columns that are not text.
static OTHERS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::Dictionary(..) | DataType::Binary);
    let schemas = Kind::ALL.map(Kind::schema);
    let others = schemas
        .iter()
        .flat_map(|schema| schema.fields())
        .filter(|field| !is_text(field.data_type()) || claims_json(field));
    others.map(|field| field.name().clone()).collect()
});

/// Skips over the fields of a record whose quotes are valid.
struct Quotes<'a> {
    record: &'a [u8],
    delimiter: u8,
}

impl Quotes<'_> {
    /// Skips the next field; returns whether it is quoted.
    fn pass(&mut self) -> bool {
        let is_quoted = self.record.first() == Some(&b'"');
        let mut end = 0;
        if is_quoted {
            // A quote inside is doubled: the field ends at a single one.
            loop {
                end += 1;
                end += memchr::memchr(b'"', &self.record[end..]).map_or(self.record.len() - end, |at| at + 1);
                if self.record.get(end) != Some(&b'"') {
                    break;
                }
            }
        }
        let rest = &self.record[end..];
        let next = memchr::memchr(self.delimiter, rest).map_or(rest.len(), |at| at + 1);
        self.record = &rest[next..];
        is_quoted
    }
}

/// One record, before its fields are converted.
struct RecordBounds {
    /// Bytes up to and including its terminator.
    length: usize,
    /// Bytes without it.
    content: usize,
    fields: usize,
    closed: bool,
}

impl CsvRows {
    fn new(delimiter: Option<u8>, options: &TextOptions) -> Self {
        let TextOptions { header, kind, .. } = options;
        Self {
            delimiter: delimiter.unwrap_or(b','),
            is_guessed: delimiter.is_none(),
            reader: reader(delimiter.unwrap_or(b',')),
            header: match header {
                CsvHeader::FirstLine => Columns::Expected,
                CsvHeader::Numbers => Columns::Numbered,
                CsvHeader::Names(names) => {
                    Columns::Read(CsvColumns::new(&Vec::from_iter(names.iter().map(String::as_str)), *kind))
                }
            },
            kind: *kind,
            lines: 0,
            unread: true,
            torn: true,
            fields: vec![],
            ends: vec![0; 64],
        }
    }

    /// Decides the delimiter by the first line, at the start of `input`; false if its end is missing.
    fn guess(&mut self, input: &[u8], last: bool) -> bool {
        let mut counts = [0usize; DELIMITERS.len()];
        let mut is_quoted = false;
        let end = input.iter().position(|byte| {
            is_quoted ^= *byte == b'"';
            if let Some(at) = DELIMITERS.iter().position(|one| one == byte).filter(|_| !is_quoted) {
                counts[at] += 1;
            }
            *byte == b'\n' && !is_quoted
        });
        if end.is_none() && !last {
            return false;
        }
        let most = |counts: &[usize]| counts.iter().copied().max().unwrap_or(0);
        let is_it = |count: usize| match &self.header {
            // The names tell how many fields there are.
            Columns::Read(names) => count > 0 && count + 1 == names.keys.len(),
            // A line of data may have decimal commas.
            Columns::Numbered => count > 0 && count == most(&counts),
            // In a line of names a comma separates them.
            _ => count > 0 && (counts[0] > 0 || count == most(&counts)),
        };
        if let Some((delimiter, _)) = DELIMITERS.iter().zip(counts).find(|(_, count)| is_it(*count)) {
            self.delimiter = *delimiter;
            self.reader = reader(*delimiter);
        }
        self.is_guessed = false;
        true
    }

    /// Finds the record at the start of `input`; `None` if its end is missing.
    fn find(&mut self, input: &[u8], last: bool) -> Option<RecordBounds> {
        if std::mem::replace(&mut self.torn, true) {
            start_record(&mut self.reader);
        }
        if self.fields.len() < input.len() {
            self.fields.resize(input.len(), 0);
        }
        let (mut read, mut written, mut fields) = (0, 0, 0);
        loop {
            let (result, n, out, ends) =
                self.reader.read_record(&input[read..], &mut self.fields[written..], &mut self.ends[fields..]);
            (read, written, fields) = (read + n, written + out, fields + ends);
            match result {
                ReadRecordResult::Record => return Some(self.found(input, read, fields)),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                _ => {}
            }
            if read == input.len() {
                return if last { Some(self.unterminated(input, written, fields)) } else { None };
            }
        }
    }

    /// Completes a record that ended at `\n`; removes a `\r` before it, which the reader took for content.
    fn found(&mut self, input: &[u8], length: usize, fields: usize) -> RecordBounds {
        self.torn = false;
        let mut content = length - 1;
        if input[..content].ends_with(b"\r") {
            content -= 1;
            self.ends[fields - 1] -= 1;
        }
        RecordBounds { length, content, fields, closed: true }
    }

    /// Completes the record at the end of input. If a quote is open the record stays incomplete, because a newline
    /// would be content.
    fn unterminated(&mut self, input: &[u8], written: usize, mut fields: usize) -> RecordBounds {
        self.fields.resize(self.fields.len().max(written + 1), 0);
        if fields == self.ends.len() {
            self.ends.push(0);
        }
        let (result, _, _, ends) =
            self.reader.read_record(b"\n", &mut self.fields[written..], &mut self.ends[fields..]);
        fields += ends;
        let closed = result == ReadRecordResult::Record;
        let mut content = input.len();
        if closed && input.ends_with(b"\r") {
            content -= 1;
            self.ends[fields - 1] -= 1;
        }
        RecordBounds { length: input.len(), content, fields, closed }
    }

    fn read_header(&mut self, input: &[u8], found: &RecordBounds) -> Result<()> {
        let names = match str::from_utf8(&input[..found.content]) {
            Ok(_) => texts(&self.fields, &self.ends[..found.fields]),
            Err(_) => None,
        };
        let names: Vec<&str> = names
            .ok_or_else(|| Error::corrupt("the header: invalid UTF-8; --encoding NAME reads other encodings"))?
            .collect();
        if let Some(byte) = behind_quote(&input[..found.content], self.delimiter) {
            return Err(Error::corrupt(format!("the header, byte {byte}: expected a delimiter after a quote")));
        }
        if names.iter().any(|name| name.contains('\r')) && !input[..found.content].contains(&b'"') {
            let remedy = "expected lines that end with LF or CRLF; tr '\\r' '\\n' converts them";
            return Err(Error::corrupt(format!("the header contains a carriage return: {remedy}")));
        }
        let names = column_names(&names)?;
        self.header = Columns::Read(CsvColumns::new(&Vec::from_iter(names.iter().map(AsRef::as_ref)), self.kind));
        Ok(())
    }

    /// Returns the JSON text of the last record, or why there is none.
    fn body(&mut self, raw: &[u8], found: &RecordBounds, text: &mut String) -> Body {
        let Columns::Read(CsvColumns { keys, dimensions }) = &mut self.header else {
            return parse_error("missing header");
        };
        if let Err(error) = str::from_utf8(raw) {
            return Body::Fault(not_utf8(&error));
        }
        if !found.closed {
            return parse_error("expected a closing quote, found the end of the record");
        }
        if let Some(byte) = behind_quote(raw, self.delimiter) {
            return parse_error(format!("byte {byte}: expected a delimiter after a quote"));
        }
        if found.fields != keys.len() {
            return Body::Fault(other_fields(keys, found.fields));
        }
        let Some(fields) = texts(&self.fields, &self.ends[..found.fields]) else { return parse_error("invalid UTF-8") };
        let (start, mut cells) = (text.len(), vec![]);
        text.push('{');
        // Only records with two adjacent quotes have empty texts.
        let mut quotes = memchr::memmem::find(raw, b"\"\"").map(|_| Quotes { record: raw, delimiter: self.delimiter });
        for (at, (key, value)) in keys.iter().zip(fields).enumerate() {
            let is_quoted = quotes.as_mut().is_some_and(Quotes::pass);
            if let Some(dimensions) = dimensions {
                cells.push((is_quoted || !value.is_empty()).then_some(value));
                if dimensions.has(at) {
                    continue;
                }
            }
            if value.is_empty() && !(is_quoted && key.holds_text) {
                continue;
            }
            let key = &key.text;
            text.push_str(if text.len() == start + 1 { &key[1..] } else { key });
            // An object, as written (see the head of this file).
            match key == PROPERTIES && value.starts_with('{') && !value.contains(['\n', '\r']) && is_json(value) {
                true => text.push_str(value),
                false => write_string(text, value),
            }
        }
        if let Some(dimensions) = dimensions {
            text.push_str(if text.len() == start + 1 { &DIMENSIONS[1..] } else { DIMENSIONS });
            if let Err(fault) = dimensions.write(&cells, text) {
                text.truncate(start);
                return Body::Fault(fault);
            }
        }
        text.push('}');
        Body::Text(start..text.len())
    }
}

/// Returns the text of each field of the last record, whose ends in `fields` are `ends`; `None` if they are not text.
fn texts<'a>(fields: &'a [u8], ends: &'a [usize]) -> Option<impl Iterator<Item = &'a str>> {
    let text = str::from_utf8(&fields[..ends.last().copied().unwrap_or(0)]).ok()?;
    let mut start = 0;
    Some(ends.iter().map(move |end| &text[std::mem::replace(&mut start, *end)..*end]))
}

/// Returns the byte (from 1) at which something other than a delimiter follows a closing quote. The csv-core reader
/// takes it for more of the field, so a missing quote in one line would be closed by the next line's.
fn behind_quote(record: &[u8], delimiter: u8) -> Option<usize> {
    let mut rest = memchr::memchr(b'"', record)?;
    // A quote inside a field that does not start with one is content.
    rest = memchr::memrchr(delimiter, &record[..rest]).map_or(0, |before| before + 1);
    while rest < record.len() {
        if record[rest] == b'"' {
            rest += 1;
            loop {
                rest += memchr::memchr(b'"', &record[rest..])? + 1;
                match record.get(rest) {
                    Some(b'"') => rest += 1,
                    None => return None,
                    Some(byte) if *byte == delimiter => break,
                    Some(_) => return Some(rest + 1),
                }
            }
        }
        rest += memchr::memchr(delimiter, &record[rest..])? + 1;
    }
    None
}

fn reader(delimiter: u8) -> Reader {
    ReaderBuilder::new().delimiter(delimiter).terminator(Terminator::Any(b'\n')).build()
}

/// Puts the reader at the start of a record. A new reader would take a byte order mark there for the start of the file;
/// a newline, which it skips, prevents that.
fn start_record(reader: &mut Reader) {
    reader.reset();
    reader.read_record(b"\n", &mut [0], &mut [0]);
}

/// Returns the fault of a record with more or fewer fields than the header. The message shows the name of a header that
/// has only one, because the line may be a comment.
#[cold]
fn other_fields(keys: &[CsvColumn], found: usize) -> Fault {
    let shown = match keys {
        [only] => format!(" ({})", unescape(only.text.trim_matches([',', ':', '"']))),
        _ => String::new(),
    };
    let message = format!("expected {} fields{shown}, found {found}", keys.len());
    Fault::new(ErrorType::ParseError, message).of_input(Suspect::Header)
}

#[cold]
fn parse_error(message: impl Into<String>) -> Body {
    Body::Fault(Fault::new(ErrorType::ParseError, message))
}

/// Returns the bytes of the blank line at the start of `input`, if there is one.
fn blank_line(input: &[u8], last: bool) -> Option<usize> {
    let content = input.iter().position(|byte| !matches!(byte, b' ' | b'\r'));
    match content {
        Some(at) if input[at] == b'\n' => Some(at + 1),
        None if last && !input.is_empty() => Some(input.len()),
        _ => None,
    }
}

impl Splitter for CsvRows {
    fn split(&mut self, input: &[u8], last: bool, records: &mut Records) -> Result<usize> {
        let mut start = 0;
        while start < input.len() {
            if std::mem::take(&mut self.unread) {
                if input.len() < BOM.len() && BOM.starts_with(input) && !last {
                    self.unread = true;
                    break;
                }
                start = if input.starts_with(BOM) { BOM.len() } else { 0 };
                continue;
            }
            if let Some(length) = blank_line(&input[start..], last) {
                self.lines += 1;
                start += length;
                continue;
            }
            if self.is_guessed && !self.guess(&input[start..], last) {
                break;
            }
            if let Columns::TooLong = self.header {
                return Err(Error::corrupt("the first line is longer than --max-record"));
            }
            let Some(found) = self.find(&input[start..], last) else { break };
            let raw = start..start + found.content;
            if let Columns::Numbered = self.header {
                let keys = (1..=found.fields).map(|number| CsvColumn::new(&format!("c{number}"))).collect();
                self.header = Columns::Read(CsvColumns { keys, dimensions: None });
            }
            if let Columns::Expected = self.header {
                self.read_header(&input[start..], &found)?;
            } else {
                let body = self.body(&input[raw.clone()], &found, &mut records.text);
                records.rows.push(Record { raw, line: self.lines + 1, body });
            }
            let bytes = &input[start..start + found.length];
            self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64 + u64::from(!bytes.ends_with(b"\n"));
            start += found.length;
        }
        Ok(start)
    }

    fn skip(&mut self, input: &[u8]) -> Skipped {
        if let Columns::Expected | Columns::Numbered = self.header {
            self.header = Columns::TooLong;
        }
        let skipped = Skipped::line(input);
        self.lines += u64::from(skipped.is_complete);
        skipped
    }

    fn lines(&self) -> u64 {
        self.lines
    }

    fn names(&self) -> Option<Vec<String>> {
        let Columns::Read(names) = &self.header else { return None };
        Some(names.keys.iter().map(CsvColumn::name).collect())
    }
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
