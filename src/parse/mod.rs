//! Readers of small notations: bytes of a fixed layout, misspelled names, the options of a URI, sizes. No I/O.

pub mod bytes;
pub mod nearest;
pub mod query;
pub mod size;
