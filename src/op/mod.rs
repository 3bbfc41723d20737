//! Operators: pure functions of their input, each with its state and its saved form. No I/O, no clock.

pub mod aggregate;
pub mod control_text;
pub mod dead_summary;
pub mod dedup;
pub mod describe;
pub mod describe_text;
pub mod disorder;
pub mod excerpt;
pub mod generate;
pub mod late_rows;
pub mod record;
pub mod selection;
pub mod snapshot;
pub mod validate;
pub mod window;
