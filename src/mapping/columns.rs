//! Sets of an event's columns, as bits.

use crate::kind::event::column;

/// The columns that a record must have to carry stamps.
pub(super) const STAMP_BITS: u32 =
    1 << column::ORIGIN | 1 << column::PARTITION | 1 << column::OFFSET | 1 << column::STREAM_TIME;
/// All provenance columns: the required stamps and the optional ones.
pub(super) const PROVENANCE_BITS: u32 = STAMP_BITS | 1 << column::INGESTED_AT | 1 << column::SCHEMA_ID;
/// The columns that evt fills itself, so that a field of that name becomes a property.
pub(super) const ADDED_BITS: u32 = PROVENANCE_BITS | 1 << column::EVENT_TIME | 1 << column::SERVER_TIMESTAMP;
