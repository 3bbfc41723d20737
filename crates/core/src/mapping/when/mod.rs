//! Times of records.
//!
//! ```text
//! value of the field --time ─► reader (--time-unit, --time-format, --time-zone) ─┬─► instant (µs)
//!                                                                                └─► fault ─► message ─► dead letter
//! first records without a readable time ─► suggest ─► flags that read most of them ─► message of exit status 2
//! ```
//!
//! - `reader.rs`: reads times by `--time-unit`, `--time-format` and `--time-zone`.
//! - `suggest.rs`: proposes these flags; `message.rs`: says why a value is not a time.

#[cfg(test)]
mod days_tests;
mod message;
mod reader;
mod suggest;

pub(super) use message::fault as unreadable;
pub use message::of_samples;
pub use reader::{TimeUnit, When};
pub use suggest::{TimeSamples, other_unit, time_fields};
