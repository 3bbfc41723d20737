//! Splits a body into its records, each with its bytes as received.

use bytes::Bytes;
use evt_core::format::{not_utf8, without_mark};
use evt_core::json::scan::{at, diagnose, is_json, skip_space, value_end};
use evt_core::kind::dead::{ErrorType, Fault};
use evt_run::spool::request::{self, RecordOutcome};

/// Maximum number of records in a request: for tiny records the size of the body does not bound the memory. The split
/// of a longer body stops as soon as it has more records than this.
pub const RECORDS_MAX: usize = 65_536;

/// Returns the lines of `body` that are not blank.
pub fn lines(body: &Bytes) -> Vec<request::Record> {
    let lines = body.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let is_blank = |line: &&[u8]| line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
    lines
        .filter(|line| !is_blank(line))
        .take(RECORDS_MAX + 1)
        .map(|line| request::Record::new(body.slice_ref(line)))
        .collect()
}

/// Returns the events of `{"events":[…]}`, or `body` as one event.
///
/// An object with an array `events` holds many events, unless it has a `source` or an `event_type`: then it is one
/// event, and `events` one of its properties. An object of many events has no other members.
pub fn events(body: &Bytes) -> Vec<request::Record> {
    let one = || vec![request::Record::new(body.clone())];
    if memchr::memmem::find(body, b"\"events\"").is_none() {
        return one();
    }
    match BodyParser::new(body).object() {
        None => vec![no_json(body)],
        Some(Object { events: Some(events), other: None, .. }) => events,
        Some(Object { events: Some(_), other: Some(name), is_event: false }) => {
            let message = format!("\"{}\": unexpected beside the array events", String::from_utf8_lossy(name));
            vec![request::Record::rejected(body.clone(), Fault::new(ErrorType::EnvelopeError, message))]
        }
        Some(_) => one(),
    }
}

/// Returns the index of the first token of a body.
fn start(body: &[u8]) -> usize {
    skip_space(body, body.len() - without_mark(body).len())
}

/// Adds to the fault of a body how its client can send several events.
pub fn tell_several(body: &Bytes, records: &mut [request::Record]) {
    let [request::Record { outcome: RecordOutcome::Rejected(fault), .. }] = records else { return };
    let start = start(body);
    let next = value_end(body, start, 0).map(|end| skip_space(body, end));
    match (at(body, start), next) {
        (b'[', Some(next)) if next == body.len() => fault.message.push_str("; send {\"events\":[…]}"),
        (b'{', Some(next)) if at(body, next) == b'{' => {
            fault.message =
                "expected one JSON value, found several; send {\"events\":[…]}, or lines with content-type: \
                             application/x-ndjson (curl --data-binary keeps line ends)"
                    .to_owned();
        }
        _ => {}
    }
}

/// Returns the elements of the array `body`.
pub fn elements(body: &Bytes) -> Vec<request::Record> {
    let mut parser = BodyParser::new(body);
    match parser.array() {
        Some(records) if parser.is_at_end() || records.len() > RECORDS_MAX => records,
        _ => vec![no_json(body)],
    }
}

/// Makes the rejected record of a body that is not JSON, or not of the expected form.
#[cold]
fn no_json(body: &Bytes) -> request::Record {
    let fault = match str::from_utf8(without_mark(body)) {
        Err(error) => not_utf8(&error),
        Ok(text) if is_json(text) => Fault::new(ErrorType::ParseError, "expected an array"),
        Ok(text) => Fault::new(ErrorType::ParseError, diagnose(text)),
    };
    request::Record::rejected(body.clone(), fault)
}

/// The members of a body that is an object.
#[derive(Default)]
struct Object<'a> {
    /// The elements of `events`, if that is an array.
    events: Option<Vec<request::Record>>,
    /// Whether it has an envelope field of an event.
    is_event: bool,
    /// The first other name.
    other: Option<&'a [u8]>,
}

/// Parses the containers around the records of a body. The records need not be UTF-8: each is validated by itself.
struct BodyParser<'a> {
    body: &'a Bytes,
    /// The index of the next token.
    at: usize,
}

impl<'a> BodyParser<'a> {
    fn new(body: &'a Bytes) -> Self {
        Self { body, at: start(body) }
    }

    fn is_at_end(&self) -> bool {
        self.at == self.body.len()
    }

    /// Skips `token` if it comes next; returns whether it does.
    fn skip(&mut self, token: u8) -> bool {
        let is_next = at(self.body, self.at) == token;
        if is_next {
            self.at = skip_space(self.body, self.at + 1);
        }
        is_next
    }

