//! logfmt: lines of `key=value` pairs, as loggers of Go, Heroku and Grafana write them.
//!
//! Values are strings; one in quotes has the escapes of JSON. A key without a value is true. A line without any pair is
//! a fault.

use super::definition::{Format, InputForm};
use super::lines::ReadLines;
use super::record::RecordReader;
use crate::error::Result;
use crate::json::scan::{is_json, string_end};
use crate::json::text::{key, write_string};
use crate::kind::dead::{ErrorType, Fault};

/// Lines of pairs.
pub const FORMAT: Format = Format {
    name: "logfmt",
    extensions: &["logfmt"],
    input: InputForm::Text(|_| Box::new(ReadLines::new(Pairs))),
    ..Format::BASE
};

struct Pairs;

impl RecordReader for Pairs {
    fn read(&self, line: &str, out: &mut String) -> Result<(), Fault> {
        write_object(line, out).map(|_| ())
    }
}

/// The words of a line.
#[derive(Default)]
struct Words {
    pairs: usize,
    /// Keys without a value.
    keys: usize,
    begins_with_key: bool,
}

/// Whether a line begins with a pair, and has two or more of them and fewer keys without a value: other text may
/// contain pairs.
pub(super) fn is_line(line: &str) -> bool {
    write_object(line, &mut String::new())
        .is_ok_and(|words| words.pairs >= 2 && words.keys < words.pairs && !words.begins_with_key)
}

/// Writes a line as a JSON object; returns how many words of each kind it has.
fn write_object(line: &str, out: &mut String) -> Result<Words, Fault> {
    let mut rest = line.trim_start();
    let mut words = Words::default();
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
                words.begins_with_key |= words.pairs + words.keys == 0;
                words.keys += 1;
                out.push_str("true");
                tail
            }
            Some(value) => {
                words.pairs += 1;
                write_value(value, out)
                    .ok_or_else(|| fault(line.len() - value.len() + 1, "a value that ends at a blank"))?
            }
        }
        .trim_start();
    }
    out.push('}');
    if words.pairs > 0 { Ok(words) } else { Err(fault(1, "key=value")) }
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
            let fault = write_object(line, &mut String::new()).err().map(|fault| fault.message);
            assert_eq!(fault.as_deref(), Some(said), "{line}");
        }
        for line in ["a=1 b=2", "a=1 b=2 debug", "a=x:true b=2"] {
            assert!(is_line(line), "{line}");
        }
        for line in ["a=1", "GET a=1 b=2", "a=1 b=2 are two pairs", "a=1 debug"] {
            assert!(!is_line(line), "{line}");
        }
    }
}
