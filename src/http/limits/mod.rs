//! What bounds connections in time, and what is counted of them.

pub mod meter;
pub mod notice;
pub mod watch;
