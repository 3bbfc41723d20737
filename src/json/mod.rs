//! JSON text: one strict pass over what comes from outside, cheap walks over what has been proved.
//!
//! The verdict of [`scan`] is that of serde_json's `RawValue`, plus a depth of at most [`DEPTH_MAX`]; fuzzing compares
//! the two (`fuzz/`). Numbers and strings are never rewritten: no digit is lost.

pub mod base64;
pub mod guide;
pub mod scan;
pub mod text;
pub mod walk;

/// How many containers may be open at once, the record's own object included.
pub const DEPTH_MAX: u32 = 128;
