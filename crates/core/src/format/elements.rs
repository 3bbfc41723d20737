//! `--explode PATH`: the elements of an array in JSON documents, each a record.
//!
//! Documents may have line breaks, and several may follow each other. The splitter reads them token by token and keeps
//! the names on the way to the array, never a document: what is beside the path is passed over, and only brackets and
//! strings of it are checked. An element is validated by the mapping, like a line of JSON lines.
//!
//! - A path goes through arrays: `resourceSpans.scopeSpans.spans` reads the spans of all scopes of all resources. `.`
//!   is the document itself, an array.
//! - A document without an array at the path is a dead letter with its first bytes; a document whose arrays are empty
//!   is filtered. Both count as one record.
//! - A document that is not JSON is one dead letter, too. The reader continues at the next line that begins with `{` or
//!   `[`.
//! - A document that breaks off leaves the splitter open: the input is torn.

use super::record::{Body, Record, Records, Skipped, Splitter, one_line};
use crate::error::{Error, Result};
use crate::json::DEPTH_MAX;
use crate::json::scan::skip_space;
use crate::json::text::unescape;
use crate::kind::dead::{ErrorType, Fault};
use crate::parse::printable::clean;
use crate::parse::shell;
use std::borrow::Cow;

/// Maximum number of bytes of a document in its dead letter.
const HEAD_BYTES: usize = 4 << 10;

/// Maximum number of containers around an element.
const CONTAINERS_MAX: usize = DEPTH_MAX as usize;

/// The names on the way to an array; none for a document that is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementPath(Vec<String>);

impl ElementPath {
    /// Parses `.` or names with dots between them. Errors: exit status 2 for an empty name.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "." {
            return Ok(Self(vec![]));
        }
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        match names.iter().any(String::is_empty) {
            true => {
                let name = text.trim_matches('.');
                let remedy = if name.is_empty() { String::new() } else { format!("; write --explode {name}") };
                let expected = "expected . or names like Records or a.b";
                Err(Error::usage(format!("--explode: {expected}, found '{text}'{remedy}")))
            }
            false => Ok(Self(names)),
        }
    }

    /// Returns the path as the flag has it.
    pub fn to_text(&self) -> String {
        if self.0.is_empty() { ".".to_owned() } else { self.0.join(".") }
    }

    /// Returns the place of the array, for messages.
    fn place(&self) -> String {
        if self.0.is_empty() { "of the document".to_owned() } else { format!("at {}", self.0.join(".")) }
    }
}

/// A container on the way to the array, with the number of names before its members.
#[derive(Clone, Copy)]
enum Container {
    Object(usize),
    /// The path goes through it, or it is the array.
    Array(usize),
}

/// The token that must come next, after white space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Document,
    /// A member, or the end of the object.
    FirstKey,
    Key,
    Colon,
    /// An item, or the end of the array.
    FirstItem,
    Value,
    /// A comma, or the end of the container.
    Next,
    /// The next line that begins with `{` or `[`; whether a line begins here.
    Line(bool),
}

/// A name or a value that has begun and may end in a later chunk.
enum Unfinished {
    Nothing,
    /// A name: its bytes, at most as many as the longest name of the path has.
    Key {
        bytes: Vec<u8>,
        escaped: bool,
    },
    /// A value that is passed over, or an element.
    Value {
        scan: ValueScan,
        is_element: bool,
        /// The fault of a value at the path that is not an array.
        fault: Option<Fault>,
    },
}

/// Splits documents into the elements of an array.
pub struct Elements {
    path: ElementPath,
    /// The containers around the place, from the document.
    stack: Vec<Container>,
    expect: Expect,
    pending: Unfinished,
    /// Whether the last name is the next one of the path.
    is_on_path: bool,
    /// The number of records so far.
    number: u64,
    document: OpenDocument,
    /// The number of bytes before this chunk.
    bytes: u64,
    /// The byte before this chunk.
    previous: u8,
}

