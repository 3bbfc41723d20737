//! Apache Iceberg, format version 2: the files that describe a table. Pure: no file, no catalog.
//!
//! ```text
//! metadata.json ─► TableMetadata ─(a snapshot)─► manifest list ─► manifests ─► data files
//! ```
//!
//! - `schema.rs`: the columns of a table; `metadata.rs`: `metadata.json`, its snapshots and what a commit changes.
//! - `manifest.rs`: manifests and their lists, which are files of Avro; `manifest_reader.rs` reads them.
//! - `bounds.rs`: values as bytes of a bound.
//!
//! Source: <https://iceberg.apache.org/spec/>.

pub mod bounds;
pub mod manifest;
pub mod manifest_reader;
pub mod metadata;
pub mod schema;
