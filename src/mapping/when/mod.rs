//! Times of records.
//!
//! - `reader.rs`: reads times by `--time-unit`, `--time-format` and `--time-zone`.
//! - `suggest.rs`: proposes these flags; `message.rs`: says why a value is no time.

mod message;
mod reader;
mod suggest;

pub(super) use message::fault as unreadable;
pub use message::of_samples;
pub use reader::{TimeUnit, When};
pub use suggest::{TimeSamples, other_unit, time_fields};
