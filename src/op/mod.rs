//! Operators: pure functions of their input, each with its state and its snapshot. No I/O, no clock.
//!
//! The tools push batches in (`on_batch`) and take batches, verdicts or text out.
//!
//! - `window/`, `aggregate/`: evt-window's windows and aggregate functions; `late_rows.rs`: its late rows.
//! - `validate/`, `dedup.rs`: evt-validate's schema checks and duplicates.
//! - `record.rs`: events as records of a given Avro schema, for topics.
//! - `row_letter.rs`: dead letters of rows.
//! - `state/`: state of windows that may exceed memory.
//! - `snapshot.rs`: the encoding of saved state.

pub mod aggregate;
pub mod computed;
pub mod dedup;
pub mod late_rows;
pub mod record;
pub mod row_letter;
pub mod snapshot;
pub mod state;
pub mod validate;
pub mod window;
