//! Reads a record's text in one pass and records the byte ranges of its envelope fields and of all other members.

use crate::json::base64;
use crate::json::predictor::{KeyPredictor, UNMARKED};
use crate::json::scan::{KeyAt, MemberKeys, at, diagnose, skip_space, string_end, token, value_end_of};
use crate::json::text::{is_text, part, unescape};
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::event::{ADDED_BITS, COLUMNS, RAW, RAW_BASE64, column};
use std::borrow::Cow;

/// A value in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Absent or null.
    #[default]
    Absent,
    /// A string without escapes: its content.
    Plain(&'a str),
    /// A string with escapes: the text between its quotes.
    Escaped(&'a str),
    /// Anything else: its text.
    Other(&'a str),
}

impl<'a> Value<'a> {
    /// Classifies the text of one valid JSON value.
    pub(super) fn of(text: &'a str) -> Self {
        match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(content) if content.contains('\\') => Value::Escaped(content),
            Some(content) => Value::Plain(content),
            None if text == "null" => Value::Absent,
            None => Value::Other(text),
        }
    }

    /// Returns the content of a string.
    pub(super) fn string(self) -> Option<Cow<'a, str>> {
        match self {
            Value::Plain(text) => Some(Cow::Borrowed(text)),
            Value::Escaped(raw) if is_text(raw) => Some(unescape(raw)),
            _ => None,
        }
    }

    /// Returns the integer that a number or a string contains (CSV has only strings).
    pub(super) fn integer(self) -> Option<i64> {
        match self {
            Value::Plain(text) | Value::Other(text) => text.parse().ok(),
            Value::Absent | Value::Escaped(_) => None,
        }
    }
}

/// A range of bytes in a record's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextRange {
    start: u32,
    end: u32,
}

impl TextRange {
    #[inline(always)]
    pub(super) fn of(self, text: &str) -> &str {
        part(text, self.start as usize..self.end as usize)
    }
}

/// A member that is not an envelope field: byte ranges of its key (without quotes) and of its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemberRange {
    pub(super) key: TextRange,
    pub(super) value: TextRange,
}

impl MemberRange {
    pub(super) fn key<'a>(&self, text: &'a str) -> &'a str {
        self.key.of(text)
    }

    pub(super) fn value<'a>(&self, text: &'a str) -> &'a str {
        self.value.of(text)
    }
}

/// Byte range and type of a value.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    start: u32,
    end: u32,
    shape: ValueShape,
}

#[derive(Clone, Copy, Debug, Default)]
enum ValueShape {
    #[default]
    Absent,
    Plain,
    Escaped,
    Other,
}

/// Byte ranges of the watched members of a record, by index of the name.
pub(super) type Watched = [Option<TextRange>; PROPERTIES_MAX];

/// The fields of one record. Reused for every record: a field is valid only if its bit is set.
#[derive(Default)]
pub(super) struct Marks {
    fields: [Mark; COLUMNS.len()],
    seen: u32,
    /// Those of the seen that are not null.
    present: u32,
    /// Byte ranges of the watched members of the properties object; the last one if a name occurs twice.
    pub(super) watched: Watched,
    /// Members that are not envelope fields.
    pub(super) members: Vec<MemberRange>,
    /// Whether certainly no name occurs twice in the properties; false if the reader did not check this.
    pub(super) distinct: bool,
}

/// Maximum number of watched names.
pub const PROPERTIES_MAX: usize = 16;

/// A record's text with its fields.
#[derive(Clone, Copy)]
pub(super) struct Envelope<'a, 'm> {
    pub(super) text: &'a str,
    pub(super) marks: &'m Marks,
    /// The record's own properties, even if `--field` replaced them.
    pub(super) properties: Value<'a>,
}

impl<'a> Envelope<'a, '_> {
    /// Returns the field of a column.
    #[inline(always)]
    pub(super) fn field(&self, column: usize) -> Value<'a> {
        self.marks.field(column, self.text)
    }

    /// Whether the record has none of the columns in the bits `columns`.
    #[inline(always)]
    pub(super) fn lacks(&self, columns: u32) -> bool {
        !self.marks.saw(columns)
    }

    /// Returns a bit for each column that the record has.
    #[inline]
    pub(super) fn filled(&self) -> u32 {
        self.marks.present
    }

    /// Returns the byte range of a value in the record, quotes included.
    pub(super) fn span(&self, value: Value<'_>) -> Option<TextRange> {
        let (part, quotes) = match value {
            Value::Absent => return None,
            Value::Plain(part) | Value::Escaped(part) => (part, 1),
            Value::Other(part) => (part, 0),
        };
        let start = part.as_ptr().addr().checked_sub(self.text.as_ptr().addr())?.checked_sub(quotes)?;
        let end = u32::try_from(start + part.len() + 2 * quotes).ok()?;
        Some(TextRange { start: u32::try_from(start).ok()?, end })
    }

    /// Whether the record has a value for every column in the bits `columns`.
    #[inline(always)]
    pub(super) fn has(&self, columns: u32) -> bool {
        self.marks.present & columns == columns
    }
}

