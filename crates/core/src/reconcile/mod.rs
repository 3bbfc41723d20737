//! Compares two sets of rows, A and B: every record of A must be in B or in a side output ("plus").
//!
//! ```text
//! batches ─► rows ─► RowEntry ─(sorted by key)─► Judge ─► Finding ─(sorted by position)─► Ranges ─► verdict
//! ```
//!
//! Each record of A is a unit, even if it cannot be read. Units and rows of B are matched by position (origin,
//! partition, offset) or by event_id; the rows of plus always match by position.
//!
//! - `entry.rs`: the fixed-size entry of a row, its keys, and the names of partitions.
//! - `rows.rs`: entries of batches of events, late events and dead letters; `content.rs`: the hash of an event's
//!   content.
//! - `foreign.rs`: rows of files of other programs, read from their columns.
//! - `metrics.rs`: entries of batches of metrics.
//! - `judge.rs`: the outcome of each unit and of each row of B.
//! - `ranges.rs`: counts by partition and offset range, or by bucket of event time.
//! - `verdict.rs`: the verdict and the line that states it; `output.rs`: findings and ranges as rows.
//! - `exposition.rs`: results in the text format of Prometheus; `measure.rs`: the lag of a group and the age of rows.
//!
//! Nothing here does I/O: the caller sorts the entries, on disk if they are many.

pub mod content;
pub mod entry;
pub mod exposition;
pub mod foreign;
pub mod judge;
pub mod measure;
pub mod metrics;
pub mod output;
pub mod ranges;
pub mod rows;
pub mod verdict;