    /// Returns the next value, around which `depth` containers are open.
    fn value(&mut self, depth: u32) -> Option<&'a [u8]> {
        let end = value_end(self.body, self.at, depth)?;
        let value = &self.body[self.at..end];
        self.at = skip_space(self.body, end);
        Some(value)
    }

    /// Returns the elements of an array. It stops at the first element beyond the limit.
    fn array(&mut self) -> Option<Vec<request::Record>> {
        let mut records = vec![];
        if !self.skip(b'[') {
            return None;
        }
        if self.skip(b']') {
            return Some(records);
        }
        loop {
            // Each event has its own depth limit; the array around the events does not count.
            records.push(request::Record::new(self.body.slice_ref(self.value(0)?)));
            if records.len() > RECORDS_MAX || self.skip(b']') {
                return Some(records);
            }
            if !self.skip(b',') {
                return None;
            }
        }
    }

    /// Returns the members of the body, none if it is not an object. It stops at the first event beyond the limit.
    fn object(&mut self) -> Option<Object<'a>> {
        let mut object = Object::default();
        if !self.skip(b'{') || self.skip(b'}') {
            return Some(object);
        }
        loop {
            let name = self.value(1)?.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            if !self.skip(b':') {
                return None;
            }
            if name == b"events" && at(self.body, self.at) == b'[' && object.events.is_none() {
                let events = self.array()?;
                if events.len() > RECORDS_MAX {
                    return Some(Object { events: Some(events), ..Object::default() });
                }
                object.events = Some(events);
            } else {
                self.value(1)?;
                object.is_event |= matches!(name, b"source" | b"event_type");
                object.other.get_or_insert(name);
            }
            if self.skip(b'}') {
                return self.is_at_end().then_some(object);
            }
            if !self.skip(b',') {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(split: fn(&Bytes) -> Vec<request::Record>, body: &[u8]) -> Vec<String> {
        let shown = |record: &request::Record| match record.fault() {
            None => String::from_utf8_lossy(&record.payload).into_owned(),
            Some(fault) => format!("{}: {}", fault.error_type.name(), fault.message),
        };
        split(&Bytes::copy_from_slice(body)).iter().map(shown).collect()
    }

    #[test]
    fn events_come_with_their_bytes_as_received() {
        let body = br#" { "events" : [ {"a": 1e400 } ,[1, 2],"x\"]" , null ] } "#;
        assert_eq!(texts(events, body), [r#"{"a": 1e400 }"#, "[1, 2]", r#""x\"]""#, "null"]);
        assert_eq!(texts(events, br#"{"events":[]}"#), Vec::<String>::new());
        assert_eq!(texts(elements, b" [ {} , 1 ] "), ["{}", "1"]);
        assert_eq!(texts(lines, b"{}\r\n\n \t\n{\"a\":1}"), ["{}", r#"{"a":1}"#]);
    }

    #[test]
    fn one_event_may_have_a_property_events() {
        for one in
            [r#"{"event_type":"t","events":[1]}"#, r#"{"events":[1],"source":"s"}"#, r#"{"events":{}}"#, "[1]", "7"]
        {
            assert_eq!(texts(events, one.as_bytes()), [one]);
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
            let found = texts(events, body.as_bytes());
            assert!(found.len() == 1 && found[0].starts_with(why), "{body}: {found:?}");
        }
        assert!(texts(events, b"{\"events\":[\"\xff\",}")[0].starts_with("ParseError: byte 13: invalid UTF-8"));
        assert!(texts(elements, b"{}")[0].contains("expected an array"));
    }

    #[test]
    fn a_body_of_too_many_records_is_split_only_so_far() {
        let ones = |count: usize| "1\n".repeat(count).trim_end().replace('\n', ",");
        let count = |split: fn(&Bytes) -> Vec<request::Record>, body: String| split(&Bytes::from(body)).len();
        assert_eq!(count(lines, "1\n".repeat(RECORDS_MAX)), RECORDS_MAX);
        assert_eq!(count(lines, "1\n".repeat(RECORDS_MAX + 9)), RECORDS_MAX + 1);
        assert_eq!(count(elements, format!("[{}]", ones(RECORDS_MAX))), RECORDS_MAX);
        assert_eq!(count(elements, format!("[{}]", ones(RECORDS_MAX + 9))), RECORDS_MAX + 1);
        assert_eq!(count(events, format!("{{\"a\":1,\"events\":[{}]}}", ones(RECORDS_MAX + 9))), RECORDS_MAX + 1);
    }

    #[test]
    fn a_body_cut_at_any_byte_is_refused_without_a_panic() {
        let body = br#"{"events":[{"a":"b\n"},[1]],"source":1}"#;
        for end in 0..body.len() {
            assert_eq!(events(&Bytes::copy_from_slice(&body[..end])).len(), 1);
        }
    }
}
