//! Operators: batches in, verdicts and batches out. No I/O and no clock; state is plain data with its snapshot beside.

pub mod dedup;
pub mod schema_scalar;
pub mod schema_walk;
pub mod validate;
