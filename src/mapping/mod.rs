//! The one rule that maps a foreign record onto an event.
//!
//! A field with an envelope name is that column, every other field is a property; beside a `properties` object they
//! are appended to its text. Values keep their text as received. Records come as JSON object text, whatever their
//! format was. [`Mapper::record`] is the hot path: one pass over the text, nothing allocated per event.

mod assembly;
mod build;
mod columns;
mod envelope;
mod future;
mod id;
mod mapper;
mod options;
mod place;
mod plan;
mod stamp;
mod when;

pub use build::schema;
pub use future::{Arrival, Held, Judged, LOOKAHEAD, Lookahead, Wrapping};
pub use id::{made_id, uuid_of};
pub use mapper::{Mapper, Outcome, Rule};
pub use options::{BATCH_BYTES, BATCH_ROWS, KeepRaw, Lean, Options, Provenance, TimeFrom};
pub use plan::{Defaults, Place};
pub use stamp::Stamper;
pub use when::{TimeUnit, When, time_fields};

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;