/// The document that is read.
#[derive(Default)]
struct OpenDocument {
    /// Its first bytes, from the chunks before this one.
    head: Vec<u8>,
    /// The index in this chunk at which it begins; 0 if it began in an earlier chunk.
    start: usize,
    has_array: bool,
    has_record: bool,
    /// The fault if the document is not JSON. Its dead letter is made at the line where reading continues, and includes
    /// the bytes before that line.
    fault: Option<Fault>,
}

impl Elements {
    /// Makes the splitter of a path.
    pub fn new(path: ElementPath) -> Self {
        Self {
            path,
            stack: vec![],
            expect: Expect::Document,
            pending: Unfinished::Nothing,
            is_on_path: false,
            number: 0,
            document: OpenDocument::default(),
            bytes: 0,
            previous: b'\n',
        }
    }

    /// Reads the token at `p`; returns the index after it, or `None` if more input is needed. The bytes before `p` are
    /// then consumed.
    fn token(&mut self, input: &[u8], p: usize, records: &mut Records) -> Option<usize> {
        let byte = input[p];
        match (self.expect, byte) {
            (Expect::Document, b'{' | b'[') => {
                self.document = OpenDocument { start: p, ..OpenDocument::default() };
                self.value(input, p)
            }
            (Expect::FirstKey | Expect::Key, b'"') => {
                self.pending = Unfinished::Key { bytes: vec![], escaped: false };
                Some(p + 1)
            }
            (Expect::Colon, b':') => {
                self.expect = Expect::Value;
                Some(p + 1)
            }
            (Expect::FirstItem, b']') => {
                // An array before the last name of the path that is empty has no array of elements to be missed.
                self.document.has_array = true;
                self.close(input, p, records)
            }
            (Expect::FirstKey, b'}') => self.close(input, p, records),
            (Expect::Next, b'}') if matches!(self.stack.last(), Some(Container::Object(_))) => {
                self.close(input, p, records)
            }
            (Expect::Next, b']') if matches!(self.stack.last(), Some(Container::Array(_))) => {
                self.close(input, p, records)
            }
            (Expect::Next, b',') => {
                let is_object = matches!(self.stack.last(), Some(Container::Object(_)));
                self.expect = if is_object { Expect::Key } else { Expect::Value };
                Some(p + 1)
            }
            (Expect::FirstItem | Expect::Value, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                self.value(input, p)
            }
            _ => self.broken(input, p),
        }
    }

    /// Begins the value at `p`.
    fn value(&mut self, input: &[u8], p: usize) -> Option<usize> {
        let names = self.path.0.len();
        let (step, is_element) = match self.stack.last() {
            None => (Some(0), false),
            Some(Container::Array(step)) => (Some(*step), *step == names),
            Some(Container::Object(step)) => (self.is_on_path.then_some(*step + 1), false),
        };
        let Some(step) = step.filter(|_| !is_element) else {
            self.pending = Unfinished::Value { scan: ValueScan::default(), is_element, fault: None };
            return Some(p);
        };
        let container = match input[p] {
            b'[' => Some((Container::Array(step), Expect::FirstItem)),
            b'{' if step < names => Some((Container::Object(step), Expect::FirstKey)),
            _ => None,
        };
        let Some((container, expect)) = container else {
            let refused = || {
                let message = format!("expected an array {}, found {}", self.path.place(), kind_of(input[p]));
                Fault::new(ErrorType::EnvelopeError, message)
            };
            let fault = (step == names).then(refused);
            self.document.has_record |= fault.is_some();
            self.pending = Unfinished::Value { scan: ValueScan::default(), is_element: false, fault };
            return Some(p);
        };
        if self.stack.len() == CONTAINERS_MAX {
            return self.broken(input, p);
        }
        self.document.has_array |= step == names;
        self.stack.push(container);
        self.expect = expect;
        Some(p + 1)
    }

