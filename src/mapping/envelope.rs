//! One pass over a record's text: where each envelope field and each other field stands.

use crate::json::guide::{Foot, Guide, UNMARKED};
use crate::json::scan::{Names, at, diagnose, members_end, skip_space, string_end, value_end};
use crate::json::text::unescape;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::event::{COLUMNS, column};
use std::borrow::Cow;

/// A value found in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    /// A string without escapes: its content.
    Plain(&'a str),
    /// A string with escapes: what stands between its quotes.
    Escaped(&'a str),
    /// Anything else: its text.
    Other(&'a str),
}

impl<'a> Value<'a> {
    /// Classifies the text of one proved value.
    pub(super) fn of(text: &'a str) -> Self {
        match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(content) if content.contains('\\') => Value::Escaped(content),
            Some(content) => Value::Plain(content),
            None if text == "null" => Value::Absent,
            None => Value::Other(text),
        }
    }
}

/// A member that is no envelope field: byte ranges of its key (without quotes) and of its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) key: (u32, u32),
    pub(super) value: (u32, u32),
}

impl Member {
    pub(super) fn key<'a>(&self, text: &'a str) -> &'a str {
        &text[self.key.0 as usize..self.key.1 as usize]
    }

    pub(super) fn value<'a>(&self, text: &'a str) -> &'a str {
        &text[self.value.0 as usize..self.value.1 as usize]
    }
}

/// Where a value stands, and what it is.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    start: u32,
    end: u32,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, Default)]
enum Shape {
    #[default]
    Absent,
    Plain,
    Escaped,
    Other,
}

/// Where the watched members of a record stand, by index of the name.
pub(super) type Watched = [Option<(u32, u32)>; WATCH_MAX];

/// What one record holds. Used again for every record: a field counts only if this one has it.
#[derive(Default)]
pub(super) struct Marks {
    fields: [Mark; COLUMNS.len()],
    seen: u32,
    /// Of the seen, those that are not null.
    present: u32,
    /// Where the properties object's watched members stand; of equal names the last.
    pub(super) watched: Watched,
    /// Members that are no envelope fields.
    pub(super) members: Vec<Member>,
    /// Whether no name of the properties comes twice, for certain; false where nobody asked.
    pub(super) distinct: bool,
}

/// At most this many names are watched.
pub const WATCH_MAX: usize = 16;

/// A record with what it holds.
#[derive(Clone, Copy)]
pub(super) struct Envelope<'a, 'm> {
    pub(super) text: &'a str,
    pub(super) marks: &'m Marks,
    /// The record's own properties, whatever was copied over them.
    pub(super) properties: Value<'a>,
}

impl<'a> Envelope<'a, '_> {
    /// The field of a column.
    #[inline(always)]
    pub(super) fn field(&self, column: usize) -> Value<'a> {
        self.marks.field(column, self.text)
    }

    /// Whether the record has none of the columns whose bits are set in `columns`.
    #[inline(always)]
    pub(super) fn lacks(&self, columns: u32) -> bool {
        self.marks.seen & columns == 0
    }

    /// Whether the record has a value for all of the columns whose bits are set in `columns`.
    #[inline(always)]
    pub(super) fn has(&self, columns: u32) -> bool {
        self.marks.present & columns == columns
    }
}

impl Marks {
    /// The field of a column of the record `text`.
    #[inline(always)]
    pub(super) fn field<'a>(&self, column: usize, text: &'a str) -> Value<'a> {
        if self.present & (1 << column) == 0 {
            return Value::Absent;
        }
        let Mark { start, end, shape } = self.fields[column];
        let text = || &text[start as usize..end as usize];
        match shape {
            Shape::Absent => Value::Absent,
            Shape::Plain => Value::Plain(text()),
            Shape::Escaped => Value::Escaped(text()),
            Shape::Other => Value::Other(text()),
        }
    }

    /// Whether a column has a value.
    pub(super) fn has(&self, column: usize) -> bool {
        self.present & (1 << column) != 0
    }

    /// Sets the field of a column to a value that stands in `text`.
    pub(super) fn set(&mut self, column: usize, value: Value<'_>, text: &str) {
        let (shape, part) = match value {
            Value::Absent => (Shape::Absent, ""),
            Value::Plain(part) => (Shape::Plain, part),
            Value::Escaped(part) => (Shape::Escaped, part),
            Value::Other(part) => (Shape::Other, part),
        };
        let start = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
        self.put(column, Mark { start: start as u32, end: (start + part.len()) as u32, shape });
    }

    fn put(&mut self, column: usize, mark: Mark) {
        self.seen |= 1 << column;
        self.present = self.present & !(1 << column) | u32::from(!matches!(mark.shape, Shape::Absent)) << column;
        self.fields[column] = mark;
    }
}

