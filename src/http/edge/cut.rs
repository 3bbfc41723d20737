//! Splits a body into its records, each with its bytes as received.

use crate::json::scan::{at, diagnose, skip_space, string_end, value_end};
use crate::kind::dead::{ErrorType, Fault};
use std::borrow::Cow;

/// Maximum number of records in a request: for tiny records the size of the body does not bound the memory.
pub const RECORDS_MAX: usize = 65_536;

/// One record of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its bytes.
    pub payload: Cow<'a, [u8]>,
    /// Its fault, if splitting already found one.
    pub fault: Option<Fault>,
}

impl<'a> Piece<'a> {
    /// Makes a record of these bytes.
    pub fn of(payload: &'a [u8]) -> Self {
        Self { payload: Cow::Borrowed(payload), fault: None }
    }

    /// Makes a record that could not be parsed.
    #[cold]
    pub fn refused(payload: &'a [u8], fault: Fault) -> Self {
        Self { payload: Cow::Borrowed(payload), fault: Some(fault) }
    }
}

/// A body holds more records than [`RECORDS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Returns the lines of `body` that are not blank.
pub fn lines(body: &[u8]) -> Result<Vec<Piece<'_>>, TooMany> {
    let mut pieces = vec![];
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            continue;
        }
        push(&mut pieces, Piece::of(line))?;
    }
    Ok(pieces)
}

/// Returns the events of `{"events":[…]}`, or `body` as one event.
///
/// An object with an array `events` holds many events, unless it has a `source` or an `event_type`: then it is one event, and
/// `events` one of its properties. An object of many events has no other members.
pub fn events(body: &[u8]) -> Result<Vec<Piece<'_>>, TooMany> {
    if memchr::memmem::find(body, b"\"events\"").is_none() {
        return Ok(vec![Piece::of(body)]);
    }
    let mut object = Object::default();
    match object.read(body) {
        Ok(()) if !object.is_batch() => Ok(vec![Piece::of(body)]),
        Ok(()) => match object.other {
            None => Ok(object.events),
            Some((start, end)) => {
                let name = String::from_utf8_lossy(&body[start..end]);
                let message = format!("\"{name}\": unexpected beside the array events");
                Ok(vec![Piece::refused(body, Fault::new(ErrorType::EnvelopeError, message))])
            }
        },
        Err(Stopped::Many) => Err(TooMany),
        Err(Stopped::NoJson) => Ok(vec![no_json(body)]),
    }
}

/// Returns the elements of the array `body`.
pub fn elements(body: &[u8]) -> Result<Vec<Piece<'_>>, TooMany> {
    let mut pieces = vec![];
    let start = skip_space(body, 0);
    match array(body, start, &mut pieces) {
        Ok(end) if skip_space(body, end) == body.len() => Ok(pieces),
        Err(Stopped::Many) => Err(TooMany),
        _ => Ok(vec![no_json(body)]),
    }
}

/// Makes the refused record of a body that is not JSON, or not of the expected form.
#[cold]
fn no_json(body: &[u8]) -> Piece<'_> {
    let message = match std::str::from_utf8(body) {
        Err(error) => format!("byte {}: invalid UTF-8", error.valid_up_to() + 1),
        Ok(text) if crate::json::scan::is_json(text) => "expected an array".to_owned(),
        Ok(text) => diagnose(text),
    };
    Piece::refused(body, Fault::new(ErrorType::ParseError, message))
}

/// Why splitting a body stopped.
enum Stopped {
    Many,
    NoJson,
}

/// The members of a body that is an object.
#[derive(Default)]
struct Object<'a> {
    events: Vec<Piece<'a>>,
    /// Whether `events` is an array.
    is_array: bool,
    /// Whether it has an envelope field of an event.
    is_event: bool,
    /// The position of the first other name.
    other: Option<(usize, usize)>,
}

impl<'a> Object<'a> {
    fn is_batch(&self) -> bool {
        self.is_array && !self.is_event
    }

    fn read(&mut self, body: &'a [u8]) -> Result<(), Stopped> {
        let mut p = skip_space(body, 0);
        if at(body, p) != b'{' {
            return Ok(());
        }
        p = skip_space(body, p + 1);
        if at(body, p) == b'}' {
            return Ok(());
        }
        loop {
            p = self.member(body, p)?;
            match at(body, p) {
                b',' => p = skip_space(body, p + 1),
                b'}' if skip_space(body, p + 1) == body.len() => return Ok(()),
                _ => return Err(Stopped::NoJson),
            }
        }
    }

