//! The windows of one metric: where its rows are counted, when its results fire, and when their state is dropped.
//!
//! - `closing.rs`: when windows close, and so which of them count a row.
//! - `slice.rs`: tumbling, sliding and calendar windows; `slot_map.rs`: the slots of a slice; `ends.rs`: sets of window
//!   ends.
//! - `session.rs`: session windows.
//! - `part.rs`: a part of the state, by keys and windows.
//! - `window_spec.rs`: the windows of a metric, except sessions.
//! - `spilled.rs`: what is known of windows of either kind while their state is in files.

pub(crate) mod closing;
pub(crate) mod ends;
pub(crate) mod part;
pub(crate) mod session;
pub(crate) mod slice;
mod slot_map;
pub(crate) mod spilled;
pub(crate) mod window_spec;
