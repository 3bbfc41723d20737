//! Sets of an event's columns, as bits.

use crate::kind::event::column;

/// The stamps that a record must have to carry any, as bits.
pub(super) const STAMP_BITS: u32 =
    1 << column::ORIGIN | 1 << column::PARTITION | 1 << column::OFFSET | 1 << column::STREAM_TIME;
/// The same, and those that may be absent.
pub(super) const PROVENANCE_BITS: u32 = STAMP_BITS | 1 << column::INGESTED_AT | 1 << column::SCHEMA_ID;
/// What becomes a property only because evt makes it anew, as bits.
pub(super) const ADDED_BITS: u32 = PROVENANCE_BITS | 1 << column::EVENT_TIME | 1 << column::SERVER_TIMESTAMP;
