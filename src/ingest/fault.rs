//! The faults of records: no event time, too large, and not UTF-8.

use crate::counts::counted;
use crate::format::Body;
use crate::format::not_utf8;
use crate::kind::dead::{ErrorType, Fault, TimeProposal};
use crate::mapping;
use crate::run::Run;
use std::ops::Range;

/// Returns the fault of a record without an event time, before any record had one; it names the flags that select a
/// time.
#[cold]
pub(super) fn no_time(text: &str, time: &str) -> Fault {
    let missing = format!("{time}: missing or null");
    let proposal = TimeProposal { is_missing: true, at: missing.len() };
    let message = format!("{missing}; {}", mapping::time_fields(text).remedy());
    Fault::new(ErrorType::TimestampError, message).with_proposal(proposal)
}

/// Returns the message about records that wait for their `--max-future` verdict.
pub(super) fn held_records(held: usize) -> String {
    let held = counted(
        held as u64,
        ["record without an arrival time is held until its", "records without an arrival time are held until their"],
    );
    format!(
        "{held} partition has {} records (--max-future compares them \
         with the median)",
        mapping::LOOKAHEAD
    )
}

/// Returns the range of the first bytes of a record that is not mapped, and its fault; without a fault the record is
/// filtered.
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

/// Returns the fault of a record that is longer than `limit` (`--max-record`). The message contains `bytes`, the letter
/// `length`.
#[cold]
pub(super) fn too_large(bytes: &str, length: u64, limit: usize) -> Fault {
    let message = format!("the record has {bytes} bytes (--max-record {limit}); the payload is truncated");
    Fault::new(ErrorType::TooLargeError, message).of_cut(length)
}
