//! The messages of two faults of records: no event time, and too large.

use crate::error::Error;
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping;

/// Returns the usage error for a first record without an event time, with the flags that would find one.
#[cold]
pub(super) fn no_time(text: &str, time: &str, name: &str, line: i64) -> Error {
    let found = mapping::time_fields(text);
    let way_out = match found.is_empty() {
        true => "no field is a time; --time arrival uses the clock of the run".to_owned(),
        false => format!("use {}", found.join("  or  ")),
    };
    Error::usage(format!("the first record has no event time ({time}): {way_out}")).at(format!("{name}:{line}"))
}

/// Returns the fault of a record larger than `--max-record`; `bytes` is its size as text.
#[cold]
pub(super) fn too_large(bytes: &str, limit: usize) -> Fault {
    let message = format!("the record has {bytes} bytes (--max-record {limit}); the payload is truncated");
    Fault::new(ErrorType::TooLargeError, message)
}
