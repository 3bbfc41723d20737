//! The faults of records: no event time, too large, and not UTF-8.

use crate::error::Error;
use crate::format::jsonl::not_utf8;
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping::{self, RecordMeta};

/// Returns the usage error for a first record without an event time; it names the flags that select a time.
#[cold]
pub(super) fn no_time(text: &str, time: &str, meta: RecordMeta<'_>) -> Error {
    let found = mapping::time_fields(text);
    let way_out = match found.is_empty() {
        true => "no field is a time; --time arrival uses the clock of the run".to_owned(),
        false => format!("use {}", found.join("  or  ")),
    };
    Error::usage(format!("the first record has no event time ({time}): {way_out}"))
        .at(format!("{}:{}", meta.input, meta.offset))
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
