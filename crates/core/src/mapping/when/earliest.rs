//! `--min-time`: keeps a wrong unit from counting events in 1970.

use super::formats::other_unit;
use super::reader::{PLAUSIBLE, TimeUnit, When, is_number};
use crate::json::text::unescape;
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping::envelope::Value;
use crate::time::format_instant;

/// Returns the event time (µs) from which on no time is too early.
pub(in crate::mapping) fn earliest(when: &When, min_time: Option<i64>) -> i64 {
    min_time.unwrap_or(if when.names_unit() { PLAUSIBLE.start } else { i64::MIN })
}

/// Whether the value of a time is a number, or a text that is one.
pub(in crate::mapping) fn holds_number(value: Value<'_>) -> bool {
    match value {
        Value::Absent => false,
        Value::Plain(text) | Value::Escaped(text) => is_number(&unescape(text)),
        Value::Other(_) => true,
    }
}

/// Returns the fault of an event time (µs) that is too early: before `min_time` or, without it, a number before 1980.
pub(in crate::mapping) fn too_early(when: &When, min_time: Option<i64>, event_time: i64) -> Fault {
    let found = format_instant(event_time);
    let message = match min_time {
        Some(limit) => format!("{found} is before {}, the earliest time (--min-time)", format_instant(limit)),
        None => {
            let other = when.unit.and_then(|unit| other_unit(unit, event_time)).map(TimeUnit::name);
            let other = other.map_or_else(String::new, |other| format!("--time-unit {other} may be right, "));
            format!("{found} of a number is before 1980; {other}--min-time 1970-01-01 accepts it")
        }
    };
    Fault::new(ErrorType::TimestampError, message)
}
