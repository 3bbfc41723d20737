//! Operators: pure functions of their input, each with its state and its saved form. No I/O, no clock.

pub mod aggregate;
pub mod dedup;
pub mod late_rows;
pub mod record;
pub mod row_letter;
pub mod snapshot;
pub mod validate;
pub mod window;
