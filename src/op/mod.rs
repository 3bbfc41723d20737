//! Operators: what happens to rows between a source and a sink. No I/O and no clock here.

pub mod aggregate;
