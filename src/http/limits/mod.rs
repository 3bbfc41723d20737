//! Timeouts, metrics and repeated notices of connections.
//!
//! [`timeouts`] limits the times of a connection, [`metrics`] counts connections, requests and events, and [`notice`] limits how
//! often the same message is written.

pub mod metrics;
pub mod notice;
pub mod timeouts;
