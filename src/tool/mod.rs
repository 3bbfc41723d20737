//! The tools: flags, options and `run`, one file each. Each implements [`Tool`](crate::cli::Tool): `run` turns the flags into
//! options, reads items from a stage and writes rows to it (evt-gen and evt-schema need no stage).
//!
//! - `ingest.rs`, `validate.rs`, `window.rs`, `sink.rs`, `view.rs`, `schema.rs`, `generate.rs`: evt-ingest and the
//!   others by name (evt-gen is `generate.rs`).
//! - `late.rs`, `hold.rs`: the late rows of evt-window, and partitions that hold its watermark back.

pub mod generate;
mod hold;
pub mod ingest;
mod late;
pub mod schema;
pub mod sink;
pub mod validate;
pub mod view;
pub mod window;