/// What a reader of records knows beforehand.
pub(super) struct Reader {
    /// Whether a field named like column i is that column or a property.
    own: [bool; COLUMNS.len()],
    /// Names whose values inside `properties` are noted on the way.
    pub(super) watch: Vec<String>,
    /// Foretells the record's keys, marked with their columns.
    outer: Guide,
    /// Foretells the properties, marked with the index of the watched name.
    inner: Guide,
    /// What the record read last holds.
    pub(super) marks: Marks,
}

impl Reader {
    pub(super) fn new(own: [bool; COLUMNS.len()], watch: Vec<String>) -> Self {
        Self { own, watch, outer: Guide::default(), inner: Guide::default(), marks: Marks::default() }
    }

    /// Reads a record into `self.marks`, and whether its names are distinct if that is `ASKED`.
    #[inline]
    pub(super) fn read<const ASKED: bool>(&mut self, text: &str) -> Result<(), Fault> {
        self.marks.members.clear();
        (self.marks.seen, self.marks.present) = (0, 0);
        self.marks.watched[..self.watch.len()].fill(None);
        let mut twice = None;
        if self.pass::<ASKED>(text, &mut twice).is_none() {
            return Err(refusal(text));
        }
        match twice {
            None => Ok(()),
            Some(column) => {
                let message = format!("{}: the name stands twice in the record", COLUMNS[column]);
                Err(Fault::new(ErrorType::EnvelopeError, message))
            }
        }
    }

    /// The same where that is asked: apart, so that the other one stays small enough to be part of its caller.
    #[inline(never)]
    pub(super) fn read_names(&mut self, text: &str) -> Result<(), Fault> {
        self.read::<true>(text)
    }

    /// None where the text is no JSON object.
    #[inline(always)]
    fn pass<const ASKED: bool>(&mut self, text: &str, twice: &mut Option<usize>) -> Option<()> {
        let bytes = text.as_bytes();
        let mut p = skip_space(bytes, 0);
        if at(bytes, p) != b'{' {
            return None;
        }
        p = skip_space(bytes, p + 1);
        if at(bytes, p) == b'}' {
            return (skip_space(bytes, p + 1) == bytes.len()).then_some(());
        }
        let mut foot = self.outer.start();
        let (mut outer, mut inner) = (Names::<ASKED>::default(), Names::<ASKED>::default());
        // Bits in registers, not in memory: every member asks and sets them.
        let (mut seen, mut present) = (0u32, 0u32);
        loop {
            let (column, key, start) = self.key(bytes, p, (&mut foot, &mut outer))?;
            let (mark, end) = self.value((bytes, start), column, &mut inner)?;
            match self.marks.fields.get_mut(column as usize) {
                None => self.marks.members.push(Member { key, value: (start as u32, end as u32) }),
                Some(field) => {
                    let bit = 1u32.wrapping_shl(column);
                    if seen & bit != 0 {
                        *twice = Some(column as usize);
                    }
                    seen |= bit;
                    // Of equal names the record is refused anyway.
                    present |= if matches!(mark.shape, Shape::Absent) { 0 } else { bit };
                    *field = mark;
                }
            }
            p = skip_space(bytes, end);
            match at(bytes, p) {
                b',' => p = skip_space(bytes, p + 1),
                b'}' => {
                    (self.marks.seen, self.marks.present) = (seen, present);
                    self.marks.distinct = outer.are_distinct() && inner.are_distinct();
                    return (skip_space(bytes, p + 1) == bytes.len()).then_some(());
                }
                _ => return None,
            }
        }
    }