impl Marks {
    /// Returns the field of a column of the record `text`.
    #[inline(always)]
    pub(super) fn field<'a>(&self, column: usize, text: &'a str) -> Value<'a> {
        if self.present & (1 << column) == 0 {
            return Value::Absent;
        }
        let Mark { start, end, shape } = self.fields[column];
        let text = || part(text, start as usize..end as usize);
        match shape {
            ValueShape::Absent => Value::Absent,
            ValueShape::Plain => Value::Plain(text()),
            ValueShape::Escaped => Value::Escaped(text()),
            ValueShape::Other => Value::Other(text()),
        }
    }

    /// Whether the record has one of the columns in the bits `columns`, even if it is null.
    #[inline(always)]
    pub(super) fn saw(&self, columns: u32) -> bool {
        self.seen & columns != 0
    }

    /// Returns those of the columns in the bits `columns` that have a value.
    pub(super) fn present(&self, columns: u32) -> u32 {
        self.present & columns
    }

    /// Whether a column has a value.
    pub(super) fn has(&self, column: usize) -> bool {
        self.present & (1 << column) != 0
    }

    /// Sets the field of a column to a value inside `text`.
    pub(super) fn set(&mut self, column: usize, value: Value<'_>, text: &str) {
        let (shape, part) = match value {
            Value::Absent => (ValueShape::Absent, ""),
            Value::Plain(part) => (ValueShape::Plain, part),
            Value::Escaped(part) => (ValueShape::Escaped, part),
            Value::Other(part) => (ValueShape::Other, part),
        };
        let start = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
        self.put(column, Mark { start: start as u32, end: (start + part.len()) as u32, shape });
    }

    /// Removes the member with the raw record from those of the record `text` and writes its bytes to `out`; false if
    /// there is none.
    pub(super) fn take_raw(&mut self, text: &str, out: &mut Vec<u8>) -> bool {
        let found = self.members.iter().position(|member| read_raw(member.key(text), member.value(text), out));
        found.map(|at| self.members.remove(at)).is_some()
    }

    fn put(&mut self, column: usize, mark: Mark) {
        self.seen |= 1 << column;
        self.present = self.present & !(1 << column) | u32::from(!matches!(mark.shape, ValueShape::Absent)) << column;
        self.fields[column] = mark;
    }
}

/// Writes the raw record in a member to `out`; false if the member holds none.
fn read_raw(key: &str, value: &str, out: &mut Vec<u8>) -> bool {
    if !matches!(key, RAW | RAW_BASE64) {
        return false;
    }
    let content = Value::of(value).string();
    let bytes = match key {
        RAW => content.map(|text| text.into_owned().into_bytes()),
        _ => content.and_then(|text| base64::decode(&text)),
    };
    let is_read = bytes.is_some();
    *out = bytes.unwrap_or_default();
    is_read
}

/// Reads records one after another; predicts the keys of a record from those before it.
pub(super) struct Reader {
    /// Bits of the columns that a field of the same name fills; for the others such a field is a property.
    own: u32,
    /// Bits of the columns whose name some property has had.
    shadowed: u32,
    /// Names whose values inside `properties` are recorded.
    pub(super) properties: Vec<String>,
    /// Predicts the record's keys; a mark is the column.
    outer: KeyPredictor,
    /// Predicts the property names; a mark is the index of the watched name.
    inner: KeyPredictor,
    /// The fields of the last record.
    pub(super) marks: Marks,
}

impl Reader {
    pub(super) fn new(own: u32, properties: Vec<String>) -> Self {
        let (outer, inner) = (KeyPredictor::default(), KeyPredictor::default());
        Self { own, shadowed: 0, properties, outer, inner, marks: Marks::default() }
    }

    /// Returns the bits of the columns whose name some property has had.
    pub(super) fn shadowed(&self) -> u32 {
        self.shadowed
    }

    /// Reads a record into `self.marks`; with `ASKED` also checks whether its names are distinct.
    #[inline]
    fn read<const ASKED: bool>(&mut self, text: &str) -> Result<(), Fault> {
        self.marks.members.clear();
        (self.marks.seen, self.marks.present) = (0, 0);
        self.marks.watched[..self.properties.len()].fill(None);
        match self.pass::<ASKED>(text) {
            Some(0) => Ok(()),
            Some(twice) => {
                let message = format!("{}: duplicate name in the record", COLUMNS[twice.trailing_zeros() as usize]);
                Err(Fault::new(ErrorType::EnvelopeError, message))
            }
            None => Err(refusal(text)),
        }
    }

