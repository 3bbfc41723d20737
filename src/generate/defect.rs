//! What may be wrong with a record, and how a good one is spoiled.

use super::random::Random;
use crate::json::DEPTH_MAX;
use crate::kind::dead::ErrorType;
use memchr::memmem;
use std::ops::Range;

/// One kind of faulty record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Defect {
    /// The line ends early.
    Truncated,
    /// `=` stands where JSON wants a colon.
    Syntax,
    /// A byte that no UTF-8 text has.
    BadUtf8,
    /// A property nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// JSON, but a number, a string or an array instead of an object.
    NotAnObject,
    /// `event_id` is text that is no UUID.
    IdNoUuid,
    /// `event_type` is a number.
    TypeNumber,
    /// `properties` is a string.
    PropertiesText,
    /// `country` stands both in the record and in its properties.
    NameTwice,
    /// No timestamp at all.
    TimeMissing,
    /// `server_timestamp` is no instant.
    TimeUnreadable,
    /// `client_timestamp` is a date that no calendar has.
    ClientTimeUnreadable,
    /// Longer than 1 MiB, the default of `--max-record`.
    TooLarge,
    /// Against its schema: `latency_ms` is a string.
    PropertyText,
    /// Against its schema: no `session_id`.
    PropertyMissing,
}

/// What `malformed` records are, all equally likely: evt-ingest refuses each under its default options.
pub const MALFORMED: [Defect; 12] = [
    Defect::Truncated,
    Defect::Syntax,
    Defect::BadUtf8,
    Defect::TooDeep,
    Defect::NotAnObject,
    Defect::IdNoUuid,
    Defect::TypeNumber,
    Defect::PropertiesText,
    Defect::NameTwice,
    Defect::TimeMissing,
    Defect::TimeUnreadable,
    Defect::ClientTimeUnreadable,
];

/// What `invalid` records are, all equally likely: events in all but their schema.
pub const INVALID: [Defect; 2] = [Defect::PropertyText, Defect::PropertyMissing];

/// Bytes of a record that is [`Defect::TooLarge`], at least.
pub const TOO_LARGE_BYTES: usize = (1 << 20) + 1;

impl Defect {
    /// Its name in the truth.
    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Syntax => "syntax",
            Self::BadUtf8 => "bad_utf8",
            Self::TooDeep => "too_deep",
            Self::NotAnObject => "not_an_object",
            Self::IdNoUuid => "id_no_uuid",
            Self::TypeNumber => "type_number",
            Self::PropertiesText => "properties_text",
            Self::NameTwice => "name_twice",
            Self::TimeMissing => "time_missing",
            Self::TimeUnreadable => "time_unreadable",
            Self::ClientTimeUnreadable => "client_time_unreadable",
            Self::TooLarge => "too_large",
            Self::PropertyText => "property_text",
            Self::PropertyMissing => "property_missing",
        }
    }

    /// The `error_type` of its dead letter.
    pub fn error_type(self) -> ErrorType {
        match self {
            Self::Truncated | Self::Syntax | Self::BadUtf8 | Self::TooDeep => ErrorType::ParseError,
            Self::NotAnObject | Self::IdNoUuid | Self::TypeNumber | Self::PropertiesText | Self::NameTwice => {
                ErrorType::EnvelopeError
            }
            Self::TimeMissing | Self::TimeUnreadable | Self::ClientTimeUnreadable => ErrorType::TimestampError,
            Self::TooLarge => ErrorType::TooLargeError,
            Self::PropertyText | Self::PropertyMissing => ErrorType::SchemaValidationError,
        }
    }

    /// Whether it is an event in all but its schema, so that evt-ingest lets it pass.
    pub fn is_event(self) -> bool {
        INVALID.contains(&self)
    }

    /// Spoils the good record that stands in `out` from `start` on.
    #[cold]
    pub(super) fn spoil(self, out: &mut Vec<u8>, start: usize, random: &mut Random) {
        let whole = start..out.len();
        let (range, text): (Range<usize>, Vec<u8>) = match self {
            Self::Truncated => (start + 1 + random.below(whole.len() as u64 - 1) as usize..whole.end, vec![]),
            Self::Syntax => (find(out, start, "\"source\":"), b"\"source\"=".to_vec()),
            Self::BadUtf8 => (find(out, start, "/shop/"), b"/sh\xffp/".to_vec()),
            Self::TooDeep => (value(out, start, "page"), nested(DEPTH_MAX as usize)),
            Self::NotAnObject => {
                let values = ["42", "\"page_view\"", "[\"page_view\",\"click\"]"];
                (whole, values[random.below(values.len() as u64) as usize].into())
            }
            Self::IdNoUuid => (value(out, start, "event_id"), b"\"evt_20394\"".to_vec()),
            Self::TypeNumber => (value(out, start, "event_type"), b"7".to_vec()),
            Self::PropertiesText => (value(out, start, "properties"), b"\"not an object\"".to_vec()),
            Self::NameTwice => (start + 1..start + 1, b"\"country\":\"XX\",".to_vec()),
            Self::TimeMissing => (find(out, start, ",\"client_timestamp\":").start..whole.end - 1, vec![]),
            Self::TimeUnreadable => (value(out, start, "server_timestamp"), b"\"yesterday\"".to_vec()),
            Self::ClientTimeUnreadable => {
                (value(out, start, "client_timestamp"), b"\"2026-02-30T00:00:00.000000Z\"".to_vec())
            }
            Self::TooLarge => (find(out, start, "/shop/"), [b"/shop/".as_slice(), &[b'x'; TOO_LARGE_BYTES]].concat()),
            Self::PropertyText => (value(out, start, "latency_ms"), b"\"fast\"".to_vec()),
            Self::PropertyMissing => {
                (find(out, start, "\"session_id\":").start..find(out, start, "\"ua\":").start, vec![])
            }
        };
        out.splice(range, text);
    }
}

/// Where `text` stands in the record; at its end if it does not (a record of ours holds it).
fn find(out: &[u8], start: usize, text: &str) -> Range<usize> {
    let at = memmem::find(&out[start..], text.as_bytes()).map_or(out.len(), |at| start + at);
    at..out.len().min(at + text.len())
}

/// Where the value of the member `name` stands: up to the member that follows it in the fixed order.
fn value(out: &[u8], start: usize, name: &str) -> Range<usize> {
    let next = match name {
        "event_id" => ",\"source\":",
        "event_type" => ",\"user_id\":",
        "page" => ",\"country\":",
        "properties" => ",\"client_timestamp\":",
        "client_timestamp" => ",\"server_timestamp\":",
        "latency_ms" => ",",
        _ => "}",
    };
    let from = find(out, start, &format!("\"{name}\":")).end;
    from..find(out, from, next).start
}

fn nested(depth: usize) -> Vec<u8> {
    [vec![b'['; depth], vec![b']'; depth]].concat()
}
