//! Rules over rows: the engine of evt-alert, which uses no clock and no file.
//!
//! Instants g lie on a grid of one second of event time. The value of a rule at g is its aggregate over the rows with
//! g − window < event time ≤ g and stream time ≤ g. The alert clock C says which instants can be evaluated: those
//! before it. So alerts are a function of the rows, not of batches or timing, as long as no partition is quiet.
//!
//! ```text
//! rows ─► EventSeries: accumulators by second and group ─► WindowView: values by group ─► RunningRule: states
//!      ─► transitions
//! ```
//!
//! - `engine.rs`: takes rows, evaluates instants, replaces rules; `clock.rs`: the alert clock.
//! - `series.rs`: shared by the rules with the same input, aggregate, filter and dimensions; `view.rs`: by those that
//!   also have the same window.
//! - `running.rs`: a rule with its groups, and what is derived from a value; `state.rs`: the states of one group.
//! - `rule.rs`, `fields.rs`, `summary.rs`, `rules.rs`: rules as written. `snapshot.rs`: the saved state.

pub mod clock;
pub mod engine;
mod fields;
pub mod rule;
pub mod rules;
pub mod running;
mod series;
pub mod snapshot;
mod state;
mod summary;
mod view;

#[cfg(test)]
mod tests;
