//! The answer to a stored request.

use super::server::Reply;
use crate::validate::PARTITION;
use evt_core::json::text::{write_string, write_uuid};
use evt_core::kind::dead::ErrorType;
use evt_core::kind::record_id::made_id;
use evt_run::spool::request::{self, Entry, RecordOutcome};
use hyper::StatusCode;
use std::fmt::Write;

/// The number of events of a request, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// Stored, and new.
    pub accepted: usize,
    /// Stored before.
    pub duplicate: usize,
    /// Rejected.
    pub rejected: usize,
}

impl OutcomeCounts {
    /// Counts records by outcome.
    pub fn of(records: &[request::Record]) -> Self {
        let mut counts = Self::default();
        for record in records {
            match record.outcome {
                RecordOutcome::New => counts.accepted += 1,
                RecordOutcome::Duplicate => counts.duplicate += 1,
                RecordOutcome::Rejected(_) => counts.rejected += 1,
            }
        }
        counts
    }

    /// Converts the counts to those of a repeated request, whose stored answer is returned.
    pub fn repeated(self) -> Self {
        Self { accepted: 0, duplicate: self.accepted + self.duplicate, ..self }
    }
}

/// Builds the response to a stored request: the fault of each rejected record, and the ids by index.
///
/// A partial success has status 200. If all records were rejected the status is 400 if none could be parsed, else 422.
pub fn stored(entry: &Entry, origin: &str) -> Reply {
    let records = &entry.request.records;
    let OutcomeCounts { accepted, duplicate, rejected } = OutcomeCounts::of(records);
    let mut body = String::with_capacity(96 + 40 * records.len());
    // Writing to a string cannot fail.
    let _ = write!(body, "{{\"accepted\":{},\"rejected\":{rejected},\"errors\":[", accepted + duplicate);
    let (mut comma, mut is_unparsed) = ("", true);
    for (index, fault) in records.iter().enumerate().filter_map(|(index, record)| Some((index, record.fault()?))) {
        is_unparsed &= fault.error_type == ErrorType::ParseError;
        let _ = write!(body, "{}{{\"index\":{index},\"reason\":", std::mem::replace(&mut comma, ","));
        write_string(&mut body, &fault.message);
        let _ = write!(body, ",\"error_type\":\"{}\"}}", fault.error_type.name());
    }
    body.push_str("],\"event_ids\":[");
    for (index, (record, offset)) in records.iter().zip(entry.offset..).enumerate() {
        if index > 0 {
            body.push(',');
        }
        if record.fault().is_some() {
            body.push_str("null");
            continue;
        }
        let made = || made_id(origin, PARTITION, offset, &record.payload);
        body.push('"');
        write_uuid(&mut body, &record.event_id.unwrap_or_else(made));
        body.push('"');
    }
    body.push_str("]}\n");
    let status = match (rejected == records.len() && rejected > 0, is_unparsed) {
        (false, _) => StatusCode::OK,
        (true, true) => StatusCode::BAD_REQUEST,
        (true, false) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Reply::new(status, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::kind::dead::Fault;
    use evt_run::spool::request::Request;

    fn record(event_id: Option<[u8; 16]>, outcome: RecordOutcome) -> request::Record {
        request::Record { payload: "{}".into(), source: "s".into(), event_id, outcome }
    }

    fn fault(error_type: ErrorType) -> RecordOutcome {
        RecordOutcome::Rejected(Fault::new(error_type, "a \"b\""))
    }

    fn entry(records: Vec<request::Record>) -> Entry {
        let request = Request { arrived_at: 0, token: String::new(), headers: vec![], key: None, records };
        Entry { safe: 0, offset: 7, request }
    }

    #[test]
    fn an_answer_tells_of_every_record_by_its_position() {
        let rejected = record(None, fault(ErrorType::EnvelopeError));
        let records = vec![record(Some([1; 16]), RecordOutcome::Duplicate), rejected, record(None, RecordOutcome::New)];
        let reply = stored(&entry(records), "o");
        let made = uuid::Uuid::from_bytes(made_id("o", "0", 9, b"{}"));
        let wanted = format!(
            "{{\"accepted\":2,\"rejected\":1,\"errors\":[{{\"index\":1,\"reason\":\"a \\\"b\\\"\",\
             \"error_type\":\"EnvelopeError\"}}],\"event_ids\":[\"01010101-0101-0101-0101-010101010101\",null,\"{made}\"]}}\n"
        );
        assert_eq!((reply.status, reply.body), (StatusCode::OK, wanted));
    }

    #[test]
    fn only_where_all_is_refused_the_status_says_so() {
        let status = |outcomes: &[RecordOutcome]| {
            let records = outcomes.iter().map(|outcome| record(None, outcome.clone())).collect();
            stored(&entry(records), "o").status.as_u16()
        };
        assert_eq!(status(&[]), 200);
        assert_eq!(status(&[RecordOutcome::New, fault(ErrorType::ParseError)]), 200);
        assert_eq!(status(&[fault(ErrorType::ParseError)]), 400);
        assert_eq!(status(&[fault(ErrorType::ParseError), fault(ErrorType::EnvelopeError)]), 422);
    }
}
