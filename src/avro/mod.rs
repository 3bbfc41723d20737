//! Avro: schemas, and single values in the binary encoding.
//!
//! - `schema.rs`, `parse.rs`, `default.rs`: the schema model, its parser, and defaults; `reference.rs`: schemas that refer to others.
//! - `compat.rs`: whether data written with one schema can be read with another.
//! - `value.rs` decodes values to JSON text; `resolve.rs` compiles a decoder for a writer's and a reader's schema.
//! - `encode.rs` encodes JSON text; `fit.rs` its scalars.

pub mod compat;
mod default;
pub mod encode;
pub mod fit;
pub mod parse;
pub mod reference;
mod resolve;
pub mod schema;
pub mod value;

pub use schema::Schema;

#[cfg(test)]
mod encode_tests;
#[cfg(test)]
mod resolve_tests;