    /// Reads a record; with `checks_names` also checks whether its names are distinct.
    #[inline(always)]
    pub(super) fn read_as(&mut self, text: &str, checks_names: bool) -> Result<(), Fault> {
        if checks_names { self.read_names(text) } else { self.read::<false>(text) }
    }

    /// Reads a record and checks its names. Not inlined, so that the common variant stays small enough to be inlined.
    #[inline(never)]
    fn read_names(&mut self, text: &str) -> Result<(), Fault> {
        self.read::<true>(text)
    }

    /// Reads the members of the record. Returns the bits of the columns that it names twice; `None` if the text is not
    /// a JSON object.
    #[inline(always)]
    fn pass<const ASKED: bool>(&mut self, text: &str) -> Option<u32> {
        let bytes = text.as_bytes();
        let mut p = skip_space(bytes, 0);
        if at(bytes, p) != b'{' {
            return None;
        }
        p = skip_space(bytes, p + 1);
        if at(bytes, p) == b'}' {
            return (skip_space(bytes, p + 1) == bytes.len()).then_some(0);
        }
        let (mut outer, mut inner) = (MemberKeys::<ASKED>::new(&self.outer), MemberKeys::<ASKED>::new(&self.inner));
        // In registers, not in memory: every member reads and sets them.
        let (mut seen, mut present, mut twice) = (0u32, 0u32, 0u32);
        loop {
            let key = self.key(bytes, p, &mut outer)?;
            let KeyAt { mark: column, start: key_start, end: key_end, value: start, .. } = key;
            let (mark, end) = self.value(bytes, key, &mut inner)?;
            let member = || MemberRange {
                key: TextRange { start: key_start as u32, end: key_end as u32 },
                value: TextRange { start: start as u32, end: end as u32 },
            };
            match self.marks.fields.get_mut(column as usize) {
                None => {
                    self.marks.members.push(member());
                }
                Some(field) => {
                    let bit = 1u32.wrapping_shl(column);
                    twice |= seen & bit;
                    seen |= bit;
                    if matches!(mark.shape, ValueShape::Other) && is_nested(bytes, start, column) {
                        self.marks.members.push(member());
                        self.shadowed |= bit;
                        // If another field has the name, the record is refused later.
                        *field = Mark::default();
                    } else {
                        // If a name occurs twice, the record is refused later.
                        present |= if matches!(mark.shape, ValueShape::Absent) { 0 } else { bit };
                        *field = mark;
                    }
                }
            }
            let (next, byte) = token(bytes, end);
            match byte {
                b',' => p = skip_space(bytes, next + 1),
                b'}' => {
                    (self.marks.seen, self.marks.present) = (seen, present);
                    self.marks.distinct = outer.are_distinct() && inner.are_distinct();
                    return (skip_space(bytes, next + 1) == bytes.len()).then_some(twice);
                }
                _ => return None,
            }
        }
    }

    /// Reads the key at `p`; its mark is its column or `UNMARKED`.
    #[inline(always)]
    fn key<const ASKED: bool>(&mut self, bytes: &[u8], p: usize, keys: &mut MemberKeys<ASKED>) -> Option<KeyAt> {
        let Self { outer, own, shadowed, .. } = self;
        keys.read(outer, bytes, p, |key, escaped| match column_of(&name(key, escaped)) {
            Some(column) if *own >> column & 1 == 1 => column as u32,
            named => {
                note_shadow(shadowed, named);
                UNMARKED
            }
        })
    }

    /// Reads the value of a key; returns it and the index after it. `inner` are the keys of the properties.
    #[inline(always)]
    fn value<const ASKED: bool>(
        &mut self,
        bytes: &[u8],
        key: KeyAt,
        inner: &mut MemberKeys<ASKED>,
    ) -> Option<(Mark, usize)> {
        if key.mark == column::PROPERTIES as u32 && key.first == b'{' {
            let end = self.properties(bytes, key.value, inner)?;
            return Some((Mark { start: key.value as u32, end: end as u32, shape: ValueShape::Other }, end));
        }
        value_at(bytes, key)
    }

