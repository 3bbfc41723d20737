//! The responses to clients.

use crate::http::edge::PARTITION;
use crate::json::text::write_string;
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping::made_id;
use crate::spool::request::{Kept, Record, RecordFate};
use hyper::StatusCode;
use std::fmt::Write;
use std::time::Duration;

/// A response: a status, a JSON document, and when to retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The document.
    pub body: String,
    /// Media type of the document.
    pub kind: &'static str,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// `Allow`.
    pub allow: Option<&'static str>,
    /// Whether the connection ends with it.
    pub close: bool,
}

/// The media type of responses.
pub const JSON: &str = "application/json";

impl Reply {
    /// Makes a response with a document.
    pub fn new(status: StatusCode, body: String) -> Self {
        Self { status, body, kind: JSON, retry_after: None, allow: None, close: false }
    }

    /// Refuses a whole request, with the reason.
    #[cold]
    pub fn refusal(status: StatusCode, why: &str) -> Self {
        let mut body = "{\"error\":".to_owned();
        write_string(&mut body, why);
        body.push_str("}\n");
        Self::new(status, body)
    }

    /// Refuses a whole request, with the time after which a retry may succeed.
    #[cold]
    pub fn later(status: StatusCode, why: &str, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::refusal(status, why) }
    }

    /// Refuses a method; `methods` are those that the path supports.
    #[cold]
    pub fn another_method(methods: &'static str) -> Self {
        let why = format!("expected {methods}");
        Self { allow: Some(methods), ..Self::refusal(StatusCode::METHOD_NOT_ALLOWED, &why) }
    }

    /// Makes the response close the connection.
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }
}

/// The number of events of a request, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Kept, and new.
    pub accepted: usize,
    /// Kept before.
    pub duplicate: usize,
    /// Refused.
    pub rejected: usize,
}

impl Tally {
    /// Counts the fates of a request.
    pub fn of(fates: &[RecordFate]) -> Self {
        let mut tally = Self::default();
        for fate in fates {
            match fate {
                RecordFate::New => tally.accepted += 1,
                RecordFate::Duplicate => tally.duplicate += 1,
                RecordFate::Rejected(_) => tally.rejected += 1,
            }
        }
        tally
    }

    /// Converts the counts to those of a repeated request, whose stored answer is returned.
    pub fn again(self) -> Self {
        Self { accepted: 0, duplicate: self.accepted + self.duplicate, ..self }
    }
}

/// The parts of a record that the response depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    event_id: Option<[u8; 16]>,
    /// Its bytes, if its id is derived from them.
    payload: Vec<u8>,
}

impl Told {
    /// Extracts it from a record.
    pub fn of(record: &Record) -> Self {
        let made = record.event_id.is_none() && record.fault.is_none();
        Self { event_id: record.event_id, payload: if made { record.payload.clone() } else { vec![] } }
    }
}

/// Builds the response to a kept request: the fault of each refused record, and the ids by index.
///
/// A partial success has status 200. If all records were refused the status is 400 if none could be parsed, else 422.
pub fn kept(records: &[Told], kept: &Kept, origin: &str) -> Reply {
    let Tally { accepted, duplicate, rejected } = Tally::of(&kept.fates);
    let mut body = String::with_capacity(96 + 40 * records.len());
    // Writing to a string cannot fail.
    let _ = write!(body, "{{\"accepted\":{},\"rejected\":{rejected},\"errors\":[", accepted + duplicate);
    let (mut first, mut unread) = (true, true);
    for (index, fault) in kept.fates.iter().enumerate().filter_map(|(index, fate)| Some((index, fault_of(fate)?))) {
        unread &= fault.error_type == ErrorType::ParseError;
        let _ = write!(body, "{}{{\"index\":{index},\"reason\":", if std::mem::take(&mut first) { "" } else { "," });
        write_string(&mut body, &fault.message);
        let _ = write!(body, ",\"error_type\":\"{}\"}}", fault.error_type.name());
    }
    body.push_str("],\"event_ids\":[");
    let mut scratch = vec![];
    for (index, (record, fate)) in records.iter().zip(&kept.fates).enumerate() {
        if index > 0 {
            body.push(',');
        }
        if fault_of(fate).is_some() {
            body.push_str("null");
            continue;
        }
        let offset = kept.offset.saturating_add(i64::try_from(index).unwrap_or(i64::MAX));
        let id = record.event_id.unwrap_or_else(|| made_id(&mut scratch, origin, PARTITION, offset, &record.payload));
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        body.push('"');
        body.push_str(uuid::Uuid::from_bytes(id).hyphenated().encode_lower(&mut text));
        body.push('"');
    }
    body.push_str("]}\n");
    let status = match (rejected == records.len() && rejected > 0, unread) {
        (false, _) => StatusCode::OK,
        (true, true) => StatusCode::BAD_REQUEST,
        (true, false) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Reply::new(status, body)
}

fn fault_of(fate: &RecordFate) -> Option<&Fault> {
    if let RecordFate::Rejected(fault) = fate { Some(fault) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(event_id: Option<[u8; 16]>) -> Told {
        Told::of(&Record { payload: b"{}".to_vec(), source: "s".into(), event_id, fault: None })
    }

    fn fault(error_type: ErrorType) -> RecordFate {
        RecordFate::Rejected(Fault::new(error_type, "a \"b\""))
    }

    #[test]
    fn an_answer_tells_of_every_record_by_its_position() {
        let records = [record(Some([1; 16])), record(None), record(None)];
        let fates = vec![RecordFate::Duplicate, fault(ErrorType::EnvelopeError), RecordFate::New];
        let reply = kept(&records, &Kept { offset: 7, fates }, "o");
        let made = uuid::Uuid::from_bytes(made_id(&mut vec![], "o", "0", 9, b"{}"));
        let wanted = format!(
            "{{\"accepted\":2,\"rejected\":1,\"errors\":[{{\"index\":1,\"reason\":\"a \\\"b\\\"\",\
             \"error_type\":\"EnvelopeError\"}}],\"event_ids\":[\"01010101-0101-0101-0101-010101010101\",null,\"{made}\"]}}\n"
        );
        assert_eq!((reply.status, reply.body), (StatusCode::OK, wanted));
    }

    #[test]
    fn only_where_all_is_refused_the_status_says_so() {
        let status = |fates: &[RecordFate]| {
            let records: Vec<_> = fates.iter().map(|_| record(None)).collect();
            kept(&records, &Kept { offset: 0, fates: fates.to_vec() }, "o").status.as_u16()
        };
        assert_eq!(status(&[]), 200);
        assert_eq!(status(&[RecordFate::New, fault(ErrorType::ParseError)]), 200);
        assert_eq!(status(&[fault(ErrorType::ParseError)]), 400);
        assert_eq!(status(&[fault(ErrorType::ParseError), fault(ErrorType::EnvelopeError)]), 422);
    }
}