    /// Parses the member at `p`; returns the index of what follows it.
    fn member(&mut self, body: &'a [u8], p: usize) -> Result<usize, Stopped> {
        if at(body, p) != b'"' {
            return Err(Stopped::NoJson);
        }
        let quote = string_end(body, p + 1).ok_or(Stopped::NoJson)?.quote;
        let colon = skip_space(body, quote + 1);
        if at(body, colon) != b':' {
            return Err(Stopped::NoJson);
        }
        let value = skip_space(body, colon + 1);
        let end = match &body[p + 1..quote] {
            b"events" if at(body, value) == b'[' && !self.is_array => {
                self.is_array = true;
                array(body, value, &mut self.events)?
            }
            name => {
                self.is_event |= matches!(name, b"source" | b"event_type");
                self.other.get_or_insert((p + 1, quote));
                value_end(body, value, 1).ok_or(Stopped::NoJson)?
            }
        };
        Ok(skip_space(body, end))
    }
}

/// Parses the array at `p` into records; returns the index after it.
fn array<'a>(body: &'a [u8], p: usize, pieces: &mut Vec<Piece<'a>>) -> Result<usize, Stopped> {
    if at(body, p) != b'[' {
        return Err(Stopped::NoJson);
    }
    let mut p = skip_space(body, p + 1);
    if at(body, p) == b']' {
        return Ok(p + 1);
    }
    loop {
        // Each event has its own depth limit: that of the array around it does not count.
        let end = value_end(body, p, 0).ok_or(Stopped::NoJson)?;
        push(pieces, Piece::of(&body[p..end])).map_err(|_| Stopped::Many)?;
        p = skip_space(body, end);
        match at(body, p) {
            b',' => p = skip_space(body, p + 1),
            b']' => return Ok(p + 1),
            _ => return Err(Stopped::NoJson),
        }
    }
}

fn push<'a>(pieces: &mut Vec<Piece<'a>>, piece: Piece<'a>) -> Result<(), TooMany> {
    if pieces.len() == RECORDS_MAX {
        return Err(TooMany);
    }
    pieces.push(piece);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pieces: Result<Vec<Piece<'_>>, TooMany>) -> Vec<String> {
        let shown = |piece: &Piece<'_>| match &piece.fault {
            None => String::from_utf8_lossy(&piece.payload).into_owned(),
            Some(fault) => format!("{}: {}", fault.error_type.name(), fault.message),
        };
        pieces.unwrap().iter().map(shown).collect()
    }

    #[test]
    fn events_come_with_their_bytes_as_received() {
        let body = br#" { "events" : [ {"a": 1e400 } ,[1, 2],"x\"]" , null ] } "#;
        assert_eq!(texts(events(body)), [r#"{"a": 1e400 }"#, "[1, 2]", r#""x\"]""#, "null"]);
        assert_eq!(texts(events(br#"{"events":[]}"#)), Vec::<String>::new());
        assert_eq!(texts(elements(b" [ {} , 1 ] ")), ["{}", "1"]);
        assert_eq!(texts(lines(b"{}\r\n\n \t\n{\"a\":1}")), ["{}", r#"{"a":1}"#]);
    }

    #[test]
    fn one_event_may_have_a_property_events() {
        for one in
            [r#"{"event_type":"t","events":[1]}"#, r#"{"events":[1],"source":"s"}"#, r#"{"events":{}}"#, "[1]", "7"]
        {
            assert_eq!(texts(events(one.as_bytes())), [one]);
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_one_refused_record() {
        for (body, why) in [
            (r#"{"events":[{},]}"#, "ParseError: byte"),
            (r#"{"events":[{}]"#, "ParseError: byte"),
            (r#"{"events":[{}]}x"#, "ParseError: byte"),
            (r#"{"events":[{}],"more":1}"#, "EnvelopeError: \"more\""),
            (r#"{"events":[{}],"events":[{}]}"#, "EnvelopeError: \"events\""),
        ] {
            let told = texts(events(body.as_bytes()));
            assert!(told.len() == 1 && told[0].starts_with(why), "{body}: {told:?}");
        }
        assert!(texts(events(b"{\"events\":[\"\xff\",}"))[0].starts_with("ParseError: byte 13: invalid UTF-8"));
        assert!(texts(elements(b"{}"))[0].contains("expected an array"));
    }

    #[test]
    fn more_records_than_are_kept_at_once_are_refused() {
        let many = "1\n".repeat(RECORDS_MAX + 1);
        assert_eq!(lines(many.as_bytes()), Err(TooMany));
        let many = format!("[1{}]", ",1".repeat(RECORDS_MAX));
        assert_eq!(elements(many.as_bytes()), Err(TooMany));
        assert_eq!(lines("1\n".repeat(RECORDS_MAX).as_bytes()).unwrap().len(), RECORDS_MAX);
    }

    #[test]
    fn a_body_cut_at_any_byte_is_refused_without_a_panic() {
        let body = br#"{"events":[{"a":"b\n"},[1]],"source":1}"#;
        for end in 0..body.len() {
            let pieces = events(&body[..end]).unwrap();
            assert_eq!(pieces.len(), 1);
        }
    }
}