    /// Ends the container at `p`, and the document if that is the outermost one.
    fn close(&mut self, input: &[u8], p: usize, records: &mut Records) -> Option<usize> {
        self.stack.pop();
        self.expect = Expect::Next;
        if self.stack.is_empty() {
            self.expect = Expect::Document;
            if !self.document.has_record {
                let fault = (!self.document.has_array).then(|| self.missing(&input[..=p]));
                self.reject(fault, &input[..=p], records);
            }
        }
        Some(p + 1)
    }

    /// Returns the fault of a document without the array; it names the arrays at its beginning. `input` ends with the
    /// document.
    #[cold]
    fn missing(&mut self, input: &[u8]) -> Fault {
        self.keep_head(input);
        let names: Vec<String> =
            arrays_of(&self.document.head).iter().map(|name| format!("--explode {}", shell::word(name))).collect();
        let remedy = match names.is_empty() {
            true => String::new(),
            false => format!("; {} reads one that is there", names.join(" or ")),
        };
        Fault::new(ErrorType::EnvelopeError, format!("expected an array {}, found none{remedy}", self.path.place()))
    }

    /// Ends the document at `p`, where it is not JSON.
    fn broken(&mut self, input: &[u8], p: usize) -> Option<usize> {
        if self.expect == Expect::Document {
            self.document = OpenDocument { start: p, ..OpenDocument::default() };
        }
        let expected = match self.expect {
            Expect::Document => "{ or [",
            Expect::FirstKey => "a name or }",
            Expect::Key => "a name",
            Expect::Colon => ":",
            Expect::FirstItem => "a value or ]",
            Expect::Value if self.stack.len() == CONTAINERS_MAX => "fewer nested arrays",
            Expect::Value => "a value",
            Expect::Next if matches!(self.stack.last(), Some(Container::Object(_))) => ", or }",
            Expect::Next | Expect::Line(_) => ", or ]",
        };
        let found = char::from(input[p]).escape_default();
        let byte = self.bytes + p as u64 + 1;
        let fault = Fault::new(ErrorType::ParseError, format!("byte {byte}: expected {expected}, found '{found}'"));
        self.document.fault = Some(fault);
        let previous = p.checked_sub(1).map_or(self.previous, |before| input[before]);
        self.stack.clear();
        self.expect = Expect::Line(previous == b'\n' && self.expect != Expect::Document);
        Some(p)
    }

    /// Adds the letter of the document, which `input` ends with; without a fault the document is filtered.
    fn reject(&mut self, fault: Option<Fault>, input: &[u8], records: &mut Records) {
        self.number += 1;
        let start = records.text.len();
        self.keep_head(input);
        records.text.push_str(&String::from_utf8_lossy(&self.document.head));
        let body = Body::Document { head: start..records.text.len(), fault };
        records.rows.push(Record { raw: 0..0, line: self.number, body });
    }

    /// Keeps the first bytes of the document, which extends to the end of `input`.
    fn keep_head(&mut self, input: &[u8]) {
        let document = &mut self.document;
        let more = &input[document.start.min(input.len())..];
        let room = HEAD_BYTES - document.head.len();
        document.head.extend_from_slice(&more[..more.len().min(room)]);
        document.start = input.len();
    }

