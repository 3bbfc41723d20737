//! The answers of evt-serve: what a request for a metric asks, which windows answer it, and how the answer is written.
//! No I/O, and no clock.
//!
//! ```text
//! parameters ─► request ─┬─► the stores, each for its part of the time (plan) ─► windows ─► answer ─► JSON, CSV
//!                        └─► finality: is a window final?
//! ```
//!
//! - `request.rs`: the parameters of a request.
//! - `plan.rs`: which store answers for which windows.
//! - `finality.rs`: whether windows are final, by what stores keep of the progress of metrics.
//! - `answer.rs`: the windows of an answer, and its digest; `encode.rs`: the answer as JSON and CSV.

pub mod answer;
pub mod encode;
pub mod finality;
pub mod plan;
pub mod request;