    /// Reads the properties object whose `{` is at `start`; returns the index after it.
    #[inline(always)]
    fn properties<const ASKED: bool>(
        &mut self,
        bytes: &[u8],
        start: usize,
        keys: &mut MemberKeys<ASKED>,
    ) -> Option<usize> {
        let Self { inner, properties, marks, shadowed, .. } = self;
        let mut p = skip_space(bytes, start + 1);
        if at(bytes, p) == b'}' {
            return Some(p + 1);
        }
        loop {
            let key = keys.read(inner, bytes, p, |key, escaped| {
                let key = name(key, escaped);
                note_shadow(shadowed, column_of(&key));
                watched_name(properties, &key).map_or(UNMARKED, |at| at as u32)
            })?;
            let end = value_end_of(bytes, key.value, key.first, 2)?;
            if key.mark != UNMARKED {
                marks.watched[key.mark as usize] = Some(TextRange { start: key.value as u32, end: end as u32 });
            }
            let (next, byte) = token(bytes, end);
            match byte {
                b',' => p = skip_space(bytes, next + 1),
                b'}' => return Some(next + 1),
                _ => return None,
            }
        }
    }

    /// Records the watched values of a record whose properties are beside its envelope fields.
    pub(super) fn watch_members(&mut self, text: &str) {
        let Marks { members, watched, fields, present, .. } = &mut self.marks;
        let object = fields[column::PROPERTIES];
        let is_inside = |range: TextRange| {
            *present >> column::PROPERTIES & 1 == 1 && object.start <= range.start && range.end <= object.end
        };
        for member in members {
            let key = member.key(text);
            let key = if key.contains('\\') { unescape(key) } else { Cow::Borrowed(key) };
            let Some(at) = watched_name(&self.properties, &key) else { continue };
            // A column that evt adds does not override a property of its name inside `properties`.
            let is_added = column_of(&key).is_some_and(|column| ADDED_BITS >> column & 1 == 1);
            if !(is_added && watched[at].is_some_and(is_inside)) {
                watched[at] = Some(member.value);
            }
        }
    }
}

/// Whether the value at `start` of the field of a column is an object or an array that is not a value of the column: it
/// is a property. Under `properties` no other value than an object makes sense, so an array there remains a fault.
#[inline(always)]
fn is_nested(bytes: &[u8], start: usize, column: u32) -> bool {
    matches!(at(bytes, start), b'{' | b'[') && column != column::PROPERTIES as u32
}

/// Records that a property has the name of a column. Called only for keys that were not predicted.
fn note_shadow(shadowed: &mut u32, column: Option<usize>) {
    *shadowed |= column.map_or(0, |column| 1 << column);
}

/// Returns a key's name, unescaped.
#[inline(always)]
fn name(key: &[u8], escaped: bool) -> Cow<'_, str> {
    let key = std::str::from_utf8(key).unwrap_or_default();
    if escaped { unescape(key) } else { Cow::Borrowed(key) }
}

/// Returns the index of `key` in the watched names.
pub(super) fn watched_name(properties: &[String], key: &str) -> Option<usize> {
    properties.iter().position(|name| name == key)
}

/// Reads the value of a key; returns it and the index after it.
#[inline(always)]
fn value_at(bytes: &[u8], KeyAt { value: start, first, .. }: KeyAt) -> Option<(Mark, usize)> {
    if first == b'"' {
        let end = string_end(bytes, start + 1)?;
        let shape = if end.escaped { ValueShape::Escaped } else { ValueShape::Plain };
        return Some((Mark { start: (start + 1) as u32, end: end.quote as u32, shape }, end.quote + 1));
    }
    let end = value_end_of(bytes, start, first, 1)?;
    let shape = if &bytes[start..end] == b"null" { ValueShape::Absent } else { ValueShape::Other };
    Some((Mark { start: start as u32, end: end as u32, shape }, end))
}

/// Returns the column of a name.
#[inline(always)]
pub(super) fn column_of(name: &str) -> Option<usize> {
    Some(match name {
        "event_id" => 0,
        "source" => 1,
        "event_type" => 2,
        "user_id" => 3,
        "properties" => 4,
        "client_timestamp" => 5,
        "server_timestamp" => 6,
        "ingested_at" => 7,
        "event_time" => 8,
        "origin" => 9,
        "partition" => 10,
        "offset" => 11,
        "stream_time" => 12,
        "schema_id" => 13,
        _ => return None,
    })
}

/// Returns why a record was refused: invalid JSON, or JSON that is not an object.
#[cold]
fn refusal(text: &str) -> Fault {
    if !crate::json::scan::is_json(text) {
        return Fault::new(ErrorType::ParseError, diagnose(text));
    }
    let what = match at(text.as_bytes(), skip_space(text.as_bytes(), 0)) {
        b'{' => return Fault::new(ErrorType::ParseError, diagnose(text)),
        b'[' => "an array, whose elements must be records of their own",
        b'"' => "a string",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    };
    Fault::new(ErrorType::EnvelopeError, format!("expected a JSON object, found {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_found_by_its_name() {
        for (index, name) in COLUMNS.iter().enumerate() {
            assert_eq!(column_of(name), Some(index));
        }
        assert_eq!(column_of("country"), None);
    }
}
