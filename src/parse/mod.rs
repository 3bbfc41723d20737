//! Readers of small notations: bytes of a fixed layout, the options of a URI, sizes. No I/O.

pub mod bytes;
pub mod query;
pub mod size;
