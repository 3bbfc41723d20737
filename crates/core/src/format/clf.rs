//! Access logs of Apache and nginx: the common and the combined format.
//!
//! `client ident user [17/May/2015:10:05:03 +0000] "GET /path HTTP/1.1" 200 203023 "referrer" "user agent"` becomes an
//! event: `event_type` http_request, `server_timestamp`, and the rest as properties. A field `-` becomes no property.
//! `ident` is left out (it has been considered untrustworthy since 1993). A request that is not three words is kept
//! whole as `request`. The escapes `\"`, `\\` and `\xHH` are undone if the result is text, else the field stays as it
//! is. The mapping sets `source` to the file. A user agent may lack its closing quote, because servers truncate long
//! lines.

use super::definition::{Format, InputForm};
use super::lines::{LineCursor, LineFault, ReadLines};
use super::record::RecordReader;
use crate::error::Result;
use crate::json::text::write_string;
use crate::kind::dead::Fault;
use crate::time::{MONTHS, write_instant};
use std::borrow::Cow;

/// Common and combined logs.
pub const FORMAT: Format = Format {
    name: "clf",
    extensions: &["clf"],
    input: InputForm::Text(|_| Box::new(ReadLines::new(AccessLog))),
    ..Format::BASE
};

struct AccessLog;

impl RecordReader for AccessLog {
    fn read(&self, line: &str, out: &mut String) -> Result<(), Fault> {
        Ok(entry(line, out)?)
    }
}

/// Reads up to ` [`, because a user's name may contain spaces.
fn read_user<'a>(cursor: &mut LineCursor<'a>) -> Result<&'a str, LineFault> {
    let rest = cursor.rest();
    match rest.find(" [") {
        Some(end) if end > 0 => {
            cursor.byte += end;
            Ok(&rest[..end])
        }
        _ => Err(cursor.fault("a user, then a time in brackets")),
    }
}

/// Reads the content between two quotes, still escaped.
fn read_quoted<'a>(cursor: &mut LineCursor<'a>, expected: &'static str) -> Result<&'a str, LineFault> {
    cursor.mark("\"", expected)?;
    let rest = cursor.rest();
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                cursor.byte += at + 1;
                return Ok(&rest[..at]);
            }
            _ => {}
        }
    }
    cursor.byte = cursor.line.len();
    Err(cursor.fault("a closing quote"))
}

/// Reads a quoted field whose closing quote may be missing: servers cut long lines, and the fields before it are valid.
fn read_last_quoted<'a>(cursor: &mut LineCursor<'a>, expected: &'static str) -> Result<&'a str, LineFault> {
    let start = cursor.byte + 1;
    match read_quoted(cursor, expected) {
        Err(fault) if fault.byte == cursor.line.len() && start < fault.byte => Ok(&cursor.line[start..]),
        done => done,
    }
}

/// Reads `[17/May/2015:10:05:03 +0000]` as an instant (µs).
fn read_time(cursor: &mut LineCursor<'_>) -> Result<i64, LineFault> {
    let expected = "a time like [17/May/2015:10:05:03 +0000]";
    cursor.mark("[", expected)?;
    let Some(micros) = cursor.rest().get(..26).and_then(parse_time) else { return Err(cursor.fault(expected)) };
    cursor.byte += 26;
    cursor.mark("]", expected)?;
    Ok(micros)
}

/// Reads a number or `-`.
fn read_number(cursor: &mut LineCursor<'_>, expected: &'static str) -> Result<Option<u64>, LineFault> {
    let at = cursor.byte;
    let word = cursor.word(expected)?;
    let number = word.parse::<u64>().ok().filter(|_| word.bytes().all(|byte| byte.is_ascii_digit()));
    match number {
        None if word != "-" => Err(LineFault { byte: at, expected }),
        number => Ok(number),
    }
}

/// Whether a line is an entry.
pub(super) fn is_entry(line: &str) -> bool {
    entry(line, &mut String::new()).is_ok()
}

fn entry(line: &str, out: &mut String) -> Result<(), LineFault> {
    let mut cursor = LineCursor::new(line);
    let client = cursor.word("a client")?;
    cursor.mark(" ", "a space")?;
    cursor.word("an identity or -")?;
    cursor.mark(" ", "a space")?;
    let user = read_user(&mut cursor)?;
    cursor.mark(" ", "a space")?;
    let time = read_time(&mut cursor)?;
    cursor.mark(" ", "a space")?;
    let request = read_quoted(&mut cursor, "a request in quotes")?;
    cursor.mark(" ", "a space")?;
    let status = read_number(&mut cursor, "a status")?;
    cursor.mark(" ", "a space")?;
    let bytes = read_number(&mut cursor, "a number of bytes or -")?;
    out.push_str("{\"event_type\":\"http_request\",\"server_timestamp\":\"");
    write_instant(out, time);
    out.push('"');
    member(out, "client", client);
    member(out, "user", user);
    write_request(out, request);
    number(out, "status", status);
    number(out, "bytes", bytes);
    if !cursor.rest().is_empty() {
        cursor.mark(" ", "a space or the end of the line")?;
        member(out, "referrer", read_quoted(&mut cursor, "a referrer in quotes")?);
        cursor.mark(" ", "a space")?;
        member(out, "user_agent", read_last_quoted(&mut cursor, "a user agent in quotes")?);
    }
    if !cursor.rest().is_empty() {
        return Err(cursor.fault("the end of the line"));
    }
    out.push('}');
    Ok(())
}

fn write_request(out: &mut String, request: &str) {
    let mut words = request.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(path), Some(protocol), None) if !method.is_empty() && !path.is_empty() => {
            member(out, "method", method);
            member(out, "path", path);
            member(out, "protocol", protocol);
        }
        _ => member(out, "request", request),
    }
}

fn member(out: &mut String, name: &str, value: &str) {
    if value != "-" && !value.is_empty() {
        out.push_str(",\"");
        out.push_str(name);
        out.push_str("\":");
        write_string(out, &unescape(value));
    }
}

fn number(out: &mut String, name: &str, value: Option<u64>) {
    if let Some(value) = value {
        out.push_str(&format!(",\"{name}\":{value}"));
    }
}

/// Undoes the server's escapes of bytes that would break the line; returns the text as received if the result is not
/// UTF-8.
fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let (undone, used) = match (byte, tail) {
            (b'\\', [b'x', high, low, ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => (byte, 0),
            },
            (b'\\', [b'n', ..]) => (b'\n', 1),
            (b'\\', [b'r', ..]) => (b'\r', 1),
            (b'\\', [b't', ..]) => (b'\t', 1),
            (b'\\', [quoted @ (b'"' | b'\\'), ..]) => (*quoted, 1),
            _ => (byte, 0),
        };
        bytes.push(undone);
        rest = &tail[used..];
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(value), Cow::Owned)
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Parses `17/May/2015:10:05:03 +0000` (26 bytes) through its RFC 3339 form, so that one parser defines instants.
fn parse_time(text: &str) -> Option<i64> {
    if !text.is_ascii() || text.as_bytes()[11] != b':' || text.as_bytes()[20] != b' ' {
        return None;
    }
    let month = 1 + MONTHS.iter().position(|month| *month == &text[3..6])?;
    let (day, year, time) = (&text[0..2], &text[7..11], &text[12..20]);
    if &text[2..3] != "/" || &text[6..7] != "/" {
        return None;
    }
    let zone = format!("{}:{}", &text[21..24], &text[24..26]);
    crate::time::parse_instant(&format!("{year}-{month:02}-{day}T{time}{zone}"))
}

#[cfg(test)]
#[path = "clf_tests.rs"]
mod tests;
