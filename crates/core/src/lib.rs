//! The pure half of evt: formats, mapping, expressions, windows, validation and frames, as functions from bytes and
//! batches to bytes and batches.
//!
//! It opens no file and reads no clock, so a test can bring it into any state ([`format`](mod@format) decodes files
//! that its caller opened).
//!
//! Imports point down: [`backfill`] → [`alert`], [`chart`], [`expr`], [`flink`], [`format`](mod@format), [`frame`],
//! [`generate`], [`iceberg`], [`mapping`], [`op`], [`reconcile`], [`replay`], [`schema`], [`view`] → [`avro`] →
//! [`counts`], [`error`], [`json`], [`kind`], [`parse`], [`decompression`], [`time`], [`parallel`].
#![deny(missing_docs)]

pub mod alert;
pub mod avro;
pub mod backfill;
pub mod chart;
pub mod counts;
pub mod decompression;
pub mod error;
pub mod expr;
pub mod flink;
pub mod format;
pub mod frame;
pub mod generate;
pub mod iceberg;
#[cfg(test)]
#[path = "../../../tests/support/in_ci.rs"]
mod in_ci;
pub mod json;
pub mod kind;
pub mod mapping;
pub mod op;
pub mod parallel;
pub mod parse;
pub mod reconcile;
pub mod replay;
pub mod schema;
pub mod serve;
#[cfg(test)]
#[path = "../../../tests/support/cases.rs"]
mod test_cases;
#[cfg(test)]
#[path = "../../../tests/support/events.rs"]
mod test_events;
#[cfg(test)]
#[path = "../../../tests/support/gzip.rs"]
mod test_gzip;
pub mod time;
pub mod view;
#[cfg(test)]
extern crate self as evt_core;

pub use error::{Error, ErrorKind, Result};
