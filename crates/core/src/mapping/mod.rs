//! Maps JSON records onto rows of event batches: the one mapping that all tools share.
//!
//! Every format turns its records into JSON object text. [`Mapper::record`] reads one such text in one pass and adds
//! one row to the chunk under construction. [`Mapper::finish`] takes the chunk as [`MappedRows`], which are stamped
//! (partition and stream time) in the order of the chunks. A mapper knows no clock and no input, so that another thread
//! may have it; it keeps from chunk to chunk whether records have times. A field with an envelope name fills that
//! column. Every other field is a property; beside a `properties` object such fields are appended to its text. Values
//! keep their text as received. `Mapper::record` is the hot path: it allocates nothing per event.
//!
//! ```text
//! JSON text ─► envelope (fields) ─► assembly (row or fault) ─► build (columns) ─► --let, --where ─► stamp ─► batch
//!                                       └─► dead letter          future: rows that wait for their neighbours
//! ```
//!
//! A record has one outcome: a row, or a fault that becomes its dead letter. A fault leaves the columns as they were.
//! The stream time of a partition never decreases, and only accepted rows advance it.
//!
//! - `mapper.rs`: the entry point; keeps the memory that records share.
//! - `envelope.rs`: finds the fields of a record in its text.
//! - `assembly.rs`: builds one row from the fields, or the fault of the record.
//! - `build/`: the columns of a batch under construction.
//! - `mapped.rs`: mapped rows, which are not stamped yet, with the facts about their records.
//! - `partitions/`: partitions, their numbers and their stream times, with which rows are stamped.
//! - `future/`: `--max-future`, and the records that wait for their verdict.
//! - `when/`: reads times, and says which flags read them.
//! - `id.rs`: event ids, read or derived.
//! - `record.rs`: a record with the metadata around its payload.
//! - `complete.rs`: maps records of a stage that reads few columns again, for all columns.
//! - `options.rs`, `plan.rs`, `path.rs`: the flags, the flags resolved, paths into a record.

mod assembly;
mod build;
mod complete;
mod envelope;
mod future;
mod id;
mod mapped;
mod mapper;
mod options;
mod partitions;
mod path;
mod plan;
mod record;
mod when;

pub use build::schema;
pub use complete::RowCompleter;
pub use future::{FutureCheck, Judged, Lookahead, PendingLetter, PendingRecord, Reach, Rest};
pub use id::{parse_uuid, uuid_of};
pub use mapped::{Defaults, Facts, MappedRows, RowFilter};
pub use mapper::{LastRow, Mapped, Mapper};
pub use options::{
    BATCH_BYTES, BATCH_ROWS, KeepRaw, Options, Projection, Provenance, ReadColumns, RecordParts, TimeFrom,
};
pub use partitions::{PartitionStreamTime, PartitionTable};
pub use record::{Arrival, FutureVerdict, Record, RecordMeta};
pub use when::{
    SplitTime, TIME_NAMES, TimeExpr, TimeSamples, TimeUnit, When, of_samples, split_time, time_fields, usual_time,
};

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;
