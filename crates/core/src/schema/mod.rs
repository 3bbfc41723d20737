//! Schemas, whatever their language: what validation, registries, topics and HTTP bodies need of one.
//!
//! ```text
//! schema text ─► Language ─► Schema ─┬─► EventCheck: whether an event is valid, or its fault
//!                    │               ├─► Decoder, Encoder: payload ─► JSON text, rows ─► payloads
//!                    │               └─► level: whether it may follow earlier versions
//!                    └─► Decoder of data written with the text, Encoder of evt's rows
//! ```
//!
//! A language has a row in [`ALL`]; no other module names what implements it. What does not say its language is
//! [`AVRO`]: files of schemas (`registry/directory.rs`), what evt registers, `format=avro` of topics.
//!
//! - `language.rs`: the traits; `avro/`: Avro, the only language.
//! - `level.rs`: compatibility levels; `subject.rs`: the versions of a subject, and the interface that looks them up.

pub mod avro;
pub mod language;
pub mod level;
pub mod subject;

use self::language::Language;

/// Avro, the language of schemas that come without a name of their language: files, and the rows of topics.
pub const AVRO: &Language = &avro::LANGUAGE;

/// Every language.
pub const ALL: [&Language; 1] = [AVRO];
