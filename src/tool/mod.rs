//! The tools: flags, options and `run`, one file each. Each implements [`Tool`](crate::cli::Tool): `run` turns the flags into
//! options and gives a [`Stage`](crate::stage::Stage) its operator (evt-gen and evt-schema need no stage).
//!
//! - `ingest.rs`, `validate.rs`, `window.rs`, `sink.rs`, `view.rs`, `schema.rs`, `generate.rs`: evt-ingest and the
//!   others by name (evt-gen is `generate.rs`).
//! - `late.rs`, `stall.rs`: the late rows of evt-window, and partitions that hold its watermark back.

pub mod generate;
pub mod ingest;
mod late;
pub mod schema;
pub mod sink;
mod stall;
pub mod validate;
pub mod view;
pub mod window;
