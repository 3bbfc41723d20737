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
use super::record::{BOM, Body, Record, RecordReader, Records, Skipped, Splitter, not_utf8};
use super::row::kind_of;
use crate::error::{Error, Result};
use crate::json::scan::is_json;
use crate::json::text::{key, unescape, write_string};
use crate::kind::dead::{ErrorType, Fault, Suspect};
use crate::kind::{Kind, claims_json};
use arrow::datatypes::DataType;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

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
    /// `--kind`; without it the names of the columns decide.
    kind: Option<Kind>,
    header: Columns,
    lines: u64,
    /// Whether nothing has been read yet, so that a byte order mark may follow.
    unread: bool,
}

enum Columns {
    /// The first line has their names.
    Expected,
    /// `--header` has their names.
    Given(Vec<String>),
    /// The columns have numbers as names. There are as many as the first record has fields.
    Numbered,
    TooLong,
    Read {
        columns: Arc<CsvColumns>,
        /// The columns that are dimensions, in a file of metrics. Which ones a row has may depend on the rows before.
        dimensions: Option<DimensionReader>,
    },
}

/// The columns of the file, which read its records.
struct CsvColumns {
    delimiter: u8,
    keys: Vec<CsvColumn>,
}

impl CsvColumns {
    /// Appends the members of the object of a record, without its end. Fields that are no members are left out.
    #[inline(always)]
    fn write(
        &self,
        record: &str,
        out: &mut String,
        mut is_member: impl FnMut(usize, &CsvField<'_>) -> bool,
    ) -> Result<(), Fault> {
        let (start, mut count) = (out.len() + 1, 0);
        out.push('{');
        for field in CsvFields::new(record, self.delimiter) {
            let field = field.map_err(|fault| parse_error(fault.message()))?;
            let (at, value) = (count, &*field.text);
            count += 1;
            let Some(key) = self.keys.get(at).filter(|_| is_member(at, &field)) else { continue };
            if value.is_empty() && !(field.is_quoted && key.holds_text) {
                continue;
            }
            let key = &key.text;
            out.push_str(if out.len() == start { &key[1..] } else { key });
            // An object, as written (see the head of this file).
            match key == PROPERTIES && value.starts_with('{') && !value.contains(['\n', '\r']) && is_json(value) {
                true => out.push_str(value),
                false => write_string(out, value),
            }
        }
        if count == self.keys.len() { Ok(()) } else { Err(other_fields(&self.keys, count)) }
    }

    /// Appends the JSON text of a metric whose dimensions are columns.
    fn write_metric(&self, record: &str, dimensions: &mut DimensionReader, out: &mut String) -> Result<(), Fault> {
        let (start, mut cells) = (out.len() + 1, vec![]);
        self.write(record, out, |at, field| {
            cells.push((field.is_quoted || !field.text.is_empty()).then(|| field.text.clone().into_owned()));
            !dimensions.has(at)
        })?;
        out.push_str(if out.len() == start { &DIMENSIONS[1..] } else { DIMENSIONS });
        dimensions.write(&Vec::from_iter(cells.iter().map(Option::as_deref)), out)?;
        out.push('}');
        Ok(())
    }
}

impl RecordReader for CsvColumns {
    fn read(&self, record: &str, out: &mut String) -> Result<(), Fault> {
        self.write(record, out, |_, _| true)?;
        out.push('}');
        Ok(())
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

/// A field, without its quotes.
struct CsvField<'a> {
    text: Cow<'a, str>,
    is_quoted: bool,
}

/// The fault of a field with quotes.
#[derive(Debug, PartialEq)]
enum QuoteFault {
    /// The record ends before the closing quote.
    Open,
    /// Something other than a delimiter follows a closing quote, at this byte (from 1). A missing quote in one line
    /// would be closed by the next line's.
    Behind(usize),
}

impl QuoteFault {
    fn message(&self) -> String {
        match self {
            Self::Open => "expected a closing quote, found the end of the record".to_owned(),
            Self::Behind(byte) => format!("byte {byte}: expected a delimiter after a quote"),
        }
    }
}

/// The fields of a record.
struct CsvFields<'a> {
    record: &'a str,
    /// Where the next field begins; `None` behind the last one.
    next: Option<usize>,
    delimiter: u8,
    has_quotes: bool,
}

impl<'a> CsvFields<'a> {
    #[inline(always)]
    fn new(record: &'a str, delimiter: u8) -> Self {
        Self { record, next: Some(0), delimiter, has_quotes: memchr::memchr(b'"', record.as_bytes()).is_some() }
    }

