<<<<<<< HEAD
<<<<<<< HEAD
//! Operators: pure functions of their input, each with its state and its saved form. No I/O, no clock.

pub mod aggregate;
pub mod key;
pub mod metric;
pub mod session;
pub mod slice;
pub mod slots;
pub mod snapshot;
pub mod spec;
pub mod watermark;
pub mod window;
=======
//! Operators: pure functions of rows, specs and options; no I/O and no clock.

pub mod generate;
>>>>>>> gen
=======
//! Operators: batches in, verdicts and batches out. No I/O and no clock; state is plain data with its snapshot beside.

pub mod dedup;
pub mod schema_scalar;
pub mod schema_walk;
pub mod validate;
>>>>>>> registry
