//! The windows of one metric: where its rows are counted, when its results fire, and when their state is dropped.
//!
//! - `closing.rs`: when windows close, and so which of them count a row.
//! - `slice.rs`: tumbling, sliding and calendar windows; `ends.rs`: sets of their ends.
//! - `session.rs`: session windows.
//! - `spilled.rs`: what is known of windows of either kind while their state is in files.

pub(crate) mod closing;
mod ends;
pub(crate) mod session;
pub(crate) mod slice;
pub(crate) mod spilled;