    /// Continues the token that an earlier chunk began; as [`Self::token`].
    fn pending(&mut self, input: &[u8], p: usize, records: &mut Records) -> Option<usize> {
        match &mut self.pending {
            Unfinished::Nothing => Some(p),
            Unfinished::Key { bytes, escaped } => {
                let Some(Container::Object(step)) = self.stack.last() else { return Some(p) };
                let name = self.path.0[*step].as_str();
                // Each character of a name is at most one escape.
                let most = 6 * name.len() + 1;
                let end = string_end(&input[p..], escaped).map(|end| p + end);
                let content = &input[p..end.unwrap_or(input.len())];
                bytes.extend_from_slice(&content[..content.len().min(most - bytes.len())]);
                let Some(end) = end else { return Some(input.len()) };
                self.is_on_path = str::from_utf8(bytes).is_ok_and(|key| *unescape(key) == *name);
                (self.pending, self.expect) = (Unfinished::Nothing, Expect::Colon);
                Some(end + 1)
            }
            Unfinished::Value { scan, is_element: false, fault } => {
                let Some(end) = scan.end(&input[p..]).map(|end| p + end) else {
                    scan.at = 0;
                    return Some(input.len());
                };
                let fault = fault.take();
                let is_document = self.stack.is_empty();
                self.expect = if is_document { Expect::Document } else { Expect::Next };
                self.pending = Unfinished::Nothing;
                if fault.is_some() {
                    self.reject(fault, &input[..end], records);
                }
                Some(end)
            }
            Unfinished::Value { scan, is_element: true, .. } => {
                let end = p + scan.end(&input[p..])?;
                (self.pending, self.expect) = (Unfinished::Nothing, Expect::Next);
                self.element(input, p..end, records);
                Some(end)
            }
        }
    }

    fn element(&mut self, input: &[u8], raw: std::ops::Range<usize>, records: &mut Records) {
        self.number += 1;
        self.document.has_record = true;
        let text = &input[raw.clone()];
        let body = match memchr::memchr2(b'\n', b'\r', text).map(|_| one_line(text)) {
            None | Some(Ok(Cow::Borrowed(_))) => Body::Raw,
            Some(Ok(Cow::Owned(line))) => {
                let start = records.text.len();
                records.text.push_str(&line);
                Body::Text(start..records.text.len())
            }
            Some(Err(fault)) => Body::Fault(fault),
        };
        records.rows.push(Record { raw, line: self.number, body });
    }

    /// Looks for the line at which reading continues after a document that is not JSON; as [`Self::token`].
    fn next_line(&mut self, input: &[u8], p: usize, is_start: bool, records: &mut Records) -> usize {
        if is_start {
            let is_document = matches!(input[p], b'{' | b'[');
            self.expect = if is_document { Expect::Document } else { Expect::Line(false) };
            if is_document {
                self.end_broken(&input[..p], records);
            }
            return p;
        }
        let line = memchr::memchr(b'\n', &input[p..]).map(|at| p + at + 1);
        self.expect = Expect::Line(line.is_some());
        line.unwrap_or(input.len())
    }

    /// Adds the letter of a document that is not JSON, which `input` ends with.
    fn end_broken(&mut self, input: &[u8], records: &mut Records) {
        let fault = self.document.fault.take();
        if fault.is_some() {
            self.reject(fault, input, records);
        }
    }

    /// Consumes the first `end` bytes of a chunk.
    fn consume(&mut self, input: &[u8], end: usize) {
        if self.is_open() || self.document.fault.is_some() {
            self.keep_head(&input[..end]);
        }
        self.document.start = 0;
        self.bytes += end as u64;
        self.previous = end.checked_sub(1).map_or(self.previous, |last| input[last]);
    }
}

/// Returns the names of the first arrays of objects in a document, whose end may be missing, as far as `--explode` can
/// name them and a message can show them.
pub(super) fn arrays_of(head: &[u8]) -> Vec<String> {
    const NAMES: usize = 3;
    let (mut names, mut depth, mut p) = (vec![], 0, 0);
    while p < head.len() && names.len() < NAMES {
        match head[p] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                let start = p + 1;
                p = start;
                while p < head.len() && head[p] != b'"' {
                    p += 1 + usize::from(head[p] == b'\\');
                }
                let after = |at: usize| skip_space(head, at);
                let colon = after((p + 1).min(head.len()));
                let value = after((colon + 1).min(head.len()));
                let is_array = head.get(colon) == Some(&b':') && head.get(value) == Some(&b'[');
                if depth == 1 && is_array && head.get(after(value + 1)) == Some(&b'{') {
                    let name = str::from_utf8(&head[start..p]).map(unescape).unwrap_or_default();
                    if !name.is_empty() && !name.contains('.') && clean(&name) == *name {
                        names.push(name.into_owned());
                    }
                }
            }
            _ => {}
        }
        p += 1;
    }
    names
}

