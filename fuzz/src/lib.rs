//! What every parser of outside bytes must hold to, as functions of bytes: no panic, no hang, bounded memory, and the
//! laws each of them states.
//!
//! A fuzzer calls one of them per target (`fuzz_targets/`); the project's tests call all of them over `seeds/` and some
//! thousand mutations of those (`tests/cli/fuzz.rs`), so that none of them rots.

pub mod cuts;
pub mod decode;
pub mod elements;
pub mod envelope;
pub mod expression;
pub mod fetch;
pub mod flag;
pub mod frame;
pub mod json;
pub mod pipe;
pub mod record;
pub mod schema;
pub mod snapshot;
pub mod spool;
pub mod text;
pub mod unpack;
pub mod wire;

/// What one target does with its input.
pub type Body = fn(&[u8]);

/// Every target, by the name of its binary and of its directory below `seeds/`.
pub const ALL: [(&str, Body); 19] = [
    ("json", json::run),
    ("envelope", envelope::run),
    ("text", text::run),
    ("elements", elements::run),
    ("frame", frame::run),
    ("avro", decode::avro),
    ("parquet", decode::parquet),
    ("arrow", decode::arrow),
    ("unpack", unpack::run),
    ("expression", expression::run),
    ("metrics", expression::metrics),
    ("schema", schema::run),
    ("flag", flag::run),
    ("snapshot", snapshot::run),
    ("row", record::run),
    ("pipe", pipe::run),
    ("wire", wire::run),
    ("fetch", fetch::run),
    ("spool", spool::run),
];
