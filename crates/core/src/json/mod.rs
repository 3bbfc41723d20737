//! JSON text: one strict pass over outside text, and cheap walks over text that has passed it.
//!
//! ```text
//! bytes ─► scan: end of the value, or the fault ─► valid text ─┬─► walk: members ─► number, text, base64: values
//!            ▲                                                 │     ▲
//!            └─────────── predictor: the key that comes next ──┼─────┘
//!                                                              └─► member: the same object with a member assigned
//! ```
//!
//! [`scan`] accepts what serde_json's `RawValue` accepts, to a depth of at most [`DEPTH_MAX`]; fuzzing compares the two
//! (`fuzz/`). Numbers and strings are never rewritten: no digit is lost.
//!
//! - `scan.rs`: finds the end of a value and refuses what is not JSON.
//! - `walk.rs`: visits the members of valid objects without validating again.
//! - `predictor.rs`: predicts the next key, for both.
//! - `member.rs`: assigns a member of an object.
//! - `text.rs`: strings, escaped and unescaped; `number.rs`: numbers; `base64.rs`: bytes inside JSON.

pub mod base64;
pub mod member;
pub mod number;
pub mod predictor;
pub mod scan;
pub mod text;
pub mod walk;

/// Maximum number of open containers, the record's own object included.
pub const DEPTH_MAX: u32 = 128;