    /// Reads the field that has its opening quote at `start`.
    fn quoted(&mut self, start: usize) -> Result<CsvField<'a>, QuoteFault> {
        let bytes = self.record.as_bytes();
        let Some(end) = closing_quote(bytes, start + 1) else { return Err(QuoteFault::Open) };
        let rest = end + 1;
        self.next = memchr::memchr(self.delimiter, &bytes[rest..]).map(|end| rest + end + 1);
        if bytes.get(rest).is_some_and(|byte| *byte != self.delimiter) {
            // The record may have an open quote as well, which says more.
            let is_open = RecordEnd::of(bytes, self.delimiter).is_open;
            return Err(if is_open { QuoteFault::Open } else { QuoteFault::Behind(rest + 1) });
        }
        let text = &self.record[start + 1..end];
        let is_doubled = memchr::memchr(b'"', text.as_bytes()).is_some();
        let text = if is_doubled { Cow::Owned(text.replace("\"\"", "\"")) } else { Cow::Borrowed(text) };
        Ok(CsvField { text, is_quoted: true })
    }
}

impl<'a> Iterator for CsvFields<'a> {
    type Item = Result<CsvField<'a>, QuoteFault>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next.take()?;
        let rest = &self.record[start..];
        if self.has_quotes && rest.starts_with('"') {
            return Some(self.quoted(start));
        }
        let end = memchr::memchr(self.delimiter, rest.as_bytes());
        self.next = end.map(|end| start + end + 1);
        Some(Ok(CsvField { text: Cow::Borrowed(&rest[..end.unwrap_or(rest.len())]), is_quoted: false }))
    }
}