    /// The key at `p`: its column if it is one's, where it stands, and where its value starts.
    #[inline(always)]
    fn key<const ASKED: bool>(
        &mut self,
        bytes: &[u8],
        p: usize,
        (foot, names): (&mut Foot, &mut Names<ASKED>),
    ) -> Option<(u32, (u32, u32), usize)> {
        if let Some(step) = self.outer.expect(bytes, p, *foot) {
            *foot = step.foot;
            names.meet(*foot);
            return Some((step.mark, ((p + 1) as u32, (step.end - 2) as u32), skip_space(bytes, step.end)));
        }
        if at(bytes, p) != b'"' {
            return None;
        }
        let end = string_end(bytes, p + 1)?;
        let colon = skip_space(bytes, end.quote + 1);
        if at(bytes, colon) != b':' {
            return None;
        }
        let key = name(&bytes[p + 1..end.quote], end.escaped);
        let column = column_of(&key).filter(|column| self.own[*column]).map_or(UNMARKED, |column| column as u32);
        if !end.escaped && colon == end.quote + 1 {
            *foot = self.outer.learn(*foot, &bytes[p..=colon], column);
            names.meet_new(*foot);
        } else {
            names.miss();
        }
        Some((column, ((p + 1) as u32, end.quote as u32), skip_space(bytes, colon + 1)))
    }

    #[inline(always)]
    fn value<const ASKED: bool>(
        &mut self,
        (bytes, start): (&[u8], usize),
        column: u32,
        names: &mut Names<ASKED>,
    ) -> Option<(Mark, usize)> {
        if column == column::PROPERTIES as u32 && at(bytes, start) == b'{' {
            let Self { inner, watch, marks, .. } = self;
            let meaning = |key: &[u8], escaped| watched_name(watch, key, escaped).map_or(UNMARKED, |at| at as u32);
            let end = members_end((bytes, start, 1), (inner, names), meaning, |mark, start, end| {
                if mark != UNMARKED {
                    marks.watched[mark as usize] = Some((start as u32, end as u32));
                }
            })?;
            return Some((Mark { start: start as u32, end: end as u32, shape: Shape::Other }, end));
        }
        value_at(bytes, start)
    }

    /// Notes the watched values of a record whose properties stand beside its envelope fields.
    pub(super) fn watch_members(&mut self, text: &str) {
        let Marks { members, watched, .. } = &mut self.marks;
        for member in members {
            let key = member.key(text);
            if let Some(at) = watched_name(&self.watch, key.as_bytes(), key.contains('\\')) {
                watched[at] = Some(member.value);
            }
        }
    }
}

/// A key's name, its escapes undone.
#[inline(always)]
fn name(key: &[u8], escaped: bool) -> Cow<'_, str> {
    let key = std::str::from_utf8(key).unwrap_or_default();
    if escaped { unescape(key) } else { Cow::Borrowed(key) }
}

/// The index of the watched name that a key is.
fn watched_name(watch: &[String], key: &[u8], escaped: bool) -> Option<usize> {
    if watch.is_empty() {
        return None;
    }
    let key = name(key, escaped);
    watch.iter().position(|name| *name == key)
}

/// The value that starts at `start`, and the index after it.
#[inline(always)]
fn value_at(bytes: &[u8], start: usize) -> Option<(Mark, usize)> {
    if at(bytes, start) == b'"' {
        let end = string_end(bytes, start + 1)?;
        let shape = if end.escaped { Shape::Escaped } else { Shape::Plain };
        return Some((Mark { start: (start + 1) as u32, end: end.quote as u32, shape }, end.quote + 1));
    }
    let end = value_end(bytes, start, 1)?;
    let shape = if &bytes[start..end] == b"null" { Shape::Absent } else { Shape::Other };
    Some((Mark { start: start as u32, end: end as u32, shape }, end))
}

/// The column a name stands for.
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

/// Why a record was refused: no JSON at all, or JSON that is no object.
#[cold]
fn refusal(text: &str) -> Fault {
    if !crate::json::scan::is_json(text) {
        return Fault::new(ErrorType::ParseError, diagnose(text));
    }
    let what = match at(text.as_bytes(), skip_space(text.as_bytes(), 0)) {
        b'{' => return Fault::new(ErrorType::ParseError, diagnose(text)),
        b'[' => "an array: feed its elements one a line, as `jq -c '.[]' FILE` writes them",
        b'"' => "a string",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    };
    Fault::new(ErrorType::EnvelopeError, format!("an event is a JSON object, this is {what}"))
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
