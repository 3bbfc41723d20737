//! One pass over a record's text: where each envelope field and each other field stands.

use crate::json::scan::{at, diagnose, skip_space, string_end, value_end};
use crate::json::text::unescape;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::event::{COLUMNS, column};

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

/// What one record holds. Used again for every record: a field counts only if this one has it.
pub(super) struct Envelope<'a> {
    fields: [Value<'a>; COLUMNS.len()],
    seen: u16,
    /// Where the properties object's watched members stand, by index of the name; of equal names the last.
    pub(super) watched: [Option<(u32, u32)>; WATCH_MAX],
}

/// At most this many names are watched.
pub const WATCH_MAX: usize = 16;

impl<'a> Envelope<'a> {
    pub(super) fn new() -> Self {
        Self { fields: [Value::Absent; COLUMNS.len()], seen: 0, watched: [None; WATCH_MAX] }
    }

    /// The field of a column.
    #[inline(always)]
    pub(super) fn field(&self, column: usize) -> Value<'a> {
        if self.seen & (1 << column) == 0 { Value::Absent } else { self.fields[column] }
    }

    /// Whether the record has none of the columns whose bits are set in `columns`.
    #[inline(always)]
    pub(super) fn lacks(&self, columns: u16) -> bool {
        self.seen & columns == 0
    }

    /// Sets the field of a column.
    pub(super) fn set(&mut self, column: usize, value: Value<'a>) {
        self.seen |= 1 << column;
        self.fields[column] = value;
    }
}

/// What a reader of records knows beforehand.
pub(super) struct Reader {
    /// Whether a field named like column i is that column or a property.
    pub(super) own: [bool; COLUMNS.len()],
    /// Names whose values inside `properties` are noted on the way.
    pub(super) watch: Vec<String>,
    /// The column that stood at each place of the record before: records of a stream mostly look alike, and comparing
    /// the whole key is cheaper than finding its end and what it means.
    guesses: [u8; GUESSES],
    /// Members that are no envelope fields, of the record read last.
    pub(super) members: Vec<Member>,
}

const GUESSES: usize = 16;
const NO_GUESS: u8 = u8::MAX;

/// The keys of the columns as they mostly stand in a record.
const QUOTED: [&[u8]; COLUMNS.len()] = [
    b"\"event_id\":",
    b"\"source\":",
    b"\"event_type\":",
    b"\"user_id\":",
    b"\"properties\":",
    b"\"client_timestamp\":",
    b"\"server_timestamp\":",
    b"\"ingested_at\":",
    b"\"event_time\":",
    b"\"origin\":",
    b"\"partition\":",
    b"\"offset\":",
    b"\"stream_time\":",
    b"\"schema_id\":",
];

impl Reader {
    pub(super) fn new(own: [bool; COLUMNS.len()], watch: Vec<String>) -> Self {
        Self { own, watch, guesses: [NO_GUESS; GUESSES], members: vec![] }
    }

