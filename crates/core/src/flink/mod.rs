//! The metrics of a file as a job of Apache Flink, with rows equal to those of evt-window.
//!
//! ```text
//! Spec (op::window) ─► MetricQuery: a SELECT for each metric ─┐
//!                      Refusal: why there is none             ├─► script: settings, functions, tables, statements
//!                      Translator: expressions in SQL ────────┘
//! ```
//!
//! A job reads a topic of JSON that evt wrote, and keeps the stamps of its events as evt-window does: whether an event
//! counts is decided by its own stream time. What Flink's functions do in another way is in the jar of `flink/`.
//!
//! - `job.rs`: the script; `metric.rs`: a metric; `aggregate.rs`: its value; `expression.rs`: expressions;
//!   `pattern.rs`: regular expressions.
//! - `directory.rs`: the files of a job: its script, the proof (`prove.sh`), a trigger for PostgreSQL (`store.sql`) and
//!   the page that says how to run it (`README.md`).
//! - `output.rs`: where it reads and writes.
//! - `text.rs`: constants and identifiers, which no text of a definition can leave.

mod aggregate;
mod directory;
mod expression;
mod job;
mod metric;
mod output;
mod pattern;
mod text;

pub use directory::{WrittenMetrics, files, reduced};
pub use job::{JobOptions, Range, Refusal, Topics, Verdict, script, verdicts};
pub use output::{MetricOutput, Topic};
