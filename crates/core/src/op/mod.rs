//! Operators: pure functions of their input, each with its state and its snapshot. No I/O, no clock.
//!
//! ```text
//! batches ─► on_batch ─┬─► rows: results, accepted events
//!                      └─► faults by row ─► row_letter: dead letters
//! control messages ─► watermark ─► windows that fire or close
//! snapshot ◄─► bytes of a checkpoint ─► restore
//! ```
//!
//! A fault concerns one row and never ends a run; an error does. An operator that is saved and restored between two
//! batches writes the same rows as one that is not.
//!
//! The tools push batches in (`on_batch`) and take batches, verdicts or text out.
//!
//! - `window/`, `aggregate/`: evt-window's windows and aggregate functions; `late_rows.rs`: its late rows.
//! - `validate.rs`, `dedup/`: evt-validate's schema checks and duplicates.
//! - `computed.rs`: computed properties (`--let`); `untimed.rs`: `--where` for records without a readable time.
//! - `row_letter.rs`: dead letters of rows.
//! - `state_storage.rs`: the interface of files for state that exceeds memory.
//! - `snapshot.rs`: the encoding of saved state.

pub mod aggregate;
pub mod computed;
pub mod dedup;
pub mod late_rows;
pub mod row_letter;
pub mod snapshot;
pub mod state_storage;
pub mod untimed;
pub mod validate;
pub mod window;
