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
pub mod key;
pub mod metric;
pub mod schema_scalar;
pub mod schema_walk;
pub mod selection;
pub mod session;
pub mod slice;
pub mod slots;
pub mod snapshot;
pub mod spec;
pub mod validate;
pub mod watermark;
pub mod window;
