//! The tools: flags, options and `run`, and the table of all. Each implements [`Tool`]: `run` turns the flags into
//! options and gives a [`Stage`](crate::stage::Stage) its operator. evt-reconcile reads its inputs without a stage,
//! evt-schema, evt-flink and evt-lake read no rows, evt-serve answers requests, and evt-pipe runs other tools.
//!
//! ```text
//! main ─► cli::main ─► Tool::run ─┬─► cli::open ─► Stage: source ─► operator ─► outputs
//!                                 │     ingest, gen, sink: Pass    validate: Validate    window: Windows    view: View
//!                                 │     backfill: Correct (stored windows)    replay: Replay (dead letters)
//!                                 ├─► alert: AlertEngine, fed by several inputs
//!                                 ├─► reconcile: entries of A and B ─► sort ─► join ─► verdict
//!                                 ├─► schema: a registry
//!                                 ├─► flink: metrics ─► the script of a job
//!                                 ├─► lake: the upkeep of tables
//!                                 ├─► serve: requests over HTTP ─► stores of metrics
//!                                 └─► pipe: cli::main of each stage, in a thread
//! ```
//!
//! - `choose.rs`: the executable evt, which contains all tools.
//! - `NAME.rs` or `NAME/`: evt-NAME (evt-gen is `generate.rs`). No tool uses the files of another one.
//! - `alert/`: evt-alert, whose inputs may be of different kinds: its stage has several feeds (decision 241).
//! - `reconcile/`: evt-reconcile, which opens its inputs itself.
//! - `backfill/`: evt-backfill, which corrects the windows of a store.
//! - `replay/`: evt-replay, which replays dead letters.
//! - `serve/`: evt-serve, which answers requests over HTTP from stores.
//! - `pipe/`: evt-pipe, which runs the stages of a pipeline in one process.
//! - `validation.rs`: the operator and the flags that evt-validate and evt-backfill share; `metrics.rs`: the flags that
//!   evt-window and evt-flink share; `pace.rs`: `--rate`.

pub mod alert;
pub mod backfill;
pub mod choose;
pub mod flink;
pub mod generate;
pub mod ingest;
pub mod lake;
mod metrics;
mod pace;
pub mod pipe;
pub mod reconcile;
pub mod replay;
pub mod schema;
pub mod serve;
pub mod sink;
pub mod validate;
mod validation;
pub mod view;
pub mod window;

use crate::cli::{self, Tool, ToolRow};

/// Every tool, in the order of evt(7). The keys of a configuration file, man pages, completions, tested examples and
/// systemd units come from here.
pub const ALL: &[ToolRow] = &[
    row::<ingest::Args>(),
    row::<validate::Args>(),
    row::<window::Args>(),
    row::<sink::Args>(),
    row::<alert::Args>(),
    row::<backfill::Args>(),
    row::<replay::Args>(),
    row::<view::Args>(),
    row::<schema::Args>(),
    row::<reconcile::Args>(),
    row::<generate::Args>(),
    row::<pipe::Args>(),
    row::<flink::Args>(),
    row::<lake::Args>(),
    row::<serve::Args>(),
];

const fn row<T: Tool>() -> ToolRow {
    ToolRow::of::<T>(cli::main::<T>)
}
