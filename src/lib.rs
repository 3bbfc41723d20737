//! evt: framed events on stdin and stdout.
//!
//! ```text
//!  files, pipes, HTTP, Kafka    frames: an Arrow IPC stream + control     SQLite, PostgreSQL, Redis, Parquet, …
//!      |          ┌──────────────┐  ┌────────────┐  ┌──────────┐
//!  evt-ingest ──▶ │ evt-validate ├─▶│ evt-window ├─▶│ evt-sink │──▶ stores and topics
//!      │          └──────┬───────┘  └─────┬──────┘  └──────────┘
//!      ▼ dead letters    ▼ dead           ▼ late
//! ```
//!
//! Imports point down (`LAYERS` of `tests/cli/tidy.rs`):
//!
//! - these may do I/O: [`tool`] → [`cli`] → [`stage`] → [`http`], [`emit`], [`input`], [`kafka`], [`output`],
//!   [`source`], [`spool`] → [`uri`] → [`checkpoint`] → [`run`] → [`notify`] → [`client`], [`clock`], [`console`],
//!   [`metrics`], [`registry`], [`s3`], [`secret`], [`service`], [`stop`], [`storage`],
//!   [`store`], [`thread`]
//! - these, below them, do none and read no clock (`format` decodes files that its caller opened):
//!   [`backfill`] → [`alert`], [`chart`], [`expr`],
//!   [`format`](mod@format), [`frame`], [`generate`], [`mapping`], [`op`], [`reconcile`], [`replay`], [`schema`],
//!   [`view`] → [`avro`] → [`counts`], [`error`], [`json`], [`kind`], [`parse`], [`decompression`], [`time`]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod alert;
pub mod avro;
pub mod backfill;
pub mod chart;
pub mod checkpoint;
pub mod cli;
pub mod client;
pub mod clock;
pub mod console;
pub mod counts;
pub mod decompression;
pub mod emit;
pub mod error;
pub mod expr;
pub mod format;
pub mod frame;
pub mod generate;
pub mod http;
#[cfg(test)]
mod in_ci;
pub mod input;
pub mod json;
pub mod kafka;
pub mod kind;
pub mod mapping;
pub mod metrics;
pub mod notify;
pub mod op;
pub mod output;
pub mod parse;
pub mod reconcile;
pub mod registry;
pub mod replay;
pub mod run;
pub mod s3;
pub mod schema;
pub mod secret;
pub mod service;
pub mod source;
pub mod spool;
pub mod stage;
pub mod stop;
pub mod storage;
pub mod store;
pub mod thread;
pub mod time;
pub mod tool;
pub mod uri;
pub mod view;

pub use error::{Error, ErrorKind, Result};
