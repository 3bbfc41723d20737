//! Access logs of Apache and nginx: the common and the combined format.
//!
//! `client ident user [17/May/2015:10:05:03 +0000] "GET /path HTTP/1.1" 200 203023 "referrer" "user agent"` becomes an
//! event: `event_type` http_request, `server_timestamp`, and the rest as properties. `-` is absent, `ident` is left out
//! (it has been considered untrustworthy since 1993). A request that is not three words is kept whole as `request`. The
//! escapes `\"`, `\\` and `\xHH` are undone if the result is text, else the field stays as it is. The mapping
//! sets `source` to the file. A user agent may lack its closing quote, because servers truncate long lines.

use super::definition::{Format, InputForm};
use super::lines::{LineReader, ReadLines};
use crate::error::Result;
use crate::json::text::write_string;
use crate::kind::dead::{ErrorType, Fault};
use crate::time::write_instant;
use std::borrow::Cow;

/// Common and combined logs.
pub const FORMAT: Format = Format {
    name: "clf",
    extensions: &["clf"],
    input: InputForm::Text(|_| Box::new(ReadLines::new(AccessLog))),
    ..Format::BASE
};

struct AccessLog;

impl LineReader for AccessLog {
    fn read(&mut self, line: &str, out: &mut String) -> Result<(), Fault> {
        entry(line, out).map_err(|Stop { byte, expected }| {
            Fault::new(ErrorType::ParseError, format!("byte {}: expected {expected}", byte + 1))
        })
    }
}

/// The byte at which a line is not an access log line, and what was expected.
struct Stop {
    byte: usize,
    expected: &'static str,
}

/// The unread rest of a line.
struct Cursor<'a> {
    line: &'a str,
    byte: usize,
}

impl<'a> Cursor<'a> {
    fn stop<T>(&self, expected: &'static str) -> Result<T, Stop> {
        Err(Stop { byte: self.byte, expected })
    }

    fn rest(&self) -> &'a str {
        &self.line[self.byte..]
    }

    fn mark(&mut self, mark: &str, expected: &'static str) -> Result<(), Stop> {
        if !self.rest().starts_with(mark) {
            return self.stop(expected);
        }
        self.byte += mark.len();
        Ok(())
    }

    /// Reads up to the next space.
    fn word(&mut self, expected: &'static str) -> Result<&'a str, Stop> {
        let rest = self.rest();
        let word = &rest[..rest.find(' ').unwrap_or(rest.len())];
        if word.is_empty() {
            return self.stop(expected);
        }
        self.byte += word.len();
        Ok(word)
    }

    /// Reads up to ` [`, because a user's name may contain spaces.
    fn user(&mut self) -> Result<&'a str, Stop> {
        let rest = self.rest();
        match rest.find(" [") {
            Some(end) if end > 0 => {
                self.byte += end;
                Ok(&rest[..end])
            }
            _ => self.stop("a user, then a time in brackets"),
        }
    }

    /// Reads the content between two quotes, still escaped.
    fn quoted(&mut self, expected: &'static str) -> Result<&'a str, Stop> {
        self.mark("\"", expected)?;
        let rest = self.rest();
        let mut escaped = false;
        for (at, byte) in rest.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    self.byte += at + 1;
                    return Ok(&rest[..at]);
                }
                _ => {}
            }
        }
        self.byte = self.line.len();
        self.stop("a closing quote")
    }

    /// Reads a quoted field whose closing quote may be missing: servers cut long lines, and the fields before it are
    /// valid.
    fn last_quoted(&mut self, expected: &'static str) -> Result<&'a str, Stop> {
        let start = self.byte + 1;
        match self.quoted(expected) {
            Err(stop) if stop.byte == self.line.len() && start < stop.byte => Ok(&self.line[start..]),
            done => done,
        }
    }

    /// Reads `[17/May/2015:10:05:03 +0000]` as an instant (µs).
    fn time(&mut self) -> Result<i64, Stop> {
        let expected = "a time like [17/May/2015:10:05:03 +0000]";
        self.mark("[", expected)?;
        let Some(micros) = self.rest().get(..26).and_then(parse_time) else { return self.stop(expected) };
        self.byte += 26;
        self.mark("]", expected)?;
        Ok(micros)
    }

    /// Reads a number or `-`.
    fn number(&mut self, expected: &'static str) -> Result<Option<u64>, Stop> {
        let at = self.byte;
        let word = self.word(expected)?;
        let number = word.parse::<u64>().ok().filter(|_| word.bytes().all(|byte| byte.is_ascii_digit()));
        match number {
            None if word != "-" => Err(Stop { byte: at, expected }),
            number => Ok(number),
        }
    }
}

/// Whether a line is an entry.
pub(super) fn is_entry(line: &str) -> bool {
    entry(line, &mut String::new()).is_ok()
}

fn entry(line: &str, out: &mut String) -> Result<(), Stop> {
    let mut cursor = Cursor { line, byte: 0 };
    let client = cursor.word("a client")?;
    cursor.mark(" ", "a space")?;
    cursor.word("an identity or -")?;
    cursor.mark(" ", "a space")?;
    let user = cursor.user()?;
    cursor.mark(" ", "a space")?;
    let time = cursor.time()?;
    cursor.mark(" ", "a space")?;
    let request = cursor.quoted("a request in quotes")?;
    cursor.mark(" ", "a space")?;
    let status = cursor.number("a status")?;
    cursor.mark(" ", "a space")?;
    let bytes = cursor.number("a number of bytes or -")?;
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
        member(out, "referrer", cursor.quoted("a referrer in quotes")?);
        cursor.mark(" ", "a space")?;
        member(out, "user_agent", cursor.last_quoted("a user agent in quotes")?);
    }
    if !cursor.rest().is_empty() {
        return cursor.stop("the end of the line");
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
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
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