    /// Reads a record into `envelope`.
    #[inline]
    pub(super) fn read<'a>(&mut self, text: &'a str, envelope: &mut Envelope<'a>) -> Result<(), Fault> {
        self.members.clear();
        envelope.seen = 0;
        envelope.watched[..self.watch.len()].fill(None);
        let mut twice = None;
        match self.pass(text, envelope, &mut twice) {
            None => Err(refusal(text)),
            Some(()) => match twice {
                None => Ok(()),
                Some(column) => {
                    let message = format!("{}: the name stands twice in the record", COLUMNS[column]);
                    Err(Fault::new(ErrorType::EnvelopeError, message))
                }
            },
        }
    }

    /// None where the text is no JSON object.
    #[inline(always)]
    fn pass<'a>(&mut self, text: &'a str, envelope: &mut Envelope<'a>, twice: &mut Option<usize>) -> Option<()> {
        let bytes = text.as_bytes();
        let mut p = skip_space(bytes, 0);
        if at(bytes, p) != b'{' {
            return None;
        }
        p = skip_space(bytes, p + 1);
        if at(bytes, p) == b'}' {
            return (skip_space(bytes, p + 1) == bytes.len()).then_some(());
        }
        let mut place = 0;
        loop {
            let (column, key, start) = self.key(text, p, place)?;
            place += 1;
            let (value, end) = self.value(text, start, column, envelope)?;
            match column {
                Some(column) => {
                    if envelope.seen & (1 << column) != 0 {
                        *twice = Some(column);
                    }
                    envelope.seen |= 1 << column;
                    envelope.fields[column] = value;
                }
                None => self.members.push(Member { key, value: (start as u32, end as u32) }),
            }
            p = skip_space(bytes, end);
            match at(bytes, p) {
                b',' => p = skip_space(bytes, p + 1),
                b'}' => return (skip_space(bytes, p + 1) == bytes.len()).then_some(()),
                _ => return None,
            }
        }
    }

    /// The key at `p`: its column if it is one's, where it stands, and where its value starts.
    #[inline(always)]
    fn key(&mut self, text: &str, p: usize, place: usize) -> Option<(Option<usize>, (u32, u32), usize)> {
        let bytes = text.as_bytes();
        let guess = self.guesses.get(place).copied().unwrap_or(NO_GUESS);
        if let Some(quoted) = QUOTED.get(usize::from(guess))
            && bytes[p..].starts_with(quoted)
        {
            let start = skip_space(bytes, p + quoted.len());
            return Some((Some(usize::from(guess)), (0, 0), start));
        }
        if at(bytes, p) != b'"' {
            return None;
        }
        let end = string_end(bytes, p + 1)?;
        let key = &text[p + 1..end.quote];
        let column = if end.escaped { column_of(&unescape(key)) } else { column_of(key) };
        let column = column.filter(|column| self.own[*column]);
        if let (Some(guess), Some(column)) = (self.guesses.get_mut(place), column) {
            *guess = column as u8;
        }
        let colon = skip_space(bytes, end.quote + 1);
        if at(bytes, colon) != b':' {
            return None;
        }
        Some((column, ((p + 1) as u32, end.quote as u32), skip_space(bytes, colon + 1)))
    }

    #[inline(always)]
    fn value<'a>(
        &self,
        text: &'a str,
        start: usize,
        column: Option<usize>,
        envelope: &mut Envelope<'a>,
    ) -> Option<(Value<'a>, usize)> {
        if column == Some(column::PROPERTIES) && !self.watch.is_empty() && at(text.as_bytes(), start) == b'{' {
            let end = self.watched_end(text, start, &mut envelope.watched)?;
            return Some((Value::Other(&text[start..end]), end));
        }
        value_at(text, start)
    }

    /// The end of the properties object, its watched members noted on the way.
    fn watched_end(&self, text: &str, start: usize, watched: &mut [Option<(u32, u32)>; WATCH_MAX]) -> Option<usize> {
        let bytes = text.as_bytes();
        let mut p = skip_space(bytes, start + 1);
        if at(bytes, p) == b'}' {
            return Some(p + 1);
        }
        loop {
            if at(bytes, p) != b'"' {
                return None;
            }
            let key_start = p + 1;
            let end = string_end(bytes, key_start)?;
            p = skip_space(bytes, end.quote + 1);
            if at(bytes, p) != b':' {
                return None;
            }
            let value = skip_space(bytes, p + 1);
            p = value_end(bytes, value, 2)?;
            if let Some(name) = self.watched_name(&bytes[key_start..end.quote], end.escaped) {
                watched[name] = Some((value as u32, p as u32));
            }
            p = skip_space(bytes, p);
            match at(bytes, p) {
                b',' => p = skip_space(bytes, p + 1),
                b'}' => return Some(p + 1),
                _ => return None,
            }
        }
    }

    #[inline(always)]
    fn watched_name(&self, key: &[u8], escaped: bool) -> Option<usize> {
        if escaped {
            let key = unescape(std::str::from_utf8(key).unwrap_or_default());
            return self.watch.iter().position(|name| *name == key);
        }
        self.watch.iter().position(|name| name.as_bytes() == key)
    }

    /// The watched values of a record whose properties stand beside its envelope fields.
    pub(super) fn watch_members(&self, text: &str, watched: &mut [Option<(u32, u32)>; WATCH_MAX]) {
        for member in &self.members {
            let key = member.key(text);
            if let Some(name) = self.watched_name(key.as_bytes(), key.contains('\\')) {
                watched[name] = Some(member.value);
            }
        }
    }
}

/// The value that starts at `start`, and the index after it.
#[inline(always)]
fn value_at(text: &str, start: usize) -> Option<(Value<'_>, usize)> {
    let bytes = text.as_bytes();
    if at(bytes, start) == b'"' {
        let end = string_end(bytes, start + 1)?;
        let content = &text[start + 1..end.quote];
        let value = if end.escaped { Value::Escaped(content) } else { Value::Plain(content) };
        return Some((value, end.quote + 1));
    }
    let end = value_end(bytes, start, 1)?;
    let value = &text[start..end];
    Some((if value == "null" { Value::Absent } else { Value::Other(value) }, end))
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
    fn the_quoted_keys_are_those_of_the_columns() {
        for (name, quoted) in COLUMNS.iter().zip(QUOTED) {
            assert_eq!(format!("\"{name}\":").as_bytes(), quoted);
        }
    }

    #[test]
    fn every_column_is_found_by_its_name() {
        for (index, name) in COLUMNS.iter().enumerate() {
            assert_eq!(column_of(name), Some(index));
        }
        assert_eq!(column_of("country"), None);
    }
}
