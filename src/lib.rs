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
//! The crates below `crates/` do the work, from the lowest: `evt-core` is pure; `evt-run` is what every run needs;
//! `evt-store`, `evt-notify` and `evt-kafka` are servers and files outside of evt; `evt-http` is a server itself. Here:
//! [`tool`] → [`cli`] → [`stage`] → [`output`], [`source`] → [`uri`].
#![deny(missing_docs)]

pub mod cli;
pub mod output;
pub mod source;
pub mod stage;
#[cfg(test)]
#[path = "../tests/support/cases.rs"]
mod test_cases;
#[cfg(test)]
#[path = "../tests/support/events.rs"]
mod test_events;
pub mod tool;
pub mod uri;
