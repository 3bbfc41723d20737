//! The faults of records: no event time, too large, and not UTF-8.

use crate::format::Body;
use crate::format::{not_utf8, row};
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping;
use crate::run::Run;
use std::ops::Range;

/// The number of fields that a message about a record names, and the characters of their names.
const NAMES_SHOWN: usize = 8;
const NAMES_LENGTH: usize = 60;

/// Returns the fault of a record without an event time, before any record had one; it names the flags that select a time.
#[cold]
pub(super) fn no_time(text: &str, time: &str) -> Fault {
    let found = mapping::time_fields(text);
    let way_out = match found.is_empty() {
        true => without_time(text),
        false => format!("use {}", found.join("  or  ")),
    };
    Fault::new(ErrorType::TimestampError, format!("{time}: missing or null; {way_out}"))
}

/// Returns the message about a record none of whose fields is a time.
fn without_time(text: &str) -> String {
    let names = row::names_of(text);
    let mut shown = names.iter().take(NAMES_SHOWN).map(|name| name.as_ref()).collect::<Vec<_>>().join(", ");
    if let Some((end, _)) = shown.char_indices().nth(NAMES_LENGTH) {
        shown.truncate(end);
    }
    let more = if shown.chars().count() == NAMES_LENGTH || names.len() > NAMES_SHOWN { " …" } else { "" };
    let cause = match shown.starts_with('#') {
        true => "; a comment before the header must be left out: tail -n +2",
        false => "",
    };
    format!("no field is a time (found {shown}{more}){cause}; --time arrival uses the clock of the run")
}

/// Returns the message about records that wait for their `--max-future` verdict.
pub(super) fn held_records(held: usize) -> String {
    format!(
        "{held} records without an arrival time are held until their partition has {} records (--max-future compares them \
         with the median)",
        mapping::LOOKAHEAD
    )
}

/// Returns the first bytes of a record that is not mapped, a range of its text, and its fault; without a fault it is filtered.
#[cold]
pub(super) fn unmapped(body: &Body, run: &Run) -> (Range<usize>, Option<Fault>) {
    let first = |range: &Range<usize>| range.start..range.end.min(range.start + run.record_max);
    match body {
        Body::Document { head, fault } => (first(head), fault.clone()),
        Body::Cut(range) | Body::Text(range) => {
            let bytes = format!("more than {}", run.line_max());
            (first(range), Some(too_large(&bytes, range.len() as u64, run.record_max)))
        }
        Body::Fault(fault) => (0..0, Some(fault.clone())),
        Body::Raw => (0..0, None),
    }
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