impl Splitter for Elements {
    fn split(&mut self, input: &[u8], last: bool, records: &mut Records) -> Result<usize> {
        let mut p = 0;
        while p < input.len() {
            let next = match (&self.pending, self.expect) {
                (Unfinished::Nothing, Expect::Line(is_start)) => Some(self.next_line(input, p, is_start, records)),
                (Unfinished::Nothing, _) if matches!(input[p], b' ' | b'\t' | b'\r' | b'\n') => Some(p + 1),
                (Unfinished::Nothing, _) => self.token(input, p, records),
                _ => self.pending(input, p, records),
            };
            let Some(next) = next else { break };
            p = next;
        }
        if last {
            p = input.len();
            self.end_broken(input, records);
        }
        self.consume(input, p);
        Ok(p)
    }

    fn skip(&mut self, input: &[u8]) -> Skipped {
        let Unfinished::Value { scan, is_element, .. } = &mut self.pending else {
            return Skipped { bytes: 0, is_complete: true };
        };
        if std::mem::take(is_element) {
            self.number += 1;
            self.document.has_record = true;
        }
        // The scan has passed the bytes that were not consumed before.
        let end = scan.end(input);
        scan.at = 0;
        let skipped = Skipped { bytes: end.unwrap_or(input.len()), is_complete: end.is_some() };
        if skipped.is_complete {
            (self.pending, self.expect) = (Unfinished::Nothing, Expect::Next);
        }
        self.consume(input, skipped.bytes);
        skipped
    }

    fn lines(&self) -> u64 {
        self.number
    }

    fn terminator(&self) -> u64 {
        0
    }

    fn is_open(&self) -> bool {
        let is_between = matches!(self.expect, Expect::Document | Expect::Line(_));
        !is_between || !matches!(self.pending, Unfinished::Nothing)
    }
}

fn kind_of(byte: u8) -> &'static str {
    match byte {
        b'{' => "an object",
        b'"' => "a string",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    }
}

/// Returns the index of the quote that ends a string. `escaped` says whether the first byte follows a backslash;
/// without such a quote it is set for the next chunk.
fn string_end(input: &[u8], escaped: &mut bool) -> Option<usize> {
    let mut p = usize::from(std::mem::take(escaped));
    loop {
        match memchr::memchr2(b'"', b'\\', input.get(p..).unwrap_or_default()).map(|at| p + at) {
            Some(at) if input[at] == b'"' => return Some(at),
            Some(at) => p = at + 2,
            None => {
                *escaped = p > input.len();
                return None;
            }
        }
    }
}

/// Finds the end of a value by its brackets and strings, over several chunks.
#[derive(Default)]
struct ValueScan {
    /// The number of scanned bytes of the text that [`ValueScan::end`] gets.
    at: usize,
    depth: u64,
    is_string: bool,
    escaped: bool,
    /// Whether the value is a number or a word.
    is_word: bool,
}

impl ValueScan {
    /// Returns the index after the value, whose bytes `input` begins with; `None` if more are needed.
    fn end(&mut self, input: &[u8]) -> Option<usize> {
        while let Some(byte) = input.get(self.at) {
            if self.is_string {
                let Some(end) = string_end(&input[self.at..], &mut self.escaped) else { break };
                self.at += end + 1;
                self.is_string = false;
                if self.depth == 0 {
                    return Some(self.at);
                }
                continue;
            }
            match byte {
                b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' if self.is_word => return Some(self.at),
                b'"' => self.is_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => self.is_word = self.depth == 0,
            }
            self.at += 1;
            if self.depth == 0 && !self.is_string && !self.is_word {
                return Some(self.at);
            }
        }
        self.at = input.len();
        None
    }
}

#[cfg(test)]
#[path = "elements_tests.rs"]
mod tests;
