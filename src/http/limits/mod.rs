//! Time limits, metrics and repeated notices of connections.
//!
//! [`watch`] enforces time limits on the bytes of a connection, [`meter`] counts connections, requests and events, and
//! [`notice`] limits how often the same message is written.

pub mod meter;
pub mod notice;
pub mod watch;
