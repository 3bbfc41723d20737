//! Checks the mapping flags against the records: `first_times.rs` finds that a flag is missing, `unused.rs` that a flag
//! has no effect, because rows have stamps.

mod first_times;
mod unused;

pub use first_times::FirstTimes;
pub use unused::UnusedFlags;
