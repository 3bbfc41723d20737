//! Functions of texts. They copy bytes into the result's array, and nothing else for a row.

use crate::error::Result;
use crate::expr::node::{Literal, Node, literal_number};
use crate::expr::value::Value;
use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::Float64Type;
use regex::Regex;
use std::fmt::Write;
use std::sync::Arc;

/// Returns a character of ASCII in lower case.
pub(super) fn lower(c: char) -> char {
    c.to_ascii_lowercase()
}

/// Returns a character of ASCII in upper case.
pub(super) fn upper(c: char) -> char {
    c.to_ascii_uppercase()
}

/// Returns the texts in another case. Most are ASCII, whose characters change one by one.
pub(super) fn cased(value: &Value, of_ascii: fn(char) -> char, of_any: fn(&str) -> String) -> ArrayRef {
    let values = value.array().as_string::<i32>();
    let mut builder = StringBuilder::with_capacity(values.len(), values.value_data().len());
    let mut ascii = String::new();
    for text in values {
        match text {
            Some(text) if text.is_ascii() => {
                ascii.clear();
                ascii.extend(text.chars().map(of_ascii));
                builder.append_value(&ascii);
            }
            text => builder.append_option(text.map(of_any)),
        }
    }
    Arc::new(builder.finish())
}

/// The rows of arguments of which the first is a text.
struct TextArguments {
    args: Vec<ArrayRef>,
}

impl TextArguments {
    fn of(args: &[Value]) -> Result<Self> {
        let rows = args.iter().map(Value::rows).max().unwrap_or(0);
        Ok(Self { args: args.iter().map(|arg| arg.full(rows)).collect::<Result<_>>()? })
    }

    fn number(&self, arg: usize, row: usize) -> f64 {
        self.args[arg].as_primitive::<Float64Type>().value(row)
    }

    /// Returns a text for each row in which no argument is NULL.
    fn texts<'a>(&'a self, f: impl Fn(&'a str, usize) -> &'a str) -> ArrayRef {
        let text = self.args[0].as_string::<i32>();
        let row = |row: usize| self.args.iter().all(|arg| arg.is_valid(row)).then(|| f(text.value(row), row));
        Arc::new((0..text.len()).map(row).collect::<StringArray>())
    }
}

/// Returns the characters `first` to `first + count − 1`, counted from 1; positions outside the text are skipped.
pub(super) fn substr(args: &[Value]) -> Result<ArrayRef> {
    let rows = TextArguments::of(args)?;
    let has_count = args.len() > 2;
    let part = |text: &'_ str, row: usize| -> (usize, usize) {
        let start = rows.number(1, row).trunc() - 1.0;
        let end = if has_count { start + rows.number(2, row).trunc() } else { f64::INFINITY };
        // A float to usize cast saturates: below 0 is 0.
        let (start, end) = (start as usize, (end as usize).max(start as usize));
        let at = |position: usize| text.char_indices().nth(position).map_or(text.len(), |(at, _)| at);
        (at(start), at(end))
    };
    Ok(rows.texts(|text, row| {
        let (start, end) = part(text, row);
        &text[start..end]
    }))
}

/// Returns the part of a text between two separators. An empty separator is in no text.
pub(super) fn split_part(args: &[Value]) -> Result<ArrayRef> {
    let rows = TextArguments::of(args)?;
    let separators = rows.args[1].as_string::<i32>();
    Ok(rows.texts(|text, row| {
        let (separator, number) = (separators.value(row), rows.number(2, row).trunc());
        let at = number.abs() as usize;
        let found = match (separator, at.checked_sub(1)) {
            (_, None) => None,
            ("", Some(at)) => (at == 0).then_some(text),
            (_, Some(at)) if number > 0.0 => text.split(separator).nth(at),
            (_, Some(at)) => text.rsplit(separator).nth(at),
        };
        found.unwrap_or_default()
    }))
}

/// Returns each text with `from` replaced by `to`. An empty `from` is in no text.
pub(super) fn replace(args: &[Value]) -> Result<ArrayRef> {
    let rows = TextArguments::of(args)?;
    let texts: [_; 3] = std::array::from_fn(|arg| rows.args[arg].as_string::<i32>());
    let mut builder = StringBuilder::with_capacity(texts[0].len(), texts[0].value_data().len());
    for row in 0..texts[0].len() {
        if rows.args.iter().any(|arg| arg.is_null(row)) {
            builder.append_null();
            continue;
        }
        let [text, from, to] = texts.map(|texts| texts.value(row));
        let mut end = 0;
        // Pieces that are written make up one value, which append_value("") ends.
        for (at, _) in text.match_indices(from).filter(|_| !from.is_empty()) {
            let _ = builder.write_str(&text[end..at]).and_then(|()| builder.write_str(to));
            end = at + from.len();
        }
        builder.append_value(&text[end..]);
    }
    Ok(Arc::new(builder.finish()))
}

/// Compiles a pattern, whose size is bounded; so is the time of a match, by the size of the pattern times that of the
/// text.
pub(in crate::expr) fn regex(pattern: &Node) -> Result<Regex, String> {
    let Node::Literal(Literal::Text(pattern)) = pattern else {
        return Err(format!("expected a text constant as a regular expression, found {pattern}"));
    };
    Regex::new(pattern).map_err(|error| {
        let message = error.to_string();
        let cause = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("invalid regular expression '{pattern}': {cause}")
    })
}

/// Checks that the third argument is the number of a group of the pattern.
pub(super) fn check_group(args: &[Node]) -> Result<(), String> {
    let (Some(pattern), Some(group)) = (args.get(1), args.get(2)) else { return Ok(()) };
    let groups = regex(pattern)?.captures_len() - 1;
    match literal_number(group) {
        Some(number) if number.trunc() == number && (0.0..=groups as f64).contains(&number) => Ok(()),
        _ => Err(format!("expected the number of a group of {pattern}, from 0 to {groups}, found {group}")),
    }
}

/// Returns the first match of a pattern, or of one group of it.
pub(super) fn regexp_extract(args: &[Value], pattern: &Regex) -> Result<ArrayRef> {
    let group = args.get(2).map_or(0.0, |group| group.array().as_primitive::<Float64Type>().value(0)) as usize;
    let mut places = pattern.capture_locations();
    let texts = args[0].array().as_string::<i32>().iter();
    let found = texts.map(|text| {
        let text = text?;
        let place = match group {
            0 => pattern.find(text).map(|found| (found.start(), found.end())),
            group => pattern.captures_read(&mut places, text).and_then(|_| places.get(group)),
        };
        Some(place.map_or("", |(start, end)| &text[start..end]))
    });
    Ok(Arc::new(found.collect::<StringArray>()))
}
