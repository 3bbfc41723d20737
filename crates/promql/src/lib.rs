//! PromQL over windows of metrics. A query says which series it needs; the caller reads them; the query is evaluated.
//!
//! ```text
//! text ─► Query::parse ─► Query ─► selections(range) ─► the caller reads series
//!                           │                              │
//!                           └────────► evaluate ◄──────────┘ ─► QueryAnswer
//! ```
//!
//! A sample of a series is a window: its instant is the end of the window. At an instant t a selector takes the last
//! window with t − L < window_end ≤ t, where L is the lookback of its series (the slide of its windows), and a range
//! selector `[R]` those with t − R < window_end ≤ t. Everything else is as Prometheus has it.
//!
//! - `labels.rs`: sets of labels, the names of labels, matchers.
//! - `series.rs`: what the caller reads: selections, and series of windows.
//! - `range.rs`: the instants of a query, and the texts that clients send for them.
//! - `plan/`: the query as it is evaluated; everything that is not supported is refused here.
//! - `evaluate/`: the evaluation, instant by instant.
//! - `encode.rs`: answers and errors in JSON; `error.rs`: errors.
//!
//! Nothing here does I/O, and nothing uses the clock.
#![deny(missing_docs)]

pub mod encode;
pub mod error;
pub mod evaluate;
pub mod labels;
pub mod plan;
pub mod range;
pub mod series;
