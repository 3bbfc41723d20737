//! One pass over a record's text: where each envelope field and each other field stands.

use crate::json::scan::{at, diagnose, skip_space, string_end, value_end};
use crate::json::text::unescape;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::event::COLUMNS;

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

/// What one record holds.
pub(super) struct Envelope<'a> {
    /// The envelope fields, by column index.
    pub(super) fields: [Value<'a>; COLUMNS.len()],
}

/// Reads a record. `own[i]` says whether a field named like column i is that column or a property; properties go to
/// `members`, which is cleared first.
pub(super) fn read<'a>(
    text: &'a str,
    own: &[bool; COLUMNS.len()],
    members: &mut Vec<Member>,
) -> Result<Envelope<'a>, Fault> {
    members.clear();
    let mut envelope = Envelope { fields: [Value::Absent; COLUMNS.len()] };
    let mut seen = 0u16;
    match pass(text, own, members, (&mut envelope, &mut seen)) {
        Some(Ok(())) => Ok(envelope),
        Some(Err(fault)) => Err(fault),
        None => Err(refusal(text)),
    }
}

/// None where the text is no JSON object; a fault where it is one, but no envelope.
#[inline(always)]
fn pass<'a>(
    text: &'a str,
    own: &[bool; COLUMNS.len()],
    members: &mut Vec<Member>,
    (envelope, seen): (&mut Envelope<'a>, &mut u16),
) -> Option<Result<(), Fault>> {
    let bytes = text.as_bytes();
    let mut p = skip_space(bytes, 0);
    if at(bytes, p) != b'{' {
        return None;
    }
    p = skip_space(bytes, p + 1);
    let mut twice = None;
    if at(bytes, p) == b'}' {
        p += 1;
    } else {
        loop {
            if at(bytes, p) != b'"' {
                return None;
            }
            let key_start = p + 1;
            let key_end = string_end(bytes, key_start)?;
            p = skip_space(bytes, key_end.quote + 1);
            if at(bytes, p) != b':' {
                return None;
            }
            let start = skip_space(bytes, p + 1);
            let key = &text[key_start..key_end.quote];
            let column = if key_end.escaped { column_of(&unescape(key)) } else { column_of(key) };
            let (value, end) = value_at(text, start)?;
            match column {
                Some(column) if own[column] => {
                    if *seen & (1 << column) != 0 {
                        twice = Some(column);
                    }
                    *seen |= 1 << column;
                    envelope.fields[column] = value;
                }
                _ => members
                    .push(Member { key: (key_start as u32, key_end.quote as u32), value: (start as u32, end as u32) }),
            }
            p = skip_space(bytes, end);
            match at(bytes, p) {
                b',' => p = skip_space(bytes, p + 1),
                b'}' => {
                    p += 1;
                    break;
                }
                _ => return None,
            }
        }
    }
    if skip_space(bytes, p) != bytes.len() {
        return None;
    }
    Some(match twice {
        None => Ok(()),
        Some(column) => Err(Fault::new(
            ErrorType::EnvelopeError,
            format!("{}: the name stands twice in the record", COLUMNS[column]),
        )),
    })
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
    fn every_column_is_found_by_its_name() {
        for (index, name) in COLUMNS.iter().enumerate() {
            assert_eq!(column_of(name), Some(index));
        }
        assert_eq!(column_of("country"), None);
    }
}
