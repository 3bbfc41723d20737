//! Times of records.
//!
//! ```text
//! value of the field --time ─► reader (--time-unit, --time-format, --time-zone) ─┬─► instant (µs)
//!                                                                                └─► fault ─► message ─► dead letter
//! first records without a readable time ─► suggest ─► flags that read most of them ─► message of exit status 2
//! ```
//!
//! - `reader.rs`: reads times by `--time-unit`, `--time-format` and `--time-zone`.
//! - `expression.rs`: the time that an expression gives (`--time =EXPR`).
//! - `names.rs`: the field that is the time where no flag names one.
//! - `formats.rs`: the formats and units of these flags; `suggest.rs`: proposes them.
//! - `earliest.rs`: times that are too early (`--min-time`).
//! - `message.rs`: says why a value is not a time.

#[cfg(test)]
mod days_tests;
mod earliest;
mod expression;
mod formats;
mod message;
mod names;
mod reader;
mod suggest;

pub(super) use earliest::{earliest, holds_number, too_early};
pub use expression::TimeExpr;
pub(super) use message::fault as unreadable;
pub use message::of_samples;
pub use names::{SplitTime, TIME_NAMES, split_time, usual_time};
pub use reader::{TimeUnit, When};
pub use suggest::{TimeSamples, time_fields};
