//! The defects of records, and how a clean record gets one.

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
    /// `=` in place of a colon.
    Syntax,
    /// A byte that UTF-8 text never has.
    BadUtf8,
    /// A property nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// JSON, but a number, a string or an array instead of an object.
    NotAnObject,
    /// `event_id` is text, but not a UUID.
    IdNoUuid,
    /// `event_type` is a number.
    TypeNumber,
    /// `properties` is a string.
    PropertiesText,
    /// `country` is both in the record and in its properties.
    NameTwice,
    /// No timestamp at all.
    TimeMissing,
    /// `server_timestamp` is not an instant.
    TimeUnreadable,
    /// `client_timestamp` is a date that does not exist.
    ClientTimeUnreadable,
    /// Longer than 1 MiB, the default of `--max-record`.
    TooLarge,
    /// Violates its schema: `latency_ms` is a string.
    PropertyText,
    /// Violates its schema: no `session_id`.
    PropertyMissing,
}

/// Defects of `malformed` records, all equally likely: evt-ingest refuses each under its default options.
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

/// Defects of `invalid` records, all equally likely: events that violate only their schema.
pub const INVALID: [Defect; 2] = [Defect::PropertyText, Defect::PropertyMissing];

/// Minimum bytes of a record that is [`Defect::TooLarge`].
pub const TOO_LARGE_BYTES: usize = (1 << 20) + 1;

impl Defect {
    /// Returns its name in the expected results.
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

    /// Returns the `error_type` of its dead letter.
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

    /// Whether the record violates only its schema, so that evt-ingest passes it.
    pub fn is_event(self) -> bool {
        INVALID.contains(&self)
    }

    /// Puts the defect into the clean record that starts at `start` of `out`.
    #[cold]
    pub(super) fn apply(self, out: &mut Vec<u8>, start: usize, random: &mut Random) {
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

/// Returns the range of `text` in the record; an empty range at its end if it is missing (generated records contain
/// it).
fn find(out: &[u8], start: usize, text: &str) -> Range<usize> {
    let at = memmem::find(&out[start..], text.as_bytes()).map_or(out.len(), |at| start + at);
    at..out.len().min(at + text.len())
}

/// Returns the range of the value of the member `name`: up to the next member in the fixed order.
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
