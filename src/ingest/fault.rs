//! The faults of records: no event time, too large, and not UTF-8.

use crate::format::jsonl::not_utf8;
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping;

/// Returns the fault of a record without an event time, before any record had one; it names the flags that select a time.
#[cold]
pub(super) fn no_time(text: &str, time: &str) -> Fault {
    let found = mapping::time_fields(text);
    let way_out = match found.is_empty() {
        true => "no field is a time; --time arrival uses the clock of the run".to_owned(),
        false => format!("use {}", found.join("  or  ")),
    };
    Fault::new(ErrorType::TimestampError, format!("{time}: missing or null; {way_out}"))
}

/// Returns the message about records that wait for their `--max-future` verdict.
pub(super) fn held_records(held: usize) -> String {
    format!(
        "{held} records without an arrival time are held until their partition has {} records (--max-future compares them \
         with the median)",
        mapping::LOOKAHEAD
    )
}

/// Returns bytes as text.
pub(super) fn utf8(bytes: &[u8]) -> std::result::Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|error| not_utf8(&error))
}

/// Returns the fault of a record that is longer than `limit` (`--max-record`). The message contains `bytes`, the letter `length`.
#[cold]
pub(super) fn too_large(bytes: &str, length: u64, limit: usize) -> Fault {
    let message = format!("the record has {bytes} bytes (--max-record {limit}); the payload is truncated");
    Fault::new(ErrorType::TooLargeError, message).of_cut(length)
}