/// Returns where the quote is that closes a field whose content begins at `start`; a doubled quote is content.
fn closing_quote(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += memchr::memchr(b'"', &bytes[at..])?;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// The end of the record at the start of bytes.
#[derive(Default)]
struct RecordEnd {
    /// Where its line break is; `None` if that is missing.
    line_break: Option<usize>,
    /// Whether the bytes end inside quotes.
    is_open: bool,
    has_quotes: bool,
}

impl RecordEnd {
    #[inline(always)]
    fn of(bytes: &[u8], delimiter: u8) -> Self {
        match memchr::memchr2(b'\n', b'"', bytes) {
            Some(end) if bytes[end] == b'\n' => Self { line_break: Some(end), ..Self::default() },
            Some(quote) => Self::behind(bytes, quote, delimiter),
            None => Self::default(),
        }
    }

    /// Returns the end of a record whose first quote is at `quote`. A quote opens a field at its beginning only.
    fn behind(bytes: &[u8], quote: usize, delimiter: u8) -> Self {
        let mut next = Some(quote);
        while let Some(at) = next {
            if bytes[at] == b'\n' {
                return Self { line_break: Some(at), is_open: false, has_quotes: true };
            }
            let mut end = at;
            if at == 0 || bytes[at - 1] == delimiter {
                match closing_quote(bytes, at + 1) {
                    Some(closing) => end = closing,
                    None => return Self { line_break: None, is_open: true, has_quotes: true },
                }
            }
            next = memchr::memchr2(b'\n', b'"', &bytes[end + 1..]).map(|found| end + 1 + found);
        }
        Self { line_break: None, is_open: false, has_quotes: true }
    }
}

/// The bytes of a record at the start of bytes.
struct RecordBounds {
    /// Bytes up to and including its line break.
    length: usize,
    /// Bytes without it, and without a `\r` before it.
    content: usize,
    /// Line breaks, one at the end of the last record included.
    lines: u64,
}

impl RecordBounds {
    /// Finds the record at the start of `input`; `None` if its end is missing. If a quote is open at the end of all
    /// input, a carriage return is content.
    #[inline(always)]
    fn find(input: &[u8], delimiter: u8, last: bool) -> Option<Self> {
        let end = RecordEnd::of(input, delimiter);
        if end.line_break.is_none() && !last {
            return None;
        }
        let content = end.line_break.unwrap_or(input.len());
        let returns = usize::from(!end.is_open && input[..content].ends_with(b"\r"));
        let within = if end.has_quotes { memchr::memchr_iter(b'\n', &input[..content]).count() as u64 } else { 0 };
        let at_end = u64::from(end.line_break.is_some() || !input.ends_with(b"\n"));
        let length = content + usize::from(end.line_break.is_some());
        Some(Self { length, content: content - returns, lines: within + at_end })
    }
}

impl CsvRows {
    fn new(delimiter: Option<u8>, options: &TextOptions) -> Self {
        let TextOptions { header, kind, .. } = options;
        Self {
            delimiter: delimiter.unwrap_or(b','),
            is_guessed: delimiter.is_none(),
            header: match header {
                CsvHeader::FirstLine => Columns::Expected,
                CsvHeader::Numbers => Columns::Numbered,
                CsvHeader::Names(names) => Columns::Given(names.clone()),
            },
            kind: *kind,
            lines: 0,
            unread: true,
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
            Columns::Given(names) => count > 0 && count + 1 == names.len(),
            // A line of data may have decimal commas.
            Columns::Numbered => count > 0 && count == most(&counts),
            // In a line of names a comma separates them.
            _ => count > 0 && (counts[0] > 0 || count == most(&counts)),
        };
        if let Some((delimiter, _)) = DELIMITERS.iter().zip(counts).find(|(_, count)| is_it(*count)) {
            self.delimiter = *delimiter;
        }
        self.is_guessed = false;
        true
    }

    /// Takes the names of the columns from the first record, or from the flags; returns whether the record is a row.
    #[cold]
    fn begin(&mut self, record: &[u8]) -> Result<bool> {
        let (names, is_row) = match &mut self.header {
            Columns::Given(names) => (std::mem::take(names), true),
            Columns::Numbered => {
                let count = CsvFields::new(&String::from_utf8_lossy(record), self.delimiter).count();
                ((1..=count).map(|number| format!("c{number}")).collect(), true)
            }
            _ => (read_header(record, self.delimiter)?, false),
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let is_metric = self.kind.unwrap_or_else(|| kind_of(&names)) == Kind::Metric;
        let dimensions = if is_metric { DimensionReader::new(&names) } else { None };
        let keys = names.iter().map(|name| CsvColumn::new(name)).collect();
        self.header = Columns::Read { columns: Arc::new(CsvColumns { delimiter: self.delimiter, keys }), dimensions };
        Ok(is_row)
    }

    /// Returns the JSON text of a record, or why it has none, if the records before decide about it.
    #[inline(always)]
    fn body(&mut self, raw: &[u8], text: &mut String) -> Body {
        let Columns::Read { columns, dimensions: Some(dimensions) } = &mut self.header else { return Body::Unread };
        let (start, record) = (text.len(), str::from_utf8(raw).map_err(|error| not_utf8(&error)));
        match record.and_then(|record| columns.write_metric(record, dimensions, text)) {
            Ok(()) => Body::Text(start..text.len()),
            Err(fault) => {
                text.truncate(start);
                Body::Fault(fault)
            }
        }
    }
}

/// Returns the names of columns in the first line.
fn read_header(line: &[u8], delimiter: u8) -> Result<Vec<String>> {
    let wrong = |message: &str| Error::corrupt(format!("the header{message}"));
    let text = str::from_utf8(line).map_err(|_| wrong(": invalid UTF-8; --encoding NAME reads other encodings"))?;
    let fields = CsvFields::new(text, delimiter).map(|field| field.map(|field| field.text));
    let names: Vec<Cow<'_, str>> = fields.collect::<Result<_, _>>().map_err(|fault| match fault {
        QuoteFault::Open => wrong(": expected a closing quote, found the end of the input"),
        QuoteFault::Behind(_) => wrong(&format!(", {}", fault.message())),
    })?;
    if names.iter().any(|name| name.contains('\r')) && !text.contains('"') {
        let remedy = "expected lines that end with LF or CRLF; tr '\\r' '\\n' converts them";
        return Err(wrong(&format!(" contains a carriage return: {remedy}")));
    }
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    Ok(column_names(&names)?.into_iter().map(Cow::into_owned).collect())
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
fn parse_error(message: String) -> Fault {
    Fault::new(ErrorType::ParseError, message)
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
            let Some(found) = RecordBounds::find(&input[start..], self.delimiter, last) else { break };
            let raw = start..start + found.content;
            let is_row = matches!(self.header, Columns::Read { .. }) || self.begin(&input[raw.clone()])?;
            if is_row {
                let body = self.body(&input[raw.clone()], &mut records.text);
                records.rows.push(Record { raw, line: self.lines + 1, body });
            }
            self.lines += found.lines;
            start += found.length;
        }
        if let Columns::Read { columns, .. } = &self.header {
            records.reader = Some(columns.clone());
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
        match &self.header {
            Columns::Read { columns, .. } => Some(columns.keys.iter().map(CsvColumn::name).collect()),
            Columns::Given(names) => Some(names.clone()),
            Columns::Expected | Columns::Numbered | Columns::TooLong => None,
        }
    }
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
