//! Avro: schemas, and single values in the binary encoding. Pure: no file, no registry.
//!
//! ```text
//!  schema text ── parse ──▶ Schema ── table ──▶ Decoder: bytes ──▶ JSON text
//!                 reference    │ └─── encode ─▶ Encoder: JSON text ──▶ bytes
//!                 default      └───── compat ─▶ whether one schema reads the data of another
//! ```
//!
//! There is one grammar. The parser is strict for the schemas of a registry and lenient for those of existing data.
//!
//! - `schema.rs`: the model, an arena of types; `parse.rs`: its parser; `default.rs`: defaults of fields;
//!   `reference.rs`: schemas that refer to others; `compat.rs`: compatibility.
//! - `table.rs`: compiles one schema, or a writer's and a reader's, for `decode.rs`, which writes values as JSON text.
//! - `encode.rs`: encodes JSON text; `coerce.rs`: its scalars.
//! - `scalar.rs`: the types that contain no other; `binary.rs`: numbers, bytes and blocks.

pub mod binary;
pub mod coerce;
pub mod compat;
pub mod decode;
mod default;
pub mod encode;
pub mod parse;
pub mod reference;
mod scalar;
pub mod schema;
mod table;

pub use parse::{parse_lenient, parse_schema};
pub use scalar::Scalar;
pub use schema::Schema;

#[cfg(test)]
mod encode_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod table_tests;
