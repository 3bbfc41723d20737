//! Paths in a record: columns and paths into its properties, their values, and how messages show values.

use super::envelope::{self, Envelope, Value};
use crate::expr::{PathKey, read_paths, value_at};
use crate::json::text::{clipped, unescape};
use crate::json::walk::last_member;
use crate::kind::event::PROVENANCE_BITS;
use crate::kind::event::{COLUMNS, column};

/// A path in a record: a column, or a path into its properties.
#[derive(Clone, Debug)]
pub(super) enum Path {
    Column(usize),
    /// The stamp, if the record carries it, else the property of that name.
    Stamp(usize, PathKey),
    Property(Vec<PathKey>),
    /// The record's own field with the name of a column that gets another value.
    Replaced(usize),
}

impl Path {
    pub(super) fn new(text: &str) -> Self {
        match envelope::column_of(text) {
            Some(index) if PROVENANCE_BITS >> index & 1 == 1 => Path::Stamp(index, PathKey::Member(text.to_owned())),
            Some(index) if index != column::PROPERTIES => Path::Column(index),
            _ => Path::property(text.strip_prefix("properties.").unwrap_or(text)),
        }
    }

    /// Returns the path of a property, whatever columns there are (`--plain`). Text that is not one path is a name.
    pub(super) fn property(text: &str) -> Self {
        let mut paths = read_paths(text).unwrap_or_default();
        Path::Property(match (paths.pop(), paths.is_empty()) {
            (Some(path), true) => path,
            _ => vec![PathKey::Member(text.to_owned())],
        })
    }

    /// Returns the path to what the record itself has, although its fields do not fill the columns in the bits
    /// `replaced`.
    pub(super) fn in_record(self, replaced: u32) -> Self {
        match self {
            Path::Column(index) if replaced >> index & 1 == 1 => Path::Replaced(index),
            Path::Stamp(index, name) if replaced >> index & 1 == 1 => Path::Property(vec![name]),
            path => path,
        }
    }

    /// Returns the value at the path in a record; the last one if a name occurs twice.
    pub(super) fn value<'a>(&self, envelope: &Envelope<'a, '_>) -> Value<'a> {
        match self {
            Path::Column(index) => envelope.field(*index),
            Path::Stamp(index, name) => match envelope.field(*index) {
                Value::Absent => property(envelope, std::slice::from_ref(name)),
                stamp => stamp,
            },
            Path::Property(names) => property(envelope, names),
            Path::Replaced(index) => {
                // An object or an array is no value of a column, whatever fills the column.
                let value = own(envelope, COLUMNS[*index]).filter(|value| !value.starts_with(['{', '[']));
                value.map_or(Value::Absent, Value::of)
            }
        }
    }

    /// Returns the column that the path may name.
    pub(super) fn column(&self) -> Option<usize> {
        match self {
            Path::Column(index) | Path::Stamp(index, _) => Some(*index),
            Path::Property(_) | Path::Replaced(_) => None,
        }
    }
}

/// Returns the fields that `--time` may mean, in the order in which they are tried: one with this name, then those
/// between commas. A name with a comma may be in double quotes.
pub(super) fn alternatives(text: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let parts = text.split(|sign: char| {
        is_quoted ^= sign == '"';
        sign == ',' && !is_quoted
    });
    let parts: Vec<&str> = parts.map(str::trim).collect();
    match parts.len() > 1 && !parts.contains(&"") {
        true => [&[text], &parts[..]].concat(),
        false => vec![text],
    }
}

fn property<'a>(envelope: &Envelope<'a, '_>, steps: &[PathKey]) -> Value<'a> {
    let Some((PathKey::Member(first), rest)) = steps.split_first() else { return Value::Absent };
    let value = match (own(envelope, first), envelope.properties) {
        (Some(value), _) => Some(value),
        (None, Value::Other(object)) => last_member(object, first),
        (None, _) => None,
    };
    let value = value.and_then(|value| rest.iter().try_fold(value, value_at));
    value.map_or(Value::Absent, Value::of)
}

/// Returns the value of the record's own field of this name that fills no column.
fn own<'a>(envelope: &Envelope<'a, '_>, name: &str) -> Option<&'a str> {
    let text = envelope.text;
    let mut members = envelope.marks.members.iter().rev();
    members.find(|member| unescape(member.key(text)) == name).map(|member| member.value(text))
}

/// Formats a value for a message.
pub(super) fn shown(value: Value<'_>) -> String {
    match value {
        Value::Absent => "nothing".to_owned(),
        Value::Plain(text) | Value::Escaped(text) => format!("\"{}\"", clip(text)),
        Value::Other(text) if text.starts_with('{') => "an object".to_owned(),
        Value::Other(text) if text.starts_with('[') => "an array".to_owned(),
        Value::Other(text) => clip(text),
    }
}

/// Returns the first 40 characters of `text`, which comes from outside, with `?` for each control character.
pub(super) fn clip(text: &str) -> String {
    clipped(text, 40)
}
