//! logfmt: lines of `key=value` pairs, as loggers of Go, Heroku and Grafana write them.
//!
//! Values are strings; one in quotes has the escapes of JSON. A key without a value is true. A line without any pair is a fault.

use super::definition::{Format, Input};
use super::jsonl::Lines;
use super::record::{Body, Records, Splitter, not_utf8};
use crate::error::Result;
use crate::json::scan::{is_json, string_end};
use crate::json::text::{key, write_string};
use crate::kind::dead::{ErrorType, Fault};

/// Lines of pairs.
pub const FORMAT: Format = Format {
    name: "logfmt",
    extensions: &["logfmt"],
    input: Input::Text(|_| Box::new(Pairs::default())),
    ..Format::BASE
};

/// Splits lines; blank ones are not records, but count as lines.
#[derive(Default)]
struct Pairs(Lines);

impl Splitter for Pairs {
    fn split(&mut self, input: &[u8], last: bool, records: &mut Records) -> Result<usize> {
        let before = records.rows.len();
        let consumed = self.0.split(input, last, records)?;
        for record in &mut records.rows[before..] {
            let start = records.text.len();
            let read = match std::str::from_utf8(&input[record.raw.clone()]) {
                Ok(line) => write_object(line, &mut records.text),
                Err(error) => Err(not_utf8(&error)),
            };
            record.body = match read {
                Ok(_) => Body::Text(start..records.text.len()),
                Err(fault) => {
                    records.text.truncate(start);
                    Body::Fault(fault)
                }
            };
        }
        Ok(consumed)
    }

    fn skip(&mut self, input: &[u8]) -> (usize, bool) {
        self.0.skip(input)
    }
}

/// Whether each word of a line is a pair, and there are two or more.
pub(super) fn is_line(line: &str) -> bool {
    let mut text = String::new();
    write_object(line, &mut text).is_ok_and(|pairs| pairs >= 2) && !text.contains(":true")
}

/// Writes a line as a JSON object; returns the number of its pairs.
fn write_object(line: &str, out: &mut String) -> Result<usize, Fault> {
    let mut rest = line.trim_start();
    let mut pairs = 0;
    out.push('{');
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c == '"' || c.is_whitespace()).unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        let byte = line.len() - rest.len() + 1;
        if name.is_empty() || tail.starts_with('"') {
            return Err(fault(byte, "a key"));
        }
        // The text of a key begins with a comma.
        let member = key(name);
        out.push_str(if out.ends_with('{') { &member[1..] } else { &member });
        rest = match tail.strip_prefix('=') {
            None => {
                out.push_str("true");
                tail
            }
            Some(value) => {
                pairs += 1;
                write_value(value, out)
                    .ok_or_else(|| fault(line.len() - value.len() + 1, "a value that ends at a blank"))?
            }
        }
        .trim_start();
    }
    out.push('}');
    if pairs > 0 { Ok(pairs) } else { Err(fault(1, "key=value")) }
}

/// Writes the value at the start of a text; returns what follows it.
fn write_value<'a>(text: &'a str, out: &mut String) -> Option<&'a str> {
    if !text.starts_with('"') {
        let (value, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
        write_string(out, value);
        return (!value.contains('"')).then_some(rest);
    }
    let end = string_end(text.as_bytes(), 1)?.quote + 1;
    let (quoted, rest) = text.split_at(end);
    if !is_json(quoted) || !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
        return None;
    }
    out.push_str(quoted);
    Some(rest)
}

#[cold]
fn fault(byte: usize, expected: &str) -> Fault {
    Fault::new(ErrorType::ParseError, format!("byte {byte}: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_objects_of_strings() {
        for (line, json) in [
            (
                r#"ts=2026-01-01T00:00:00Z level=info msg="a \"b\" c""#,
                r#"{"ts":"2026-01-01T00:00:00Z","level":"info","msg":"a \"b\" c"}"#,
            ),
            ("a=1  b= c=x=y", r#"{"a":"1","b":"","c":"x=y"}"#),
            ("  a=1 debug", r#"{"a":"1","debug":true}"#),
            (r"path=C:\x", r#"{"path":"C:\\x"}"#),
        ] {
            let mut text = String::new();
            write_object(line, &mut text).unwrap();
            assert_eq!(text, json, "{line}");
        }
    }

    #[test]
    fn other_lines_are_faults() {
        for (line, said) in [
            ("only words", "byte 1: expected key=value"),
            ("=1", "byte 1: expected a key"),
            ("a=1 \"b\"=2", "byte 5: expected a key"),
            ("a=\"b", "byte 3: expected a value that ends at a blank"),
            ("a=\"b\"c", "byte 3: expected a value that ends at a blank"),
        ] {
            assert_eq!(write_object(line, &mut String::new()).unwrap_err().message, said, "{line}");
        }
        assert!(is_line("a=1 b=2") && !is_line("a=1") && !is_line("GET a=1 b=2"));
    }
}
